//! Calls at the provider against calls on the records: none that was not counted, and a paid one that came to nothing only
//! where a worker was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use darkroom_core::limits::WORKER_SETTLE_PATIENCE;

use super::{Call, Found, Record, Rules, Story};
use crate::chaos::history::{Answered, Asked, Kill, Operation};

/// A kill is noted before it is made, by at most so long.
const NOTING: Duration = Duration::from_millis(500);
/// After a cancel was answered no call starts, but one whose last look was a little before. The next attempt after a death would
/// come a whole lease later.
const LAST_LOOK: Duration = Duration::from_secs(10);

pub(super) fn judge(
    stories: &[Story<'_>],
    kills: &[Kill],
    found: &Found,
    rules: &Rules,
    faults: &mut Vec<String>,
) {
    let by_prompt = by_prompt(found);
    let deaths: Vec<_> = kills.iter().filter(|kill| kill.function == "worker").map(|kill| kill.at).collect();
    let mut uncalled = 0;
    for record in found.records.values() {
        let calls = by_prompt.get(record.prompt.as_str()).map_or(&[][..], Vec::as_slice);
        faults.extend(counted(record, calls, rules).map(|fault| format!("{}: {fault}", record.prompt)));
        uncalled += (record.calls as usize).saturating_sub(calls.len());
    }
    if uncalled > deaths.len() * rules.batch {
        faults.push(format!("{uncalled} calls were counted and not made, by {} dead workers", deaths.len()));
    }
    let known: BTreeSet<_> = found.records.values().map(|record| record.prompt.as_str()).collect();
    for prompt in by_prompt.keys().filter(|prompt| !prompt.is_empty() && !known.contains(*prompt)) {
        faults.push(format!("{prompt}: called, and there is no such job"));
    }
    for story in stories {
        faults.extend(called_after_cancel(story, &by_prompt));
    }
    for call in unexplained(unneeded(found), &deaths, rules.batch) {
        let at = call.at.as_secs_f64();
        faults.push(format!(
            "{}: the picture drawn at {at:.1} s came to nothing, and no worker died",
            call.prompt
        ));
    }
}

fn by_prompt(found: &Found) -> BTreeMap<&str, Vec<&Call>> {
    let mut by_prompt: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &found.calls {
        by_prompt.entry(&call.prompt).or_default().push(call);
    }
    by_prompt
}

/// I4: made ≤ counted ≤ allowed.
fn counted(record: &Record, calls: &[&Call], rules: &Rules) -> Option<String> {
    if calls.len() > record.calls as usize {
        return Some(format!("{} calls were made and {} counted", calls.len(), record.calls));
    }
    (record.calls > rules.calls_max)
        .then(|| format!("{} calls were counted, {} are allowed", record.calls, rules.calls_max))
}

fn called_after_cancel(story: &Story<'_>, by_prompt: &BTreeMap<&str, Vec<&Call>>) -> Option<String> {
    let record = story.record?;
    let is_taken = |operation: &&&Operation| {
        operation.asked == Asked::Cancel && matches!(operation.answer, Answered::Job(_))
    };
    let cancelled_at = story.operations.iter().find(is_taken)?.answered_at;
    let calls = by_prompt.get(record.prompt.as_str())?;
    let late = calls.iter().find(|call| call.at > cancelled_at + LAST_LOOK)?;
    let after = late.at.saturating_sub(cancelled_at).as_secs_f64();
    Some(format!("{}: called {after:.1} s after its cancel was answered", story.name()))
}

/// Pictures that were drawn and are not the one that was delivered: all but the last of a draft, all of any other job.
pub fn unneeded(found: &Found) -> Vec<&Call> {
    let mut unneeded = Vec::new();
    for record in found.records.values() {
        let mut drawn: Vec<_> =
            found.calls.iter().filter(|call| call.drew && call.prompt == record.prompt).collect();
        if record.picture.is_some() {
            drawn.pop();
        }
        unneeded.extend(drawn);
    }
    unneeded
}

/// Those of these calls for which no death is left that came between the call and its settlement, when each explains as many
/// as a worker has in its hands.
fn unexplained<'a>(mut calls: Vec<&'a Call>, deaths: &[Duration], batch: usize) -> Vec<&'a Call> {
    calls.sort_by_key(|call| call.ended_at);
    for death in deaths {
        let mut left = batch;
        // Earliest end first: it is the one that later deaths explain least.
        calls.retain(|call| {
            let is_explained =
                left > 0 && call.at <= *death + NOTING && *death <= call.ended_at + WORKER_SETTLE_PATIENCE;
            left -= usize::from(is_explained);
            !is_explained
        });
    }
    calls
}
