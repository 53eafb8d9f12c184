//! Each function's binary on AWS's own runtime emulator, with events as API Gateway, SQS, DynamoDB and EventBridge write them.

use std::time::Duration;

use darkroom_aws::clients::Clients;
use darkroom_core::id::{JobId, UserId};
use darkroom_tests::jobs::submit_without_message;
use darkroom_tests::stack::TestStack;
use serde_json::{Value, json};

use crate::emulator::{Emulator, event};

/// The stores of a local system whose own functions are given nothing to do.
async fn stores_alone() -> anyhow::Result<TestStack> {
    let system = TestStack::start_with(|settings| {
        settings.consuming = false;
        settings.scheduled = false;
    })
    .await?;
    system.grant("alice", 5).await?;
    Ok(system)
}

fn parsed(name: &str) -> Value {
    serde_json::from_slice(&event(name).unwrap()).unwrap()
}

/// The job that the events are about: its id follows from the user and the key of `submit.json`.
fn job_id() -> JobId {
    let id = parsed("api-job.json")["pathParameters"]["id"].clone();
    JobId::parse(id.as_str().unwrap()).unwrap()
}

/// The body that an HTTP function's answer carries.
fn body(answer: &Value) -> Value {
    assert_eq!(answer["isBase64Encoded"], false, "{answer}");
    serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default()
}

/// The bodies of up to ten messages that wait in the queue.
async fn waiting(system: &TestStack) -> anyhow::Result<Vec<Value>> {
    let running = system.system.running();
    let received = Clients::new(&running.access())
        .sqs
        .receive_message()
        .queue_url(&running.queue_url)
        .max_number_of_messages(10)
        .send()
        .await?;
    Ok(received
        .messages()
        .iter()
        .map(|message| serde_json::from_str(message.body().unwrap()).unwrap())
        .collect())
}

/// Ends the job that no function of the local system works on, so that the books can be looked at.
async fn cancel_and_finish(system: TestStack) -> anyhow::Result<()> {
    let cancelled = system.app.post("alice", &format!("/v1/jobs/{}/cancel", job_id())).await?;
    assert_eq!(cancelled.text("status"), "cancelled", "{}", cancelled.body);
    system.finish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn submit_makes_a_job_and_a_message() -> anyhow::Result<()> {
    let system = stores_alone().await?;
    let submit = Emulator::start(&system, "submit", &[]).await?;
    let answer = submit.invoke(event("submit.json")?).await?;
    assert_eq!(answer["statusCode"], 202, "{answer}");
    assert_eq!(body(&answer)["id"], job_id().as_str(), "{answer}");
    assert_eq!(answer["headers"]["location"], format!("/v1/jobs/{}", job_id()), "{answer}");

    let stores = system.stores()?;
    let job = stores.jobs.get(&job_id()).await?.expect("the job is stored");
    assert_eq!(job.status().as_str(), "pending");
    let balance = stores.ledger.balance(&UserId::parse("alice")?).await?;
    assert_eq!((balance.available, balance.held), (4, 1));
    let message: Value = serde_json::from_str(parsed("worker.json")["Records"][0]["body"].as_str().unwrap())?;
    assert_eq!(waiting(&system).await?, [message], "the worker's event carries what submit sends");

    let again = submit.invoke(event("submit.json")?).await?;
    assert_eq!(
        (&again["statusCode"], &again["headers"]["idempotent-replayed"]),
        (&json!(202), &json!("true"))
    );
    assert_eq!(submit.starts(), 1);
    cancel_and_finish(system).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn worker_draws_the_job_of_a_message() -> anyhow::Result<()> {
    let system = stores_alone().await?;
    let stores = system.stores()?;
    let id = submit_without_message(&stores, "alice", "order-1", Duration::from_secs(600)).await?;
    assert_eq!(id, job_id().as_str());
    let worker = Emulator::start(&system, "worker", &[]).await?;
    assert_eq!(worker.invoke(event("worker.json")?).await?, json!({"batchItemFailures": []}));
    assert_drawn(&system).await?;
    // SQS delivers at least once.
    assert_eq!(worker.invoke(event("worker.json")?).await?, json!({"batchItemFailures": []}));
    assert_eq!(worker.starts(), 1);
    let audit = system.finish().await?;
    assert_eq!((audit.jobs, audit.settled), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn a_body_that_is_no_message_fails_alone() -> anyhow::Result<()> {
    let system = stores_alone().await?;
    submit_without_message(&system.stores()?, "alice", "order-1", Duration::from_secs(600)).await?;
    let worker = Emulator::start(&system, "worker", &[]).await?;
    let poison = parsed("worker-poison.json")["Records"][0]["messageId"].clone();
    let answer = worker.invoke(event("worker-poison.json")?).await?;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": poison}]}));
    assert_drawn(&system).await?;
    assert_eq!(worker.starts(), 1);
    system.finish().await?;
    Ok(())
}

/// The events' job has become a picture that its owner can load and has paid for.
async fn assert_drawn(system: &TestStack) -> anyhow::Result<()> {
    let job = system.app.get("alice", &format!("/v1/jobs/{}", job_id())).await?.body;
    let outcome = (&job["status"], &job["settled"], &job["attempts"]);
    assert_eq!(outcome, (&json!("draft"), &json!("captured"), &json!(1)), "{job}");
    let picture = system.app.download(job["image_url"].as_str().unwrap()).await?;
    let reader = png::Decoder::new(std::io::Cursor::new(&picture)).read_info()?;
    assert_eq!(u64::from(reader.info().width), job["image"]["width"].as_u64().unwrap());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn sweeper_sends_what_is_due() -> anyhow::Result<()> {
    let system = stores_alone().await?;
    let stores = system.stores()?;
    submit_without_message(&stores, "alice", "order-1", Duration::ZERO).await?;
    assert_eq!(stores.keys.last_beat("sweeper").await?, None);
    // It stays up until five seconds before the next start.
    let sweeper = Emulator::start(&system, "sweeper", &[("DARKROOM_SWEEP_SECONDS", "6")]).await?;
    let answer = sweeper.invoke(event("sweeper.json")?).await?;
    assert_eq!((&answer["passes"], &answer["swept"]), (&json!(1), &json!({"send": 1})), "{answer}");
    let sent = waiting(&system).await?;
    assert_eq!(sent.iter().map(|message| &message["job_id"]).collect::<Vec<_>>(), [job_id().as_str()]);
    assert!(stores.keys.last_beat("sweeper").await?.is_some());
    // The next minute finds nothing due.
    let answer = sweeper.invoke(event("sweeper.json")?).await?;
    assert_eq!((&answer["passes"], &answer["swept"]), (&json!(1), &json!({})), "{answer}");
    assert_eq!(sweeper.starts(), 1);
    cancel_and_finish(system).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn api_tells_its_health_and_a_job() -> anyhow::Result<()> {
    let system = stores_alone().await?;
    let api = Emulator::start(&system, "api", &[]).await?;
    let missing = api.invoke(event("api-job.json")?).await?;
    assert_eq!((&missing["statusCode"], &body(&missing)["code"]), (&json!(404), &json!("not_found")));

    submit_without_message(&system.stores()?, "alice", "order-1", Duration::from_secs(600)).await?;
    let job = api.invoke(event("api-job.json")?).await?;
    assert_eq!(job["statusCode"], 200, "{job}");
    let shown = body(&job);
    assert_eq!((&shown["id"], &shown["status"]), (&json!(job_id().as_str()), &json!("pending")), "{job}");

    let health = api.invoke(event("api-health.json")?).await?;
    assert_eq!(
        (&health["statusCode"], &body(&health)["status"]),
        (&json!(200), &json!("healthy")),
        "{health}"
    );
    assert_eq!(body(&health)["checks"]["queue"], "ok", "{health}");
    assert_eq!(api.starts(), 1);
    cancel_and_finish(system).await
}

/// A function's own kind of event, and those that it must refuse.
struct Trial {
    function: &'static str,
    right: &'static str,
    wrong: &'static [&'static str],
    /// What its error says of an event of another source.
    says: &'static str,
}

const NO_HTTP: &str = "expects a JSON payload from Amazon API Gateway";

/// The sweeper reads nothing of its event: whatever starts it makes it sweep, so only what is no JSON is wrong for it.
const TRIALS: [Trial; 6] = [
    Trial {
        function: "submit",
        right: "submit.json",
        wrong: &["worker.json", "sweeper.json"],
        says: NO_HTTP,
    },
    Trial {
        function: "api",
        right: "api-health.json",
        wrong: &["worker.json", "sweeper.json"],
        says: NO_HTTP,
    },
    Trial {
        function: "worker",
        right: "worker.json",
        wrong: &["submit.json", "sweeper.json"],
        says: "missing field `Records`",
    },
    Trial {
        function: "notifier",
        right: "notifier.json",
        wrong: &["submit.json", "sweeper.json"],
        says: "did not match any variant",
    },
    // A job's message is none of its own: it goes back.
    Trial {
        function: "bulk",
        right: "worker.json",
        wrong: &["submit.json", "sweeper.json"],
        says: "missing field `Records`",
    },
    Trial { function: "sweeper", right: "sweeper.json", wrong: &[], says: "" },
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn a_wrong_event_is_refused_and_the_function_goes_on() -> anyhow::Result<()> {
    let system = stores_alone().await?;
    for trial in TRIALS {
        let function = trial.function;
        let emulator = Emulator::start(&system, function, &[("DARKROOM_SWEEP_SECONDS", "6")]).await?;
        let no_json = emulator.invoke(b"no JSON".to_vec()).await?;
        assert_refused(function, &no_json, "expected ident at line 1 column 2");
        for name in trial.wrong {
            assert_refused(function, &emulator.invoke(event(name)?).await?, trial.says);
        }
        let answer = emulator.invoke(event(trial.right)?).await?;
        assert_eq!(answer["errorType"], Value::Null, "{function}: {answer}");
        assert_eq!(emulator.starts(), 1, "{function}");
    }
    // The right events were submit's and then the worker's.
    assert_drawn(&system).await?;
    system.finish().await?;
    Ok(())
}

/// Such an invocation has failed for Lambda: SQS keeps the messages, API Gateway answers 500.
fn assert_refused(function: &str, answer: &Value, says: &str) {
    let message = answer["errorMessage"].as_str().unwrap_or_default();
    assert!(message.contains("failed to deserialize") && message.contains(says), "{function}: {answer}");
}
