//! One call as the server knows it: by an id that we choose (`force_task_id`), so that anyone who knows job and call can ask for it.

use std::time::Duration;

use darkroom_core::id::JobId;
use darkroom_core::key::Secret;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{Never, POLL, key_header, pause};
use crate::Progress;
use crate::wire::Endpoint;

/// A look at a running call takes no longer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A call at one server.
pub(super) struct Task<'a> {
    endpoint: &'a Endpoint,
    credentials: Option<&'a Secret>,
    id: String,
}

/// `POST /internal/progress`. The global `/sdapi/v1/progress` is about whichever call runs.
#[derive(Deserialize)]
struct State {
    #[serde(default)]
    active: bool,
    #[serde(default)]
    queued: bool,
    #[serde(default)]
    progress: Option<f64>,
}

/// `GET /sdapi/v1/progress`, of which only this is used: what runs now, empty when nothing does.
#[derive(Deserialize)]
struct Work {
    state: WorkState,
}

#[derive(Deserialize)]
struct WorkState {
    job: String,
}

impl<'a> Task<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        credentials: Option<&'a Secret>,
        job: &JobId,
        call: u32,
    ) -> Self {
        Self { endpoint, credentials, id: format!("darkroom-{job}-{call}") }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Tells how far the call is, as long as anyone listens. A server without this route (`--nowebui`) tells nothing.
    pub(super) async fn follow(&self, progress: &Progress) -> Never {
        loop {
            pause().await;
            match self.state().await {
                Some(State { active: true, progress: done, .. }) => progress.tell(done.unwrap_or(0.0)),
                Some(State { queued: true, .. }) => progress.tell(0.0),
                Some(_) | None => {}
            }
        }
    }

    /// Waits until the server neither draws the call nor has it in its queue; `false` when it still does at the deadline. A server that
    /// does not know the call (restarted since, or never sent it) or does not tell counts as done with it.
    ///
    /// A call that failed is never taken off the server's books: `current_task` and `pending_tasks` keep it. So one that is on the books
    /// while nothing runs, seen twice since the lock changes hands in between, is over too.
    pub(super) async fn is_over_by(&self, deadline: Instant) -> bool {
        let mut idle_looks = 0;
        loop {
            match self.state().await {
                Some(State { active, queued, .. }) if active || queued => {}
                Some(_) | None => return true,
            }
            idle_looks = if self.server_is_idle().await { idle_looks + 1 } else { 0 };
            if idle_looks == 2 {
                return true;
            }
            if Instant::now() + POLL >= deadline {
                return false;
            }
            pause().await;
        }
    }

    async fn state(&self) -> Option<State> {
        // Without `live_preview: false` each answer would carry a picture.
        let body = json!({"id_task": self.id, "id_live_preview": -1, "live_preview": false});
        let call =
            self.endpoint.post("/internal/progress", key_header(self.credentials).ok()?, &body).ok()?;
        let reply = self.endpoint.reply(call, Instant::now() + LOOK_TIMEOUT).await.ok()?;
        serde_json::from_slice(&reply.body).ok().filter(|_| reply.status.is_success())
    }

    async fn server_is_idle(&self) -> bool {
        let path = "/sdapi/v1/progress?skip_current_image=true";
        let work = async {
            let call = self.endpoint.get(path, key_header(self.credentials).ok()?).ok()?;
            let reply = self.endpoint.reply(call, Instant::now() + LOOK_TIMEOUT).await.ok()?;
            serde_json::from_slice::<Work>(&reply.body).ok()
        };
        work.await.is_some_and(|work| work.state.job.is_empty())
    }
}
