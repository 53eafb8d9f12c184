//! How long a provider asks us to wait, in the ways in which providers say it.

use std::time::Duration;

use http::{HeaderMap, header};

/// The words before a pause in a message. Gemini: `Please retry in 58.82s.` OpenAI: `Please try again in 12s`,
/// `Please try again after 51.84 seconds`. Azure's OpenAI: `Please retry after 9 seconds`.
const BEFORE: [&str; 4] = ["retry in ", "try again in ", "try again after ", "retry after "];

/// The headers: `retry-after-ms` (OpenAI; its own clients read it first, `_calculate_retry_timeout` in openai-python), then
/// `retry-after` in seconds. An HTTP date is not read: these vendors send none.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = |name: &str| headers.get(name)?.to_str().ok();
    let exact = value("retry-after-ms").and_then(seconds).map(|milliseconds| milliseconds / 1_000);
    exact.or_else(|| seconds(value(header::RETRY_AFTER.as_str())?))
}

/// The pause that a message names.
pub(crate) fn named_pause(message: &str) -> Option<Duration> {
    BEFORE.iter().find_map(|words| span(message.split_once(words)?.1))
}

/// `58` or `58.821668433`.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::new(whole.parse().ok()?, nanos.parse().ok()?))
}

/// A span of time at the beginning of a text: `58.82s`, `1m2.5s`, `850ms`, `51.84 seconds`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, after) = rest.split_at(number);
        // The sentence's full stop is no number.
        if !amount.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        let after = after.strip_prefix(' ').unwrap_or(after);
        let letters = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let amount = seconds(amount)?;
        total = total.checked_add(match unit {
            "h" | "hour" | "hours" => amount.checked_mul(3_600)?,
            "m" | "minute" | "minutes" => amount.checked_mul(60)?,
            "s" | "second" | "seconds" => amount,
            "ms" | "milliseconds" => amount / 1_000,
            _ => return None,
        })?;
        rest = after;
    }
    (rest.len() < text.len()).then_some(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_from_a_sentence() {
        for (text, seconds) in [
            ("Please retry in 58.5s.", 58.5),
            ("Please retry in 1m2.5s. More.", 62.5),
            ("Limit 5, Used 5, Requested 1. Please try again in 12s. Visit https://x", 12.0),
            ("Please try again in 240ms.", 0.24),
            ("Please try again in 7m12s.", 432.0),
            ("Please try again after 51.84 seconds.", 51.84),
            ("Please retry after 1 minute.", 60.0),
            ("Please retry in 1h0m3s", 3_603.0),
        ] {
            assert_eq!(named_pause(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in [
            "",
            "retry in ",
            "retry in a while",
            "retry in 5",
            "retry in 5 parsecs",
            "retry in 1.2.3s",
            "retry in 99999999999999999999s",
        ] {
            assert_eq!(named_pause(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_go_before_seconds() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let both = headers(&[("retry-after", "2"), ("retry-after-ms", "1500")]);
        assert_eq!(retry_after(&both), Some(Duration::from_millis(1_500)));
        let odd = headers(&[("retry-after-ms", "soon"), ("retry-after", "2")]);
        assert_eq!(retry_after(&odd), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(&headers(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")])), None);
        assert_eq!(retry_after(&headers(&[])), None);
    }
}
