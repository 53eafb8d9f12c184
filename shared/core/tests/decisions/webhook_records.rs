//! Endpoints and deliveries: what calls make of them, how secrets are rotated, what is sent again.

use std::time::Duration;

use darkroom_core::error_code::Language;
use darkroom_core::id::{DeliveryId, IdempotencyKey, JobId, Ticket, UserId, WebhookId};
use darkroom_core::limits::{
    DELIVERY_LIFE, DELIVERY_SHARDS, WEBHOOK_ANSWER_BYTES_KEPT, WEBHOOK_FAILING_MAX, WEBHOOK_LOOK,
    WEBHOOK_ROTATION, WEBHOOK_SECRETS_MAX, WEBHOOKS_MAX,
};
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::{DELIVERY_TRIES_MAX, EventKind, Reach, Verdict};
use darkroom_core::webhook_delivery::{
    CallResult, Delivery, DeliveryMessage, LastTry, Standing, Unanswered, delivery_shard,
};
use darkroom_core::webhook_endpoint::{DisabledReason, Endpoint, Endpoints, WebhookRequest};
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn endpoint(number: u8) -> Endpoint {
    let request = WebhookRequest::parse(&json!({"url": "https://app.example.com/"}), Reach::Public).unwrap();
    Endpoint::new(WebhookId::from_random([number; 16]), &request, Language::En, "first".to_owned(), NOW)
}

#[test]
fn a_request_names_where_and_what_and_everything_wrong_is_told() {
    let parse = |body| WebhookRequest::parse(&body, Reach::Public);
    let all = parse(json!({"url": "https://app.example.com/hook"})).unwrap();
    assert_eq!((all.url.as_str(), all.events), ("https://app.example.com/hook", EventKind::ALL.to_vec()));
    let some = json!({"url": "https://a.example.com", "events": ["job.failed", "job.draft", "job.failed"]});
    assert_eq!(parse(some).unwrap().events, [EventKind::JobDraft, EventKind::JobFailed]);
    assert_eq!(
        parse(json!({"url": "https://a.example.com", "events": null})).unwrap().events.len(),
        EventKind::ALL.len()
    );
    for (body, pointers) in [
        (json!({}), &["/url"][..]),
        (json!([]), &[""]),
        (json!({"url": 7, "events": 7}), &["/url", "/events"]),
        (json!({"url": "http://a.example.com", "events": []}), &["/url", "/events"]),
        (json!({"url": "https://a.example.com", "events": ["job.deleted"]}), &["/events"]),
        (json!({"url": "https://a.example.com", "events": ["batch.completed"]}), &["/events"]),
        (json!({"url": "https://a.example.com", "events": [7]}), &["/events"]),
        (json!({"url": "https://a.example.com", "events": vec!["job.draft"; 5]}), &["/events"]),
        (json!({"url": "https://a.example.com", "secret": "mine"}), &["/secret"]),
    ] {
        let found: Vec<_> =
            parse(body.clone()).unwrap_err().into_iter().map(|violation| violation.pointer).collect();
        assert_eq!(found, pointers, "{body}");
    }
}

#[test]
fn an_endpoint_is_disabled_by_410_or_five_days_without_anything() {
    let fresh = endpoint(1);
    assert_eq!(fresh.after(Verdict::Delivered, NOW, at(1)), None, "all is well: nothing is written");
    let failing = fresh.after(Verdict::Failed, at(10), at(20)).unwrap();
    assert_eq!((failing.failing_since, failing.disabled), (Some(at(10)), None));
    assert_eq!(failing.after(Verdict::Failed, at(11), at(21)), None, "since when it fails stays");
    let days = WEBHOOK_FAILING_MAX.as_secs();
    assert_eq!(failing.after(Verdict::Failed, at(10 + days - 1), at(10 + days)), None);
    let over = failing.after(Verdict::Failed, at(10 + days), at(20 + days)).unwrap().disabled.unwrap();
    assert_eq!((over.reason, over.at), (DisabledReason::Unreachable, at(20 + days)));
    assert_eq!(failing.after(Verdict::Delivered, at(30), at(31)).unwrap(), fresh);
    let gone = fresh.after(Verdict::Gone, at(1), at(2)).unwrap();
    assert_eq!(gone.disabled.map(|disabled| disabled.reason), Some(DisabledReason::Gone));
    for verdict in [Verdict::Delivered, Verdict::Failed, Verdict::Gone] {
        assert_eq!(gone.after(verdict, at(3), at(4)), None, "{verdict:?} of what is disabled");
    }
    // Enabled, it is as new; a call of before says nothing about it.
    let enabled = gone.enabled(at(50));
    assert_eq!((enabled.disabled, enabled.failing_since), (None, None));
    for verdict in [Verdict::Failed, Verdict::Gone] {
        assert_eq!(enabled.after(verdict, at(49), at(60)), None);
        assert!(enabled.after(verdict, at(50), at(60)).is_some());
    }
}

#[test]
fn an_endpoint_is_told_of_what_it_asked_for_while_it_is_enabled() {
    let some = Endpoint { events: vec![EventKind::JobFailed], ..endpoint(1) };
    assert!(some.wants(EventKind::JobFailed) && !some.wants(EventKind::JobDraft));
    let gone = some.after(Verdict::Gone, NOW, NOW).unwrap();
    assert!(!gone.wants(EventKind::JobFailed));
}

#[test]
fn both_secrets_sign_for_a_day_after_a_rotation() {
    let day = WEBHOOK_ROTATION.as_secs();
    let secrets = |endpoint: &Endpoint, seconds| -> Vec<String> {
        endpoint.secrets_at(at(seconds)).map(str::to_owned).collect()
    };
    let first = endpoint(1);
    assert_eq!(
        (secrets(&first, 9 * day), first.earlier_secrets_until(NOW)),
        (vec!["first".to_owned()], None)
    );
    let second = first.rotated("second".to_owned(), at(10));
    assert_eq!(secrets(&second, 10), ["second", "first"]);
    assert_eq!(secrets(&second, 10 + day - 1), ["second", "first"]);
    assert_eq!(secrets(&second, 10 + day), ["second"]);
    assert_eq!(second.earlier_secrets_until(at(11)), Some(at(10 + day)));
    assert_eq!(second.earlier_secrets_until(at(10 + day)), None);
    // Again, because the answer was lost: the receiver still has the first, which keeps its time.
    let third = second.rotated("third".to_owned(), at(20));
    assert_eq!(secrets(&third, 30), ["third", "second", "first"]);
    assert_eq!(secrets(&third, 10 + day), ["third", "second"]);
    // What signs no more goes with the next rotation, and of too many the oldest.
    assert_eq!(third.rotated("x".to_owned(), at(20 + day)).secrets.len(), 2);
    let many = (0..9).fold(first, |endpoint, number| endpoint.rotated(number.to_string(), at(1)));
    assert_eq!(secrets(&many, 2), ["8", "7", "6", "5"]);
    assert_eq!(WEBHOOK_SECRETS_MAX, 4);
}

#[test]
fn endpoints_are_so_many_and_each_write_counts() {
    let mut endpoints = Endpoints::default();
    for number in 0..WEBHOOKS_MAX {
        endpoints = endpoints.with(endpoint(u8::try_from(number).unwrap())).unwrap();
    }
    assert_eq!(endpoints.with(endpoint(200)), None);
    assert_eq!(endpoints.version, WEBHOOKS_MAX as u64);
    let id = WebhookId::from_random([3; 16]);
    let fewer = endpoints.without(&id).unwrap();
    assert_eq!((fewer.list.len(), fewer.get(&id), fewer.version), (WEBHOOKS_MAX - 1, None, 11));
    assert_eq!(fewer.without(&id), None);
    assert_eq!(fewer.replaced(endpoint(3)), None);
    let gone = endpoints.get(&id).unwrap().after(Verdict::Gone, NOW, NOW).unwrap();
    let replaced = endpoints.replaced(gone.clone()).unwrap();
    assert_eq!((replaced.get(&id), replaced.list.len(), replaced.version), (Some(&gone), WEBHOOKS_MAX, 11));
}

fn delivery() -> Delivery {
    let (user, endpoint) = (UserId::parse("alice").unwrap(), WebhookId::from_random([7; 16]));
    let job = JobId::derive(&user, &IdempotencyKey::parse("k").unwrap());
    let id = DeliveryId::derive(&endpoint, &Ticket::new(NOW, &job), 3, NOW);
    Delivery::new(id, (user, endpoint), (EventKind::JobDraft, job), "{}".to_owned(), at(5))
}

fn last(result: CallResult, seconds: u64) -> LastTry {
    LastTry { at: at(seconds), ended_at: at(seconds + 1), result }
}

fn failed(seconds: u64) -> LastTry {
    last(CallResult::Unanswered(Unanswered::TimedOut), seconds)
}

#[test]
fn a_delivery_is_tried_by_the_schedule_until_it_arrives_or_no_try_is_left() {
    let fresh = delivery();
    assert_eq!((fresh.tries, fresh.standing), (0, Standing::Due(at(5).plus(WEBHOOK_LOOK))));
    assert_eq!(fresh.expires_at, at(5).plus(DELIVERY_LIFE));
    let once = fresh.after(failed(10), 0.0);
    assert_eq!((once.tries, once.standing), (1, Standing::Due(at(11 + 5))));
    let twice = once.after(failed(20), 0.0);
    assert_eq!((twice.tries, twice.standing), (2, Standing::Due(at(21 + 300))));
    let arrived = twice.after(last(CallResult::answered(200, b"ok"), 400), 0.0);
    assert_eq!((arrived.tries, arrived.standing, &arrived.body), (3, Standing::Delivered, &fresh.body));
    let gone = twice.after(last(CallResult::answered(410, b""), 400), 0.0);
    assert_eq!((gone.tries, gone.standing), (3, Standing::Failed));
    let all = (0..DELIVERY_TRIES_MAX).fold(fresh.clone(), |delivery, _| delivery.after(failed(10), 0.5));
    assert_eq!((all.tries, all.standing), (DELIVERY_TRIES_MAX, Standing::Failed));
    let dropped = once.dropped();
    assert_eq!((dropped.tries, dropped.standing, &dropped.last), (1, Standing::Dropped, &once.last));
    assert!(!fresh.is_expired(at(0)) && fresh.is_expired(fresh.expires_at));
}

#[test]
fn what_is_sent_again_has_a_schedule_of_its_own_and_tries_never_fall() {
    let all = (0..DELIVERY_TRIES_MAX).fold(delivery(), |delivery, _| delivery.after(failed(10), 0.5));
    let again = all.sent_again(at(1_000));
    assert_eq!((again.tries, again.standing), (DELIVERY_TRIES_MAX, Standing::Due(at(1_000))));
    assert_eq!(
        (again.expires_at, &again.id, &again.body),
        (at(1_000).plus(DELIVERY_LIFE), &all.id, &all.body)
    );
    let failed_again = again.after(failed(1_001), 0.0);
    assert_eq!(failed_again.standing, Standing::Due(at(1_002 + 5)));
    let all_again = (0..DELIVERY_TRIES_MAX).fold(again, |delivery, _| delivery.after(failed(10), 0.5));
    assert_eq!((all_again.tries, all_again.standing), (2 * DELIVERY_TRIES_MAX, Standing::Failed));
}

#[test]
fn a_message_is_for_one_try_and_is_read_as_it_was_sent() {
    let fresh = delivery();
    let message = fresh.message();
    assert_eq!(DeliveryMessage::parse(&message.body()).unwrap(), message);
    assert!(fresh.is_called_for(&message));
    let once = fresh.after(failed(10), 0.0);
    assert!(!once.is_called_for(&message) && once.is_called_for(&once.message()));
    assert!(!once.dropped().is_called_for(&once.message()));
    let arrived = fresh.after(last(CallResult::answered(204, b""), 1), 0.0);
    assert!(!arrived.is_called_for(&arrived.message()));
    for body in [
        "",
        "{}",
        r#"{"v":1}"#,
        &message.body().replace("\"v\":1", "\"v\":2"),
        &message.body().replace("\"tries\":0", "\"tries\":0,\"url\":\"x\""),
        &message.body().replace("msg_", "job_"),
    ] {
        assert!(DeliveryMessage::parse(body).is_err(), "{body}");
    }
}

#[test]
fn of_an_answer_the_beginning_is_kept_as_text() {
    let kept = |body: &[u8]| match CallResult::answered(200, body) {
        CallResult::Answered { body, .. } => body,
        CallResult::Unanswered(_) => unreachable!(),
    };
    assert_eq!(kept(b"ok"), "ok");
    assert_eq!(kept(&[b'a'; 5_000]), "a".repeat(WEBHOOK_ANSWER_BYTES_KEPT));
    for bytes in [vec![0xff; 5_000], "ü".repeat(3_000).into_bytes(), vec![0xf0, 0x9f]] {
        let kept = kept(&bytes);
        assert!(kept.len() <= WEBHOOK_ANSWER_BYTES_KEPT && !kept.is_empty(), "{}", kept.len());
    }
    for (status, verdict) in [
        (199, Verdict::Failed),
        (200, Verdict::Delivered),
        (299, Verdict::Delivered),
        (301, Verdict::Failed),
        (404, Verdict::Failed),
        (410, Verdict::Gone),
        (500, Verdict::Failed),
    ] {
        assert_eq!(CallResult::answered(status, b"").verdict(), verdict, "{status}");
    }
    for reason in Unanswered::ALL {
        assert_eq!(CallResult::Unanswered(reason).verdict(), Verdict::Failed);
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    for reason in DisabledReason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    for kind in EventKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    assert_eq!(Standing::WORDS.map(str::len).len(), 4);
}

proptest! {
    #![proptest_config(crate::common::cases())]

    /// Whatever comes of its calls: tries rise by one each, and it is due if and only if it waits.
    #[test]
    fn tries_rise_and_what_is_over_stays_over(statuses in prop::collection::vec(100_u16..600, 1..40), jitter in 0.0..1.0) {
        let mut delivery = delivery();
        for (number, status) in statuses.into_iter().enumerate() {
            let seconds = 10 + 1_000_000 * number as u64;
            let next = delivery.after(last(CallResult::answered(status, b""), seconds), jitter);
            prop_assert_eq!(next.tries, delivery.tries + 1);
            if let Some(due_at) = next.standing.due_at() {
                prop_assert!(due_at > at(seconds + 1));
            }
            if (200..300).contains(&status) {
                prop_assert_eq!(next.standing, Standing::Delivered);
            }
            if next.standing.due_at().is_none() {
                break;
            }
            delivery = next;
        }
        prop_assert!(delivery_shard(&delivery.id) < DELIVERY_SHARDS);
    }
}
