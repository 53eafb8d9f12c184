//! `GET /v1/queue`: what waits and what is being drawn, model by model. Everybody is told the same, and of nobody's jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use darkroom_aws::{LookAtQueue, StoreError, now};
use darkroom_core::limits::{LEASE_MARGIN, LEASE_MAX};
use darkroom_core::model::Model;
use darkroom_core::outlook::Outlook;
use darkroom_core::time::Timestamp;
use darkroom_edge::{AcceptLanguage, Caller, Problem};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::routes::{Api, unavailable};

/// The answer is made at most this often per process.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer.
#[derive(Default)]
pub(crate) struct OverviewCache(Mutex<Option<(Timestamp, Value)>>);

/// `GET /v1/queue`. Its cost grows neither with the queue nor with those who ask, and nothing is written for it.
pub(crate) async fn queue(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(_): Caller,
) -> Result<Json<Value>, Problem> {
    let mut last = api.overview.0.lock().await;
    let at = now();
    if let Some((_, body)) = last.as_ref().filter(|(made_at, _)| at.finds_fresh(*made_at, FRESH)) {
        return Ok(Json(body.clone()));
    }
    let body = look(&api, at).await.map_err(|error| unavailable(&error, language))?;
    *last = Some((at, body.clone()));
    Ok(Json(body))
}

async fn look(api: &Api, at: Timestamp) -> Result<Value, StoreError> {
    // A job that is being drawn is due when its lease ends.
    let until = at.plus(LEASE_MAX + LEASE_MARGIN);
    let (waiting, (drawn, all_drawn), breakers, models) = tokio::try_join!(
        api.views.queue(),
        api.jobs.processing(until),
        api.keys.breakers(),
        api.views.models(at),
    )?;
    let breakers: HashMap<_, _> = breakers.into_iter().collect();
    let mut rows = Vec::with_capacity(models.len());
    for model in models.iter() {
        let line = waiting.lines.get(&model.name);
        let breaker = model.provider.has_breaker().then(|| {
            let name = format!("{}#{}", model.provider, model.provider_model);
            breakers.get(&name).cloned().unwrap_or_default()
        });
        rows.push(json!({
            "model": model.name,
            "pending": line.map_or(0, |line| line.jobs),
            "pending_exact": waiting.complete,
            "processing": drawn.iter().filter(|drawn| **drawn == model.name).count(),
            "processing_exact": all_drawn,
            "oldest_pending_seconds": line.map(|line| at.since(line.oldest).as_secs()),
            "eta_seconds": eta(api, &models, model, &waiting, at).await.map(whole_seconds),
            "breaker": breaker.map(|breaker| breaker.state.as_str()),
        }));
    }
    Ok(json!({"models": rows}))
}

/// When the picture of a job may be expected that is submitted now; `None` of a model that cannot be asked for.
async fn eta(
    api: &Api,
    models: &[Model],
    model: &Model,
    waiting: &LookAtQueue,
    at: Timestamp,
) -> Option<Duration> {
    if !model.is_offered(&at.utc_day()) {
        return None;
    }
    // Lines of batches that stand further back are behind it.
    let place = waiting.waiting.iter().filter(|other| other.wait_at <= at).count() as u64 + 1;
    let turn = api.views.turn(models, model, place, at).await;
    Some(Outlook::of_next(place, turn, model.typical(), at).eta)
}

fn whole_seconds(eta: Duration) -> u128 {
    eta.as_millis().div_ceil(1_000)
}
