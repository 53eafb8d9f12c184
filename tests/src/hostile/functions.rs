//! The functions' handlers over tables in memory, and what they asked of the stores.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use darkroom::catalogue;
use darkroom_aws::config::Environment;
use darkroom_aws::now;
use darkroom_core::id::UserId;
use darkroom_core::limits::WORKER_TIMEOUT;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use worker::Worker;

use crate::caller::context_of;
use crate::sim::{Call, Writes, simulated};

/// Who sends what is hostile.
pub(super) const ALICE: &str = "alice";
/// Has three jobs and three entries.
pub(super) const CAROL: &str = "carol";
/// Has a job that nobody else may see.
pub(super) const BOB: &str = "bob";

/// Tables with more requests behind them are made anew, so that a run of days does not fill the memory.
const REQUESTS_MAX: u64 = 20_000;

/// One thread's functions.
pub(super) struct Functions {
    runtime: Runtime,
    submit: Router,
    api: Router,
    worker: Arc<Worker>,
    tables: Writes,
    requests: u64,
    /// The id of Bob's job.
    pub(super) bobs_job: String,
}

/// What a caller gets.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) json: Value,
    /// What the function asked of the stores for it.
    pub(super) asked: Vec<Call>,
}

thread_local! {
    static FUNCTIONS: RefCell<Option<Functions>> = const { RefCell::new(None) };
}

/// Does something with this thread's functions.
pub(super) fn with<T>(work: impl FnOnce(&mut Functions) -> T) -> T {
    FUNCTIONS.with_borrow_mut(|functions| {
        if functions.as_ref().is_some_and(|functions| functions.requests > REQUESTS_MAX) {
            *functions = None;
        }
        work(functions.get_or_insert_with(|| Functions::start().expect("the functions start")))
    })
}

impl Functions {
    fn start() -> anyhow::Result<Self> {
        let (stack, tables) = (simulated()?, Writes::new(None)?);
        let settings: BTreeMap<_, _> =
            stack.functions.iter().map(|function| (&function.binary[..], &function.environment)).collect();
        let of = |function: &'static str| {
            let own = settings.get(function).copied();
            Environment::from_fn(move |name| match name {
                // None of the jobs is ever drawn.
                "DARKROOM_INFLIGHT_MAX" => Some("1000000".to_owned()),
                name => own?.get(name).cloned(),
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            catalogue::seed(&tables.keys, &catalogue::built_in()?).await?;
            for (user, grant) in [(ALICE, "a"), (BOB, "b"), (CAROL, "c"), (CAROL, "d"), (CAROL, "e")] {
                tables.ledger.grant(&UserId::parse(user)?, 1_000_000_000, grant, now()).await?;
            }
            anyhow::Ok(())
        })?;
        let mut functions = Self {
            submit: submit::router(submit::start(&of("submit"), tables.clients.clone())?),
            api: api::router(api::start(&of("api"), tables.clients.clone())?),
            worker: Arc::new(worker::start(&of("worker"), tables.clients.clone())?),
            runtime,
            tables,
            requests: 0,
            bobs_job: String::new(),
        };
        for (user, key) in [(BOB, "k"), (CAROL, "k1"), (CAROL, "k2"), (CAROL, "k3")] {
            let answer = functions.submit(user, key, br#"{"prompt": "x", "model": "darkroom-local"}"#);
            anyhow::ensure!(answer.status == 202, "{}", answer.text);
            if user == BOB {
                answer.json["id"].as_str().unwrap_or_default().clone_into(&mut functions.bobs_job);
            }
        }
        Ok(functions)
    }

    /// A key that no submission had.
    pub(super) fn fresh_key(&self) -> String {
        format!("hostile {}", self.requests)
    }

    /// `POST /v1/jobs`
    pub(super) fn submit(&mut self, user: &str, key: &str, body: &[u8]) -> Answer {
        let request = Request::post("/v1/jobs")
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Body::from(body.to_vec()));
        self.ask(self.submit.clone(), user, request.expect("a request"))
    }

    /// `PATCH /v1/jobs/{id}/metadata`
    pub(super) fn patch(&mut self, user: &str, id: &str, body: &[u8]) -> Answer {
        let request = Request::patch(format!("/v1/jobs/{id}/metadata"))
            .header("content-type", "application/merge-patch+json")
            .body(Body::from(body.to_vec()));
        self.ask(self.api.clone(), user, request.expect("a request"))
    }

    /// `POST /v1/uploads`
    pub(super) fn begin_upload(&mut self, user: &str, body: &[u8]) -> Answer {
        let request = Request::post("/v1/uploads")
            .header("content-type", "application/json")
            .body(Body::from(body.to_vec()));
        self.ask(self.api.clone(), user, request.expect("a request"))
    }

    /// `GET` of a path with its query; `None` when no HTTP client could send it.
    pub(super) fn get(&mut self, user: &str, path: &str) -> Option<Answer> {
        let request = Request::get(path).body(Body::empty()).ok()?;
        Some(self.ask(self.api.clone(), user, request))
    }

    fn ask(&mut self, router: Router, user: &str, mut request: Request<Body>) -> Answer {
        self.requests += 1;
        request.extensions_mut().insert(context_of(user).expect("a context"));
        drop(self.tables.note_calls());
        let (head, body) = self.runtime.block_on(async {
            let (head, body) =
                router.oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
            (head, body.collect().await.expect("a body in memory").to_bytes())
        });
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text,
            json,
            asked: self.tables.note_calls(),
        }
    }

    /// Gives the worker one message; whether SQS keeps it.
    pub(super) fn deliver(&mut self, body: &str) -> bool {
        self.requests += 1;
        let event = serde_json::from_value(json!({"Records": [{"messageId": "m", "body": body}]}));
        let mut context = Context::default();
        context.deadline = now().plus(WORKER_TIMEOUT).as_millis();
        let event = LambdaEvent::new(event.expect("an event"), context);
        let handled = self.runtime.block_on(worker::handle(Arc::clone(&self.worker), event));
        let answer = serde_json::to_value(handled.expect("an answer")).expect("JSON");
        let kept = &answer["batchItemFailures"];
        assert!(*kept == json!([]) || *kept == json!([{"itemIdentifier": "m"}]), "{answer}");
        *kept != json!([])
    }
}
