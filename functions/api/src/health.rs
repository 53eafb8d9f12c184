//! `GET /health`: whether the whole system can do its work. It names no key and no account.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use darkroom_aws::{StoreError, now};
use darkroom_core::key::{ApiKey, KeyState};
use darkroom_core::limits::HEARTBEAT_STALE;
use darkroom_core::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::routes::Api;

/// Nobody signs in to ask, so the answer is made at most this often per process.
const FRESH: Duration = Duration::from_secs(2);

/// The last answer.
#[derive(Default)]
pub(crate) struct HealthCache(Mutex<Option<(Timestamp, StatusCode, Value)>>);

/// 200 when healthy, else 503; `degraded` when work waits that nobody does, or no key is usable; `unhealthy` when a
/// store or the queue does not answer.
pub(crate) async fn health(State(api): State<Arc<Api>>) -> Response {
    let mut last = api.health.0.lock().await;
    let at = now();
    if let Some((_, status, body)) = last.as_ref().filter(|(made_at, ..)| at.since(*made_at) < FRESH) {
        return (*status, Json(body.clone())).into_response();
    }
    let (status, body) = Box::pin(check(&api, at)).await;
    *last = Some((at, status, body.clone()));
    (status, Json(body)).into_response()
}

async fn check(api: &Api, at: Timestamp) -> (StatusCode, Value) {
    let (queue, seen) = tokio::join!(api.queue.depth(), api.waiting.look());
    let (worker, sweeper, keys) =
        tokio::join!(api.keys.last_beat("worker"), api.keys.last_beat("sweeper"), api.keys.keys());
    // A worker has work when a message can be received; the sweeper, when any job waits, if only for quota.
    let messages_wait = queue.as_ref().is_ok_and(|depth| depth.visible > 0);
    let jobs_wait = seen.as_ref().is_ok_and(|seen| !seen.waiting.is_empty());
    let stores = seen.as_ref().map(|_| ()).and(worker.as_ref().map(|_| ()));
    let stores: Result<(), &StoreError> =
        stores.and(sweeper.as_ref().map(|_| ())).and(keys.as_ref().map(|_| ()));
    let worker = beat(worker.as_ref().ok().copied().flatten(), at, messages_wait);
    let sweeper = beat(sweeper.as_ref().ok().copied().flatten(), at, true);
    let keys = keys.as_deref().unwrap_or_default();
    let usable = keys.iter().filter(|key| is_usable(key)).count();
    let status = if stores.is_err() || queue.is_err() {
        "unhealthy"
    } else if worker.is_stale || (sweeper.is_stale && jobs_wait) || (usable == 0 && !keys.is_empty()) {
        "degraded"
    } else {
        "healthy"
    };
    for error in [stores.err(), queue.as_ref().err()].into_iter().flatten() {
        tracing::error!(error = %error, "health: a dependency does not answer");
    }
    let body = json!({
        "status": status,
        "timestamp": at.rfc3339(),
        "checks": {
            "store": if stores.is_ok() { "ok" } else { "no answer" },
            "queue": if queue.is_ok() { "ok" } else { "no answer" },
            "worker": worker.text,
            "sweeper": sweeper.text,
            "api_keys": format!("{usable}/{} available", keys.len()),
        },
    });
    (if status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

struct Beat {
    text: String,
    is_stale: bool,
}

/// A function with nothing to do does not beat: idle, not stale.
fn beat(last: Option<Timestamp>, at: Timestamp, has_work: bool) -> Beat {
    match last.map(|last| at.since(last)) {
        Some(age) if age <= HEARTBEAT_STALE => Beat { text: "ok".to_owned(), is_stale: false },
        _ if !has_work => Beat { text: "idle".to_owned(), is_stale: false },
        Some(age) => Beat { text: format!("stale ({} s)", age.as_secs()), is_stale: true },
        None => Beat { text: "stale (never seen)".to_owned(), is_stale: true },
    }
}

fn is_usable(key: &ApiKey) -> bool {
    matches!(key.state, KeyState::Active)
}
