//! Tokens, entries, pictures and dead letters.

use std::collections::BTreeMap;

use darkroom_core::job::Status;
use darkroom_core::ledger::{Balance, Settlement};

use super::{Found, Record, Rules, Story};
use crate::chaos::history::Kill;

pub(super) fn judge(found: &Found, faults: &mut Vec<String>) {
    faults.extend(found.audit.iter().map(|fault| format!("audit: {fault}")));
    faults.extend(found.stray_entries.iter().map(|id| format!("{id}: an entry, and no job")));
    for (id, record) in &found.records {
        faults
            .extend(entries(record).into_iter().chain(picture(record)).map(|fault| format!("{id}: {fault}")));
    }
    let mut spent: BTreeMap<&str, u64> = BTreeMap::new();
    let is_drawn = |record: &&Record| matches!(record.status, Status::Draft | Status::Published);
    for record in found.records.values().filter(is_drawn) {
        *spent.entry(&record.user).or_default() += record.cost;
    }
    for (user, granted) in &found.granted {
        let spent = spent.get(user.as_str()).copied().unwrap_or_default();
        let wanted = Balance {
            available: granted.saturating_sub(spent),
            held: 0,
            spent,
            granted: *granted,
            inflight: 0,
        };
        let is = found.balances.get(user).copied().unwrap_or_default();
        if is != wanted {
            faults.push(format!("{user}: the balance is {is:?} and should be {wanted:?}"));
        }
    }
}

/// I2: settled once, as its status says.
fn entries(record: &Record) -> Option<String> {
    let wanted = match record.status {
        Status::Pending | Status::Processing => None,
        Status::Draft | Status::Published => Some(Settlement::Captured),
        Status::Failed | Status::Cancelled => Some(Settlement::Refunded),
    };
    let is_right = record.settlement == wanted && record.entries == wanted.into_iter().collect::<Vec<_>>();
    (!is_right).then(|| {
        let (status, entries) = (record.status.as_str(), &record.entries);
        format!("is {status}, settled as {:?}, and its entries say {entries:?}", record.settlement)
    })
}

/// I6: what was drawn has its picture.
fn picture(record: &Record) -> Option<String> {
    match (&record.picture, record.status) {
        (None, Status::Draft | Status::Published) => Some("is drawn and has no picture".to_owned()),
        (Some(picture), _) if picture.stored.as_ref() != Some(&picture.recorded) => {
            Some(format!("its picture is {:?} and should be {}", picture.stored, picture.recorded))
        }
        _ => None,
    }
}

/// A message is given up after so many receives: there were so many deaths after its job was asked for, and its job has
/// ended without it.
pub(super) fn judge_dead_letters(
    stories: &[Story<'_>],
    kills: &[Kill],
    found: &Found,
    rules: &Rules,
    faults: &mut Vec<String>,
) {
    for letter in &found.dead_letters {
        let story = stories.iter().find(|story| story.id == *letter);
        let asked_at = story.and_then(|story| story.operations.first()).map(|operation| operation.sent_at);
        let deaths = kills
            .iter()
            .filter(|kill| kill.function == "worker" && asked_at.is_some_and(|asked_at| kill.at >= asked_at));
        let deaths = deaths.count();
        let is_settled = found.records.get(letter).is_some_and(|record| record.settlement.is_some());
        if deaths < rules.receives_max as usize || !is_settled {
            faults.push(format!("{letter}: a dead letter after {deaths} deaths of workers"));
        }
    }
}
