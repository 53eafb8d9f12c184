//! Reads DynamoDB's clock off its answers, and corrects this process's by it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use aws_smithy_types::date_time::Format;
use darkroom_core::clock_offset::{OffsetBounds, Told};
use darkroom_core::time::Timestamp;

use crate::clock::{correct, machine_now};

/// What all answers of this process have told: it has one clock.
static BOUNDS: Mutex<Option<OffsetBounds>> = Mutex::new(None);

/// A correction that has changed by less than this is not worth a line in the log.
const WORTH_A_LINE_MS: u64 = 500;

/// How far a clock that is proven wrong may still be off after its correction; `None` for one that may be right.
pub fn clock_uncertainty() -> Option<Duration> {
    BOUNDS.lock().unwrap_or_else(PoisonError::into_inner).and_then(|bounds| bounds.uncertainty())
}

/// Looks at the `Date` of every answer.
#[derive(Debug)]
pub(crate) struct ServerTime;

/// When one try of a request was sent, by this machine's clock.
#[derive(Debug)]
struct SentAt(Timestamp);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "ServerTime"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SentAt(machine_now()));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let date = date.and_then(|date| u64::try_from(date.to_millis().ok()?).ok());
        if let (Some(SentAt(sent)), Some(date)) = (config.load::<SentAt>(), date) {
            told(Told { sent: *sent, received: machine_now(), date: Timestamp::from_millis(date) });
        }
        Ok(())
    }
}

fn told(told: Told) {
    let mut bounds = BOUNDS.lock().unwrap_or_else(PoisonError::into_inner);
    *bounds = bounds.map_or_else(|| OffsetBounds::of(told), |bounds| Some(bounds.with(told)));
    let correction_ms = bounds.map_or(0, |bounds| bounds.correction_ms());
    let before_ms = correct(correction_ms);
    drop(bounds);
    if correction_ms.abs_diff(before_ms) >= WORTH_A_LINE_MS {
        tracing::warn!(
            clock.correction_ms = correction_ms,
            "this machine's clock is wrong by DynamoDB's; it is corrected here: see to its time synchronisation"
        );
    }
}
