//! `GET /v1/exports/{id}`: how an export stands, and where its file is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use darkroom_aws::now;
use darkroom_core::error_code::ErrorCode;
use darkroom_core::export::ExportStage;
use darkroom_core::id::ExportId;
use darkroom_core::limits::EXPORT_LINK_LIFE;
use darkroom_edge::{AcceptLanguage, Caller, Problem, VARY_LANGUAGE};

use crate::routes::{Api, unavailable};

/// The caller's export, with a link to its file for an hour once it is ready. Somebody else's is none: 404.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    AcceptLanguage(language): AcceptLanguage,
    Caller(user): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (at, absent) = (now(), || Problem::new(ErrorCode::NotFound, language));
    let id = ExportId::parse(&id).map_err(|_| absent())?;
    let export = api.exports.get(&id).await.map_err(|error| unavailable(&error, language))?;
    let export = export.filter(|export| export.belongs_to(&user, at)).ok_or_else(absent)?;
    let link = match &export.stage {
        ExportStage::Ready { file, .. } => {
            let link = api.export_files.link(&file.key).await;
            Some((link.map_err(|error| unavailable(&error, language))?, EXPORT_LINK_LIFE))
        }
        ExportStage::Pending { .. } | ExportStage::Processing { .. } | ExportStage::Failed { .. } => None,
    };
    let headers = [VARY_LANGUAGE, (CACHE_CONTROL, "private, no-store")];
    Ok((headers, Json(export.render(link, at, language))).into_response())
}
