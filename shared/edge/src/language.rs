//! The language to answer in.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::header::{ACCEPT_LANGUAGE, VARY};
use axum::http::request::Parts;
use darkroom_core::error_code::Language;

/// Tells caches that an answer's texts follow `Accept-Language`.
pub const VARY_LANGUAGE: (HeaderName, &str) = (VARY, "accept-language");

/// The best language for the caller's `Accept-Language`; English where nothing fits.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLanguage(pub Language);

impl<S: Sync> FromRequestParts<S> for AcceptLanguage {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let header = parts.headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Ok(Self(Language::negotiate(header.unwrap_or_default())))
    }
}
