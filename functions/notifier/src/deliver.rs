//! Messages of the webhooks' queue: each has one delivery called, and what comes of it noted.

use darkroom_aws::{Changed, Noted, StoreError, now, random_fraction};
use darkroom_core::id::UserId;
use darkroom_core::time::Timestamp;
use darkroom_core::webhook_delivery::{CallResult, Delivery, DeliveryMessage, LastTry, Standing, Unanswered};
use darkroom_core::webhook_endpoint::{Endpoint, Endpoints};
use darkroom_core::webhook_signature::{WebhookSecret, signature_header};
use http::HeaderName;
use serde_json::{Value, json};

use crate::Notifier;
use crate::caller::Letter;
use crate::tell::side_by_side;

impl Notifier {
    /// Handles each of these messages, side by side, and names those that have to come again: one that is none, and one for which a
    /// store failed. An endpoint that fails fails no message: its delivery is due again.
    pub(crate) async fn deliver(&self, records: &[Value]) -> Value {
        let text = |record: &Value, name: &str| {
            record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let handled = records.iter().map(|record| async move {
            let is_done = self.deliver_message(&text(record, "body")).await;
            (!is_done).then(|| json!({"itemIdentifier": text(record, "messageId")}))
        });
        let failures: Vec<_> = side_by_side(handled.collect()).await.into_iter().flatten().collect();
        json!({"batchItemFailures": failures})
    }

    async fn deliver_message(&self, body: &str) -> bool {
        let message = match DeliveryMessage::parse(body) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(error = %error, "a message of the webhooks' queue is none: it stays for a person to look at");
                return false;
            }
        };
        let delivered = self.deliver_one(&message).await;
        if let Err(error) = &delivered {
            tracing::error!(delivery.id = %message.delivery, error = %error, "a delivery could not be handled; it is tried again");
        }
        delivered.is_ok()
    }

    /// Calls for a delivery that waits for this message, and notes what came of it. Called twice, its receiver gets it twice, with
    /// one id.
    async fn deliver_one(&self, message: &DeliveryMessage) -> Result<(), StoreError> {
        let DeliveryMessage { user, endpoint, delivery, .. } = message;
        let found = self.webhooks.delivery(user, endpoint, delivery, now()).await?;
        let Some(delivery) = found.filter(|delivery| delivery.is_called_for(message)) else { return Ok(()) };
        let endpoints = self.webhooks.endpoints_of(user).await?;
        let enabled = endpoints.get(endpoint).filter(|endpoint| endpoint.disabled.is_none());
        let Some(endpoint) = enabled else { return self.note(&delivery, delivery.dropped()).await };
        let last = self.call(&delivery, endpoint).await?;
        self.note(&delivery, delivery.after(last.clone(), random_fraction())).await?;
        let endpoint = endpoint.clone();
        self.judge(user, endpoints, &endpoint, &last).await
    }

    async fn call(&self, delivery: &Delivery, endpoint: &Endpoint) -> Result<LastTry, StoreError> {
        let secrets = self.secrets_of(&delivery.user, endpoint).await?;
        let at = now();
        let result = if secrets.is_empty() {
            CallResult::Unanswered(Unanswered::NoSecret)
        } else {
            self.caller.call(&endpoint.url, letter(delivery, &secrets, at)).await
        };
        Ok(LastTry { at, ended_at: now(), result })
    }

    /// The secrets that sign now. KMS is asked each time: a secret is in memory for one call.
    async fn secrets_of(&self, user: &UserId, endpoint: &Endpoint) -> Result<Vec<WebhookSecret>, StoreError> {
        let mut secrets = Vec::new();
        for envelope in endpoint.secrets_at(now()) {
            secrets.extend(self.secrets.open(user, &endpoint.id, envelope).await?);
        }
        Ok(secrets)
    }

    async fn note(&self, seen: &Delivery, next: Delivery) -> Result<(), StoreError> {
        let (id, webhook, tries, standing) = (&next.id, &next.endpoint, next.tries, next.standing.as_str());
        match self.webhooks.note(seen, &next).await? {
            Noted::Applied => {
                let result = next.last.as_ref().filter(|_| next.standing != Standing::Dropped);
                let result = result.map(|last| word(&last.result));
                tracing::info!(delivery.id = %id, webhook.id = %webhook, delivery.tries = tries, delivery.standing = standing, delivery.result = result, "webhook");
            }
            Noted::Overtaken(_) | Noted::Absent => {
                tracing::info!(delivery.id = %id, webhook.id = %webhook, "another call of this delivery was noted first, or it is forgotten");
            }
        }
        Ok(())
    }

    /// What a call tells of its endpoint. Nothing is written while all is well.
    async fn judge(
        &self,
        user: &UserId,
        seen: Endpoints,
        endpoint: &Endpoint,
        last: &LastTry,
    ) -> Result<(), StoreError> {
        let judged = |endpoints: &Endpoints| {
            let there = endpoints.get(&endpoint.id)?;
            endpoints.replaced(there.after(last.result.verdict(), last.at, last.ended_at)?)
        };
        if let Changed::Applied(endpoints) = self.webhooks.change(user, seen, judged).await?
            && let Some(disabled) = endpoints.get(&endpoint.id).and_then(|endpoint| endpoint.disabled)
        {
            tracing::warn!(webhook.id = %endpoint.id, reason = disabled.reason.as_str(), "a webhook is disabled; its owner can enable it again");
        }
        Ok(())
    }
}

/// A status, or why there is none. Of an answer's body nothing is logged: it is the endpoint's.
fn word(result: &CallResult) -> String {
    match result {
        CallResult::Answered { status, .. } => status.to_string(),
        CallResult::Unanswered(reason) => reason.as_str().to_owned(),
    }
}

fn letter(delivery: &Delivery, secrets: &[WebhookSecret], at: Timestamp) -> Letter {
    let id = delivery.id.as_str();
    let signature = signature_header(secrets, id, at, delivery.body.as_bytes());
    let headers = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", at.as_seconds().to_string()),
        ("webhook-signature", signature),
    ];
    Letter {
        headers: headers.map(|(name, value)| (HeaderName::from_static(name), value)),
        body: delivery.body.clone().into(),
    }
}
