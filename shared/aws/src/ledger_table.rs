//! Balances and their immutable entries.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::TransactWriteItem;
use darkroom_core::batch_record::BatchRecord;
use darkroom_core::id::{BatchId, JobId, Stamp, Ticket, UserId};
use darkroom_core::job::Job;
use darkroom_core::ledger::{Balance, LedgerError, Settlement, Tokens};
use darkroom_core::retry::Patience;
use darkroom_core::time::Timestamp;
use futures::future::BoxFuture;

use crate::attributes::{Item, Reader, millis, number, text};
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::ledger::{balance, name};
use crate::keys::{GRANT_PREFIX, Key, PK, SETTLE_PREFIX, SK};
use crate::transaction::{self, Outcome};

/// The ledger.
#[derive(Clone, Debug)]
pub struct LedgerTable {
    client: Client,
    table: String,
}

/// One immutable entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Tokens given.
    Grant {
        /// To whom.
        user: UserId,
        /// The operation that gave them.
        op_id: String,
        /// How many.
        tokens: Tokens,
        /// When.
        at: Timestamp,
    },
    /// How a job's hold ended.
    Settle {
        /// Whose job.
        user: UserId,
        /// The job.
        job: JobId,
        /// Paid or given back.
        settlement: Settlement,
        /// How many.
        tokens: Tokens,
        /// When.
        at: Timestamp,
    },
    /// What was left of a batch's hold was given back.
    BatchRefund {
        /// Whose batch.
        user: UserId,
        /// The batch.
        batch: BatchId,
        /// How many.
        tokens: Tokens,
        /// When.
        at: Timestamp,
    },
}

/// What a grant came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// Given now.
    Now,
    /// This operation had given the same number before; nothing was given now.
    Before,
    /// This operation id gave another number before; nothing was given now.
    OtherNumber(Tokens),
}

/// Every user's balance, and every entry.
pub type Accounts = (Vec<(UserId, Balance)>, Vec<Entry>);

impl LedgerTable {
    /// The table of this name.
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// A user's balance, strongly consistent; all zero before the first grant.
    pub async fn balance(&self, user: &UserId) -> Result<Balance, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::Balance(user).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem balance", error))?;
        answer.item.as_ref().map_or(Ok(Balance::default()), read_balance)
    }

    /// Answers when the table answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::NoEntry.attributes()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem ledger", error))
    }

    /// Gives tokens once per operation id: the same id gives nothing again.
    pub async fn grant(
        &self,
        user: &UserId,
        tokens: Tokens,
        op_id: &str,
        now: Timestamp,
    ) -> Result<Granted, StoreError> {
        let mut entry = Key::Grant(user, op_id).attributes();
        entry.insert(name::KIND.to_owned(), text("grant"));
        entry.insert(name::TOKENS.to_owned(), number(tokens));
        entry.insert(name::AT.to_owned(), millis(now));
        let add = Expression::default()
            .add_from_zero(name::AVAILABLE, tokens)
            .add_from_zero(name::GRANTED, tokens)
            .add_from_zero(name::HELD, 0)
            .add_from_zero(name::SPENT, 0)
            .add_from_zero(name::INFLIGHT, 0)
            .add_from_zero(name::VERSION, 1)
            .require_absent_or(name::GRANTED, "<=", number(Tokens::MAX - tokens));
        let actions = vec![
            transaction::put_if_absent(&self.table, entry)?,
            transaction::update(&self.table, Key::Balance(user).attributes(), add)?,
        ];
        let refusals =
            match transaction::write(&self.client, "TransactWriteItems grant", actions, Patience::Tries)
                .await?
            {
                Outcome::Applied => return Ok(Granted::Now),
                Outcome::Refused(refusals) => refusals,
            };
        let given =
            refusals.first().filter(|refusal| refusal.failed).and_then(|refusal| refusal.item.as_ref());
        let Some(given) = given else {
            return Err(StoreError::Refused {
                store: "DynamoDB",
                operation: "TransactWriteItems grant",
                code: "Overflow".to_owned(),
                message: LedgerError::Overflow.to_string(),
            });
        };
        let before =
            Reader(given).number(name::TOKENS).map_err(|problem| StoreError::unreadable(given, &problem))?;
        Ok(if before == tokens { Granted::Before } else { Granted::OtherNumber(before) })
    }

    /// A user's entries from behind `after` (a sort key that a page before gave), at most `limit`: grants, from the last
    /// operation id to the first as texts compare, then settlements, newest job first.
    pub async fn entries(
        &self,
        user: &UserId,
        after: Option<&str>,
        limit: u16,
    ) -> Result<(Vec<Entry>, Option<String>), StoreError> {
        let query = self
            .client
            .query()
            .key_condition_expression("pk = :pk AND sk > :bal")
            .expression_attribute_values(":bal", text("BAL"))
            .scan_index_forward(false);
        self.page(query, user, after, limit).await
    }

    /// A user's entries whose sort keys lie between these two, from behind `after` on, first to last. Strongly consistent.
    pub(crate) async fn entries_between(
        &self,
        user: &UserId,
        (first, last): (&str, &str),
        after: Option<&str>,
        limit: u16,
    ) -> Result<(Vec<Entry>, Option<String>), StoreError> {
        let query = self
            .client
            .query()
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":first", text(first))
            .expression_attribute_values(":last", text(last))
            .consistent_read(true);
        self.page(query, user, after, limit).await
    }

    async fn page(
        &self,
        query: QueryFluentBuilder,
        user: &UserId,
        after: Option<&str>,
        limit: u16,
    ) -> Result<(Vec<Entry>, Option<String>), StoreError> {
        let start =
            after.map(|sk| Item::from([(PK.to_owned(), text(user.as_str())), (SK.to_owned(), text(sk))]));
        let answer = query
            .table_name(&self.table)
            .expression_attribute_values(":pk", text(user.as_str()))
            .set_exclusive_start_key(start)
            .limit(i32::from(limit))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query entries", error))?;
        let entries = answer.items().iter().map(read_entry).collect::<Result<_, _>>()?;
        let next = answer.last_evaluated_key().and_then(|key| Reader(key).text(SK).ok()).map(str::to_owned);
        Ok((entries, next))
    }

    /// Every balance and entry of the table: for the operator's audit, which reads all there is. Boxed, because who awaits an
    /// `async fn` compiles it anew.
    pub fn scan(&self) -> BoxFuture<'_, Result<Accounts, StoreError>> {
        Box::pin(self.scan_pages())
    }

    async fn scan_pages(&self) -> Result<Accounts, StoreError> {
        let (mut balances, mut entries) = (Vec::new(), Vec::new());
        let mut start = None;
        loop {
            let answer = self
                .client
                .scan()
                .table_name(&self.table)
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("DynamoDB", "Scan ledger", error))?;
            for item in answer.items() {
                if Reader(item).text(SK) == Ok("BAL") {
                    balances.push((read_user(item)?, read_balance(item)?));
                } else {
                    entries.push(read_entry(item)?);
                }
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok((balances, entries));
            }
        }
    }

    /// Sets a new job's price aside, as part of its submission.
    pub(crate) fn hold(
        &self,
        user: &UserId,
        cost: Tokens,
        inflight_max: u64,
    ) -> Result<TransactWriteItem, StoreError> {
        let write = Expression::default()
            .subtract(name::AVAILABLE, cost)
            .add(name::HELD, cost)
            .add(name::INFLIGHT, 1)
            .add(name::VERSION, 1)
            .require(name::AVAILABLE, ">=", number(cost))
            .require(name::INFLIGHT, "<", number(inflight_max));
        transaction::update(&self.table, Key::Balance(user).attributes(), write)
    }

    /// Sets the prices of a whole batch aside, as part of its submission.
    pub(crate) fn hold_batch(&self, user: &UserId, cost: Tokens) -> Result<TransactWriteItem, StoreError> {
        let write = Expression::default()
            .subtract(name::AVAILABLE, cost)
            .add(name::HELD, cost)
            .add(name::VERSION, 1)
            .require(name::AVAILABLE, ">=", number(cost));
        transaction::update(&self.table, Key::Balance(user).attributes(), write)
    }

    /// Why a batch's hold was refused, from the balance as it was.
    pub(crate) fn batch_refusal(old: Option<&Item>, cost: Tokens) -> Result<LedgerError, StoreError> {
        let old = old.map_or(Ok(Balance::default()), read_balance)?;
        let insufficient = LedgerError::Insufficient { price: cost, available: old.available };
        Ok(old.hold_batch(cost).err().unwrap_or(insufficient))
    }

    /// Why a hold was refused, from the balance as it was.
    pub(crate) fn hold_refusal(
        old: Option<&Item>,
        cost: Tokens,
        inflight_max: u64,
    ) -> Result<LedgerError, StoreError> {
        let old = old.map_or(Ok(Balance::default()), read_balance)?;
        Ok(old
            .hold(cost, inflight_max)
            .err()
            .unwrap_or(LedgerError::Insufficient { price: cost, available: old.available }))
    }

    /// Ends a job's hold, as part of the transaction that settles it: balance, and the one entry of the job.
    pub(crate) fn settle(
        &self,
        job: &Job,
        settlement: Settlement,
        now: Timestamp,
        op: &Stamp,
    ) -> Result<[TransactWriteItem; 2], StoreError> {
        // A job of a batch is not in flight: the batch's hold bounds it.
        let inflight = u64::from(job.order.batch.is_none());
        Ok([
            self.release(&job.user, job.order.cost, settlement, inflight)?,
            self.settle_entry(job, settlement, now, op)?,
        ])
    }

    /// Ends a hold of so many tokens, of which so many jobs in flight had one each. Never without the entries that say so.
    pub(crate) fn release(
        &self,
        user: &UserId,
        tokens: Tokens,
        settlement: Settlement,
        inflight: u64,
    ) -> Result<TransactWriteItem, StoreError> {
        let gains = match settlement {
            Settlement::Captured => name::SPENT,
            Settlement::Refunded => name::AVAILABLE,
        };
        let write = Expression::default()
            .subtract(name::HELD, tokens)
            .add(gains, tokens)
            .add(name::VERSION, 1)
            .require(name::HELD, ">=", number(tokens));
        let write = match inflight {
            0 => write,
            jobs => write.subtract(name::INFLIGHT, jobs).require(name::INFLIGHT, ">=", number(jobs)),
        };
        transaction::update(&self.table, Key::Balance(user).attributes(), write)
    }

    /// The one entry of how a job's hold ended.
    pub(crate) fn settle_entry(
        &self,
        job: &Job,
        settlement: Settlement,
        now: Timestamp,
        op: &Stamp,
    ) -> Result<TransactWriteItem, StoreError> {
        let of = (name::JOB, job.id.as_str());
        self.ending_entry((&job.user, &job.ticket()), of, settlement, job.order.cost, (now, op))
    }

    /// Gives back what is left of a batch's hold, as part of the transaction that ends it: balance, and the one entry of the batch.
    pub(crate) fn refund_batch(
        &self,
        batch: &BatchRecord,
        now: Timestamp,
        op: &Stamp,
    ) -> Result<[TransactWriteItem; 2], StoreError> {
        let (refunded, tokens) = (Settlement::Refunded, batch.state.remaining);
        let of = (name::BATCH, batch.id.as_str());
        Ok([
            self.release(&batch.user, tokens, refunded, 0)?,
            self.ending_entry((&batch.user, &batch.ticket()), of, refunded, tokens, (now, op))?,
        ])
    }

    fn ending_entry(
        &self,
        (user, ticket): (&UserId, &Ticket),
        (of, id): (&str, &str),
        settlement: Settlement,
        tokens: Tokens,
        (now, op): (Timestamp, &Stamp),
    ) -> Result<TransactWriteItem, StoreError> {
        let mut entry = Key::Settle(user, ticket).attributes();
        entry.extend(
            [
                (name::KIND, text(settlement.as_str())),
                (name::TOKENS, number(tokens)),
                (of, text(id)),
                (name::AT, millis(now)),
                (name::OP, text(op.as_str())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        transaction::put_if_absent(&self.table, entry)
    }
}

fn read_balance(item: &Item) -> Result<Balance, StoreError> {
    balance(item).map_err(|problem| StoreError::unreadable(item, &problem))
}

fn read_user(item: &Item) -> Result<UserId, StoreError> {
    Reader(item)
        .parsed(PK, |text| UserId::parse(text).ok())
        .map_err(|problem| StoreError::unreadable(item, &problem))
}

fn read_entry(item: &Item) -> Result<Entry, StoreError> {
    let read = Reader(item);
    let entry = || {
        let user = read.parsed(PK, |text| UserId::parse(text).ok())?;
        let (tokens, at) = (read.number(name::TOKENS)?, read.time(name::AT)?);
        if let Some(op_id) = read.text(SK)?.strip_prefix(GRANT_PREFIX) {
            return Ok(Entry::Grant { user, op_id: op_id.to_owned(), tokens, at });
        }
        if let Some(batch) = read.optional_parsed(name::BATCH, |text| BatchId::parse(text).ok())? {
            return Ok(Entry::BatchRefund { user, batch, tokens, at });
        }
        let settlement = read.parsed(name::KIND, Settlement::parse)?;
        let job = read.parsed(name::JOB, |text| JobId::parse(text).ok())?;
        Ok(Entry::Settle { user, job, settlement, tokens, at })
    };
    entry().map_err(|problem| StoreError::unreadable(item, &problem))
}

const _: () = assert!(
    matches!(SETTLE_PREFIX.as_bytes(), [b'E', b'#']) && matches!(GRANT_PREFIX.as_bytes(), [b'G', ..]),
    "entries sort after BAL"
);
