//! Who is calling: what the authorizer says, never a header or a field of the body.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use darkroom_core::error_code::ErrorCode;
use darkroom_core::id::UserId;
use lambda_http::request::RequestContext;

use crate::{AcceptLanguage, Problem};

/// The signed-in user: the `sub` claim that the JWT authorizer checked.
#[derive(Clone, Debug)]
pub struct Caller(pub UserId);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(AcceptLanguage(language)) = AcceptLanguage::from_request_parts(parts, state).await;
        subject(parts)
            .and_then(|subject| UserId::parse(subject).ok())
            .map(Self)
            .ok_or_else(|| Problem::new(ErrorCode::Unauthenticated, language))
    }
}

fn subject(parts: &Parts) -> Option<&str> {
    match parts.extensions.get::<RequestContext>()? {
        RequestContext::ApiGatewayV2(context) => {
            context.authorizer.as_ref()?.jwt.as_ref()?.claims.get("sub").map(String::as_str)
        }
        #[allow(
            unreachable_patterns,
            reason = "other event shapes are features of lambda_http that may be on elsewhere"
        )]
        _ => None,
    }
}
