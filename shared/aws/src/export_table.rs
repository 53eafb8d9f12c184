//! The records of exports, in the jobs table.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use darkroom_core::export::Export;
use darkroom_core::id::{ExportId, UserId};
use darkroom_core::limits::EXPORTS_LIVE_MAX;
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, Reader, millis, number, text};
use crate::batch_get::batch_get;
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::export::{SHARD, export, export_item, name};
use crate::job_table::readable;
use crate::keys::{Key, PK, SK};
use crate::transaction::{self, Outcome};

/// The exports.
#[derive(Clone, Debug)]
pub struct ExportTable {
    client: Client,
    table: String,
}

/// What asking for an export came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// It was made now.
    New(Export),
    /// This user and key have one already. Whether the requests agree is the caller's question.
    Existing(Export),
    /// As many of the user's are under way as may be; nothing was written.
    TooMany,
}

/// Entries that one look of the sweeper reads.
const DUE_MAX: i32 = 100;

impl ExportTable {
    /// The table of this name.
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Makes the export once, and counts it among its user's. Idempotent as a submission is: the same again is
    /// [`Exported::Existing`] as long as its record has not expired when it is asked for.
    pub async fn create(&self, export: Export) -> Result<Exported, StoreError> {
        let count = Expression::default().add_from_zero(name::LIVE, 1).require_absent_or(
            name::LIVE,
            "<",
            number(EXPORTS_LIVE_MAX),
        );
        let actions = vec![
            transaction::put_if_absent_or_expired(&self.table, export_item(&export), export.asked_at)?,
            transaction::update(&self.table, Key::Exports(&export.user).attributes(), count)?,
        ];
        let operation = "TransactWriteItems export";
        let sent = transaction::write(&self.client, operation, actions, Patience::Tries).await?;
        let Outcome::Refused(refusals) = sent else { return Ok(Exported::New(export)) };
        let there = refusals.first().filter(|refusal| refusal.failed);
        match there.and_then(|refusal| refusal.item.as_ref()).map(read).transpose()? {
            // Our own stamp: the answer to our first try was lost.
            Some(existing) if existing.op == export.op => Ok(Exported::New(existing)),
            Some(existing) => Ok(Exported::Existing(existing)),
            None => Ok(Exported::TooMany),
        }
    }

    /// The export, strongly consistent.
    pub async fn get(&self, id: &ExportId) -> Result<Option<Export>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::Export(id).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem export", error))?;
        answer.item.as_ref().map(read).transpose()
    }

    /// Writes `next` if the record is still as it was `seen`; one that is over is taken off its user's in the same transaction.
    /// `false` when somebody else wrote it first. Idempotent by `next`'s stamp, which must be fresh.
    pub async fn replace(&self, seen: &Export, next: &Export) -> Result<bool, StoreError> {
        let key = Key::Export(&seen.id).attributes();
        let write = write(next).require(name::OP, "=", text(seen.op.as_str()));
        if next.due_at().is_some() {
            return self.update(key, write, next).await;
        }
        let count = Expression::default().subtract(name::LIVE, 1).require(name::LIVE, ">=", number(1_u64));
        let actions = vec![
            transaction::update(&self.table, key, write)?,
            transaction::update(&self.table, Key::Exports(&seen.user).attributes(), count)?,
        ];
        let operation = "TransactWriteItems export's end";
        match transaction::write(&self.client, operation, actions, Patience::Tries).await? {
            Outcome::Applied => Ok(true),
            Outcome::Refused(refusals) => match refusals.first().filter(|refusal| refusal.failed) {
                Some(refusal) => Ok(is_own(refusal.item.as_ref(), next)),
                None => Err(StoreError::Refused {
                    store: "DynamoDB",
                    operation,
                    code: "not counted".to_owned(),
                    message: format!("the item of {}'s exports under way counts none", seen.id),
                }),
            },
        }
    }

    async fn update(&self, key: Item, write: Expression, next: &Export) -> Result<bool, StoreError> {
        let Err(error) = write.update_item(&self.client, &self.table, key).send().await else {
            return Ok(true);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                Ok(is_own(refused.item(), next))
            }
            _ => Err(StoreError::from_sdk("DynamoDB", "UpdateItem export", error)),
        }
    }

    /// The exports due at `until`, those first that were due first, at most a hundred. One that cannot be read is logged and left out.
    pub async fn due(&self, until: Timestamp) -> Result<Vec<Export>, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("due")
            .key_condition_expression("#shard = :shard AND #due_at <= :until")
            .expression_attribute_names("#shard", name::SHARD)
            .expression_attribute_names("#due_at", name::DUE_AT)
            .expression_attribute_values(":shard", text(SHARD))
            .expression_attribute_values(":until", millis(until))
            .limit(DUE_MAX)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query due exports", error))?;
        // The index is a hint.
        let keys: Vec<_> = answer.items().iter().map(primary_key).collect();
        let items = batch_get(&self.client, &self.table, keys).await?;
        Ok(items.iter().filter_map(|item| readable(read(item))).collect())
    }

    /// How many of a user's exports are counted as under way: for tests and audits.
    pub async fn live(&self, user: &UserId) -> Result<u64, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::Exports(user).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem exports", error))?;
        let Some(item) = answer.item else { return Ok(0) };
        Reader(&item).number(name::LIVE).map_err(|problem| StoreError::unreadable(&item, &problem))
    }
}

/// Everything of a record but its key.
fn write(next: &Export) -> Expression {
    let item = export_item(next);
    let gone: Vec<_> = name::OF_LIVE.into_iter().filter(|name| !item.contains_key(*name)).collect();
    let values: BTreeMap<_, _> =
        item.into_iter().filter(|(name, _)| ![PK, SK].contains(&name.as_str())).collect();
    values
        .into_iter()
        .fold(Expression::default(), |write, (name, value)| write.set(&name, value))
        .remove(&gone)
}

fn primary_key(item: &Item) -> Item {
    [PK, SK].into_iter().filter_map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect()
}

/// Whether the record that refused a write is what it made: the answer to an earlier try was lost.
fn is_own(there: Option<&Item>, next: &Export) -> bool {
    there.is_some_and(|item| Reader(item).text(name::OP) == Ok(next.op.as_str()))
}

fn read(item: &Item) -> Result<Export, StoreError> {
    export(item).map_err(|problem| StoreError::unreadable(item, &problem))
}
