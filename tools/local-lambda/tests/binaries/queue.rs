//! A queue that speaks just enough of SQS's JSON protocol, and shows and breaks what a real one hides.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Config, Credentials, Region};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) const URL: &str = "http://127.0.0.1/000000000000/jobs";
pub(crate) const ARN: &str = "arn:aws:sqs:eu-central-1:000000000000:jobs";

#[derive(Default)]
pub(crate) struct State {
    sent: usize,
    pub(crate) ready: VecDeque<Value>,
    pub(crate) in_flight: BTreeMap<String, Value>,
    pub(crate) receives: Vec<Value>,
    /// Messages of each deletion.
    pub(crate) deletes: Vec<usize>,
    pub(crate) open_polls: usize,
    pub(crate) failing_receives: usize,
    pub(crate) failing_deletes: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Queue {
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
}

impl Queue {
    /// A queue and a client for it.
    pub(crate) async fn start() -> (Self, Client) {
        let queue = Self::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = queue.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let queue = serving.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(|request| queue.answer(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        (queue, client(&endpoint))
    }

    pub(crate) fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap())
    }

    /// Puts messages in, all at once.
    pub(crate) fn send(&self, bodies: &[&str]) {
        self.state(|state| {
            for body in bodies {
                state.sent += 1;
                state.ready.push_back(json!({
                    "MessageId": format!("message-{}", state.sent),
                    "ReceiptHandle": format!("receipt-{}", state.sent),
                    "MD5OfBody": "5d41402abc4b2a76b9719d911017c592",
                    "Body": body,
                    "Attributes": {
                        "ApproximateReceiveCount": "1",
                        "SentTimestamp": "1795352813771",
                        "SenderId": "AKIALOCAL",
                        "ApproximateFirstReceiveTimestamp": "1795352813772",
                        "MessageGroupId": "u1",
                    },
                }));
            }
        });
        self.arrived.notify_waiters();
    }

    /// Bodies that were received and not deleted, in the order they were sent.
    pub(crate) fn kept(&self) -> Vec<String> {
        self.state(|state| state.in_flight.values().map(|m| m["Body"].as_str().unwrap().to_owned()).collect())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state(|state| state.ready.is_empty() && state.in_flight.is_empty())
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let action = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let answer = match action.as_str() {
            "AmazonSQS.ReceiveMessage" => self.receive(body).await,
            "AmazonSQS.DeleteMessageBatch" => self.delete(&body),
            other => panic!("{other}"),
        };
        let (status, body) = match answer {
            Some(body) => (StatusCode::OK, body),
            None => {
                (StatusCode::INTERNAL_SERVER_ERROR, json!({ "__type": "InternalError", "message": "no" }))
            }
        };
        let response =
            Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
        Ok(response.body(Full::from(body.to_string())).unwrap())
    }

    async fn receive(&self, request: Value) -> Option<Value> {
        struct Open<'a>(&'a Queue);
        impl Drop for Open<'_> {
            fn drop(&mut self) {
                self.0.state(|state| state.open_polls -= 1);
            }
        }
        let wait = Duration::from_secs(request["WaitTimeSeconds"].as_u64().unwrap());
        let most = usize::try_from(request["MaxNumberOfMessages"].as_u64().unwrap()).unwrap();
        let fails = self.state(|state| {
            state.receives.push(request);
            let fails = state.failing_receives > 0;
            state.failing_receives = state.failing_receives.saturating_sub(1);
            state.open_polls += 1;
            fails
        });
        let _open = Open(self);
        if fails {
            return None;
        }
        let until = tokio::time::Instant::now() + wait;
        loop {
            let arrived = self.arrived.notified();
            let messages = self.state(|state| {
                let messages: Vec<Value> = (0..most).map_while(|_| state.ready.pop_front()).collect();
                for message in &messages {
                    state
                        .in_flight
                        .insert(message["ReceiptHandle"].as_str().unwrap().to_owned(), message.clone());
                }
                messages
            });
            if !messages.is_empty() {
                return Some(json!({ "Messages": messages }));
            }
            if tokio::time::timeout_at(until, arrived).await.is_err() {
                return Some(json!({}));
            }
        }
    }

    fn delete(&self, request: &Value) -> Option<Value> {
        self.state(|state| {
            if state.failing_deletes {
                return None;
            }
            let entries = request["Entries"].as_array().unwrap();
            state.deletes.push(entries.len());
            let deleted = |entry: &Value| {
                let message = state.in_flight.remove(entry["ReceiptHandle"].as_str().unwrap());
                message.map(|_| json!({ "Id": entry["Id"] }))
            };
            let successful: Vec<Value> = entries.iter().map(deleted).map(Option::unwrap).collect();
            Some(json!({ "Successful": successful, "Failed": [] }))
        })
    }
}

/// A client as the functions have it, without retries.
pub(crate) fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("AKIALOCAL", "not-a-secret", None, None, "test"))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}
