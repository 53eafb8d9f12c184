//! What the caller has and what can be asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use darkroom_aws::{Entry, now};
use darkroom_core::model::Model;
use darkroom_edge::{AcceptLanguage, Caller, Problem};
use serde_json::{Value, json};

use crate::query::{Query, entry_cursor, limit, parse_entry_cursor};
use crate::routes::{Api, unavailable};

/// A page of entries unless asked otherwise.
const ENTRIES_DEFAULT: u16 = 50;

/// `GET /v1/account`: the caller's balance.
pub(crate) async fn balance(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
) -> Result<Json<Value>, Problem> {
    let balance = api.ledger.balance(&user).await.map_err(|error| unavailable(&error, language))?;
    Ok(Json(json!(balance)))
}

/// `GET /v1/account/entries`: first the grants, from the last operation id to the first as texts compare, then the
/// settlements, newest job first.
pub(crate) async fn entries(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let mut query = Query::read(&uri, &["limit", "cursor"]);
    let size = query.value("limit", "a whole number from 1 to 50", limit).unwrap_or(ENTRIES_DEFAULT);
    let cursor = query.value("cursor", "a next_cursor that this list gave", parse_entry_cursor);
    query.finish(language)?;
    let (entries, next) = api
        .ledger
        .entries(&user, cursor.as_deref(), size)
        .await
        .map_err(|error| unavailable(&error, language))?;
    let entries: Vec<_> = entries.iter().map(entry).collect();
    Ok(Json(json!({"entries": entries, "next_cursor": next.as_deref().map(entry_cursor)})))
}

/// `GET /v1/models`: the catalogue.
pub(crate) async fn models(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(_): Caller,
) -> Result<Json<Value>, Problem> {
    let at = now();
    let models = api.views.models(at).await.map_err(|error| unavailable(&error, language))?;
    let models: Vec<_> = models.iter().map(|model| shown(model, &at.utc_day())).collect();
    Ok(Json(json!({"models": models})))
}

fn shown(model: &Model, day: &str) -> Value {
    json!({
        "name": model.name,
        "description": model.description,
        "provider": model.provider.as_str(),
        "price": model.price,
        "default": model.default,
        "takes_reference": model.takes_reference(),
        "offered": model.is_offered(day),
        "retired_on": model.retired_on,
        "replacement": model.replacement,
    })
}

fn entry(entry: &Entry) -> Value {
    match entry {
        Entry::Grant { op_id, tokens, at, .. } => {
            json!({"kind": "grant", "tokens": tokens, "op_id": op_id, "at": at.rfc3339()})
        }
        Entry::Settle { job, settlement, tokens, at, .. } => {
            json!({"kind": settlement.as_str(), "tokens": tokens, "job_id": job, "at": at.rfc3339()})
        }
        Entry::BatchRefund { batch, tokens, at, .. } => {
            json!({"kind": "refunded", "tokens": tokens, "batch_id": batch, "at": at.rfc3339()})
        }
    }
}
