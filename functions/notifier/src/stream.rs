//! Changes of the jobs table, told to those whose jobs they are.
//!
//! A change is only a wake-up: what is told is the record as it is when it is read, after the change. So a change that is
//! handled again tells nothing that is older than what was told before, and one that comes late tells what is new.

use std::collections::BTreeMap;

use darkroom_aws::{StoreError, now};
use darkroom_core::id::{JobId, UserId};
use darkroom_core::job::Job;
use darkroom_core::push::{Connection, job_updated};
use lambda_runtime::Error;
use serde_json::{Value, json};

use crate::Notifier;
use crate::event::Changes;
use crate::tell::{Told, side_by_side};

/// A change of a job's record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    job: JobId,
    user: UserId,
    /// Its place in the stream: what a failure is reported by.
    sequence_number: String,
}

impl Change {
    /// Reads a record of the stream. `Ok(None)` of what nobody is told: what lies beside a job's record, records that are
    /// removed, and what is left of deleted jobs.
    fn read(record: &Value) -> Result<Option<Self>, &'static str> {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let is_record = text("/dynamodb/Keys/sk/S").ok_or("no sort key")? == "JOB";
        let is_written = matches!(text("/eventName").ok_or("no event name")?, "INSERT" | "MODIFY");
        if !is_record || !is_written {
            return Ok(None);
        }
        if text("/dynamodb/NewImage/status/S").ok_or("no status")? == "deleted" {
            return Ok(None);
        }
        Ok(Some(Self {
            job: text("/dynamodb/Keys/pk/S").and_then(|id| JobId::parse(id).ok()).ok_or("no job's id")?,
            user: text("/dynamodb/NewImage/user/S")
                .and_then(|user| UserId::parse(user).ok())
                .ok_or("no user")?,
            sequence_number: text("/dynamodb/SequenceNumber").ok_or("no sequence number")?.to_owned(),
        }))
    }
}

/// The changed jobs, each once with its last place in the stream, by user. What cannot be read is logged and left out:
/// handled again, it could not be read either.
fn by_user(changes: &Changes) -> BTreeMap<UserId, BTreeMap<JobId, String>> {
    let mut users: BTreeMap<UserId, BTreeMap<JobId, String>> = BTreeMap::new();
    for record in &changes.records {
        match Change::read(record) {
            Ok(Some(change)) => {
                users.entry(change.user).or_default().insert(change.job, change.sequence_number);
            }
            Ok(None) => {}
            Err(problem) => tracing::error!(problem, "a change cannot be read, and is told to nobody"),
        }
    }
    users
}

impl Notifier {
    /// Tells each change to the connections of its job's owner, and names those that have to come again: what the gateway
    /// could neither tell nor end a connection for. A connection that fails alone is ended and fails nobody else.
    ///
    /// # Errors
    /// When a store does not answer: then all of them come again.
    pub(crate) async fn tell_changes(&self, changes: Changes) -> Result<Value, Error> {
        let mut users = by_user(&changes);
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
        let changes = Changes {
            records: vec![
                json!(7),
                record("a", "1"),
                with("/dynamodb/Keys/pk/S", json!("job_x")),
                json!({}),
                record("b", "2"),
            ],
        };
        let users = by_user(&changes);
        assert_eq!(users.values().flat_map(BTreeMap::values).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_job_is_told_once_for_all_its_changes_of_a_batch() {
        let changes = Changes { records: vec![record("a", "1"), record("b", "2"), record("a", "3")] };
        let users = by_user(&changes);
        assert_eq!(users.len(), 1);
        assert_eq!(users.values().flat_map(BTreeMap::values).collect::<Vec<_>>(), ["3", "2"]);
    }

    #[test]
    fn what_lies_beside_a_record_is_removed_or_deleted_is_told_to_nobody() {
        for (pointer, value) in [
            ("/dynamodb/Keys/sk/S", json!("META")),
            ("/dynamodb/Keys/sk/S", json!("BODY")),
            ("/eventName", json!("REMOVE")),
            ("/dynamodb/NewImage/status/S", json!("deleted")),
        ] {
            assert_eq!(Change::read(&with(pointer, value.clone())), Ok(None), "{pointer} {value}");
        }
        assert!(matches!(Change::read(&with("/eventName", json!("INSERT"))), Ok(Some(_))));
        for (pointer, value) in [
            ("/dynamodb/NewImage/user/S", json!("")),
            ("/dynamodb/NewImage", Value::Null),
            ("/dynamodb/SequenceNumber", json!(7)),
            ("/eventName", Value::Null),
        ] {
            assert!(Change::read(&with(pointer, value.clone())).is_err(), "{pointer} {value}");
        }
    }
}
