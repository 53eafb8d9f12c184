//! Identifiers and times in the forms AWS writes them. The only place of this crate that asks for randomness or
//! for the wall clock.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    if getrandom::fill(&mut bytes).is_err() {
        // Ids here need to differ, not to be secret: the clock keeps them apart where the system has no entropy.
        for (byte, tick) in bytes.iter_mut().zip(epoch().as_nanos().to_le_bytes().into_iter().cycle()) {
            *byte = tick;
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Time since the Unix epoch; zero on a clock before 1970.
pub(crate) fn epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since the Unix epoch.
pub(crate) fn epoch_millis() -> u64 {
    u64::try_from(epoch().as_millis()).unwrap_or(u64::MAX)
}

/// A random UUID (version 4), the form of Lambda's request ids and EventBridge's event ids.
pub(crate) fn uuid() -> String {
    let mut bytes: [u8; 16] = random();
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let mut text = hex(&bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

/// API Gateway's request id: 11 random bytes in base64.
pub(crate) fn gateway_request_id() -> String {
    BASE64_STANDARD.encode(random::<11>())
}

/// The id of a WebSocket connection: 11 random bytes in base64, as API Gateway's.
pub(crate) fn connection_id() -> String {
    BASE64_STANDARD.encode(random::<11>())
}

/// An X-Ray trace header that asks for no sampling.
pub(crate) fn trace_id() -> String {
    let seconds = epoch().as_secs() & 0xffff_ffff;
    format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0", hex(&random::<12>()), hex(&random::<8>()))
}

/// Now, as `2026-11-22T10:00:00Z` (EventBridge).
pub(crate) fn rfc3339_seconds() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, with milliseconds (Lambda's log lines).
pub(crate) fn rfc3339_millis() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Now, as `22/Nov/2026:10:00:00 +0000` (API Gateway's `requestContext.time`).
pub(crate) fn common_log_time() -> String {
    jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_form_and_the_version_bits_of_rfc_9562() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, uuid());
    }

    #[test]
    fn the_trace_header_is_in_x_rays_form() {
        let trace = trace_id();
        let root = trace.strip_prefix("Root=1-").unwrap().split(';').next().unwrap();
        assert_eq!(root.split('-').map(str::len).collect::<Vec<_>>(), [8, 24]);
        assert!(trace.ends_with(";Sampled=0"));
    }

    #[test]
    fn times_have_the_forms_aws_writes() {
        assert_eq!(rfc3339_seconds().len(), "2026-11-22T10:00:00Z".len());
        assert_eq!(rfc3339_millis().len(), "2026-11-22T10:00:00.123Z".len());
        assert_eq!(common_log_time().len(), "22/Nov/2026:10:00:00 +0000".len());
    }
}
