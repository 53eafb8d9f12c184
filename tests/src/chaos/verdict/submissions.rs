//! What was acknowledged is there and settled, once per key; what is there was asked for.

use std::collections::BTreeSet;

use super::{Found, Story};
use crate::chaos::client::prompt;
use crate::chaos::history::{Answered, Asked, Operation, Seen};

pub(super) fn judge(stories: &[Story<'_>], found: &Found, faults: &mut Vec<String>) {
    for story in stories {
        faults.extend(judged(story).into_iter().map(|fault| format!("{}: {fault}", story.name())));
    }
    let asked: BTreeSet<_> = stories.iter().map(|story| story.id.as_str()).collect();
    for (id, record) in &found.records {
        if !asked.contains(id.as_str()) {
            faults.push(format!("{id}: nobody asked for this job of {}", record.user));
        }
        if record.settlement.is_none() {
            faults.push(format!("{id}: never settled, it is {}", record.status.as_str()));
        }
    }
}

fn judged(story: &Story<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let taken: Vec<_> = acknowledged(story).collect();
    match story.record {
        None if !taken.is_empty() => faults.push("acknowledged and lost".to_owned()),
        Some(_) if taken.is_empty() && !is_open(story) => {
            faults.push("refused, and there all the same".to_owned());
        }
        Some(record) if (&*record.user, &*record.prompt) != (story.user, &prompt(story.user, story.key)) => {
            faults.push(format!("asked for, but there is {:?} of {}", record.prompt, record.user));
        }
        _ => {}
    }
    if taken.iter().any(|(_, seen)| seen.id != story.id) {
        faults.push("acknowledged with another job's id".to_owned());
    }
    let made: Vec<_> = taken.iter().filter(|(_, seen)| !seen.replayed).collect();
    if made.len() > 1 {
        faults.push(format!("one key made {} jobs", made.len()));
    }
    for (anew, _) in &made {
        if taken.iter().any(|(before, _)| before.answered_at < anew.sent_at) {
            faults.push("made anew after it had been acknowledged".to_owned());
        }
    }
    let mut misuses = story.operations.iter().filter(|operation| operation.asked == Asked::SubmitOther);
    if misuses.any(|misuse| matches!(misuse.answer, Answered::Job(_))) {
        faults.push("its key was taken for another request".to_owned());
    }
    faults
}

/// The answers that acknowledge it.
pub(super) fn acknowledged<'a>(story: &'a Story<'_>) -> impl Iterator<Item = (&'a Operation, &'a Seen)> {
    story.operations.iter().filter_map(|operation| match &operation.answer {
        Answered::Job(seen) if operation.asked == Asked::Submit => Some((*operation, seen)),
        _ => None,
    })
}

/// Whether a submission was left open: its job may exist or not.
fn is_open(story: &Story<'_>) -> bool {
    let mut submits = story.operations.iter().filter(|operation| operation.asked == Asked::Submit);
    submits.any(|submit| submit.answer == Answered::Nothing)
}
