//! A gateway that does not take everything.

use std::sync::Arc;

use darkroom_aws::clients::Clients;
use darkroom_aws::config::Environment;
use darkroom_tests::interposer::{Canned, Interposer};
use darkroom_tests::stores::stack as template;
use lambda_runtime::{Context, LambdaEvent};
use notifier::Event;

use super::*;

/// What the SDK tries a call at most.
const TRIES: usize = 2;

/// A notifier of this system, whose gateway is behind an interposer.
async fn behind(stack: &TestStack) -> anyhow::Result<(Arc<notifier::Notifier>, Interposer)> {
    let (scheme, rest) = stack.system.websocket_url().split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    assert_eq!(scheme, "ws");
    let interposer = Interposer::before(&format!("http://{authority}")).await?;
    let url = format!("{}/{path}", interposer.url().replace("http://", "ws://"));
    let running = stack.system.running();
    let of_template = template("darkroom-local", &running.sqs_url)?;
    let function = of_template.functions.iter().find(|function| function.binary == "notifier").unwrap();
    let environment = Environment::from_fn(|name| match name {
        "DARKROOM_WEBSOCKET_URL" => Some(url.clone()),
        // The local system sets it.
        "DARKROOM_KMS_KEY" => Some(running.kms_key.clone()),
        name => function.environment.get(name).cloned(),
    });
    let notifier = notifier::start(&environment, Clients::new(&running.access()))?;
    Ok((Arc::new(notifier), interposer))
}

/// What a connection says, to this notifier.
async fn say(notifier: &Arc<notifier::Notifier>, connection: &Connection, text: Value) -> anyhow::Result<()> {
    let event = json!({
        "requestContext": {"eventType": "MESSAGE", "connectionId": connection.id},
        "body": text.to_string(),
    });
    let event: LambdaEvent<Event> = LambdaEvent::new(serde_json::from_value(event)?, Context::default());
    let answer = notifier::handle(Arc::clone(notifier), event.payload).await;
    assert_eq!(answer.unwrap(), json!({"statusCode": 200}));
    Ok(())
}

/// `synced` says that what was not told is not there any more: it does not come when a job's message did not come through, not
/// even when the connection cannot be ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_did_not_come_through_whole_does_not_say_that_it_has() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let mut ids = Vec::new();
    for key in ["1", "2", "3"] {
        let id = submit(&stack, "alice", key, json!({"prompt": key})).await?;
        stack.app.settled("alice", &id).await?;
        ids.push(id);
    }
    let (notifier, gateway) = behind(&stack).await?;
    let sync = json!({"type": "sync", "jobs": ids});
    for ends in [true, false] {
        let mut alice = Watcher::connect(&stack.app, "alice").await?;
        let connection = connections(&stack, "alice").await.pop().unwrap();
        gateway.answer("PostToConnection", TRIES, &Canned::limit_exceeded());
        if !ends {
            // Its message's, and the whole sync's.
            gateway.answer("DeleteConnection", 2 * TRIES, &Canned::limit_exceeded());
        }
        say(&notifier, &connection, sync.clone()).await?;
        let until = Instant::now() + Duration::from_secs(2);
        while let Some(message) = alice.next_until(until).await? {
            assert_eq!(message["type"], "job.updated", "said to be whole: {message}");
        }
        assert!(alice.jobs.len() < ids.len());
        assert_eq!(alice.closed.is_some(), ends);
        assert_eq!(connections(&stack, "alice").await.len(), 0, "it is known no more");
    }
    // The same where all comes through.
    let mut alice = Watcher::connect(&stack.app, "alice").await?;
    let connection = connections(&stack, "alice").await.pop().unwrap();
    say(&notifier, &connection, sync).await?;
    assert_eq!(alice.until("synced").await?["complete"], true);
    assert_eq!((alice.jobs.len(), alice.closed), (ids.len(), None));
    stack.finish().await?;
    Ok(())
}
