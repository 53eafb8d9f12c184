//! What is told to connections. One that cannot be told is ended: its client comes again and synchronises, so it has missed
//! nothing, and nobody else waits for it.

use darkroom_aws::{Posted, StoreError, Watcher, now};
use darkroom_core::id::ConnectionId;
use darkroom_core::job::Job;
use darkroom_core::limits::{CONNECT_TIMEOUT, PUSHES_AT_ONCE};
use darkroom_core::push::job_updated;
use darkroom_core::time::Timestamp;
use futures::StreamExt as _;
use serde_json::Value;

use crate::Notifier;

/// What came of telling a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The gateway has it.
    Sent,
    /// The connection has ended, by itself or because it could not be told.
    Ended,
    /// Neither worked: the gateway itself is not to be had.
    Failed,
}

impl Notifier {
    /// Tells a connection that was heard something.
    pub(crate) async fn tell(&self, id: &ConnectionId, message: Value) -> Told {
        self.tell_since(id, Timestamp::EPOCH, message).await
    }

    /// The same to a connection that was stored then. One whose `$connect` has not been answered yet is gone for the
    /// gateway, too: it is kept, and its client synchronises once it is open.
    pub(crate) async fn tell_since(
        &self,
        id: &ConnectionId,
        connected_at: Timestamp,
        message: Value,
    ) -> Told {
        match self.gateway.post(id, &message.to_string()).await {
            Ok(Posted::Sent) => return Told::Sent,
            Ok(Posted::Gone) if connected_at.plus(CONNECT_TIMEOUT) > now() => return Told::Ended,
            Ok(Posted::Gone) => {}
            Err(error) => {
                tracing::warn!(connection.id = %id, error = %error, "a connection could not be told, and is ended");
                if let Err(error) = self.gateway.end(id).await {
                    tracing::warn!(connection.id = %id, error = %error, "nor could it be ended");
                    return Told::Failed;
                }
            }
        }
        self.forget(id).await;
        Told::Ended
    }

    /// Forgets a connection that has ended.
    pub(crate) async fn forget(&self, id: &ConnectionId) {
        if let Err(error) = self.push.forget(id).await {
            tracing::warn!(connection.id = %id, error = %error, "an ended connection is still known: the next push finds it gone");
        }
    }

    /// Tells one connection these jobs, whose owner it is of, as they are; whether the gateway has them all.
    pub(crate) async fn tell_jobs(
        &self,
        id: &ConnectionId,
        watcher: &Watcher,
        jobs: &[Job],
    ) -> Result<bool, StoreError> {
        let views = self.views.views(jobs).await?;
        let mut messages = Vec::with_capacity(jobs.len());
        for (job, view) in jobs.iter().zip(views) {
            messages.push(self.tell(id, job_updated(job.version, &view.render(job, watcher.language))));
        }
        Ok(side_by_side(messages).await.into_iter().all(|told| told == Told::Sent))
    }
}

/// What comes of all of these, so many at a time, in no order.
pub(crate) async fn side_by_side<F: Future>(messages: Vec<F>) -> Vec<F::Output> {
    futures::stream::iter(messages).buffer_unordered(PUSHES_AT_ONCE).collect().await
}
