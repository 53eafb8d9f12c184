//! Secrets of the pool and of webhooks, sealed: an envelope per secret, under one KMS key.
//!
//! KMS makes a data key for each secret and hands it out twice: as plain text, which encrypts the secret here
//! (AES-256-GCM, a random nonce of 96 bits) and is wiped, and encrypted under the KMS key, which is stored beside the
//! ciphertext. Whoever opens the secret asks KMS for the plain data key first. Both ciphers are bound to the same
//! [`Context`]: KMS by its encryption context, AES by its additional authenticated data. So nothing of one key's
//! envelope opens as another's, and nothing altered opens at all.
//!
//! Facts about KMS: <https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html>, `API_Decrypt.html`.

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::operation::decrypt::DecryptError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use darkroom_core::id::{KeyId, UserId, WebhookId};
use darkroom_core::key::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::clock::random_bytes;
use crate::error::StoreError;

/// The form of envelope that this release writes and opens. Another cipher or context is another number.
pub(crate) const SCHEME: u64 = 1;

/// What KMS takes as an encrypted data key. It calls other lengths a `ValidationException`, as it does mistakes of the
/// caller's, so they are told apart here.
const DATA_KEY_BYTES: std::ops::RangeInclusive<usize> = 1..=6_144;

/// The store's name in errors.
const KMS: &str = "KMS";

/// Seals and opens secrets under one KMS key.
#[derive(Clone, Debug)]
pub struct SecretBox {
    client: Client,
    /// Its id, ARN or alias.
    kms_key: String,
}

/// What opening a stored secret comes to.
pub enum Opened {
    /// The secret.
    Secret(Secret),
    /// It does not open, now or later.
    Unusable(Unusable),
}

/// Why a stored secret does not open. Trying again does not help; other keys are not concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// It was stored before secrets were sealed.
    #[error(
        "the secret is stored as plain text, which is not read: {ADD_AGAIN}, and revoke it at the provider"
    )]
    Plain,
    /// A part of the envelope is missing or of another type.
    #[error("{0} is missing or malformed: {ADD_AGAIN}")]
    Incomplete(&'static str),
    /// Another release sealed it.
    #[error(
        "the envelope has scheme {0}, this release opens {SCHEME}: deploy the release that wrote it, or {ADD_AGAIN}"
    )]
    Scheme(u64),
    /// KMS does not decrypt the data key in this context.
    #[error(
        "KMS refuses the data key: it was altered or belongs to another key, table or KMS key: {ADD_AGAIN}"
    )]
    DataKey,
    /// The data key does not open the ciphertext.
    #[error("the ciphertext or its nonce was altered or belongs to another key: {ADD_AGAIN}")]
    Ciphertext,
}

/// What a person does about it.
const ADD_AGAIN: &str = "remove the key and add it again (`darkroom keys remove`, `darkroom keys add`)";

/// Whose secret it is.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The table that holds it.
    pub(crate) table: &'a str,
    /// What it belongs to.
    pub(crate) owner: Owner<'a>,
}

/// What a secret belongs to.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// A key of the pool.
    Key(&'a KeyId),
    /// A user's endpoint.
    Webhook(&'a UserId, &'a WebhookId),
}

/// An envelope, as the key's item holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Encrypted under the KMS key.
    pub(crate) data_key: Vec<u8>,
}

impl SecretBox {
    /// Secrets under this KMS key, named by id, ARN or alias.
    pub const fn new(client: Client, kms_key: String) -> Self {
        Self { client, kms_key }
    }

    /// Seals a secret with a data key of its own. Each call makes another envelope.
    ///
    /// # Errors
    /// When KMS does not make a data key.
    pub(crate) async fn seal(&self, secret: &Secret, context: Context<'_>) -> Result<Sealed, StoreError> {
        const OPERATION: &str = "GenerateDataKey";
        let made = self
            .client
            .generate_data_key()
            .key_id(&self.kms_key)
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(context.for_kms()))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk(KMS, OPERATION, error))?;
        let data_key = made.plaintext.map(|blob| Zeroizing::new(blob.into_inner()));
        let cipher = data_key.as_deref().and_then(|bytes| cipher(bytes));
        let (Some(cipher), Some(encrypted)) = (cipher, made.ciphertext_blob) else {
            return Err(unreadable_answer(OPERATION));
        };
        let nonce = random_bytes();
        let ciphertext =
            encrypt(&cipher, nonce, context, secret).ok_or_else(|| unreadable_answer(OPERATION))?;
        Ok(Sealed { ciphertext, nonce, data_key: encrypted.into_inner() })
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// When KMS cannot be asked or does not let us ask. What is wrong with the envelope is no error but
    /// [`Opened::Unusable`].
    pub(crate) async fn open(&self, sealed: &Sealed, context: Context<'_>) -> Result<Opened, StoreError> {
        const OPERATION: &str = "Decrypt";
        if !DATA_KEY_BYTES.contains(&sealed.data_key.len()) {
            return Ok(Opened::Unusable(Unusable::DataKey));
        }
        let decrypted = self
            .client
            .decrypt()
            // Named, so that a data key under any other KMS key is refused (IncorrectKeyException).
            .key_id(&self.kms_key)
            .ciphertext_blob(Blob::new(sealed.data_key.clone()))
            .set_encryption_context(Some(context.for_kms()))
            .send()
            .await;
        let data_key = match decrypted {
            Ok(answer) => answer.plaintext.ok_or_else(|| unreadable_answer(OPERATION))?,
            Err(error) if error.as_service_error().is_some_and(is_of_the_data_key) => {
                return Ok(Opened::Unusable(Unusable::DataKey));
            }
            Err(error) => return Err(StoreError::from_sdk(KMS, OPERATION, error)),
        };
        let data_key = Zeroizing::new(data_key.into_inner());
        let Some(cipher) = cipher(&data_key) else { return Ok(Opened::Unusable(Unusable::DataKey)) };
        Ok(decrypt(&cipher, sealed, context).map_or(Opened::Unusable(Unusable::Ciphertext), Opened::Secret))
    }
}

/// Whether KMS refuses this data key, and not the call.
fn is_of_the_data_key(error: &DecryptError) -> bool {
    error.is_invalid_ciphertext_exception() || error.is_incorrect_key_exception()
}

fn unreadable_answer(operation: &'static str) -> StoreError {
    StoreError::Unavailable { store: KMS, operation, code: "unreadable answer".to_owned(), source: None }
}

impl Context<'_> {
    fn parts(self) -> Vec<(&'static str, String)> {
        let mut parts = vec![("table", self.table.to_owned())];
        match self.owner {
            Owner::Key(key) => parts.push(("key_id", key.to_string())),
            Owner::Webhook(user, endpoint) => {
                parts.extend([("user", user.to_string()), ("webhook", endpoint.to_string())]);
            }
        }
        parts.push(("version", SCHEME.to_string()));
        parts
    }

    /// KMS's encryption context. It is no secret: CloudTrail logs it. The policies name `table`.
    fn for_kms(self) -> HashMap<String, String> {
        self.parts().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Additional authenticated data: each value after its length, so that no two contexts have the same bytes.
    fn for_aead(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (_, value) in self.parts() {
            bytes.extend((value.len() as u64).to_be_bytes());
            bytes.extend(value.into_bytes());
        }
        bytes
    }
}

/// `None` when the data key is not one of 256 bits.
fn cipher(data_key: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, data_key).ok().map(LessSafeKey::new)
}

/// `None` never happens for a secret's length (ring refuses texts of 64 GiB).
fn encrypt(
    cipher: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    context: Context<'_>,
    secret: &Secret,
) -> Option<Vec<u8>> {
    let text = secret.reveal().as_bytes();
    // Encrypted in place, with room for the tag: the plain text is never moved and left behind.
    let mut bytes = Vec::with_capacity(text.len() + AES_256_GCM.tag_len());
    bytes.extend(text);
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher.seal_in_place_append_tag(nonce, Aad::from(context.for_aead()), &mut bytes).ok()?;
    Some(bytes)
}

/// `None` when anything was altered, or the text is no secret.
fn decrypt(cipher: &LessSafeKey, sealed: &Sealed, context: Context<'_>) -> Option<Secret> {
    let mut bytes = Zeroizing::new(sealed.ciphertext.clone());
    let nonce = Nonce::assume_unique_for_key(sealed.nonce);
    let text = cipher.open_in_place(nonce, Aad::from(context.for_aead()), &mut bytes).ok()?;
    Secret::parse(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA_KEY: [u8; 32] = [7; 32];

    fn sealed(context: Context<'_>) -> Sealed {
        let cipher = cipher(&DATA_KEY).unwrap();
        let secret = Secret::parse("AIza-secret").unwrap();
        let nonce = [9; NONCE_LEN];
        Sealed { ciphertext: encrypt(&cipher, nonce, context, &secret).unwrap(), nonce, data_key: Vec::new() }
    }

    fn opens(sealed: &Sealed, context: Context<'_>) -> bool {
        decrypt(&cipher(&DATA_KEY).unwrap(), sealed, context)
            .is_some_and(|secret| secret.reveal() == "AIza-secret")
    }

    /// The cipher's own binding, without KMS's: the data key is the same throughout.
    #[test]
    fn the_ciphertext_is_bound_to_table_key_and_scheme() {
        let (one, two) = (KeyId::derive("gemini", "one"), KeyId::derive("gemini", "two"));
        let context = Context { table: "keys", owner: Owner::Key(&one) };
        let sealed = sealed(context);
        assert!(opens(&sealed, context));
        assert!(!opens(&sealed, Context { owner: Owner::Key(&two), ..context }));
        assert!(!opens(&sealed, Context { table: "other", ..context }));
        assert!(context.for_aead().ends_with(&SCHEME.to_string().into_bytes()));
    }

    #[test]
    fn the_ciphertext_is_bound_to_user_and_endpoint() {
        let users = ["alice", "bob"].map(|user| UserId::parse(user).unwrap());
        let endpoints = [1, 2].map(|byte| WebhookId::from_random([byte; 16]));
        let context = |user: usize, endpoint: usize| Context {
            table: "push",
            owner: Owner::Webhook(&users[user], &endpoints[endpoint]),
        };
        let sealed = sealed(context(0, 0));
        let opened = [(0, 0), (0, 1), (1, 0)].map(|(user, endpoint)| opens(&sealed, context(user, endpoint)));
        assert_eq!(opened, [true, false, false]);
    }

    #[test]
    fn each_part_of_the_context_has_its_length_before_it() {
        let key = KeyId::derive("gemini", "one");
        let bytes = Context { table: "keys", owner: Owner::Key(&key) }.for_aead();
        let id = key.to_string();
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 4];
        expected.extend(b"keys");
        expected.extend((id.len() as u64).to_be_bytes());
        expected.extend(id.bytes());
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1, b'1']);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn no_bit_of_ciphertext_or_nonce_can_be_altered_and_nothing_cut() {
        let key = KeyId::derive("gemini", "one");
        let context = Context { table: "keys", owner: Owner::Key(&key) };
        let sound = sealed(context);
        assert_eq!(sound.ciphertext.len(), "AIza-secret".len() + 16);
        for bit in 0..sound.ciphertext.len() * 8 {
            let mut altered = sound.clone();
            altered.ciphertext[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&altered, context), "bit {bit} of the ciphertext");
        }
        for bit in 0..NONCE_LEN * 8 {
            let mut altered = sound.clone();
            altered.nonce[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&altered, context), "bit {bit} of the nonce");
        }
        for length in 0..sound.ciphertext.len() {
            let mut cut = sound.clone();
            cut.ciphertext.truncate(length);
            assert!(!opens(&cut, context), "the first {length} bytes");
        }
    }

    #[test]
    fn a_data_key_of_another_length_makes_no_cipher() {
        assert!(cipher(&[0; 16]).is_none());
        assert!(cipher(&[0; 33]).is_none());
    }
}
