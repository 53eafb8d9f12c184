//! Requests and answers of the JSON protocol (AWS JSON 1.1). Fields are named as on the wire; bytes are in base64.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Operations.html>
//!
//! A field that is not here (grant tokens, recipients, dry runs) is refused by its name, not skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names to values, in order.
pub(super) type EncryptionContext = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct GenerateDataKey {
    pub(super) key_id: String,
    #[serde(default)]
    pub(super) key_spec: Option<String>,
    #[serde(default)]
    pub(super) number_of_bytes: Option<usize>,
    #[serde(default)]
    pub(super) encryption_context: EncryptionContext,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DataKey {
    pub(super) ciphertext_blob: String,
    pub(super) plaintext: String,
    pub(super) key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Decrypt {
    pub(super) ciphertext_blob: String,
    #[serde(default)]
    pub(super) key_id: Option<String>,
    #[serde(default)]
    pub(super) encryption_algorithm: Option<String>,
    #[serde(default)]
    pub(super) encryption_context: EncryptionContext,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Decrypted {
    pub(super) plaintext: String,
    pub(super) key_id: String,
    pub(super) encryption_algorithm: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct DescribeKey {
    pub(super) key_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyDescription {
    pub(super) key_metadata: KeyMetadata,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyMetadata {
    #[serde(rename = "AWSAccountId")]
    pub(super) account: String,
    pub(super) key_id: String,
    pub(super) arn: String,
    /// Seconds since 1970.
    pub(super) creation_date: u64,
    pub(super) enabled: bool,
    pub(super) key_state: &'static str,
    pub(super) key_usage: &'static str,
    pub(super) key_spec: &'static str,
    pub(super) key_manager: &'static str,
    pub(super) origin: &'static str,
    pub(super) encryption_algorithms: [&'static str; 1],
    pub(super) multi_region: bool,
}
