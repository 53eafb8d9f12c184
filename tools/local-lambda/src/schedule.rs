//! EventBridge's part: a scheduled event every so often, invoked asynchronously.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html> and, for what happens
//! when the function is throttled, <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html>.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::error::{InvokeError, SettingsError};
use crate::function::Function;
use crate::ids;
use crate::running::{Running, StopSignal};

/// What a schedule starts and when.
pub struct ScheduleSettings {
    /// The rule's name, for its ARN.
    pub name: String,
    /// The function.
    pub function: Arc<Function>,
    /// Time between two events; the first is sent at once.
    pub every: Duration,
    /// `MaximumEventAgeInSeconds`: an event that found no environment for so long is dropped.
    pub maximum_event_age: Duration,
    /// Told to the function.
    pub account_id: String,
    /// Told to the function.
    pub region: String,
}

/// A running schedule. Events are not retried (`MaximumRetryAttempts: 0`): one that failed is logged.
pub struct Schedule {
    running: Running,
}

impl Schedule {
    /// Sends the first event at once. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// For a period of zero.
    pub fn start(settings: ScheduleSettings) -> Result<Self, SettingsError> {
        if settings.every.is_zero() {
            return Err(SettingsError::Zero("the period of a schedule"));
        }
        let (running, stop) = Running::new();
        tokio::spawn(tick(Arc::new(settings), stop));
        Ok(Self { running })
    }

    /// Sends no more events, and waits up to `grace` for the one under way.
    pub async fn shutdown(self, grace: Duration) {
        self.running.shutdown(grace).await;
    }
}

async fn tick(settings: Arc<ScheduleSettings>, mut stop: StopSignal) {
    let mut interval = tokio::time::interval(settings.every);
    // A machine that slept gets one event, not one for each it missed.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.stopped() => return,
            _ = interval.tick() => {
                tokio::spawn(send(Arc::clone(&settings), stop.clone()));
            }
        }
    }
}

/// One event. It waits for an environment as long as it may age, so events never overlap beyond the function's
/// reserved concurrency; one that still waits when the schedule stops is dropped.
async fn send(settings: Arc<ScheduleSettings>, mut stop: StopSignal) {
    let arn = format!("arn:aws:events:{}:{}:rule/{}", settings.region, settings.account_id, settings.name);
    let event = scheduled_event(&settings.account_id, &settings.region, &arn);
    let slot = tokio::select! {
        biased;
        slot = settings.function.slot_within(settings.maximum_event_age) => slot,
        () = stop.stopped() => return,
    };
    let outcome = match slot {
        Ok(slot) => settings.function.invoke_in(slot, event).await,
        Err(error) => Err(error),
    };
    let (schedule, function) = (&settings.name, settings.function.name());
    match outcome {
        Ok(_) | Err(InvokeError::Stopped) => {}
        // The function was ended with everything else: no news.
        Err(_) if stop.is_stopped() => {}
        Err(error @ InvokeError::Throttled { .. }) => {
            let age = settings.maximum_event_age.as_secs_f32();
            tracing::warn!(
                schedule.name = schedule, function.name = function, event.age_seconds = age, %error, "event dropped"
            );
        }
        Err(error) => {
            tracing::warn!(schedule.name = schedule, function.name = function, %error, "event failed");
        }
    }
}

/// The event EventBridge sends for a schedule, as JSON.
pub fn scheduled_event(account_id: &str, region: &str, rule_arn: &str) -> Bytes {
    let event = json!({
        "version": "0",
        "id": ids::uuid(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account_id,
        "time": ids::rfc3339_seconds(),
        "region": region,
        "resources": [rule_arn],
        "detail": {},
    });
    Bytes::from(event.to_string())
}
