//! What is stored and sent: ids, messages, times and words that must be read back as they were written.

use std::collections::HashSet;
use std::time::Duration;

use crate::common::{at, cases};
use darkroom_core::id::{
    IdempotencyKey, JobId, KeyId, ModelName, ProjectName, Stamp, Ticket, UploadId, UserId,
};
use darkroom_core::image::ImageFormat;
use darkroom_core::job::{Status, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::key::{CoolReason, KeyDisabled, KeyState, ScopeDisabled, ScopeState, Secret};
use darkroom_core::message::{JobMessage, Message, MessageError};
use darkroom_core::model::ProviderName;
use darkroom_core::retry::{CONFLICT_TRIES_MAX, backoff, conflict_pause};
use darkroom_core::time::{Timestamp, readable};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

/// Computed apart from this code: SHA-256 over the parts, each after its length in eight bytes, in base32.
/// A derivation that changes makes every key that was used before an upgrade a new job.
#[test]
fn derived_ids_stay_what_they_are() {
    let job = JobId::derive(&user("alice"), &key("k1"));
    assert_eq!(job.as_str(), "job_ovgtmkui46yb7hek6pb5bg7qzrsp5jhabqy2vucn5kaw56hwr3wa");
    assert_eq!(job.number(), 9_811_306_690_405_395_668);
    let retry = JobId::derive_retry(&Ticket::new(Timestamp::from_millis(7), &job));
    assert_eq!(retry.as_str(), "job_rkrsnlkya4ljlnwc3o76krs4qdswa5fashmbm24ry7ah3xzbwuqq");
    assert_eq!(KeyId::derive("gemini", "s3cret").as_str(), "key_hh23okqvlaasmroe");
    assert_eq!(user("alice").fair_group(), "ojx5gnhh3l3jjhlvcjo2pmhvam");
    assert_eq!(Stamp::from_random([7; 16]).as_str(), "a4dqobyha4dqobyha4dqobyha4");
    assert_eq!(
        Stamp::from_stored(Stamp::from_random([7; 16]).as_str().to_owned()),
        Stamp::from_random([7; 16])
    );
}

#[test]
fn a_ticket_is_the_time_in_fifteen_digits_and_the_job() {
    let job = JobId::derive(&user("alice"), &key("k1"));
    assert_eq!(Ticket::new(Timestamp::from_millis(7), &job).as_str(), format!("000000000000007#{job}"));
    assert_eq!(
        Ticket::new(Timestamp::from_millis(u64::MAX), &job).as_str().len(),
        15 + 1 + job.as_str().len()
    );
}

/// Parts of which one's end could be taken for the next one's beginning.
fn parts() -> impl Strategy<Value = (String, String)> {
    ("[ab#]{1,3}", "[ab# ]{1,3}")
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn two_jobs_have_one_id_when_user_and_key_are_the_same(one in parts(), other in parts()) {
        let id = |(owner, idempotency): &(String, String)| JobId::derive(&user(owner), &key(idempotency));
        prop_assert_eq!(id(&one) == id(&other), one == other);
        prop_assert!(JobId::parse(id(&one).as_str()).is_ok());
        let secret = KeyId::derive(&one.0, &one.1);
        prop_assert_eq!(secret == KeyId::derive(&other.0, &other.1), one == other);
        prop_assert!(KeyId::parse(secret.as_str()).is_ok());
    }

    #[test]
    fn tickets_are_in_the_order_of_time_and_unique(a in any::<u64>(), b in any::<u64>(), same in any::<bool>()) {
        let ticket = |millis, idempotency| {
            Ticket::new(Timestamp::from_millis(millis), &JobId::derive(&user("u"), &key(idempotency)))
        };
        let (one, other) = (ticket(a, "1"), ticket(b, if same { "1" } else { "2" }));
        let (early, late) = (Timestamp::from_millis(a), Timestamp::from_millis(b));
        if early == late {
            prop_assert_eq!(one == other, same);
        } else {
            prop_assert_eq!(one.as_str() < other.as_str(), early < late);
        }
    }

    #[test]
    fn ids_are_read_from_any_text_or_refused(text in prop_oneof![any::<String>(), "(job|key|upl)_[a-z2-7]{14,54}"]) {
        let read = [
            JobId::parse(&text).map(String::from),
            UserId::parse(&text).map(String::from),
            KeyId::parse(&text).map(String::from),
            UploadId::parse(&text).map(String::from),
            ModelName::parse(&text).map(String::from),
            ProjectName::parse(&text).map(String::from),
            IdempotencyKey::parse(&text).map(String::from),
        ];
        for id in read.iter().flatten() {
            prop_assert_eq!(id, &text);
            // Nothing that is an id can end a line or a header.
            prop_assert!(text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
        }
        // What is stored is judged like what is sent.
        prop_assert_eq!(read[0].is_ok(), serde_json::from_value::<JobId>(json!(text)).is_ok());
        prop_assert_eq!(read[1].is_ok(), serde_json::from_value::<UserId>(json!(text)).is_ok());
    }

    #[test]
    fn a_message_is_read_as_it_was_sent(owner in "[!-~]{1,255}", model in "[a-z0-9][a-zA-Z0-9._-]{0,63}") {
        let job = JobId::derive(&user(&owner), &key("k"));
        let message = Message::Job(JobMessage::new(user(&owner), job, ModelName::parse(&model).unwrap()));
        prop_assert_eq!(Message::parse(&message.body()).unwrap(), message);
    }

    #[test]
    fn any_body_is_a_message_or_refused(
        body in prop_oneof![any::<String>(), r#"[{}",:a-z_0-9\[\] ]{0,80}"#],
        cut in 0..200_usize,
        flip in 0..200_usize,
    ) {
        prop_assert!(Message::parse(&body).is_err());
        let job = JobId::derive(&user("alice"), &key("k"));
        let message = Message::Job(JobMessage::new(user("alice"), job, ModelName::parse("m").unwrap()));
        let mut bytes = message.body().into_bytes();
        prop_assert!(cut >= bytes.len() || Message::parse(std::str::from_utf8(&bytes[..cut]).unwrap()).is_err());
        let at = flip % bytes.len();
        bytes[at] = bytes[at].wrapping_add(1).min(126);
        let changed = Message::parse(std::str::from_utf8(&bytes).unwrap());
        prop_assert!(changed.is_err() || changed.unwrap() != message);
    }

    #[test]
    fn times_are_stored_as_numbers_and_stay_within_the_calendar(millis in any::<u64>(), more in any::<u64>()) {
        let read: Timestamp = serde_json::from_value(json!(millis)).unwrap();
        prop_assert_eq!(read, Timestamp::from_millis(millis));
        prop_assert_eq!(serde_json::to_value(read).unwrap(), json!(read.as_millis()));
        prop_assert_eq!(read.as_seconds(), read.as_millis() / 1000);
        let later = read.plus(Duration::from_millis(more));
        prop_assert!(later >= read && later.rfc3339().len() == "2026-11-22T10:00:00.123Z".len());
        prop_assert!(later.since(read) <= Duration::from_millis(more));
        prop_assert!(read.minus(Duration::from_millis(more)) <= read);
        prop_assert_eq!(read.since(later), Duration::ZERO);
    }

    #[test]
    fn pauses_lie_within_their_bounds(attempt in any::<u32>(), jitter in 0.0..=1.0_f64) {
        let pause = backoff(attempt, jitter);
        prop_assert!(pause >= Duration::from_secs(1) && pause <= Duration::from_secs(60));
        prop_assert!(pause * 2 >= backoff(attempt, 1.0), "more than half of the longest");
        prop_assert!(backoff(attempt.saturating_add(1), jitter) >= pause);
        let conflict = conflict_pause(attempt, jitter);
        prop_assert!(!conflict.is_zero() && conflict <= Duration::from_secs(1));
    }

    #[test]
    fn a_length_of_time_is_short_to_read(seconds in 0..u64::from(u32::MAX)) {
        let text = readable(Duration::from_secs(seconds));
        prop_assert!(text.split(' ').count() == 2 && text.len() <= 12, "{}", text);
    }
}

#[test]
fn another_release_is_told_from_a_broken_body() {
    let other = r#"{"v":2,"job":"x","trace":"y"}"#;
    assert!(matches!(Message::parse(other), Err(MessageError::Version(2))));
    for body in ["", "{", "[]", r#"{"v":"1"}"#, r#"{"v":-1}"#, r#"{"v":1,"job":"x"}"#] {
        assert!(matches!(Message::parse(body), Err(MessageError::Malformed { .. })), "{body}");
    }
}

#[test]
fn a_conflict_pauses_longer_each_time() {
    let pauses: Vec<_> =
        (1..=CONFLICT_TRIES_MAX + 3).map(|tries| conflict_pause(tries, 1.0).as_millis()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
}

#[test]
fn a_secret_fits_in_a_header_and_is_trimmed() {
    assert_eq!(
        Secret::parse(" \tabc\r\n").ok().map(|secret| secret.reveal().to_owned()),
        Some("abc".to_owned())
    );
    for text in ["", " \n", "a b", "a\nb", "ü", &"s".repeat(513)] {
        assert!(Secret::parse(text).is_err(), "{text}");
    }
    assert!(Secret::parse(&"s".repeat(512)).is_ok());
}

/// Every value's word: unique, the one that serde writes, and read back.
fn words<T: Copy + PartialEq + Serialize + DeserializeOwned + std::fmt::Debug>(
    all: &[T],
    word: impl Fn(T) -> &'static str,
    parse: impl Fn(&str) -> Option<T>,
) {
    let mut seen = HashSet::new();
    for value in all {
        assert_eq!(serde_json::to_value(value).unwrap(), word(*value));
        assert_eq!(serde_json::from_value::<T>(json!(word(*value))).unwrap(), *value);
        assert_eq!(parse(word(*value)), Some(*value));
        assert!(seen.insert(word(*value)), "{value:?}");
    }
    assert_eq!(parse(""), None);
}

#[test]
fn stored_words_are_unique_and_read_back() {
    words(&JobErrorCode::ALL, JobErrorCode::as_str, JobErrorCode::parse);
    words(&ProviderName::ALL, ProviderName::as_str, ProviderName::parse);
    let reasons = [WaitReason::Capacity, WaitReason::Quota, WaitReason::Retry];
    words(&reasons, WaitReason::as_str, WaitReason::parse);
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp];
    words(&formats, ImageFormat::content_type, ImageFormat::from_content_type);
    let statuses: HashSet<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
    assert_eq!(statuses.len(), Status::ALL.len());
    assert_eq!(Status::parse("done"), None);
}

#[test]
fn stored_states_of_keys_and_scopes_are_read_back() {
    for (state, stored) in [
        (KeyState::Active, json!({"state": "active"})),
        (
            KeyState::Disabled { reason: KeyDisabled::AccountParked, at: at(0) },
            json!({"state": "disabled", "reason": "account_parked", "at": at(0).as_millis()}),
        ),
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), stored);
        assert_eq!(serde_json::from_value::<KeyState>(stored).unwrap(), state);
    }
    for (state, stored) in [
        (ScopeState::Active, json!({"state": "active"})),
        (
            ScopeState::Cooling { reason: CoolReason::DailyQuota, at: at(1), until: at(9) },
            json!({"state": "cooling", "reason": "daily_quota", "at": at(1).as_millis(), "until": at(9).as_millis()}),
        ),
        (
            ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(0) },
            json!({"state": "disabled", "reason": "zero_quota", "at": at(0).as_millis()}),
        ),
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), stored);
        assert_eq!(serde_json::from_value::<ScopeState>(stored).unwrap(), state);
    }
}
