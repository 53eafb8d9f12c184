//! Who signed a request, for the services that do not verify signatures.

use http::{HeaderMap, header};

/// Whose access key a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Ours.
    Ours,
    /// Another's.
    Stranger,
    /// Nobody's: the request is not signed at all.
    Unsigned,
}

impl Caller {
    /// Reads `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …`. The signature is not verified.
    pub(crate) fn of(headers: &HeaderMap, access_key_id: &str) -> Self {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(authorization) = authorization else { return Self::Unsigned };
        let scope = authorization.strip_prefix("AWS4-HMAC-SHA256 ").and_then(credential_scope);
        match scope.and_then(|scope| scope.split_once('/')) {
            Some((key, _)) if key == access_key_id => Self::Ours,
            _ => Self::Stranger,
        }
    }
}

fn credential_scope(fields: &str) -> Option<&str> {
    fields.split(',').find_map(|field| field.trim().strip_prefix("Credential="))
}
