//! Changes of the jobs table, told to those whose jobs they are.
//!
//! For connections a change is only a wake-up: what is told is the record as it is when it is read, after the change. So a
//! change that is handled again tells nothing that is older than what was told before, and one that comes late tells what is
//! new. For webhooks it is what has happened: each change is announced, as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use darkroom_aws::{StoreError, job_of_image, now};
use darkroom_core::id::{JobId, UserId};
use darkroom_core::job::{Job, Status};
use darkroom_core::limits::PUSH_AGE_MAX;
use darkroom_core::push::{Connection, job_updated};
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::EventKind;
use lambda_runtime::Error;
use serde_json::{Value, json};

use crate::Notifier;
use crate::announce::Announcement;
use crate::tell::{Told, side_by_side};

/// A change of a job's record.
struct Change {
    job: JobId,
    user: UserId,
    /// Its place in the stream: what a failure is reported by.
    sequence_number: String,
    /// When it was written, in whole seconds.
    changed_at: Timestamp,
    /// What it is for webhooks.
    announcement: Option<Announcement>,
}

impl Change {
    /// Reads a record of the stream. `Ok(None)` of what nobody is told: what is no job's record, records that are removed, and
    /// what is left of deleted jobs.
    fn read(record: &Value) -> Result<Option<Self>, &'static str> {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let is_jobs = text("/dynamodb/Keys/pk/S").ok_or("no key")?.starts_with("job_");
        let is_record = text("/dynamodb/Keys/sk/S").ok_or("no sort key")? == "JOB" && is_jobs;
        let is_written = matches!(text("/eventName").ok_or("no event name")?, "INSERT" | "MODIFY");
        if !is_record || !is_written {
            return Ok(None);
        }
        if text("/dynamodb/NewImage/status/S").ok_or("no status")? == "deleted" {
            return Ok(None);
        }
        let changed_at = record.pointer("/dynamodb/ApproximateCreationDateTime").and_then(seconds);
        let changed_at = changed_at.ok_or("no time")?;
        Ok(Some(Self {
            announcement: announcement(record, changed_at),
            changed_at,
            job: text("/dynamodb/Keys/pk/S").and_then(|id| JobId::parse(id).ok()).ok_or("no job's id")?,
            user: text("/dynamodb/NewImage/user/S")
                .and_then(|user| UserId::parse(user).ok())
                .ok_or("no user")?,
            sequence_number: text("/dynamodb/SequenceNumber").ok_or("no sequence number")?.to_owned(),
        }))
    }
}

/// A point in time that the stream tells in seconds, perhaps with a fraction.
fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    Some(Timestamp::EPOCH.plus(Duration::try_from_secs_f64(seconds).ok()?))
}

/// What webhooks are told of a change; `None` of most. A record that this release cannot read is logged: what it was is not known.
fn announcement(record: &Value, written_at: Timestamp) -> Option<Announcement> {
    let status = |image: &str| record.pointer(&format!("/dynamodb/{image}/status/S")).and_then(Value::as_str);
    let event = EventKind::of(Status::parse(status("OldImage")?)?, Status::parse(status("NewImage")?)?)?;
    match job_of_image(record.pointer("/dynamodb/NewImage")?) {
        Ok(job) => Some(Announcement::new(event, job, written_at)),
        Err(problem) => {
            tracing::error!(problem, "a changed job cannot be read, and no webhook is told of it");
            None
        }
    }
}

/// What can be read of these records. What cannot is logged and left out: handled again, it could not be read either.
fn changes(records: &[Value]) -> Vec<Change> {
    let read = records.iter().filter_map(|record| match Change::read(record) {
        Ok(change) => change,
        Err(problem) => {
            tracing::error!(problem, "a change cannot be read, and is told to nobody");
            None
        }
    });
    read.collect()
}

/// The changed jobs, each once with its last place in the stream, by user.
fn by_user(changes: Vec<Change>) -> BTreeMap<UserId, BTreeMap<JobId, String>> {
    let mut users: BTreeMap<UserId, BTreeMap<JobId, String>> = BTreeMap::new();
    for change in changes {
        users.entry(change.user).or_default().insert(change.job, change.sequence_number);
    }
    users
}

impl Notifier {
    /// Announces the changes to webhooks, tells each that is young to the connections of its job's owner, and names those that
    /// have to come again: what the gateway could neither tell nor end a connection for. A connection that fails alone is ended
    /// and fails nobody else.
    ///
    /// # Errors
    /// When a store does not answer: then all of them come again, for as long as the stream keeps them.
    pub(crate) async fn tell_changes(&self, records: &[Value]) -> Result<Value, Error> {
        let mut changes = changes(records);
        let announcements = changes.iter_mut().filter_map(|change| change.announcement.take()).collect();
        self.announce(announcements).await?;
        // No connection waits for an older one: whoever is connected has synchronised since.
        let at = now();
        changes.retain(|change| at.since(change.changed_at) < PUSH_AGE_MAX);
        let mut users = by_user(changes);
        let failed = self.tell_users(&mut users).await?;
        let failures: Vec<_> = failed.iter().map(|number| json!({"itemIdentifier": number})).collect();
        Ok(json!({"batchItemFailures": failures}))
    }

    async fn tell_users(
        &self,
        users: &mut BTreeMap<UserId, BTreeMap<JobId, String>>,
    ) -> Result<Vec<String>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = users.keys().cloned().collect();
        let connections = self.push.connections(&ids).await?;
        let at = now();
        users.retain(|user, _| connections.get(user).is_some_and(|list| list.open(at).next().is_some()));
        let ids: Vec<_> = users.values().flat_map(BTreeMap::keys).cloned().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut jobs = self.jobs.read_many(&ids).await?;
        // Whose a job is, its record says.
        jobs.retain(|job| users.contains_key(&job.user) && job.belongs_to(&job.user, at));
        let views = self.views.views(&jobs).await?;
        let mut messages = Vec::new();
        for (job, view) in jobs.iter().zip(&views) {
            for connection in connections.get(&job.user).into_iter().flat_map(|list| list.open(at)) {
                let message = job_updated(job.version, &view.render(job, connection.language));
                messages.push(self.tell_change(job, connection, message));
            }
        }
        let told = side_by_side(messages).await;
        let failed = told.into_iter().filter(|(_, told)| *told == Told::Failed);
        Ok(failed.filter_map(|(job, _)| users.get(&job.user)?.get(&job.id).cloned()).collect())
    }

    async fn tell_change<'a>(
        &self,
        job: &'a Job,
        connection: &Connection,
        message: Value,
    ) -> (&'a Job, Told) {
        (job, self.tell_since(&connection.id, connection.connected_at, message).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(letter: &str) -> String {
        format!("job_{}", letter.repeat(52))
    }

    fn record(letter: &str, number: &str) -> Value {
        json!({
            "eventName": "MODIFY",
            "dynamodb": {
                "Keys": {"pk": {"S": id(letter)}, "sk": {"S": "JOB"}},
                "NewImage": {"user": {"S": "alice"}, "status": {"S": "pending"}},
                "SequenceNumber": number,
                "ApproximateCreationDateTime": 1_800_000_000,
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut record = record("a", "1");
        if let Some(place) = record.pointer_mut(pointer) {
            *place = value;
        }
        record
    }

    #[test]
    fn a_record_that_cannot_be_read_fails_alone() {
        let records = [
            json!(7),
            record("a", "1"),
            with("/dynamodb/Keys/pk/S", json!("job_x")),
            json!({}),
            record("b", "2"),
        ];
        let users = by_user(changes(&records));
        assert_eq!(users.values().flat_map(BTreeMap::values).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_job_is_told_once_for_all_its_changes_of_a_batch() {
        let users = by_user(changes(&[record("a", "1"), record("b", "2"), record("a", "3")]));
        assert_eq!(users.len(), 1);
        assert_eq!(users.values().flat_map(BTreeMap::values).collect::<Vec<_>>(), ["3", "2"]);
    }

    #[test]
    fn what_lies_beside_a_record_is_removed_deleted_or_no_job_is_told_to_nobody() {
        let batch = format!("bat_{}", "a".repeat(52));
        for (pointer, value) in [
            ("/dynamodb/Keys/pk/S", json!(batch)),
            ("/dynamodb/Keys/sk/S", json!("META")),
            ("/dynamodb/Keys/sk/S", json!("BODY")),
            ("/eventName", json!("REMOVE")),
            ("/dynamodb/NewImage/status/S", json!("deleted")),
        ] {
            assert!(matches!(Change::read(&with(pointer, value.clone())), Ok(None)), "{pointer} {value}");
        }
        assert!(matches!(Change::read(&with("/eventName", json!("INSERT"))), Ok(Some(_))));
        for (pointer, value) in [
            ("/dynamodb/NewImage/user/S", json!("")),
            ("/dynamodb/NewImage", Value::Null),
            ("/dynamodb/SequenceNumber", json!(7)),
            ("/dynamodb/ApproximateCreationDateTime", json!("soon")),
            ("/dynamodb/ApproximateCreationDateTime", json!(-1)),
            ("/eventName", Value::Null),
        ] {
            assert!(Change::read(&with(pointer, value.clone())).is_err(), "{pointer} {value}");
        }
    }
}
