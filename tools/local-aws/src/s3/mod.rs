//! S3: `s3s` for the wire and the signatures, over an index and files of ours.

mod checksum;
mod cors;
mod files;
mod index;
mod list;
mod multipart;
mod service;
mod store;
mod tags;
mod uploads;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::error_handling::HandleError;
use http::{HeaderMap, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{HttpError, S3Result, s3_error};
use tokio::net::TcpListener;

use crate::counters::Counters;
use crate::http_server::HttpServer;
use crate::{EnsureError, Settings, StartError};

pub use cors::CorsRule;

const SERVICE: &str = "S3";

/// A running S3.
pub(crate) struct S3Server {
    store: store::Store,
    cors: Arc<cors::Cors>,
    server: HttpServer,
}

impl S3Server {
    /// Opens (or makes) the folder and serves it on `listener`.
    pub(crate) fn start(
        folder: &Path,
        listener: TcpListener,
        settings: &Settings,
        counters: Counters,
    ) -> Result<Self, StartError> {
        let store = store::Store::open(folder).map_err(|error| StartError::storage(SERVICE, error))?;
        let keys = &settings.credentials;
        let service = service::Service { store: store.clone(), region: settings.region.clone() };
        let mut builder = S3ServiceBuilder::new(service);
        builder
            .set_auth(SimpleAuth::from_single(keys.access_key_id.as_str(), keys.secret_access_key.as_str()));
        builder.set_access(Signed { counters });
        let service = HandleError::new(builder.build(), unanswerable);
        let cors = Arc::new(cors::Cors::default());
        let allow = axum::middleware::from_fn_with_state(cors.clone(), cors::allow);
        let router = Router::new().fallback_service(service).layer(allow);
        let server = HttpServer::start(SERVICE, listener, router);
        Ok(Self { store, cors, server })
    }

    /// See [`crate::LocalAws::ensure_bucket`].
    pub(crate) async fn ensure_bucket(&self, name: &str) -> Result<(), EnsureError> {
        let resource = format!("bucket {name}");
        if !s3s::path::check_bucket_name(name) {
            return Err(EnsureError::refused(&resource, "its name breaks the rules for bucket names"));
        }
        self.store.create_bucket(name).await.map(drop).map_err(|error| EnsureError::storage(&resource, error))
    }

    /// See [`crate::LocalAws::set_bucket_cors`].
    pub(crate) fn set_bucket_cors(&self, name: &str, rules: Vec<CorsRule>) {
        self.cors.set(name, rules);
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// Lets signed requests pass, and counts them. `s3s` has verified the signature of those that carry one.
struct Signed {
    counters: Counters,
}

#[async_trait::async_trait]
impl S3Access for Signed {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Access Denied: sign the request"));
        }
        if !signs_all(context.uri(), context.headers()) {
            return Err(s3_error!(
                AccessDenied,
                "There were headers present in the request which were not signed"
            ));
        }
        self.counters.count("s3", context.s3_op().name());
        Ok(())
    }
}

/// Whether a presigned URL covers every header that S3 would act on. `s3s` verifies those that it lists, and looks at no others.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>: "any x-amz-* headers".
fn signs_all(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let Some(signed) = parameters.find_map(|pair| pair.strip_prefix("X-Amz-SignedHeaders=")) else {
        return true;
    };
    let signed = percent_decode_str(signed).decode_utf8_lossy();
    let is_signed = |name: &str| signed.split(';').any(|listed| listed == name);
    // The body's own hash is part of the request that is signed, or checked against the body.
    let is_free = |name: &str| !name.starts_with("x-amz-") || name == "x-amz-content-sha256";
    headers.keys().map(http::HeaderName::as_str).all(|name| is_free(name) || is_signed(name))
}

/// `s3s` answers every S3 error itself; what is left is a connection that broke.
async fn unanswerable(error: HttpError) -> StatusCode {
    let error: Box<dyn std::error::Error + Send + Sync> = error.into();
    tracing::warn!(service = SERVICE, error = %error, "a request could not be answered");
    StatusCode::INTERNAL_SERVER_ERROR
}
