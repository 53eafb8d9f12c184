//! `darkroom tokens`.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use darkroom_aws::{Granted, now, random_stamp};
use darkroom_core::id::UserId;
use serde_json::json;

use super::Target;
use crate::audit::audit;
use crate::output::{print, table};

/// Users' tokens.
#[derive(Subcommand)]
pub(super) enum Tokens {
    /// Gives a user tokens. The same --op-id gives nothing again.
    Grant {
        /// The user: the `sub` of their token.
        user: String,
        /// How many.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        tokens: u64,
        /// Names this grant, so that trying again is safe; made up when absent.
        #[arg(long, value_name = "ID")]
        op_id: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Shows a user's balance.
    Show {
        /// The user.
        user: String,
        #[command(flatten)]
        target: Target,
    },
    /// Proves the books over the whole ledger, and prints the sums. Exit code 1 when they do not balance.
    Audit {
        #[command(flatten)]
        target: Target,
    },
}

impl Tokens {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Grant { user, tokens, op_id, target } => grant(&user, tokens, op_id, &target).await,
            Self::Show { user, target } => show(&user, &target).await,
            Self::Audit { target } => run_audit(&target).await,
        }
    }
}

async fn grant(user: &str, tokens: u64, op_id: Option<String>, target: &Target) -> anyhow::Result<()> {
    let user = UserId::parse(user)?;
    let op_id = op_id.unwrap_or_else(|| random_stamp().as_str().to_owned());
    if op_id.is_empty() || op_id.len() > 128 || !op_id.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("--op-id takes 1 to 128 printable ASCII characters without spaces");
    }
    let stores = target.stores().await?;
    let granted = stores.ledger.grant(&user, tokens, &op_id, now()).await.with_context(|| {
        format!("whether the grant was made is not known: try again with --op-id {op_id}, it is made once")
    })?;
    if let Granted::OtherNumber(before) = granted {
        bail!("--op-id {op_id} gave {before} tokens before, not {tokens}: use another id for another grant");
    }
    let balance = stores.ledger.balance(&user).await?;
    let now_given = granted == Granted::Now;
    print(
        target.json,
        &json!({"user": user, "granted_now": now_given, "op_id": op_id, "balance": balance}),
        || {
            let what = if now_given { "gets" } else { "already got" };
            format!("{user} {what} {tokens} tokens (op-id {op_id}); available now: {}", balance.available)
        },
    );
    Ok(())
}

async fn show(user: &str, target: &Target) -> anyhow::Result<()> {
    let user = UserId::parse(user)?;
    let balance = target.stores().await?.ledger.balance(&user).await?;
    print(target.json, &json!({"user": user, "balance": balance}), || {
        table(
            &["user", "available", "held", "spent", "granted", "in flight"],
            &[vec![
                user.to_string(),
                balance.available.to_string(),
                balance.held.to_string(),
                balance.spent.to_string(),
                balance.granted.to_string(),
                balance.inflight.to_string(),
            ]],
        )
    });
    Ok(())
}

async fn run_audit(target: &Target) -> anyhow::Result<()> {
    let stores = target.stores().await?;
    let audit = audit(&stores.jobs, &stores.ledger).await?;
    print(target.json, &json!(audit), || {
        let rows: Vec<_> = audit
            .users
            .iter()
            .map(|(user, books)| {
                let b = books.balance;
                let mut row = vec![user.clone()];
                row.extend([b.granted, b.available, b.held, b.spent, b.inflight].map(|n| n.to_string()));
                row.push(if books.faults().is_empty() { "balances" } else { "DOES NOT BALANCE" }.to_owned());
                row
            })
            .collect();
        let head = ["user", "granted", "= available", "+ held", "+ spent", "in flight", "books"];
        format!("{}\n{} jobs on record, {} settled once each", table(&head, &rows), audit.jobs, audit.settled)
    });
    if audit.faults.is_empty() {
        return Ok(());
    }
    bail!("the books do not balance:\n  {}", audit.faults.join("\n  "))
}
