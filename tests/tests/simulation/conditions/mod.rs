//! What each write's condition lets through: every case on tables in memory, and every case again with each clause of each
//! condition taken out, which it must notice.

mod batches;
mod choices;
mod exports;
mod jobs;
mod ledger;
mod metadata;
mod mutation;
mod pool;
mod push;
mod settled;
mod webhooks;

use std::pin::Pin;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::items::job::to_item;
use darkroom_core::job::Job;
use darkroom_tests::sim::Writes;

type Checked = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// Writes of one kind, and what must come of them.
struct Case {
    name: String,
    run: Box<dyn Fn(Writes) -> Checked>,
}

impl Case {
    fn new<F: Future<Output = anyhow::Result<()>> + 'static>(
        name: &str,
        run: impl Fn(Writes) -> F + 'static,
    ) -> Self {
        Self { name: name.to_owned(), run: Box::new(move |writes| Box::pin(run(writes))) }
    }
}

fn cases() -> Vec<Case> {
    let cases = [
        jobs::cases(),
        settled::cases(),
        ledger::cases(),
        metadata::cases(),
        pool::cases(),
        push::cases(),
        batches::cases(),
        exports::cases(),
        webhooks::cases(),
    ];
    cases.into_iter().flatten().collect()
}

async fn put(writes: &Writes, job: &Job) -> anyhow::Result<()> {
    put_item(writes, &writes.names.jobs, to_item(job)).await
}

async fn put_item(
    writes: &Writes,
    table: &str,
    item: std::collections::HashMap<String, AttributeValue>,
) -> anyhow::Result<()> {
    writes.clients.dynamodb.put_item().table_name(table).set_item(Some(item)).send().await?;
    Ok(())
}

/// Changes a record by hand, as no write of the product does.
async fn damage(
    writes: &Writes,
    (table, pk, sk): (&str, &str, &str),
    expression: &str,
    names: &[(&str, &str)],
    values: &[(&str, AttributeValue)],
) -> anyhow::Result<()> {
    let mut update = writes
        .clients
        .dynamodb
        .update_item()
        .table_name(table)
        .key("pk", AttributeValue::S(pk.to_owned()))
        .key("sk", AttributeValue::S(sk.to_owned()))
        .update_expression(expression);
    for (alias, name) in names {
        update = update.expression_attribute_names(*alias, *name);
    }
    for (alias, value) in values {
        update = update.expression_attribute_values(*alias, value.clone());
    }
    update.send().await?;
    Ok(())
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
