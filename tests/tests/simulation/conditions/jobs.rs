//! The store's conditions and the pure lifecycle say the same: every command on every kind of record is written exactly
//! when `lifecycle::apply` accepts it, and makes exactly the record that it makes.

use std::collections::HashMap;

use anyhow::{bail, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::Commit;
use darkroom_aws::items::job::to_item;
use darkroom_core::id::Stamp;
use darkroom_core::job::{Job, Stage};
use darkroom_core::lifecycle::{Command, apply};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;

use super::choices::Choices;
use super::ledger::put_rich_balance;
use super::{Case, put, put_item, text};

type Item = HashMap<String, AttributeValue>;

const COMMANDS: [&str; 13] = [
    "CancelPending",
    "Capture",
    "Claim",
    "CountCall",
    "Defer",
    "EndAsSeen",
    "EndHeld",
    "Mark",
    "Progress",
    "Release",
    "RequestCancel",
    "Requeue",
    "Retry",
];
/// Records that each command is tried on.
const TRIES: u32 = 600;
/// Of these, it must fit so many and not fit so many, or they mean nothing.
const OF_EACH: u32 = 20;

pub(super) fn cases() -> Vec<Case> {
    let of_commands = COMMANDS.into_iter().flat_map(|command| {
        [
            // The shorter one first: it is enough for many clauses.
            Case::new(&format!("{command} of a damaged record"), move |writes| is_locked(writes, command)),
            Case::new(command, move |writes| agrees(writes, command)),
        ]
    });
    of_commands.chain([Case::new("absent job", no_command_makes_a_job)]).collect()
}

fn name(command: &Command) -> String {
    format!("{command:?}").split([' ', '{']).next().unwrap().to_owned()
}

/// The next job and command of this name.
fn next(choices: &mut Choices, number: &mut u64, wanted: &str) -> (Job, Command) {
    loop {
        *number += 1;
        let job = choices.job(*number);
        let command = choices.command(&job);
        if name(&command) == wanted {
            return (job, command);
        }
    }
}

async fn commit(writes: &Writes, job: &Job, command: &Command, op: &Stamp) -> anyhow::Result<Commit> {
    Ok(writes.jobs.commit(job, command, op, Timestamp::from_millis(1), SETTLE_PATIENCE).await?)
}

async fn agrees(writes: Writes, command: &str) -> anyhow::Result<()> {
    put_rich_balance(&writes).await?;
    let (mut choices, mut number) = (Choices(20_261_122), 0);
    let (mut applied, mut refused) = (0, 0);
    for _ in 0..TRIES {
        let (job, command) = next(&mut choices, &mut number, command);
        put(&writes, &job).await?;
        let op = Stamp::from_stored(format!("op{number}"));
        let expected = apply(&job, &command, op.clone());
        let commit = commit(&writes, &job, &command, &op).await?;
        let stored = writes.jobs.get(&job.id).await?.expect("the record is there");
        match (expected, commit) {
            (Ok(next), Commit::Applied(answered)) => {
                applied += 1;
                ensure!(stored == next, "{command:?} on {:?} made {:?}", job.stage, stored.stage);
                ensure!(answered == next, "{command:?} answered another record than it made");
                ensure!(command.has_made(&stored), "{command:?} does not know what it has made");
            }
            (Err(rejection), Commit::Refused(answered)) => {
                refused += 1;
                ensure!(stored == job, "{command:?} was refused ({rejection}) and changed the record");
                ensure!(answered == job, "ALL_OLD is the record as it was");
            }
            (expected, commit) => bail!(
                "{command:?} on {:?} (attempt {}, calls {}): the lifecycle says {:?}, the store {}",
                job.stage,
                job.attempt,
                job.calls,
                expected.map(|next| next.stage),
                match commit {
                    Commit::Applied(_) => "wrote it",
                    Commit::Refused(_) => "refused it",
                    Commit::Absent => "has no such job",
                }
            ),
        }
    }
    ensure!(
        applied >= OF_EACH && refused >= OF_EACH,
        "{applied} applied, {refused} refused: too few of a kind"
    );
    Ok(())
}

/// What no valid record is refuses every command all the same: the second locks.
async fn is_locked(writes: Writes, command: &str) -> anyhow::Result<()> {
    put_rich_balance(&writes).await?;
    let (mut choices, mut number) = (Choices(20_261_130), 0);
    let mut fitting = 0;
    // Enough for each of a command's forms.
    while fitting < 60 {
        let (job, command) = next(&mut choices, &mut number, command);
        if apply(&job, &command, Stamp::from_stored("op".to_owned())).is_err() {
            continue;
        }
        fitting += 1;
        for damaged in damages(&job, &command) {
            refuses(&writes, &job, &command, damaged).await?;
        }
    }
    Ok(())
}

/// Records like this one, on which the command fits, that are not to be written all the same.
fn damages(job: &Job, command: &Command) -> Vec<Item> {
    let with = |changes: &[(&str, Option<AttributeValue>)]| {
        let mut item = to_item(job);
        for (name, value) in changes {
            match value {
                Some(value) => drop(item.insert((*name).to_owned(), value.clone())),
                None => drop(item.remove(*name)),
            }
        }
        item
    };
    // It is over, whatever else it says.
    let mut damaged = vec![with(&[("settled", Some(text("refunded")))])];
    // What ends a job finds it live, and of the submission whose price it settles.
    if command.settlement().is_some() {
        damaged.push(with(&[("due_at", None)]));
        damaged.push(with(&[("created_at", Some(moment(1)))]));
    }
    let (long_ago, never) = (Some(moment(0)), Some(moment(u64::MAX)));
    match (&job.stage, command) {
        // It is with a worker, and something of an earlier wait was left on it.
        (Stage::Processing(_), Command::Claim { .. }) => {
            let live = ("lease_until", never);
            damaged.push(with(&[live.clone(), ("not_before", long_ago)]));
            damaged.push(with(&[live, ("wait_reason", Some(text("capacity")))]));
        }
        // It pauses, and something of an earlier attempt was left on it.
        (Stage::Pending(_), Command::Claim { .. }) => {
            let pause = [("not_before", never), ("wait_reason", Some(text("retry")))];
            damaged.push(with(&[&pause[..], &[("lease_until", long_ago)]].concat()));
        }
        // It waits, and everything that its worker saw of it was left on it.
        (
            Stage::Processing(_),
            Command::Progress { .. } | Command::Requeue { .. } | Command::EndAsSeen { .. },
        ) => {
            damaged.push(with(&[("status", Some(text("pending")))]));
        }
        _ => {}
    }
    damaged
}

fn moment(millis: u64) -> AttributeValue {
    super::number(millis)
}

async fn refuses(writes: &Writes, job: &Job, command: &Command, item: Item) -> anyhow::Result<()> {
    put_item(writes, &writes.names.jobs, item.clone()).await?;
    // An answer that cannot be read is as good as a refusal: nothing may have been written.
    drop(commit(writes, job, command, &Stamp::from_stored("op".to_owned())).await);
    let read = writes.clients.dynamodb.get_item().table_name(&writes.names.jobs);
    let read = read.key("pk", text(job.id.as_str())).key("sk", text("JOB")).send().await?;
    ensure!(read.item.as_ref() == Some(&item), "{command:?} was written on a damaged record");
    Ok(())
}

async fn no_command_makes_a_job(writes: Writes) -> anyhow::Result<()> {
    put_rich_balance(&writes).await?;
    let mut choices = Choices(7);
    for number in 0..300 {
        let job = choices.job(number);
        let command = choices.command(&job);
        let commit = commit(&writes, &job, &command, &Stamp::from_stored(format!("op{number}"))).await?;
        ensure!(matches!(commit, Commit::Absent), "{command:?}");
        ensure!(writes.jobs.get(&job.id).await?.is_none(), "{command:?} made a record");
    }
    Ok(())
}

#[test]
fn the_choices_make_every_command() {
    let (mut choices, mut seen) = (Choices(1), std::collections::BTreeSet::new());
    for number in 0..1_000 {
        let job = choices.job(number);
        seen.insert(name(&choices.command(&job)));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), COMMANDS);
}
