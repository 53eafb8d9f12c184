//! The routes and what they share.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, patch, post};
use darkroom_aws::config::WebSocketUrl;
use darkroom_aws::{
    ExportStore, ExportTable, ImageProbe, ImageStore, JobQueue, JobTable, JobViews, KeyTable, LedgerTable,
    PushTable, StoreError, Sweep, UploadStore, WebhookSecrets, WebhookTable,
};
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::settled::Days;
use darkroom_core::webhook::Reach;
use darkroom_edge::{Problem, method_not_allowed, not_found};

use crate::health::HealthCache;
use crate::overview::OverviewCache;
use crate::{
    account, batches, drafts, exports, health, jobs, metadata, overview, tickets, uploads, webhooks,
};

/// What the routes need.
pub struct Api {
    pub(crate) jobs: JobTable,
    pub(crate) ledger: LedgerTable,
    pub(crate) keys: KeyTable,
    pub(crate) queue: JobQueue,
    pub(crate) images: ImageStore,
    pub(crate) uploads: UploadStore,
    pub(crate) image_probe: ImageProbe,
    pub(crate) push: PushTable,
    pub(crate) websocket: WebSocketUrl,
    pub(crate) webhooks: WebhookTable,
    pub(crate) webhook_secrets: WebhookSecrets,
    pub(crate) webhook_reach: Reach,
    pub(crate) views: JobViews,
    pub(crate) health: HealthCache,
    pub(crate) overview: OverviewCache,
    pub(crate) sweep: Sweep,
    pub(crate) days: Days,
    pub(crate) exports: ExportTable,
    pub(crate) export_files: ExportStore,
}

/// The function's routes.
pub fn router(api: Api) -> Router {
    Router::new()
        // Submitting is the other function's; named here so that `Allow` tells all that the path has.
        .route("/v1/jobs", get(jobs::list).post(method_not_allowed))
        .route("/v1/jobs/{id}", get(jobs::show).delete(drafts::delete))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/metadata", patch(metadata::merge))
        .route("/v1/jobs/{id}/publish", post(drafts::publish))
        .route("/v1/jobs/{id}/unpublish", post(drafts::unpublish))
        .route("/v1/jobs/{id}/retry", post(method_not_allowed))
        .route("/v1/batches", post(method_not_allowed))
        .route("/v1/batches/{id}", get(batches::show))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/uploads", post(uploads::begin))
        .route("/v1/exports", post(method_not_allowed))
        .route("/v1/exports/{id}", get(exports::show))
        .route("/v1/account", get(account::balance))
        .route("/v1/account/entries", get(account::entries))
        .route("/v1/models", get(account::models))
        .route("/v1/queue", get(overview::queue))
        .route("/v1/ws-tickets", post(tickets::issue))
        .route("/v1/webhooks", get(webhooks::list).post(webhooks::make))
        .route("/v1/webhooks/{id}", delete(webhooks::delete))
        .route("/v1/webhooks/{id}/rotate", post(webhooks::rotate))
        .route("/v1/webhooks/{id}/enable", post(webhooks::enable))
        .route("/v1/webhooks/{id}/deliveries", get(webhooks::deliveries))
        .route("/v1/webhooks/{id}/deliveries/{delivery}/resend", post(webhooks::resend))
        .route("/health", get(health::health))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(api))
}

/// A store that did not do what it was asked.
pub(crate) fn unavailable(error: &StoreError, language: Language) -> Problem {
    tracing::error!(error = %error, "a store failed");
    let code = if error.is_temporary() { ErrorCode::StoreThrottled } else { ErrorCode::Internal };
    Problem::new(code, language)
}
