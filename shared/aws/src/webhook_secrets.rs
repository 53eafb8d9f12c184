//! The secrets of webhooks, sealed under the KMS key that seals the pool's: made by api, opened by the notifier alone.

use darkroom_core::id::{UserId, WebhookId};
use darkroom_core::key::Secret;
use darkroom_core::webhook_signature::WebhookSecret;
use data_encoding::BASE64URL_NOPAD;

use crate::clock::random_bytes;
use crate::error::StoreError;
use crate::secret_box::{Context, Opened, Owner, SCHEME, Sealed, SecretBox};

/// Makes and opens the secrets of the webhooks in one table.
#[derive(Clone, Debug)]
pub struct WebhookSecrets {
    secrets: SecretBox,
    table: String,
}

impl WebhookSecrets {
    /// Those of this push table.
    pub const fn new(secrets: SecretBox, table: String) -> Self {
        Self { secrets, table }
    }

    /// A fresh secret of a user's endpoint, and its envelope.
    ///
    /// # Errors
    /// When KMS makes no data key.
    pub async fn make(
        &self,
        user: &UserId,
        endpoint: &WebhookId,
    ) -> Result<(WebhookSecret, String), StoreError> {
        let secret = WebhookSecret::from_random(random_bytes());
        let text = Secret::parse(&secret.reveal()).map_err(|problem| StoreError::Unreadable {
            key: endpoint.to_string(),
            problem: problem.to_owned(),
        })?;
        let sealed = self.secrets.seal(&text, self.context(user, endpoint)).await?;
        Ok((secret, to_text(&sealed)))
    }

    /// Opens an envelope; `None`, which is logged, of one that was altered or is another endpoint's.
    ///
    /// # Errors
    /// When KMS cannot be asked, or does not let us ask.
    pub async fn open(
        &self,
        user: &UserId,
        endpoint: &WebhookId,
        envelope: &str,
    ) -> Result<Option<WebhookSecret>, StoreError> {
        let opened = match from_text(envelope) {
            Some(sealed) => self.secrets.open(&sealed, self.context(user, endpoint)).await?,
            None => return Ok(unusable(endpoint, "its envelope has another form")),
        };
        Ok(match opened {
            Opened::Secret(secret) => WebhookSecret::parse(secret.reveal()),
            Opened::Unusable(_) => unusable(endpoint, "it was altered or belongs to another endpoint"),
        })
    }

    fn context<'a>(&'a self, user: &'a UserId, endpoint: &'a WebhookId) -> Context<'a> {
        Context { table: &self.table, owner: Owner::Webhook(user, endpoint) }
    }
}

fn unusable(endpoint: &WebhookId, problem: &str) -> Option<WebhookSecret> {
    tracing::error!(webhook.id = %endpoint, problem, "a webhook's secret does not open: its owner has to rotate it");
    None
}

/// `<scheme>.<nonce>.<data key>.<ciphertext>`.
fn to_text(sealed: &Sealed) -> String {
    let [nonce, data_key, ciphertext] =
        [&sealed.nonce[..], &sealed.data_key, &sealed.ciphertext].map(|bytes| BASE64URL_NOPAD.encode(bytes));
    format!("{SCHEME}.{nonce}.{data_key}.{ciphertext}")
}

fn from_text(text: &str) -> Option<Sealed> {
    let mut parts = text.split('.');
    if parts.next()? != SCHEME.to_string() {
        return None;
    }
    let mut part = || BASE64URL_NOPAD.decode(parts.next()?.as_bytes()).ok();
    Some(Sealed { nonce: part()?.try_into().ok()?, data_key: part()?, ciphertext: part()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_read_as_it_was_written() {
        let sealed = Sealed { ciphertext: vec![1, 2, 250], nonce: [9; 12], data_key: vec![4; 7] };
        let text = to_text(&sealed);
        assert_eq!(from_text(&text), Some(sealed));
        for other in ["", "1", "1.", "1.a.b.c", &text.replacen("1.", "2.", 1), &text[..20]] {
            assert_eq!(from_text(other), None, "{other}");
        }
    }
}
