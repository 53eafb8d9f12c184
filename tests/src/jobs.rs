//! Jobs made at the stores alone.

use std::time::Duration;

use darkroom::connect::Stores;
use darkroom_core::id::{IdempotencyKey, JobId, ModelName, UserId};
use darkroom_core::job::{Job, Order, Submission};
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_core::time::Timestamp;

/// An order of this price, with nothing that can be left out.
///
/// # Panics
/// When that is no model's name.
#[expect(clippy::unwrap_used, reason = "a test's own words")]
pub fn order(model: &str, cost: u64, created_at: Timestamp, deadline: Duration) -> Order {
    Order {
        prompt: Some(Prompt::parse("a prompt").unwrap()),
        model: ModelName::parse(model).unwrap(),
        shape: Shape { aspect_ratio: AspectRatio::R1x1, size: ImageSize::K1 },
        conversation_id: None,
        reference: None,
        retry_of: None,
        batch: None,
        request_hash: "h".to_owned(),
        cost,
        created_at,
        deadline_at: created_at.plus(deadline),
    }
}

/// A job of one token for the local model, with its price held, whose message was never sent: what a crash between
/// submit's two calls leaves.
///
/// # Errors
/// When it could not be made.
pub async fn submit_without_message(
    stores: &Stores,
    user: &str,
    key: &str,
    wake: Duration,
) -> anyhow::Result<String> {
    submit_with_deadline(stores, user, key, wake, Duration::from_secs(3_600)).await
}

/// The same with another deadline.
///
/// # Errors
/// When it could not be made.
pub async fn submit_with_deadline(
    stores: &Stores,
    user: &str,
    key: &str,
    wake: Duration,
    deadline: Duration,
) -> anyhow::Result<String> {
    let user = UserId::parse(user)?;
    let created_at = darkroom_aws::now();
    let order = order("darkroom-local", 1, created_at, deadline);
    let id = JobId::derive(&user, &IdempotencyKey::parse(key)?);
    let submission = Submission { id: id.clone(), user, order, op: darkroom_aws::random_stamp() };
    stores.jobs.create(Job::submitted(submission, wake), None, 100).await?;
    Ok(id.to_string())
}
