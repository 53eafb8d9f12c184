//! Tickets for the WebSocket: a browser's cannot send an `Authorization` header.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use darkroom_aws::{now, random_ticket};
use darkroom_edge::{AcceptLanguage, Caller, Problem};
use serde_json::json;

use crate::routes::{Api, unavailable};

/// `POST /v1/ws-tickets`: a ticket that opens one connection in the caller's name, within a minute.
pub(crate) async fn issue(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
) -> Result<Response, Problem> {
    let ticket = random_ticket();
    let issued = api.push.issue(&ticket, &user, now()).await;
    let expires_at = issued.map_err(|error| unavailable(&error, language))?;
    let body = json!({
        "ticket": ticket.reveal(),
        "url": api.websocket.with_ticket(&ticket),
        "expires_at": expires_at.rfc3339(),
    });
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
