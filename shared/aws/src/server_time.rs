//! Reads DynamoDB's clock off its answers.

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
use darkroom_core::time::Timestamp;

use crate::KeyTable;
use crate::clock::{MachineTime, is_simulated, known, told};
use crate::error::StoreError;

/// A wrong clock that is known to within this is good enough: two of them, and a call that is late by half of the guard, stay
/// within the guard of a slot.
const CLOCK_KNOWN: Duration = Duration::from_millis(30);
/// Pause between two looks at DynamoDB's clock: a second of them tells a clock's error to half of this and a round trip.
const CLOCK_LOOK: Duration = Duration::from_millis(20);
/// Looks that find no more will not find it.
const CLOCK_LOOKS_MAX: u32 = 60;

/// Asks DynamoDB until its answers show that this machine's clock may be right, or else how far it is off; at once when that was
/// shown within the last minute. Before the first moment that others must agree on, and where a machine may have been
/// suspended since the last one.
pub async fn read_clock(keys: &KeyTable) -> Result<(), StoreError> {
    for look in 0..CLOCK_LOOKS_MAX {
        let machine = MachineTime::now();
        if is_simulated() || known(&machine).is_known(CLOCK_KNOWN, machine.at) {
            break;
        }
        if look >= 2 {
            #[expect(clippy::disallowed_methods, reason = "the pause between two looks at another's clock")]
            tokio::time::sleep(CLOCK_LOOK).await;
        }
        keys.ping().await?;
    }
    Ok(())
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
        config.interceptor_state().store_put(SentAt(MachineTime::now().at));
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
            told(*sent, Timestamp::from_millis(date));
        }
        Ok(())
    }
}
