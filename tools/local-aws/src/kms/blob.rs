//! Encrypted data keys: `1 | length of the key id (2) | key id | nonce (12) | ciphertext and tag`. The form is ours; to
//! callers it is opaque, as KMS's own.

use ring::aead::{Aad, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use super::error::KmsError;
use super::master_key::MasterKey;
use super::wire::EncryptionContext;

const VERSION: u8 = 1;

/// Encrypts a data key under the key of this id.
pub(super) fn encrypt(
    master_key: &MasterKey,
    key_id: &str,
    context: &EncryptionContext,
    data_key: &[u8],
) -> Result<Vec<u8>, KmsError> {
    let mut nonce = [0; NONCE_LEN];
    fill(&mut nonce)?;
    let mut encrypted = Zeroizing::new(data_key.to_vec());
    let tag = master_key
        .cipher()
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound_to(key_id, context)),
            &mut encrypted,
        )
        .map_err(|_| KmsError::internal())?;
    let id_length = u16::try_from(key_id.len()).map_err(|_| KmsError::internal())?;
    let mut blob = vec![VERSION];
    blob.extend(id_length.to_be_bytes());
    blob.extend(key_id.as_bytes());
    blob.extend(nonce);
    blob.extend(encrypted.iter());
    blob.extend(tag.as_ref());
    Ok(blob)
}

/// An encrypted data key in its parts.
pub(super) struct Blob<'a> {
    /// Under which key.
    pub(super) key_id: &'a str,
    nonce: [u8; NONCE_LEN],
    encrypted: &'a [u8],
}

impl<'a> Blob<'a> {
    /// `None` when it is none of ours.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[VERSION])?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (key_id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE_LEN>()?;
        Some(Self { key_id: std::str::from_utf8(key_id).ok()?, nonce: *nonce, encrypted })
    }

    /// The data key.
    ///
    /// # Errors
    /// `InvalidCiphertextException` when anything was altered, or the context is another.
    pub(super) fn decrypt(
        &self,
        master_key: &MasterKey,
        context: &EncryptionContext,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let mut bytes = Zeroizing::new(self.encrypted.to_vec());
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let bound = Aad::from(bound_to(self.key_id, context));
        let length = master_key
            .cipher()
            .open_in_place(nonce, bound, &mut bytes)
            .map_err(|_| KmsError::invalid_ciphertext())?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// What a data key is bound to: the key's id and the context's pairs in order of their names, each after its length.
fn bound_to(key_id: &str, context: &EncryptionContext) -> Vec<u8> {
    let pairs = context.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let mut bytes = Vec::new();
    for part in std::iter::once(key_id).chain(pairs) {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// Fills with random bytes.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), KmsError> {
    getrandom::fill(bytes).map_err(|error| {
        tracing::error!(service = super::SERVICE, %error, "the random source failed");
        KmsError::internal()
    })
}
