//! `infra/template.yaml`, deployed by `sam deploy` on an AWS that is not ours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use darkroom_aws::clients::Clients;
use darkroom_core::id::{IdempotencyKey, JobId, UserId};
use darkroom_tests::jobs::{submit_with_deadline, submit_without_message};
use darkroom_tests::keys;
use darkroom_tests::stack::{App, PATIENCE, plain_client};
use darkroom_tests::stand_in_gemini::{Settings, StandIn};
use darkroom_tests::stores;
use serde_json::{Value, json};

use crate::ministack::{ENVIRONMENT, Ministack, Policies, script};
use crate::process::{Server, free_port, tool};

const AUDIENCE: &str = "darkroom-test";
/// The template's default.
const SCOPE: &str = "darkroom/jobs";

/// An identity provider, and what it gives to callers.
struct Issuer {
    url: String,
    tokens: BTreeMap<String, String>,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Issuer {
    async fn start() -> anyhow::Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let arguments = [
            script("issuer.py").display().to_string(),
            port.to_string(),
            AUDIENCE.to_owned(),
            SCOPE.to_owned(),
        ];
        let python = tool(ENVIRONMENT, "bin/python")?;
        let server = Server::start(&python, &arguments, [], folder.path(), port).await?;
        let url = format!("http://127.0.0.1:{port}");
        let tokens = plain_client()?.get(format!("{url}/tokens")).send().await?.json().await?;
        Ok(Self { url, tokens, _server: server, _folder: folder })
    }
}

/// The stack and an app of it.
struct Deployed {
    aws: Ministack,
    app: App,
    issuer: Issuer,
    gemini: StandIn,
}

impl Deployed {
    async fn start(policies: Policies) -> anyhow::Result<Self> {
        let gemini = StandIn::start(Settings::default())?;
        let (issuer, aws) = (Issuer::start().await?, Ministack::start(policies).await?);
        let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        aws.deploy(&[
            ("JwtIssuer", &issuer.url),
            ("JwtAudience", AUDIENCE),
            ("Architecture", processor),
            ("DeletionProtection", "false"),
            ("GeminiBaseUrl", &gemini.base_url()),
        ])
        .await?;
        let app = App::new(&aws.complete().await?)?;
        Ok(Self { aws, app, issuer, gemini })
    }

    /// A token that the authorizer takes.
    fn alice(&self) -> &str {
        &self.issuer.tokens["valid"]
    }

    fn sqs(&self) -> anyhow::Result<aws_sdk_sqs::Client> {
        Ok(Clients::new(&self.aws.access()?).sqs)
    }
}

/// The template as it stands.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn the_template_works_as_sam_deploys_it() -> anyhow::Result<()> {
    everything_works(&Deployed::start(Policies::Ignored).await?).await
}

/// Each function signs with its role's credentials, and the emulator's own evaluation lets each request through, or not.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python tools that .ci/run installs"]
async fn the_roles_allow_what_the_functions_do() -> anyhow::Result<()> {
    let system = Deployed::start(Policies::Evaluated).await?;
    let unknown = stores::clients(system.aws.access()?.endpoints);
    let refused = unknown.sqs.list_queues().send().await;
    assert_eq!(
        refused.unwrap_err().code(),
        Some("InvalidClientTokenId"),
        "nobody comes in without credentials"
    );
    let outcome = everything_works(&system).await;
    // What a function can do without, it logs and goes on without.
    let log = system.aws.log();
    let denied: Vec<_> = log.lines().filter(|line| line.contains("is not authorized to perform")).collect();
    assert_eq!(denied, [""; 0]);
    outcome
}

/// One deployment for all: it is the dear part, and the rule's minute runs beside the rest.
async fn everything_works(system: &Deployed) -> anyhow::Result<()> {
    assert!(system.aws.darkroom(&["models", "seed"]).await?.contains("darkroom-local"));
    system.aws.darkroom(&["tokens", "grant", "alice", "10"]).await?;
    // What a crash between submit's two calls leaves: nobody but a sweeper that the rule starts will send its message.
    let stores = system.aws.stores()?;
    let unsent = submit_without_message(&stores, "alice", "unsent", Duration::ZERO).await?;
    let (wake, deadline) = (Duration::from_secs(600), Duration::from_secs(1));
    let overdue = submit_with_deadline(&stores, "alice", "overdue", wake, deadline).await?;

    // A job is due, and no sweep has been yet.
    health_is(system, (503, "degraded")).await?;
    callers_are_those_of_the_issuer(system).await?;
    a_prompt_becomes_a_picture(system).await?;
    a_waiting_job_is_cancelled(system).await?;
    what_is_alices_is_listed(system).await?;
    a_key_sealed_under_kms_draws(system).await?;
    a_message_that_is_none_of_ours_ends_in_the_dead_letter_queue(system).await?;

    for (id, status, settled) in [(unsent, "draft", "captured"), (overdue, "failed", "refunded")] {
        let job = system.app.settled(system.alice(), &id).await?;
        assert_eq!((&job["status"], &job["settled"]), (&json!(status), &json!(settled)), "{job}");
    }
    what_is_over_is_published_tried_again_and_deleted(system).await?;
    health_is(system, (200, "healthy")).await?;
    let audit: Value = serde_json::from_str(&system.aws.darkroom(&["tokens", "audit", "--json"]).await?)?;
    assert_eq!(
        (&audit["jobs"], &audit["deleted"], &audit["settled"], &audit["faults"]),
        (&json!(5), &json!(1), &json!(6), &json!([])),
        "{audit}"
    );
    Ok(())
}

/// Asks without a token, until the answer is this: one is kept for a moment.
async fn health_is(system: &Deployed, wanted: (u16, &str)) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let answer = system.app.send("GET", "/health", &[], None).await?;
        if (answer.status, answer.text("status")) == wanted {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "never {wanted:?}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Issuer, audience and scope of the template's parameters arrive at the routes; health alone is open.
async fn callers_are_those_of_the_issuer(system: &Deployed) -> anyhow::Result<()> {
    for (token, status) in [
        ("valid", 200),
        ("other_audience", 401),
        ("other_issuer", 401),
        ("other_key", 401),
        ("expired", 401),
        ("other_scope", 403),
    ] {
        let answer = system.app.get(&system.issuer.tokens[token], "/v1/account").await?;
        assert_eq!(answer.status, status, "{token}: {}", answer.body);
    }
    for path in ["/v1/account", "/v1/jobs", "/nowhere"] {
        let answer = system.app.send("GET", path, &[], None).await?;
        assert_eq!(answer.status, 401, "{path}: {}", answer.body);
    }
    let nowhere = system.app.get(system.alice(), "/nowhere").await?;
    assert_eq!(
        (nowhere.status, nowhere.text("code")),
        (404, "not_found"),
        "$default is ours: {}",
        nowhere.body
    );
    Ok(())
}

async fn a_prompt_becomes_a_picture(system: &Deployed) -> anyhow::Result<()> {
    // So long that it is kept beside the record.
    let prompt = "a lighthouse at dusk, ".repeat(40);
    let body = json!({"prompt": prompt, "aspect_ratio": "16:9"});
    let accepted = system.app.submit(system.alice(), "k1", &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let job = system.app.settled(system.alice(), accepted.text("id")).await?;
    assert_eq!(
        (&job["status"], &job["settled"], &job["attempts"]),
        (&json!("draft"), &json!("captured"), &json!(1))
    );
    assert_eq!(job["prompt"], prompt);
    let picture = system.app.download(job["image_url"].as_str().unwrap()).await?;
    let reader = png::Decoder::new(std::io::Cursor::new(&picture)).read_info()?;
    assert_eq!(u64::from(reader.info().width), job["image"]["width"].as_u64().unwrap());
    let again = system.app.submit(system.alice(), "k1", &body).await?;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"));
    Ok(())
}

async fn a_waiting_job_is_cancelled(system: &Deployed) -> anyhow::Result<()> {
    let stores = system.aws.stores()?;
    let id = submit_without_message(&stores, "alice", "unwanted", Duration::from_secs(600)).await?;
    // The first metadata are made beside a record that is there, others are changed.
    for patch in [json!({"a": {"b": 1}}), json!({"a": {"b": null, "c": 2}})] {
        let patched = system.app.patch(system.alice(), &id, &patch).await?;
        assert_eq!(patched.status, 200, "{}", patched.body);
    }
    let cancelled = system.app.post(system.alice(), &format!("/v1/jobs/{id}/cancel")).await?;
    assert_eq!(cancelled.body["metadata"], json!({"a": {"c": 2}}));
    assert_eq!((cancelled.status, cancelled.text("settled")), (200, "refunded"), "{}", cancelled.body);
    Ok(())
}

/// The job whose prompt is kept beside its record, and the one that was cancelled.
async fn what_is_over_is_published_tried_again_and_deleted(system: &Deployed) -> anyhow::Result<()> {
    let alice = UserId::parse("alice")?;
    let path =
        |key: &str| anyhow::Ok(format!("/v1/jobs/{}", JobId::derive(&alice, &IdempotencyKey::parse(key)?)));
    let (drawn, cancelled) = (path("k1")?, path("unwanted")?);
    let link = system.app.get(system.alice(), &drawn).await?.text("image_url").to_owned();
    for (change, status) in [("publish", "published"), ("unpublish", "draft")] {
        let answer = system.app.post(system.alice(), &format!("{drawn}/{change}")).await?;
        assert_eq!((answer.status, answer.text("status")), (200, status), "{}", answer.body);
    }
    let retry = system.app.post(system.alice(), &format!("{cancelled}/retry")).await?;
    assert_eq!(retry.status, 202, "{}", retry.body);
    let retried = system.app.settled(system.alice(), retry.text("id")).await?;
    assert_eq!(retried["status"], "draft", "{retried}");
    let deleted = system.app.delete(system.alice(), &drawn).await?;
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    assert_eq!(system.app.get(system.alice(), &drawn).await?.status, 404);
    assert!(system.app.download(&link).await.is_err(), "the picture is gone");
    let drafts = system.app.get(system.alice(), "/v1/jobs?status=draft").await?;
    assert_eq!(drafts.status, 200, "{}", drafts.body);
    Ok(())
}

/// Every route that only reads.
async fn what_is_alices_is_listed(system: &Deployed) -> anyhow::Result<()> {
    for (path, list, least) in
        [("/v1/jobs", "jobs", 4), ("/v1/account/entries", "entries", 3), ("/v1/models", "models", 7)]
    {
        let answer = system.app.get(system.alice(), path).await?;
        let listed = answer.body[list].as_array().map_or(0, Vec::len);
        assert!(answer.status == 200 && listed >= least, "{path}: {}", answer.body);
    }
    let account = system.app.get(system.alice(), "/v1/account").await?;
    assert_eq!(
        (&account.body["granted"], &account.body["spent"]),
        (&json!(10), &json!(1)),
        "{}",
        account.body
    );
    Ok(())
}

/// The operator seals with a data key of the template's KMS key, the worker has it opened.
async fn a_key_sealed_under_kms_draws(system: &Deployed) -> anyhow::Result<()> {
    const SECRET: &str = "AIza-second-aws";
    system.gemini.add_key(SECRET, "one");
    keys::add(&system.aws.stores()?, SECRET, "one", 1_000).await?;
    let body = json!({"prompt": "a windmill", "model": keys::MODEL});
    let accepted = system.app.submit(system.alice(), "k2", &body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let job = system.app.settled(system.alice(), accepted.text("id")).await?;
    assert_eq!((&job["status"], &job["provider_calls"]), (&json!("draft"), &json!(1)), "{job}");
    assert_eq!(system.gemini.drawn_count(), 1);
    Ok(())
}

/// After as many receives as the template says. The visibility time-out between them is shortened, from the template's 23
/// minutes.
async fn a_message_that_is_none_of_ours_ends_in_the_dead_letter_queue(
    system: &Deployed,
) -> anyhow::Result<()> {
    const BODY: &str = "no message of ours";
    let (sqs, stack) = (system.sqs()?, system.aws.stack()?);
    let source = stack.queues.iter().find(|queue| queue.name.ends_with("-jobs")).context("no job queue")?;
    let redrive = source.redrive.as_ref().unwrap();
    let dead = stack.queue(&redrive.dead_letter_queue).context("no dead-letter queue")?;
    let set = sqs.set_queue_attributes().queue_url(&source.url);
    set.attributes(QueueAttributeName::VisibilityTimeout, "1").send().await?;
    sqs.send_message().queue_url(&source.url).message_body(BODY).send().await?;
    let message = receive(&sqs, &dead.url).await?;
    assert_eq!(message.body(), Some(BODY));
    let from = &message.attributes().unwrap()[&MessageSystemAttributeName::DeadLetterQueueSourceArn];
    assert_eq!(from, &source.arn);
    let refusals = system.aws.log().matches("no message of ours: it goes to the dead-letter queue").count();
    assert_eq!(
        refusals, redrive.receives_max as usize,
        "the worker was given it as often as the template says"
    );
    Ok(())
}

async fn receive(sqs: &aws_sdk_sqs::Client, queue_url: &str) -> anyhow::Result<Message> {
    let started = Instant::now();
    loop {
        let ask = sqs.receive_message().queue_url(queue_url).wait_time_seconds(1);
        let received = ask.message_system_attribute_names(MessageSystemAttributeName::All).send().await?;
        if let Some(message) = received.messages().first() {
            return Ok(message.clone());
        }
        ensure!(started.elapsed() < PATIENCE, "nothing arrives at {queue_url}");
    }
}
