//! `GET /health`: whether the whole system can do its work. It names no key and no account.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use darkroom_aws::{StoreError, now};
use darkroom_core::breaker::{Breaker, State};
use darkroom_core::health::{available_keys, is_stale, sweeper_is_missing, worker_is_missing};
use darkroom_core::key::{ApiKey, Scope};
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
pub(crate) async fn health(Shared(api): Shared<Arc<Api>>) -> Response {
    let mut last = api.health.0.lock().await;
    let at = now();
    if let Some((_, status, body)) = last.as_ref().filter(|(made_at, ..)| at.finds_fresh(*made_at, FRESH)) {
        return (*status, Json(body.clone())).into_response();
    }
    let (status, body) = Box::pin(check(&api, at)).await;
    *last = Some((at, status, body.clone()));
    (status, Json(body)).into_response()
}

async fn check(api: &Api, at: Timestamp) -> (StatusCode, Value) {
    let (queue, seen) = tokio::join!(api.queue.depth(), look(api, at));
    for error in [queue.as_ref().err(), seen.as_ref().err()].into_iter().flatten() {
        tracing::error!(error = %error, "health: a dependency does not answer");
    }
    let status = match &seen {
        Ok(seen) if queue.is_ok() => seen.status(at),
        _ => "unhealthy",
    };
    let answers = |is_ok| if is_ok { "ok" } else { "no answer" };
    let known = |text: &dyn Fn(&Seen) -> String| seen.as_ref().map_or("unknown".to_owned(), text);
    let body = json!({
        "status": status,
        "timestamp": at.rfc3339(),
        "checks": {
            "store": answers(seen.is_ok()),
            "queue": answers(queue.is_ok()),
            "worker": known(&|seen| seen.worker(at)),
            "sweeper": known(&|seen| beat(seen.sweeper_beat, at)),
            "api_keys": known(&|seen| seen.api_keys(at)),
            "breaker": known(&Seen::breaker),
        },
    });
    (if status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

/// What one look at the stores shows.
struct Seen {
    longest_waiting_since: Option<Timestamp>,
    something_is_due: bool,
    worker_beat: Option<Timestamp>,
    sweeper_beat: Option<Timestamp>,
    keys: Vec<ApiKey>,
    scopes: Vec<Scope>,
    breakers: Vec<(String, Breaker)>,
}

/// Asks every table and the bucket; the first that does not answer ends it.
async fn look(api: &Api, at: Timestamp) -> Result<Seen, StoreError> {
    let (queued, due, worker_beat, sweeper_beat, keys, scopes, breakers, (), ()) = tokio::try_join!(
        api.views.queue(),
        api.jobs.due(at),
        api.keys.last_beat("worker"),
        api.keys.last_beat("sweeper"),
        api.keys.keys(),
        scopes(api, at),
        api.keys.breakers(),
        api.ledger.ping(),
        api.image_probe.ping(),
    )?;
    Ok(Seen {
        longest_waiting_since: queued.waiting.first().map(|job| job.wait_at),
        something_is_due: !due.jobs.is_empty() || !due.batches.is_empty(),
        worker_beat,
        sweeper_beat,
        keys,
        scopes,
        breakers,
    })
}

/// The scopes of every model of the catalogue that needs a key.
async fn scopes(api: &Api, at: Timestamp) -> Result<Vec<Scope>, StoreError> {
    let models = api.views.models(at).await?;
    let needed = models.iter().filter(|model| model.provider.needs_key());
    let needed: BTreeSet<_> = needed.map(|model| (model.provider, &model.provider_model)).collect();
    let mut scopes = Vec::new();
    for (provider, model) in needed {
        scopes.extend(api.keys.scopes(provider, model).await?);
    }
    Ok(scopes)
}

impl Seen {
    fn status(&self, at: Timestamp) -> &'static str {
        let no_key = !self.keys.is_empty() && available_keys(&self.keys, &self.scopes, at) == 0;
        if no_key
            || self.open_breakers().next().is_some()
            || self.worker_is_missing(at)
            || sweeper_is_missing(self.sweeper_beat, self.something_is_due, at)
        {
            "degraded"
        } else {
            "healthy"
        }
    }

    fn worker_is_missing(&self, at: Timestamp) -> bool {
        worker_is_missing(self.worker_beat, self.longest_waiting_since, at)
    }

    /// A worker with nothing to do does not beat: idle, not stale.
    fn worker(&self, at: Timestamp) -> String {
        if is_stale(self.worker_beat, at) && !self.worker_is_missing(at) {
            return "idle".to_owned();
        }
        beat(self.worker_beat, at)
    }

    /// Models whose breaker is not closed, as `provider#model`.
    fn open_breakers(&self) -> impl Iterator<Item = (&str, &Breaker)> {
        let is_open = |breaker: &Breaker| !matches!(breaker.state, State::Closed { .. });
        self.breakers
            .iter()
            .filter(move |(_, breaker)| is_open(breaker))
            .map(|(name, it)| (name.as_str(), it))
    }

    fn breaker(&self) -> String {
        let open: Vec<_> = self
            .open_breakers()
            .map(|(name, breaker)| format!("{} ({name})", breaker.state.as_str()))
            .collect();
        if open.is_empty() { "closed".to_owned() } else { open.join(", ") }
    }

    fn api_keys(&self, at: Timestamp) -> String {
        format!("{}/{} available", available_keys(&self.keys, &self.scopes, at), self.keys.len())
    }
}

fn beat(last: Option<Timestamp>, at: Timestamp) -> String {
    match last {
        last if !is_stale(last, at) => "ok".to_owned(),
        Some(last) => format!("stale ({} s)", at.since(last).as_secs()),
        None => "stale (never seen)".to_owned(),
    }
}
