//! How a message shows whose it is: HMAC-SHA256 over its id, its time and its body, by Standard Webhooks 1.0.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::time::Timestamp;

/// Bytes of a secret that is made here.
pub const WEBHOOK_SECRET_BYTES: usize = 32;
/// The spec's bounds.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=BLOCK_BYTES;
/// A block of SHA-256.
const BLOCK_BYTES: usize = 64;
const PREFIX: &str = "whsec_";

/// What an endpoint and we know. It has no `Debug`, `Display` or `Serialize`, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// The secret of these random bytes.
    pub fn from_random(bytes: [u8; WEBHOOK_SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Parses `whsec_` and base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64.decode(text.strip_prefix(PREFIX)?.as_bytes()).ok()?);
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The secret as its owner sees it, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&self.0)))
    }

    /// `v1,` and the signature of this message, in base64.
    pub fn sign(&self, message_id: &str, at: Timestamp, body: &[u8]) -> String {
        // HMAC itself pads a key so that is shorter than a block of its hash (RFC 2104, section 2).
        let mut key = Zeroizing::new([0; BLOCK_BYTES]);
        key.iter_mut().zip(self.0.iter()).for_each(|(padded, byte)| *padded = *byte);
        let mut mac = Hmac::<Sha256>::new((&*key).into());
        mac.update(format!("{message_id}.{}.", at.as_seconds()).as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }
}

/// The header `webhook-signature`: one signature for each secret that is valid now.
pub fn signature_header(secrets: &[WebhookSecret], message_id: &str, at: Timestamp, body: &[u8]) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(message_id, at, body)).collect();
    signatures.join(" ")
}
