//! What is there at the end: records, entries, pictures, calls, balances, dead letters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use darkroom_aws::Entry;
use darkroom_aws::clients::Clients;
use darkroom_core::id::UserId;
use darkroom_core::job::{Job, Outcome, Stage};
use darkroom_core::message::Message;
use darkroom_core::request::Prompt;
use sha2::{Digest as _, Sha256};

use super::verdict::{Call, Found, Picture, Record};
use crate::stack::TestStack;
use crate::stand_in_gemini::{self, StandIn};

/// Calls of dead processes end when the provider notices.
const CALLS_PATIENCE: Duration = Duration::from_secs(10);

/// Reads everything. The system has to be at rest.
pub(crate) async fn collect(
    stack: &TestStack,
    gemini: &StandIn,
    granted: BTreeMap<String, u64>,
) -> anyhow::Result<Found> {
    let stores = stack.stores()?;
    let mut entries: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in stores.ledger.scan().await?.1 {
        if let Entry::Settle { job, settlement, .. } = entry {
            entries.entry(job.to_string()).or_default().push(settlement);
        }
    }
    let mut records = BTreeMap::new();
    for job in stores.jobs.scan().await?.jobs {
        let settlements = entries.remove(job.id.as_str()).unwrap_or_default();
        records.insert(job.id.to_string(), record(stack, &job, settlements).await?);
    }
    let mut balances = BTreeMap::new();
    for user in granted.keys() {
        balances.insert(user.clone(), stores.ledger.balance(&UserId::parse(user)?).await?);
    }
    Ok(Found {
        records,
        stray_entries: entries.into_keys().collect(),
        calls: calls(gemini).await?,
        granted,
        balances,
        audit: stack.audit().await?.faults,
        dead_letters: dead_letters(stack).await?,
    })
}

async fn record(
    stack: &TestStack,
    job: &Job,
    entries: Vec<darkroom_core::ledger::Settlement>,
) -> anyhow::Result<Record> {
    let (mut failure, mut picture) = (None, None);
    if let Stage::Settled(settled) = &job.stage {
        match &settled.outcome {
            Outcome::Drawn { image, .. } => {
                picture = Some(Picture { recorded: image.sha256.clone(), stored: stored(stack, job).await? });
            }
            Outcome::Failed(failed) => failure = Some(failed.code.as_str().to_owned()),
            Outcome::Cancelled => {}
        }
    }
    Ok(Record {
        user: job.user.to_string(),
        prompt: job.order.prompt.as_ref().map(Prompt::reveal).unwrap_or_default().to_owned(),
        status: job.status(),
        settlement: job.settlement(),
        entries,
        cost: job.order.cost,
        attempt: job.attempt,
        calls: job.calls,
        failure,
        picture,
    })
}

/// The hash of what the owner is shown; `None` when it cannot be downloaded.
async fn stored(stack: &TestStack, job: &Job) -> anyhow::Result<Option<String>> {
    let shown = stack.app.get(job.user.as_str(), &format!("/v1/jobs/{}", job.id)).await?;
    let bytes = stack.app.download(shown.text("image_url")).await;
    Ok(bytes.ok().map(|bytes| data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes))))
}

/// The calls that were made. Looking whether a key is accepted is none.
async fn calls(gemini: &StandIn) -> anyhow::Result<Vec<Call>> {
    let started = Instant::now();
    while gemini.calls().len() < gemini.call_count() {
        ensure!(started.elapsed() < CALLS_PATIENCE, "a call at the provider does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let calls = gemini.calls().into_iter().filter(|call| !call.model.is_empty());
    Ok(calls
        .map(|call| Call {
            prompt: call.prompt,
            at: call.at,
            ended_at: call.at + call.took,
            drew: call.outcome == stand_in_gemini::Outcome::Drawn,
        })
        .collect())
}

/// The job that each dead letter names, or what it says.
async fn dead_letters(stack: &TestStack) -> anyhow::Result<Vec<String>> {
    let sqs = Clients::new(&stack.system.running().access()).sqs;
    let mut letters = Vec::new();
    loop {
        let receive = sqs.receive_message().queue_url(stack.system.dead_letter_queue_url());
        let received = receive.max_number_of_messages(10).visibility_timeout(600).send().await?;
        if received.messages().is_empty() {
            return Ok(letters);
        }
        for body in received.messages().iter().filter_map(|message| message.body()) {
            letters.push(match Message::parse(body) {
                Ok(Message::Job(message)) => message.job_id.to_string(),
                Ok(Message::Probe(_)) | Err(_) => body.to_owned(),
            });
        }
    }
}
