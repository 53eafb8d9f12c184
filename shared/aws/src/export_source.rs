//! What exports read, page by page, oldest first.

use std::collections::HashMap;
use std::time::Duration;

use darkroom_core::export::Place;
use darkroom_core::export_file::Row;
use darkroom_core::id::{JobId, UserId};
use darkroom_core::job::Job;
use darkroom_core::limits::{EXPORT_ENTRIES, EXPORT_JOBS};
use darkroom_core::request::Prompt;
use darkroom_core::time::Timestamp;

use crate::attributes::{Item, Reader, millis, text};
use crate::error::StoreError;
use crate::items::job::name;
use crate::job_table::{item_id, prompt, readable};
use crate::keys::{GRANT_PREFIX, Key, PK, SETTLE_PREFIX, SK};
use crate::{Entry, JobTable, LedgerTable};

/// One page.
pub struct RowPage {
    /// What was found, oldest first: of a page there may be nothing.
    pub rows: Vec<Row>,
    /// Where the next one is.
    pub next: Place,
}

/// A job is in the ledger by the time of its submission, its entry by that of its settlement. Where both are told by two machines
/// whose clocks differ, the second can lie a little before the first.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// The place when the settlements are through.
const GRANTS: &str = GRANT_PREFIX;

impl JobTable {
    /// A user's jobs that were submitted from `from` to before `until`, from this place on, with their prompts. Deleted jobs are
    /// not among them; one that cannot be read is logged and left out.
    pub async fn rows(
        &self,
        user: &UserId,
        (from, until): (Timestamp, Timestamp),
        place: &Place,
    ) -> Result<RowPage, StoreError> {
        let Some(last) = until.as_millis().checked_sub(1).filter(|last| *last >= from.as_millis()) else {
            return Ok(RowPage { rows: Vec::new(), next: Place::End });
        };
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by_user")
            .key_condition_expression("#user = :user AND #created_at BETWEEN :from AND :last")
            .expression_attribute_names("#user", name::USER)
            .expression_attribute_names("#created_at", name::CREATED_AT)
            .expression_attribute_values(":user", text(user.as_str()))
            .expression_attribute_values(":from", millis(from))
            .expression_attribute_values(":last", millis(Timestamp::from_millis(last)))
            .set_exclusive_start_key(behind(place).and_then(|after| start_key(user, after)))
            .limit(i32::try_from(EXPORT_JOBS).unwrap_or(100))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DynamoDB", "Query by_user", error))?;
        // Whatever else of the user's is listed beside jobs is no job.
        let of_jobs = answer.items().iter().filter(|item| is_job(item));
        let ids: Vec<JobId> = of_jobs.filter_map(|item| readable(item_id(item))).collect();
        let next = answer.last_evaluated_key.as_ref().map_or(Ok(Place::End), cursor)?;
        Ok(RowPage { rows: self.with_prompts(user, &ids).await?, next })
    }

    /// The jobs of these ids that are this user's, with the prompts that are kept beside them.
    async fn with_prompts(&self, user: &UserId, ids: &[JobId]) -> Result<Vec<Row>, StoreError> {
        let mut jobs = self.read_many(ids).await?;
        // The index is a hint.
        jobs.retain(|job| job.user == *user);
        let beside = jobs.iter().filter(|job| job.order.prompt.is_none());
        let items = self.batch_get(beside.map(|job| Key::Body(&job.id).attributes()).collect()).await?;
        let mut prompts: HashMap<JobId, Prompt> =
            items.iter().filter_map(|item| readable(long_prompt(item))).collect();
        let row = |job: Job| {
            let prompt = prompts.remove(&job.id);
            Row::Job(Box::new(job), prompt)
        };
        Ok(jobs.into_iter().map(row).collect())
    }
}

impl LedgerTable {
    /// A user's entries that were written from `from` to before `until`, from this place on: how jobs were settled, by the time
    /// of their submission, then grants, by their operations. Strongly consistent.
    ///
    /// The ledger is ordered by submissions, and a job may have been settled at any time after its own: so this reads from the
    /// very first.
    ///
    /// # Errors
    /// Also for an entry that cannot be read: sums without it would be wrong.
    pub async fn rows(
        &self,
        user: &UserId,
        (from, until): (Timestamp, Timestamp),
        place: &Place,
    ) -> Result<RowPage, StoreError> {
        let after = behind(place);
        let of_grants = after.is_some_and(|after| after.starts_with(GRANT_PREFIX));
        let (first, last) = if of_grants {
            (GRANT_PREFIX.to_owned(), format!("{GRANT_PREFIX}\u{10ffff}"))
        } else {
            let behind = until.plus(CLOCKS_DIFFER).as_millis();
            (SETTLE_PREFIX.to_owned(), format!("{SETTLE_PREFIX}{behind:015}"))
        };
        let after = after.filter(|after| *after != GRANTS);
        let (entries, next) = self.entries_between(user, (&first, &last), after, EXPORT_ENTRIES).await?;
        let rows = entries.into_iter().map(row).filter(|row| (from..until).contains(&row.at())).collect();
        let next = match next {
            Some(next) => Place::Behind(next),
            None if of_grants => Place::End,
            None => Place::Behind(GRANTS.to_owned()),
        };
        Ok(RowPage { rows, next })
    }
}

fn long_prompt(item: &Item) -> Result<(JobId, Prompt), StoreError> {
    Ok((item_id(item)?, prompt(item)?))
}

fn row(entry: Entry) -> Row {
    match entry {
        Entry::Grant { op_id, tokens, at, .. } => Row::Grant { at, tokens, op_id },
        Entry::Settle { job, settlement, tokens, at, .. } => Row::Settle { at, settlement, tokens, job },
        Entry::BatchRefund { batch, tokens, at, .. } => Row::BatchRefund { at, tokens, batch },
    }
}

fn behind(place: &Place) -> Option<&str> {
    match place {
        Place::Behind(after) => Some(after),
        Place::Start | Place::End => None,
    }
}

fn is_job(item: &Item) -> bool {
    Reader(item).text(PK).is_ok_and(|id| id.starts_with("job_"))
}

/// Where a page of the index ended: `<created_at>#<id>#<sort key>`.
fn cursor(key: &Item) -> Result<Place, StoreError> {
    let read = Reader(key);
    let parts = || {
        let (created_at, id, kind) = (read.number(name::CREATED_AT)?, read.text(PK)?, read.text(SK)?);
        Ok(Place::Behind(format!("{created_at}#{id}#{kind}")))
    };
    parts().map_err(|problem| StoreError::unreadable(key, &problem))
}

fn start_key(user: &UserId, cursor: &str) -> Option<Item> {
    let (created_at, key) = cursor.split_once('#')?;
    let (id, kind) = key.split_once('#')?;
    Some(Item::from([
        (PK.to_owned(), text(id)),
        (SK.to_owned(), text(kind)),
        (name::USER.to_owned(), text(user.as_str())),
        (name::CREATED_AT.to_owned(), millis(Timestamp::from_millis(created_at.parse().ok()?))),
    ]))
}
