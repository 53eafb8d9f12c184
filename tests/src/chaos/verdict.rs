//! What must hold between what was asked and answered, what was killed, and what is there at the end.
//!
//! Pure: the same history is judged the same, and so a bad one can be written by hand (see the tests).

mod answers;
mod books;
mod calls;
mod submissions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use darkroom_core::id::{IdempotencyKey, JobId, UserId};
use darkroom_core::job::Status;
use darkroom_core::ledger::{Balance, Settlement};

pub use self::calls::unneeded;
use super::history::{Kill, Operation};

/// What is there at the end.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The jobs' records, by id.
    pub records: BTreeMap<String, Record>,
    /// Jobs that have an entry in the ledger and no record.
    pub stray_entries: Vec<String>,
    /// Calls at the provider, in the order of arrival.
    pub calls: Vec<Call>,
    /// What each user was granted.
    pub granted: BTreeMap<String, u64>,
    /// What each user's balance is.
    pub balances: BTreeMap<String, Balance>,
    /// What the audit finds.
    pub audit: Vec<String>,
    /// The jobs that messages in the dead-letter queue name, or what they say.
    pub dead_letters: Vec<String>,
}

/// A job's record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its owner.
    pub user: String,
    /// What was asked for: no two jobs of a run have the same.
    pub prompt: String,
    /// Its status.
    pub status: Status,
    /// What became of its price.
    pub settlement: Option<Settlement>,
    /// What the ledger's entries say of that.
    pub entries: Vec<Settlement>,
    /// Its price.
    pub cost: u64,
    /// Its attempt number.
    pub attempt: u32,
    /// Calls that were counted.
    pub calls: u32,
    /// Why it failed.
    pub failure: Option<String>,
    /// Its picture.
    pub picture: Option<Picture>,
}

/// A draft's picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its hash on the record.
    pub recorded: String,
    /// The hash of what is stored, if it is.
    pub stored: Option<String>,
}

/// A call at the provider.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked for; empty when the caller died before it had said so.
    pub prompt: String,
    /// When it arrived.
    pub at: Duration,
    /// When it ended.
    pub ended_at: Duration,
    /// Whether a picture was sent: it is paid.
    pub drew: bool,
}

/// What the system promises in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Calls of a job at most.
    pub calls_max: u32,
    /// Jobs in one worker's hands at most.
    pub batch: usize,
    /// Receives that a message survives.
    pub receives_max: u32,
}

/// Everything that was asked of the job of one key, in the order of asking.
struct Story<'a> {
    user: &'a str,
    key: &'a str,
    id: String,
    operations: Vec<&'a Operation>,
    record: Option<&'a Record>,
}

impl Story<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.user, self.key)
    }
}

fn stories<'a>(history: &'a [Operation], found: &'a Found) -> Vec<Story<'a>> {
    let mut by_key: BTreeMap<(&str, &str), Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        by_key.entry((&operation.user, &operation.key)).or_default().push(operation);
    }
    by_key
        .into_iter()
        .map(|((user, key), mut operations)| {
            operations.sort_by_key(|operation| operation.sent_at);
            let id = job_id(user, key);
            let record = found.records.get(&id);
            Story { user, key, id, operations, record }
        })
        .collect()
}

/// The id of the job of this user and key; empty for what is no user or key.
pub(super) fn job_id(user: &str, key: &str) -> String {
    match (UserId::parse(user), IdempotencyKey::parse(key)) {
        (Ok(user), Ok(key)) => JobId::derive(&user, &key).to_string(),
        _ => String::new(),
    }
}

/// Everything that does not hold, in words.
pub fn faults(history: &[Operation], kills: &[Kill], found: &Found, rules: &Rules) -> Vec<String> {
    let stories = stories(history, found);
    let mut faults = Vec::new();
    submissions::judge(&stories, found, &mut faults);
    answers::judge(&stories, &mut faults);
    calls::judge(&stories, kills, found, rules, &mut faults);
    books::judge(found, &mut faults);
    books::judge_dead_letters(&stories, kills, found, rules, &mut faults);
    faults
}
