//! What the owners were told over time fits together, and with the end.

use darkroom_core::job::Status;

use super::{Story, submissions};
use crate::chaos::history::{Answered, Asked, Operation, Seen};

pub(super) fn judge(stories: &[Story<'_>], faults: &mut Vec<String>) {
    for story in stories {
        let found = told_in_order(story)
            .into_iter()
            .chain(told_to_the_end(story))
            .chain(absent_after_taken(story))
            .chain(cancels(story));
        faults.extend(found.map(|fault| format!("{}: {fault}", story.name())));
    }
}

/// Every answer that showed the job.
fn seen<'a>(story: &'a Story<'_>) -> impl Iterator<Item = (&'a Operation, &'a Seen)> {
    story.operations.iter().filter_map(|operation| match &operation.answer {
        Answered::Job(seen) => Some((*operation, seen)),
        Answered::Refused(..) | Answered::Nothing => None,
    })
}

/// A question that is asked after another was answered is not answered with an older state, and nothing follows an end.
fn told_in_order(story: &Story<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for (before, first) in seen(story) {
        for (_, then) in seen(story).filter(|(after, _)| before.answered_at < after.sent_at) {
            if then.version < first.version {
                faults.push(format!("went back from version {} to {}", first.version, then.version));
            }
            if first.settled && then.status != first.status {
                faults.push(format!("was {} and then {}", first.status, then.status));
            }
        }
    }
    faults
}

/// An end that was told is the end.
fn told_to_the_end(story: &Story<'_>) -> Option<String> {
    let record = story.record?;
    let (_, told) = seen(story).find(|(_, seen)| seen.settled && seen.status != record.status.as_str())?;
    Some(format!("was told to be {} and is {}", told.status, record.status.as_str()))
}

/// From its acknowledgement on it is there for its owner.
fn absent_after_taken(story: &Story<'_>) -> Option<String> {
    let (taken, _) = submissions::acknowledged(story).min_by_key(|(operation, _)| operation.answered_at)?;
    let is_absent = |operation: &&&Operation| {
        operation.sent_at > taken.answered_at && matches!(operation.answer, Answered::Refused(404, _))
    };
    story.operations.iter().find(is_absent).map(|_| "was acknowledged and then not found".to_owned())
}

/// Nobody but its owner cancels a job, and one that could no longer be cancelled was not.
fn cancels(story: &Story<'_>) -> Option<String> {
    if story.record?.status != Status::Cancelled {
        return None;
    }
    let mut cancels = story.operations.iter().filter(|operation| operation.asked == Asked::Cancel).peekable();
    if cancels.peek().is_none() {
        return Some("was cancelled by nobody".to_owned());
    }
    cancels
        .any(|operation| matches!(operation.answer, Answered::Refused(409, _)))
        .then(|| "was cancelled after its end".to_owned())
}
