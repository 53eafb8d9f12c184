//! Webhooks: a user's own servers, which are told what becomes of their jobs; their secrets, and what was sent there.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use darkroom_aws::{Changed, Noted, now, random_webhook_id};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::id::{DeliveryId, UserId, WebhookId};
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::EventKind;
use darkroom_core::webhook_delivery::{CallResult, Delivery, LastTry};
use darkroom_core::webhook_endpoint::{Endpoint, Endpoints, WebhookRequest};
use darkroom_core::webhook_signature::WebhookSecret;
use darkroom_edge::{AcceptLanguage, Caller, JsonBody, Problem};
use serde_json::{Value, json};

use crate::jobs::TRIES;
use crate::query::{Query, delivery_cursor, limit, parse_delivery_cursor};
use crate::routes::{Api, unavailable};

/// A page of deliveries unless asked otherwise.
const LIST_DEFAULT: u16 = 20;

/// `POST /v1/webhooks`: an endpoint, and its secret, which is never shown again. Asked twice it makes two: whoever lost the answer
/// finds it in the list, and rotates its secret or deletes it.
pub(crate) async fn make(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let request = WebhookRequest::parse(&body, api.webhook_reach)
        .map_err(|violations| Problem::violations(violations, language))?;
    let (id, at) = (random_webhook_id(), now());
    let (secret, sealed) = api.make_secret(&user, &id, language).await?;
    let endpoint = Endpoint::new(id, &request, language, sealed, at);
    let added = |endpoints: &Endpoints| match endpoints.get(&endpoint.id) {
        // The answer to our own success was lost.
        Some(_) => None,
        None => endpoints.with(endpoint.clone()),
    };
    if api.change_webhooks(&user, language, added).await?.get(&endpoint.id).is_none() {
        return Err(Problem::new(ErrorCode::TooManyWebhooks, language));
    }
    tracing::info!(webhook.id = %endpoint.id, "a webhook was made");
    Ok((StatusCode::CREATED, with_secret(&endpoint, &secret, at)).into_response())
}

/// `GET /v1/webhooks`: the caller's, the oldest first, without their secrets.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
) -> Result<Response, Problem> {
    let endpoints = api.webhooks_of(&user, language).await?;
    let at = now();
    let shown: Vec<_> = endpoints.list.iter().map(|endpoint| webhook(endpoint, at)).collect();
    Ok(Json(json!({"webhooks": shown})).into_response())
}

/// `DELETE /v1/webhooks/{id}`: nothing is sent there any more, what waits neither.
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let endpoint = api.webhook(&user, &id, language).await?;
    api.change_webhooks(&user, language, |endpoints| endpoints.without(&endpoint.id)).await?;
    tracing::info!(webhook.id = %endpoint.id, "a webhook was deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/webhooks/{id}/rotate`: another secret, which is never shown again. The one before signs beside it for a day.
pub(crate) async fn rotate(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let endpoint = api.webhook(&user, &id, language).await?;
    let at = now();
    let (secret, sealed) = api.make_secret(&user, &endpoint.id, language).await?;
    let rotated = |endpoints: &Endpoints| {
        let there = endpoints.get(&endpoint.id)?;
        let is_done = there.secrets.iter().any(|secret| secret.sealed == sealed);
        if is_done { None } else { endpoints.replaced(there.rotated(sealed.clone(), at)) }
    };
    let endpoints = api.change_webhooks(&user, language, rotated).await?;
    let endpoint = endpoints.get(&endpoint.id).ok_or_else(|| Problem::new(ErrorCode::NotFound, language))?;
    tracing::info!(webhook.id = %endpoint.id, "a webhook's secret was rotated");
    Ok(with_secret(endpoint, &secret, at))
}

/// `POST /v1/webhooks/{id}/enable`: it is told again, of what happens from now on. Idempotent.
pub(crate) async fn enable(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let endpoint = api.webhook(&user, &id, language).await?;
    let at = now();
    let enabled = |endpoints: &Endpoints| {
        let there = endpoints.get(&endpoint.id).filter(|there| there.disabled.is_some())?;
        endpoints.replaced(there.enabled(at))
    };
    let endpoints = api.change_webhooks(&user, language, enabled).await?;
    let endpoint = endpoints.get(&endpoint.id).ok_or_else(|| Problem::new(ErrorCode::NotFound, language))?;
    Ok(Json(webhook(endpoint, at)).into_response())
}

/// `GET /v1/webhooks/{id}/deliveries`: what was sent there within a week, the newest first, and what came of it.
pub(crate) async fn deliveries(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["limit", "cursor"]);
    let size = query.value("limit", "a whole number from 1 to 50", limit).unwrap_or(LIST_DEFAULT);
    let cursor = query.value("cursor", "a next_cursor that this list gave", parse_delivery_cursor);
    query.finish(language)?;
    let endpoint = api.webhook(&user, &id, language).await?;
    let page = api
        .webhooks
        .deliveries(&user, &endpoint.id, cursor.as_ref(), size, now())
        .await
        .map_err(|error| unavailable(&error, language))?;
    let shown: Vec<_> = page.deliveries.iter().map(delivery).collect();
    let next = page.next.as_ref().map(delivery_cursor);
    Ok(Json(json!({"deliveries": shown, "next_cursor": next})).into_response())
}

/// `POST /v1/webhooks/{id}/deliveries/{delivery}/resend`: sent again within seconds, with the same id and body and a schedule of its
/// own, whatever became of it. 409 while its webhook is disabled.
pub(crate) async fn resend(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path((id, delivery_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let endpoint = api.webhook(&user, &id, language).await?;
    let not_found = || Problem::new(ErrorCode::NotFound, language);
    let delivery_id = DeliveryId::parse(&delivery_id).map_err(|_| not_found())?;
    if endpoint.disabled.is_some() {
        return Err(Problem::new(ErrorCode::WebhookDisabled, language));
    }
    let found = api.webhooks.delivery(&user, &endpoint.id, &delivery_id, now()).await;
    let found = found.map_err(|error| unavailable(&error, language))?;
    let mut seen = found.ok_or_else(not_found)?;
    for _ in 0..TRIES {
        // The sweeper finds it due, within seconds.
        let next = seen.sent_again(now());
        match api.webhooks.note(&seen, &next).await.map_err(|error| unavailable(&error, language))? {
            Noted::Applied => return Ok((StatusCode::ACCEPTED, Json(delivery(&next))).into_response()),
            Noted::Overtaken(there) => seen = *there,
            Noted::Absent => return Err(not_found()),
        }
    }
    Err(Problem::new(ErrorCode::StoreThrottled, language))
}

impl Api {
    async fn webhooks_of(&self, user: &UserId, language: Language) -> Result<Endpoints, Problem> {
        self.webhooks.endpoints_of(user).await.map_err(|error| unavailable(&error, language))
    }

    /// A caller's webhook; somebody else's is not found.
    async fn webhook(&self, user: &UserId, id: &str, language: Language) -> Result<Endpoint, Problem> {
        let not_found = || Problem::new(ErrorCode::NotFound, language);
        let id = WebhookId::parse(id).map_err(|_| not_found())?;
        self.webhooks_of(user, language).await?.get(&id).cloned().ok_or_else(not_found)
    }

    /// Changes a caller's webhooks; as they are now, changed or not.
    async fn change_webhooks(
        &self,
        user: &UserId,
        language: Language,
        change: impl Fn(&Endpoints) -> Option<Endpoints>,
    ) -> Result<Endpoints, Problem> {
        let seen = self.webhooks_of(user, language).await?;
        let changed = self.webhooks.change(user, seen, change).await;
        match changed.map_err(|error| unavailable(&error, language))? {
            Changed::Applied(endpoints) | Changed::Not(endpoints) => Ok(endpoints),
        }
    }

    async fn make_secret(
        &self,
        user: &UserId,
        id: &WebhookId,
        language: Language,
    ) -> Result<(WebhookSecret, String), Problem> {
        self.webhook_secrets.make(user, id).await.map_err(|error| unavailable(&error, language))
    }
}

fn webhook(endpoint: &Endpoint, at: Timestamp) -> Value {
    let disabled = endpoint.disabled;
    json!({
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events.iter().copied().map(EventKind::as_str).collect::<Vec<_>>(),
        "enabled": disabled.is_none(),
        "disabled_reason": disabled.map(|disabled| disabled.reason.as_str()),
        "disabled_at": disabled.map(|disabled| disabled.at.rfc3339()),
        "failing_since": endpoint.failing_since.map(Timestamp::rfc3339),
        "earlier_secrets_until": endpoint.earlier_secrets_until(at).map(Timestamp::rfc3339),
        "created_at": endpoint.created_at.rfc3339(),
    })
}

fn with_secret(endpoint: &Endpoint, secret: &WebhookSecret, at: Timestamp) -> Response {
    let mut view = webhook(endpoint, at);
    if let Some(members) = view.as_object_mut() {
        members.insert("secret".to_owned(), json!(*secret.reveal()));
    }
    ([(CACHE_CONTROL, "no-store")], Json(view)).into_response()
}

fn delivery(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "event": delivery.event.as_str(),
        "job_id": delivery.job,
        "status": delivery.standing.as_str(),
        "tries": delivery.tries,
        "next_try_at": delivery.standing.due_at().map(Timestamp::rfc3339),
        "last_try": delivery.last.as_ref().map(last_try),
        "created_at": delivery.id.changed_at().rfc3339(),
        "expires_at": delivery.expires_at.rfc3339(),
    })
}

fn last_try(last: &LastTry) -> Value {
    let (status_code, failure, answer) = match &last.result {
        CallResult::Answered { status, body } => (Some(status), None, Some(body)),
        CallResult::Unanswered(reason) => (None, Some(reason.as_str()), None),
    };
    json!({
        "at": last.at.rfc3339(),
        "seconds": last.ended_at.since(last.at).as_secs_f64(),
        "status_code": status_code,
        "failure": failure,
        "answer": answer,
    })
}
