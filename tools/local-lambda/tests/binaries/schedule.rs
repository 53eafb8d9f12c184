//! The schedule, with a real function.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{ACCOUNT, REGION, add_probe, call, call_later, lambda, until};
use darkroom_local_lambda::{Function, Schedule, ScheduleSettings, SettingsError, scheduled_event};
use serde_json::{Value, json};

fn every(every: Duration, function: &Arc<Function>) -> ScheduleSettings {
    ScheduleSettings {
        name: "sweep".into(),
        function: Arc::clone(function),
        every,
        maximum_event_age: Duration::from_millis(300),
        account_id: ACCOUNT.into(),
        region: REGION.into(),
    }
}

#[test]
fn the_event_is_eventbridges() {
    let mut event: Value = serde_json::from_slice(&scheduled_event(ACCOUNT, REGION, "arn:x")).unwrap();
    let fields = event.as_object_mut().unwrap();
    assert_eq!(fields.remove("id").unwrap().as_str().unwrap().len(), 36);
    let time = fields.remove("time").unwrap();
    assert!(time.as_str().unwrap().ends_with('Z') && time.as_str().unwrap().len() == 20, "{time}");
    let rest = json!({
        "version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "account": ACCOUNT,
        "region": REGION, "resources": ["arn:x"], "detail": {},
    });
    assert_eq!(event, rest);
}

#[tokio::test]
async fn the_first_event_is_sent_at_once_and_the_others_in_time() {
    let lambda = lambda();
    let function = add_probe(&lambda, |_| {});
    function.warm(1).await.unwrap();
    let start = Instant::now();
    let schedule = Schedule::start(every(Duration::from_millis(400), &function)).unwrap();
    until("the first", || function.stats().invocations == 1).await;
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    until("the third", || function.stats().invocations == 3).await;
    assert!(start.elapsed() >= Duration::from_millis(790), "{:?}", start.elapsed());
    schedule.shutdown(Duration::from_secs(1)).await;
    let sent = function.stats().invocations;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(function.stats().invocations, sent);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn events_do_not_overlap_and_one_that_waits_too_long_is_dropped() {
    let lambda = lambda();
    let function = add_probe(&lambda, |settings| settings.reserved_concurrency = 1);
    call(&function, json!({})).await.unwrap();
    let busy = call_later(&function, json!({ "sleep_ms": 900 }));
    until("it is at work", || function.stats().invocations == 2).await;
    let schedule = Schedule::start(every(Duration::from_secs(60), &function)).unwrap();
    until("the event is dropped", || function.stats().throttles == 1).await;
    assert_eq!(function.stats().invocations, 2);
    busy.await.unwrap().unwrap();
    drop(schedule);

    let busy = call_later(&function, json!({ "sleep_ms": 150 }));
    until("it is at work", || function.stats().invocations == 3).await;
    let schedule = Schedule::start(every(Duration::from_secs(60), &function)).unwrap();
    until("the event waited and was taken", || function.stats().invocations == 4).await;
    busy.await.unwrap().unwrap();
    assert_eq!(function.stats().environments_started, 1);
    schedule.shutdown(Duration::from_secs(1)).await;
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_failed_event_is_not_retried() {
    let lambda = lambda();
    let function = add_probe(&lambda, |settings| {
        settings.environment.insert("PROBE_INIT".into(), "exit".into());
    });
    let schedule = Schedule::start(every(Duration::from_secs(60), &function)).unwrap();
    until("it has failed", || function.stats().errors == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(function.stats().invocations, 1);
    schedule.shutdown(Duration::from_secs(1)).await;
    let refused = Schedule::start(every(Duration::ZERO, &function));
    assert!(matches!(refused, Err(SettingsError::Zero(_))));
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn shutdown_waits_for_the_event_under_way() {
    let lambda = lambda();
    let function = add_probe(&lambda, |settings| {
        settings.environment.insert("PROBE_INIT".into(), "500".into());
    });
    let schedule = Schedule::start(every(Duration::from_secs(60), &function)).unwrap();
    until("it has begun", || function.stats().invocations == 1).await;
    schedule.shutdown(Duration::from_secs(10)).await;
    assert_eq!(function.stats().init_durations.len(), 1, "it had come to its handler");
    assert_eq!(function.stats().errors, 0);
    lambda.shutdown(Duration::from_secs(1)).await;
}
