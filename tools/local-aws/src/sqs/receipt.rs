//! Receipt handles: which receipt of which message in which queue.

use data_encoding::BASE64URL_NOPAD;

use super::error::{Code, SqsError};

/// One receipt of a message. Ids are never used twice and the count rises with each receipt, so that no two
/// receipts of anything are equal, and an older receipt of a message can be told from its newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceiptHandle {
    pub(super) queue: i64,
    pub(super) message: i64,
    pub(super) receive_count: i64,
}

impl ReceiptHandle {
    pub(super) fn encode(self) -> String {
        let Self { queue, message, receive_count } = self;
        BASE64URL_NOPAD.encode(format!("1.{queue}.{message}.{receive_count}").as_bytes())
    }

    /// Reads a handle that was given out for `queue`.
    ///
    /// # Errors
    /// `ReceiptHandleIsInvalid` for anything else, also for the handle of another queue.
    pub(super) fn decode(text: &str, queue: i64) -> Result<Self, SqsError> {
        parse(text).filter(|handle| handle.queue == queue).ok_or_else(|| {
            SqsError::new(
                Code::ReceiptHandleIsInvalid,
                "The input receipt handle is invalid: pass the one that ReceiveMessage gave for this queue.",
            )
        })
    }
}

fn parse(text: &str) -> Option<ReceiptHandle> {
    let plain = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let mut parts = std::str::from_utf8(&plain).ok()?.split('.');
    if parts.next() != Some("1") {
        return None;
    }
    let mut number = || parts.next()?.parse().ok();
    let handle = ReceiptHandle { queue: number()?, message: number()?, receive_count: number()? };
    parts.next().is_none().then_some(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_for_its_queue_only() {
        let handle = ReceiptHandle { queue: 3, message: 71, receive_count: 2 };
        assert_eq!(ReceiptHandle::decode(&handle.encode(), 3), Ok(handle));
        assert_eq!(
            ReceiptHandle::decode(&handle.encode(), 4).unwrap_err().code,
            Code::ReceiptHandleIsInvalid
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let spelled = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        for text in [
            "",
            "?",
            "handle",
            &spelled("2.3.71.2"),
            &spelled("1.3.71"),
            &spelled("1.3.71.2.5"),
            &spelled("1.a.b.c"),
        ] {
            assert!(ReceiptHandle::decode(text, 3).is_err(), "{text}");
        }
    }
}
