//! The wire: one POST per operation, named by `X-Amz-Target`, in AWS JSON 1.1.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::response::Response;
use axum::routing::post;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::blob::{self, Blob};
use super::error::{Code, KmsError};
use super::keys::Keys;
use super::master_key::MasterKey;
use super::wire::{DataKey, Decrypt, Decrypted, DescribeKey, GenerateDataKey, KeyDescription, KeyMetadata};
use crate::caller::Caller;
use crate::counters::Counters;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// A ciphertext of 6,144 bytes in base64 and a context of 8 KiB fit several times.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// What KMS takes as a ciphertext.
const CIPHERTEXT_BYTES_MAX: usize = 6_144;
/// The longest data key that KMS makes.
const DATA_KEY_BYTES_MAX: usize = 1_024;
/// The one algorithm of symmetric keys.
const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";

/// Every operation spoken here. The names are static so that counting needs no allocation.
const OPERATIONS: [&str; 3] = ["Decrypt", "DescribeKey", "GenerateDataKey"];

#[derive(Clone)]
struct Service {
    master_key: Arc<MasterKey>,
    keys: Keys,
    access_key_id: Arc<str>,
    counters: Counters,
}

pub(super) fn router(master_key: MasterKey, keys: Keys, access_key_id: &str, counters: Counters) -> Router {
    let service =
        Service { master_key: Arc::new(master_key), keys, access_key_id: access_key_id.into(), counters };
    Router::new().route("/", post(handle)).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)).with_state(service)
}

async fn handle(Shared(service): Shared<Service>, headers: HeaderMap, body: Bytes) -> Response {
    match service.answer(&headers, &body) {
        Ok(json) => respond(StatusCode::OK, json),
        Err(error) => {
            let body = serde_json::json!({"__type": error.code.shape(), "message": error.message});
            respond(error.code.status(), body.to_string().into_bytes())
        }
    }
}

impl Service {
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, KmsError> {
        let operation = operation(headers)?;
        self.check_caller(headers)?;
        self.counters.count("kms", operation);
        match operation {
            "GenerateDataKey" => write(&self.generate_data_key(&read(body)?)?),
            "Decrypt" => write(&self.decrypt(&read(body)?)?),
            _ => write(&self.describe_key(&read(body)?)?),
        }
    }

    /// Whether the request names our access key. Its signature is not verified.
    fn check_caller(&self, headers: &HeaderMap) -> Result<(), KmsError> {
        match Caller::of(headers, &self.access_key_id) {
            Caller::Ours => Ok(()),
            Caller::Unsigned => {
                Err(KmsError::new(Code::MissingAuthenticationToken, "Missing Authentication Token"))
            }
            Caller::Stranger => Err(KmsError::new(
                Code::UnrecognizedClient,
                "The security token included in the request is invalid: sign with the access key of this local AWS.",
            )),
        }
    }

    fn generate_data_key(&self, request: &GenerateDataKey) -> Result<DataKey, KmsError> {
        let length = match (request.key_spec.as_deref(), request.number_of_bytes) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(length)) if (1..=DATA_KEY_BYTES_MAX).contains(&length) => length,
            _ => {
                let message =
                    "Please specify either number of bytes (1 to 1024) or key spec (AES_256 or AES_128).";
                return Err(KmsError::new(Code::Validation, message));
            }
        };
        let key = self.keys.find(&request.key_id)?;
        let mut data_key = Zeroizing::new(vec![0; length]);
        blob::fill(&mut data_key)?;
        let encrypted = blob::encrypt(&self.master_key, &key.id, &request.encryption_context, &data_key)?;
        Ok(DataKey {
            ciphertext_blob: BASE64.encode(&encrypted),
            plaintext: BASE64.encode(&data_key),
            key_id: key.arn,
        })
    }

    fn decrypt(&self, request: &Decrypt) -> Result<Decrypted, KmsError> {
        if request.encryption_algorithm.as_deref().is_some_and(|algorithm| algorithm != SYMMETRIC) {
            return Err(KmsError::new(
                Code::Validation,
                "The algorithm of every key here is SYMMETRIC_DEFAULT.",
            ));
        }
        let bytes = BASE64
            .decode(request.ciphertext_blob.as_bytes())
            .map_err(|_| KmsError::new(Code::Serialization, "CiphertextBlob is not base64."))?;
        if !(1..=CIPHERTEXT_BYTES_MAX).contains(&bytes.len()) {
            let message = format!(
                "CiphertextBlob has {} bytes; it must have 1 to {CIPHERTEXT_BYTES_MAX}.",
                bytes.len()
            );
            return Err(KmsError::new(Code::Validation, message));
        }
        let named = request.key_id.as_deref().map(|name| self.keys.find(name)).transpose()?;
        let blob = Blob::parse(&bytes).ok_or_else(KmsError::invalid_ciphertext)?;
        if named.is_some_and(|key| *key.id != *blob.key_id) {
            let message =
                "The key ID in the request does not identify a CMK that can perform this operation.";
            return Err(KmsError::new(Code::IncorrectKey, message));
        }
        let data_key = blob.decrypt(&self.master_key, &request.encryption_context)?;
        Ok(Decrypted {
            plaintext: BASE64.encode(&data_key),
            key_id: self.keys.find(blob.key_id)?.arn,
            encryption_algorithm: SYMMETRIC,
        })
    }

    fn describe_key(&self, request: &DescribeKey) -> Result<KeyDescription, KmsError> {
        let key = self.keys.find(&request.key_id)?;
        Ok(KeyDescription {
            key_metadata: KeyMetadata {
                account: self.keys.account.to_string(),
                key_id: key.id.to_string(),
                arn: key.arn,
                creation_date: key.created_at,
                enabled: true,
                key_state: "Enabled",
                key_usage: "ENCRYPT_DECRYPT",
                key_spec: SYMMETRIC,
                key_manager: "CUSTOMER",
                origin: "AWS_KMS",
                encryption_algorithms: [SYMMETRIC],
                multi_region: false,
            },
        })
    }
}

fn operation(headers: &HeaderMap) -> Result<&'static str, KmsError> {
    let target = headers.get(TARGET).and_then(|value| value.to_str().ok());
    let name = target.and_then(|target| target.strip_prefix("TrentService."));
    let known = name.and_then(|name| OPERATIONS.into_iter().find(|known| *known == name));
    known.ok_or_else(|| {
        let message =
            format!("The operation {} is not spoken here.", target.unwrap_or("without X-Amz-Target"));
        KmsError::new(Code::UnknownOperation, message)
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, KmsError> {
    serde_json::from_slice(body).map_err(|error| {
        let code = if error.is_data() { Code::Validation } else { Code::Serialization };
        KmsError::new(code, format!("The request cannot be read: {error}."))
    })
}

fn write(answer: &impl Serialize) -> Result<Vec<u8>, KmsError> {
    serde_json::to_vec(answer).map_err(|error| {
        tracing::error!(service = super::SERVICE, %error, "an answer could not be written");
        KmsError::internal()
    })
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}
