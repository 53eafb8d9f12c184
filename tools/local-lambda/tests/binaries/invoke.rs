//! Environments and invocations, with a real `lambda_runtime` binary.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::{add_probe, call, call_later, example, kill_9, lambda, lives, probe, settings, until};
use bytes::Bytes;
use darkroom_local_lambda::{
    FunctionSettings, InvokeError, Lambda, Launcher, LogLine, LogSource, SettingsError,
};
use serde_json::{Value, json};

#[tokio::test]
async fn an_event_comes_back_as_the_handlers_answer() {
    let (lambda, function) = probe(|_| {});
    let event = json!({ "text": "ışık", "n": [1, 2.5, null] });
    assert_eq!(call(&function, event.clone()).await, Ok(event));
    let stats = function.stats();
    assert_eq!((stats.invocations, stats.errors, stats.environments_started), (1, 0, 1));
    assert_eq!(stats.init_durations.len(), 1);
    assert!(stats.init_durations[0] < Duration::from_secs(5), "{:?}", stats.init_durations);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_process_finds_lambdas_environment_and_nothing_of_its_owners() {
    let (lambda, function) = probe(|settings| {
        settings.environment.insert("TABLE".into(), "jobs".into());
        settings.memory_mb = 512;
        settings.log_level = "DEBUG".into();
        settings.timeout = Duration::from_secs(11);
    });
    let before = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let seen = call(&function, json!({ "do": "environment" })).await.unwrap();
    let mut variables: std::collections::BTreeMap<String, String> =
        serde_json::from_value(seen["variables"].clone()).unwrap();
    let api = variables.remove("AWS_LAMBDA_RUNTIME_API").unwrap();
    assert!(api.starts_with("127.0.0.1:"), "{api}");
    assert_eq!(variables.remove("PATH"), std::env::var("PATH").ok());
    let folder = example("local_lambda_probe").parent().unwrap().to_str().unwrap().to_owned();
    assert_eq!(variables.remove("LAMBDA_TASK_ROOT").as_ref(), Some(&folder));
    assert_eq!(seen["folder"], folder);
    let stream = variables.remove("AWS_LAMBDA_LOG_STREAM_NAME").unwrap();
    assert!(stream.contains("[$LATEST]"), "{stream}");
    // Set by lambda_runtime itself for each invocation.
    assert_eq!(variables.remove("_X_AMZN_TRACE_ID").as_deref(), seen["trace"].as_str());
    let expected = [
        ("AWS_ACCESS_KEY_ID", "AKIALOCAL"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_NAME", "probe"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/probe"),
        ("AWS_LAMBDA_LOG_LEVEL", "DEBUG"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
        ("AWS_SESSION_TOKEN", "not-a-token"),
        ("LANG", "en_US.UTF-8"),
        ("TABLE", "jobs"),
        ("TZ", ":UTC"),
        ("_HANDLER", "bootstrap"),
    ];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(variables, expected);

    assert_eq!(seen["arn"], "arn:aws:lambda:eu-central-1:000000000000:function:probe");
    assert_eq!(seen["arn"], function.arn());
    assert_eq!(seen["request_id"].as_str().unwrap().len(), 36);
    assert!(seen["trace"].as_str().unwrap().starts_with("Root=1-"));
    let deadline = seen["deadline"].as_u64().unwrap();
    assert!((before + 11_000..before + 11_000 + 10_000).contains(&deadline), "{deadline} after {before}");
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_error_and_a_panic_fail_their_invocation_and_keep_the_environment() {
    let (lambda, function) = probe(|_| {});
    let pid = call(&function, json!({ "do": "pid" })).await.unwrap();
    for (what, message) in [("error", "the handler said no"), ("panic", "the handler panicked")] {
        match call(&function, json!({ "do": what })).await {
            Err(InvokeError::Unhandled { message: given, .. }) => assert!(given.contains(message), "{given}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(call(&function, json!({ "do": "pid" })).await.unwrap(), pid);
    let stats = function.stats();
    assert_eq!((stats.invocations, stats.errors, stats.crashes, stats.timeouts), (4, 2, 0, 0));
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn one_environment_serves_one_after_the_other_and_several_serve_at_once() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 3);
    let mut sequential = BTreeSet::new();
    for _ in 0..20 {
        sequential.insert(call(&function, json!({ "do": "pid" })).await.unwrap()["pid"].as_u64().unwrap());
    }
    assert_eq!(sequential.len(), 1, "the idle environment is used again");
    let event = json!({ "do": "pid", "sleep_ms": 300 });
    let three: Vec<_> = (0..3).map(|_| call_later(&function, event.clone())).collect();
    until("three at work", || function.stats().invocations == 23).await;
    assert_eq!(call(&function, json!({})).await, Err(InvokeError::Throttled { reserved: 3 }));
    let mut parallel = BTreeSet::new();
    for answer in three {
        parallel.insert(answer.await.unwrap().unwrap()["pid"].as_u64().unwrap());
    }
    assert_eq!(parallel.len(), 3);
    assert_eq!(function.process_ids().len(), 3);
    let stats = function.stats();
    assert_eq!((stats.invocations, stats.throttles, stats.errors, stats.environments_started), (23, 1, 0, 3));
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_most_recently_used_environment_is_taken_first() {
    let (lambda, function) = probe(|_| {});
    let slow = call_later(&function, json!({ "do": "pid", "sleep_ms": 400 }));
    until("the slow one at work", || function.stats().init_durations.len() == 1).await;
    call(&function, json!({ "do": "pid" })).await.unwrap();
    let last = slow.await.unwrap().unwrap();
    for _ in 0..5 {
        assert_eq!(call(&function, json!({ "do": "pid" })).await.unwrap(), last);
    }
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_function_without_reserved_concurrency_is_switched_off() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 0);
    assert_eq!(call(&function, json!({})).await, Err(InvokeError::Throttled { reserved: 0 }));
    assert_eq!(function.stats().environments_started, 0);
    lambda.shutdown(Duration::from_secs(1)).await;
}

/// On two threads, so that the caller runs as soon as it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_frees_its_environment_before_the_caller_knows() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    for n in 0..2_000 {
        assert_eq!(call(&function, json!(n)).await, Ok(json!(n)));
    }
    assert_eq!(function.stats().environments_started, 1);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_time_out_kills_the_process_and_the_next_invocation_gets_a_fresh_one() {
    let (lambda, function) = probe(|settings| {
        settings.timeout = Duration::from_millis(700);
        settings.reserved_concurrency = 1;
    });
    let old = call(&function, json!({ "do": "pid" })).await.unwrap()["pid"].as_u64().unwrap();
    for what in ["block", "start_child"] {
        let start = Instant::now();
        let outcome = call(&function, json!({ "do": what })).await;
        assert_eq!(outcome, Err(InvokeError::TimedOut { after: Duration::from_millis(700) }));
        assert!(start.elapsed() >= Duration::from_millis(700));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!lives(u32::try_from(old).unwrap()), "killed before the caller knew");
    }
    let new = call(&function, json!({ "do": "pid" })).await.unwrap()["pid"].as_u64().unwrap();
    assert_ne!(old, new);
    let stats = function.stats();
    assert_eq!((stats.invocations, stats.errors, stats.timeouts), (4, 2, 2));
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_cold_start_does_not_count_towards_the_time_out() {
    let (lambda, function) = probe(|settings| {
        settings.environment.insert("PROBE_INIT".into(), "1200".into());
        settings.timeout = Duration::from_millis(600);
    });
    assert_eq!(call(&function, json!({ "sleep_ms": 50 })).await, Ok(json!({ "sleep_ms": 50 })));
    assert!(function.stats().init_durations[0] >= Duration::from_millis(1200));
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_a_timed_out_process_started_ends_with_it() {
    let heard = Arc::new(Mutex::new(None));
    let mut settings = settings();
    settings.log_listener = Some(Arc::new({
        let heard = Arc::clone(&heard);
        move |line: LogLine<'_>| {
            if let Some(child) = line.text.strip_prefix("child ") {
                *heard.lock().unwrap() = Some(child.parse::<u32>().unwrap());
            }
        }
    }));
    let lambda = Lambda::new(settings).unwrap();
    let function = add_probe(&lambda, |settings| settings.timeout = Duration::from_millis(700));
    let outcome = call(&function, json!({ "do": "start_child" })).await;
    assert!(matches!(outcome, Err(InvokeError::TimedOut { .. })), "{outcome:?}");
    let child = heard.lock().unwrap().unwrap();
    until("the grandchild's end", || !lives(child)).await;
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_process_that_exits_during_its_invocation_is_a_crash_with_its_last_words() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    match call(&function, json!({ "do": "exit" })).await {
        Err(InvokeError::Crashed { message }) => {
            assert!(message.contains("exit status: 7"), "{message}");
            assert!(message.contains("leaving in the middle"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(call(&function, json!({ "do": "pid" })).await.is_ok());
    assert_eq!(function.stats().crashes, 1);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn kill_9_from_outside_is_noticed_at_once() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    let pid = call(&function, json!({ "do": "pid" })).await.unwrap()["pid"].as_u64().unwrap();
    let busy = call_later(&function, json!({ "sleep_ms": 15_000 }));
    until("it is at work", || function.stats().invocations == 2).await;
    kill_9(u32::try_from(pid).unwrap());
    let start = Instant::now();
    match busy.await.unwrap() {
        Err(InvokeError::Crashed { message }) => assert!(message.contains("signal: 9"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let next = call(&function, json!({ "do": "pid" })).await.unwrap()["pid"].as_u64().unwrap();
    assert_ne!(pid, next);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn killing_an_idle_environment_costs_nobody_an_invocation() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    for round in 0..10_u64 {
        let pid = call(&function, json!({ "do": "pid" })).await.unwrap()["pid"].as_u64().unwrap();
        let pid = u32::try_from(pid).unwrap();
        kill_9(pid);
        // Half of the time the end has been noticed before the next invocation, half of the time it may not.
        if round % 2 == 0 {
            until("the end is noticed", || function.process_ids().is_empty()).await;
        }
        match call(&function, json!({ "do": "pid" })).await {
            Ok(next) => assert_ne!(next["pid"], pid),
            // Delivered to a process that the kernel was still ending.
            Err(InvokeError::Crashed { .. }) if round % 2 == 1 => {}
            other => panic!("{other:?}"),
        }
    }
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_invocation_sent_to_a_process_that_leaves_after_its_answer_goes_to_another() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    let leaving = call(&function, json!({ "do": "leave_after_answer" })).await.unwrap();
    until("it has left", || function.process_ids().is_empty()).await;
    let next = call(&function, json!({ "do": "pid" })).await.unwrap();
    assert_ne!(leaving, next);
    assert_eq!(function.stats().errors, 0);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_answer_that_was_sent_counts_even_when_the_process_ends_with_it() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    for _ in 0..30 {
        assert_eq!(call(&function, json!({ "do": "answer_and_exit" })).await, Ok(json!("by hand")));
    }
    assert_eq!(function.stats().errors, 0);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_runtime_api_refuses_what_its_protocol_does_not_have() {
    let (lambda, function) = probe(|_| {});
    let statuses = call(&function, json!({ "do": "misuse_the_runtime_api" })).await.unwrap();
    let expected = json!({
        "next while busy": 410, "answer to another": 400, "error of another": 400, "init error while busy": 202,
        "unknown path": 404, "wrong method": 404,
    });
    assert_eq!(statuses, expected);
    assert_eq!(call(&function, json!(1)).await, Ok(json!(1)), "no harm done");
    assert_eq!(function.stats().environments_started, 1);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_process_that_never_asks_again_is_killed_at_the_time_out_and_its_next_invocation_moves() {
    let (lambda, function) = probe(|settings| {
        settings.reserved_concurrency = 1;
        settings.timeout = Duration::from_secs(1);
    });
    let first = call(&function, json!({ "do": "block_after_answer" })).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    // Idle or not, it is the only environment; the invocation must not die with it.
    let outcome = call(&function, json!({ "do": "pid" })).await;
    match outcome {
        Ok(next) => assert_ne!(first, next),
        // It asked again before it blocked, so the event was in its hands.
        Err(InvokeError::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    let next = call(&function, json!({ "do": "pid" })).await.unwrap();
    assert_ne!(first, next);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_process_that_does_not_start_fails_the_invocation_with_its_last_words() {
    let mut settings = settings();
    settings.init_limit = Duration::from_millis(800);
    let lambda = Lambda::new(settings).unwrap();
    let cases = [
        ("exit", ["exit status: 3", "PROBE_REASON is not set"]),
        ("hang", ["did not ask for work", "0.8 s"]),
        ("refuse", ["Config", "no table name"]),
    ];
    for (init, expected) in cases {
        let function = add_probe(&lambda, |settings| {
            settings.name = init.into();
            settings.environment.insert("PROBE_INIT".into(), init.into());
        });
        match call(&function, json!({})).await {
            Err(InvokeError::InitFailed { message }) => {
                assert!(expected.iter().all(|part| message.contains(part)), "{init}: {message}");
            }
            other => panic!("{init}: {other:?}"),
        }
        assert!(function.process_ids().is_empty(), "{init}");
        let stats = function.stats();
        assert_eq!((stats.errors, stats.init_failures, stats.init_durations.len()), (1, 1, 0), "{init}");
    }
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_binary_that_is_no_program_fails_the_invocation() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("bootstrap");
    std::fs::write(&binary, "no program").unwrap();
    let lambda = lambda();
    let function = lambda.add(FunctionSettings::new("broken", &binary)).unwrap();
    let outcome = call(&function, json!({})).await;
    assert!(matches!(outcome, Err(InvokeError::InitFailed { .. })), "{outcome:?}");
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn payloads_over_lambdas_limit_are_refused_in_both_directions() {
    let (lambda, function) = probe(|_| {});
    let limit = 6 * 1024 * 1024;
    let outcome = function.invoke(Bytes::from(vec![b' '; limit + 101])).await;
    assert!(matches!(outcome, Err(InvokeError::PayloadTooLarge { .. })), "{outcome:?}");
    assert_eq!(function.stats().environments_started, 0);

    let fits = call(&function, json!({ "do": "big", "bytes": limit - 2 })).await.unwrap();
    assert_eq!(fits.as_str().unwrap().len(), limit - 2);
    match call(&function, json!({ "do": "big", "bytes": limit + 200 })).await {
        Err(InvokeError::Unhandled { error_type, .. }) => {
            assert_eq!(error_type, "Function.ResponseSizeTooLarge");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(call(&function, json!(1)).await, Ok(json!(1)), "the environment lives on");
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_invocation_goes_on_and_keeps_its_concurrency_when_its_caller_leaves() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 1);
    call(&function, json!({})).await.unwrap();
    let abandoned = call_later(&function, json!({ "sleep_ms": 600 }));
    until("it is at work", || function.stats().invocations == 2).await;
    abandoned.abort();
    assert!(abandoned.await.is_err());
    assert_eq!(call(&function, json!({})).await, Err(InvokeError::Throttled { reserved: 1 }));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(call(&function, json!({})).await, Ok(json!({})));
    assert_eq!(function.stats().environments_started, 1);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn idle_environments_are_stopped_after_the_idle_limit_and_used_ones_are_not() {
    let mut settings = settings();
    settings.idle_limit = Some(Duration::from_millis(400));
    let lambda = Lambda::new(settings).unwrap();
    let function = add_probe(&lambda, |_| {});
    let first = call(&function, json!({ "do": "pid" })).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(call(&function, json!({ "do": "pid" })).await.unwrap(), first);
    }
    let pid = function.process_ids()[0];
    until("it is stopped", || function.process_ids().is_empty()).await;
    assert!(!lives(pid));
    assert_ne!(call(&function, json!({ "do": "pid" })).await.unwrap(), first);
    assert_eq!(function.stats().errors, 0);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn warm_environments_wait_for_work() {
    let (lambda, function) = probe(|settings| settings.reserved_concurrency = 2);
    function.warm(5).await.unwrap();
    assert_eq!(function.process_ids().len(), 2, "no more than the reserved concurrency");
    function.warm(2).await.unwrap();
    let two: Vec<_> = (0..2).map(|_| call_later(&function, json!({ "sleep_ms": 200 }))).collect();
    for answer in two {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(function.stats().environments_started, 2);

    let broken = add_probe(&lambda, |settings| {
        settings.name = "broken".into();
        settings.environment.insert("PROBE_INIT".into(), "exit".into());
    });
    assert!(matches!(broken.warm(1).await, Err(InvokeError::InitFailed { .. })));
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn shutdown_ends_every_process_and_every_invocation() {
    let (lambda, function) = probe(|_| {});
    function.warm(1).await.unwrap();
    let busy = [(); 2].map(|()| call_later(&function, json!({ "do": "block" })));
    until("both at work", || function.stats().init_durations.len() == 2).await;
    let pids = function.process_ids();
    assert_eq!(pids.len(), 2);
    let start = Instant::now();
    lambda.shutdown(Duration::from_secs(2)).await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(!pids.into_iter().any(lives));
    for outcome in busy {
        assert!(matches!(outcome.await.unwrap(), Err(InvokeError::Crashed { .. })));
    }
    assert_eq!(call(&function, json!({})).await, Err(InvokeError::Stopped));
}

#[tokio::test]
async fn shutdown_asks_first_and_then_kills() {
    let folder = tempfile::tempdir().unwrap();
    let noted = folder.path().join("noted");
    let (lambda, polite) = probe(|settings| {
        settings.environment.insert("PROBE_TERM".into(), noted.to_str().unwrap().into());
    });
    let stubborn = add_probe(&lambda, |settings| {
        settings.name = "stubborn".into();
        settings.environment.insert("PROBE_TERM".into(), "ignore".into());
    });
    polite.warm(1).await.unwrap();
    stubborn.warm(1).await.unwrap();
    let pids = [polite.process_ids()[0], stubborn.process_ids()[0]];
    let start = Instant::now();
    lambda.shutdown(Duration::from_millis(500)).await;
    assert!(start.elapsed() >= Duration::from_millis(500), "the stubborn one had its time");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(noted.is_file(), "the polite one could tidy up");
    assert!(!pids.into_iter().any(lives));
}

#[tokio::test]
async fn dropping_everything_ends_the_processes_too() {
    let (lambda, function) = probe(|_| {});
    function.warm(2).await.unwrap();
    let pids = function.process_ids();
    drop(lambda);
    assert!(pids.iter().copied().all(lives), "a handle is left");
    drop(function);
    until("the processes' end", || !pids.iter().copied().any(lives)).await;
}

#[tokio::test]
async fn the_log_holds_what_the_process_wrote_and_lambdas_reports() {
    let folder = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut settings = settings();
    settings.log_folder = Some(folder.path().join("logs"));
    settings.log_listener = Some(Arc::new({
        let heard = Arc::clone(&heard);
        move |line: LogLine<'_>| {
            heard.lock().unwrap().push((line.source, line.process_id, line.text.to_owned()));
        }
    }));
    let lambda = Lambda::new(settings).unwrap();
    let function = add_probe(&lambda, |settings| settings.timeout = Duration::from_secs(5));
    call(&function, json!({ "sleep_ms": 20 })).await.unwrap();
    let pid = function.process_ids()[0];
    call(&function, json!({ "do": "error" })).await.unwrap_err();
    call(&function, json!({ "do": "exit" })).await.unwrap_err();
    lambda.shutdown(Duration::from_secs(1)).await;

    let heard = heard.lock().unwrap();
    let written = std::fs::read_to_string(folder.path().join("logs/probe.log")).unwrap();
    assert_eq!(
        written.lines().collect::<Vec<_>>(),
        heard.iter().map(|line| line.2.as_str()).collect::<Vec<_>>()
    );
    assert!(heard.iter().all(|line| line.1 == pid));
    assert!(heard.iter().any(|line| line.0 == LogSource::Stderr && line.2 == "leaving in the middle"));
    let platform: Vec<Value> = heard
        .iter()
        .filter(|line| line.0 == LogSource::Platform)
        .map(|line| serde_json::from_str(&line.2).unwrap())
        .collect();
    let seen: Vec<_> = platform
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["record"]["status"].as_str().unwrap()))
        .collect();
    let report = "platform.report";
    assert_eq!(
        seen,
        [("platform.initReport", "success"), (report, "success"), (report, "error"), (report, "failure")]
    );
    let first = &platform[1]["record"];
    assert!(first["metrics"]["durationMs"].as_f64().unwrap() >= 20.0);
    assert!(first["metrics"]["initDurationMs"].as_f64().unwrap() > 0.0);
    assert_eq!(platform[2]["record"]["metrics"].get("initDurationMs"), None, "only the first has an INIT");
    assert_eq!(platform[3]["record"]["errorType"], "Runtime.ExitError");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_what_to_change() {
    let impossible = darkroom_local_lambda::LambdaSettings { launcher: Launcher::Itself, ..settings() };
    assert!(Lambda::new(impossible).err().unwrap().to_string().contains("become_function_if_asked"));
    let lambda = lambda();
    let good = || FunctionSettings::new("probe", example("local_lambda_probe"));
    for name in ["", "a/b", "ü", &"x".repeat(65)] {
        let settings = FunctionSettings { name: name.into(), ..good() };
        assert!(matches!(lambda.add(settings), Err(SettingsError::Name(_))), "{name}");
    }
    for seconds in [0, 901] {
        let settings = FunctionSettings { timeout: Duration::from_secs(seconds), ..good() };
        assert!(matches!(lambda.add(settings), Err(SettingsError::Timeout { .. })), "{seconds}");
    }
    let mut reserved = good();
    reserved.environment.insert("AWS_REGION".into(), "mars".into());
    assert!(matches!(lambda.add(reserved), Err(SettingsError::ReservedVariable { .. })));
    let missing = FunctionSettings { binary: "/nowhere/bootstrap".into(), ..good() };
    let message = lambda.add(missing).err().unwrap().to_string();
    assert!(message.contains("/nowhere/bootstrap") && message.contains("cargo build"), "{message}");
    assert!(lambda.add(good()).is_ok());
    assert!(matches!(lambda.add(good()), Err(SettingsError::Duplicate(_))));
    assert!(lambda.function("probe").is_some());
    assert_eq!(lambda.functions().len(), 1);
}
