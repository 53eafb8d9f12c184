//! The functions' handlers over tables in memory, and what they asked of the stores.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use axum::Router;
use axum::body::Body;
use darkroom::catalogue;
use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::config::{Environment, Tables};
use darkroom_aws::{KeyTable, LedgerTable, now};
use darkroom_core::id::UserId;
use darkroom_core::limits::WORKER_TIMEOUT;
use darkroom_local_aws::Engine;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use lambda_http::request::RequestContext;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use worker::Worker;

use crate::stores::stack;

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
    asked: Arc<Mutex<Vec<Asked>>>,
    requests: u64,
    /// The id of Bob's job.
    pub(super) bobs_job: String,
}

/// A call to a store.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) operation: String,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn is_write(&self) -> bool {
        !["GetItem", "BatchGetItem", "Query", "Scan"].contains(&self.operation.as_str())
    }
}

/// What a caller gets.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) json: Value,
    /// What the function asked of the stores for it.
    pub(super) asked: Vec<Asked>,
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
        let stack = stack("hostile", "http://sqs.hostile")?;
        let engine = Engine::in_memory()?;
        for table in &stack.tables {
            engine.ensure_table(table.create_table.clone(), table.ttl_attribute.as_deref())?;
        }
        let settings: BTreeMap<_, _> =
            stack.functions.into_iter().map(|function| (function.binary, function.environment)).collect();
        let of = |function: &'static str| {
            let own = settings.get(function).cloned().unwrap_or_default();
            Environment::from_fn(move |name| match name {
                // None of the jobs is ever drawn.
                "DARKROOM_INFLIGHT_MAX" => Some("1000000".to_owned()),
                name => own.get(name).cloned(),
            })
        };
        let (clients, asked) = clients(engine);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tables = Tables::read(&of("worker"))?;
        let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
        let keys = KeyTable::new(clients.dynamodb.clone(), tables.keys);
        runtime.block_on(async {
            catalogue::seed(&keys, &catalogue::built_in()?).await?;
            for (user, grant) in [(ALICE, "a"), (BOB, "b"), (CAROL, "c"), (CAROL, "d"), (CAROL, "e")] {
                ledger.grant(&UserId::parse(user)?, 1_000_000_000, grant, now()).await?;
            }
            anyhow::Ok(())
        })?;
        let mut functions = Self {
            submit: submit::router(submit::start(&of("submit"), clients.clone())?),
            api: api::router(api::start(&of("api"), clients.clone())?),
            worker: Arc::new(worker::start(&of("worker"), clients)?),
            runtime,
            asked,
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

    /// `GET` of a path with its query; `None` when no HTTP client could send it.
    pub(super) fn get(&mut self, user: &str, path: &str) -> Option<Answer> {
        let request = Request::get(path).body(Body::empty()).ok()?;
        Some(self.ask(self.api.clone(), user, request))
    }

    fn ask(&mut self, router: Router, user: &str, mut request: Request<Body>) -> Answer {
        self.requests += 1;
        let context = serde_json::from_value(json!({
            "authorizer": {"jwt": {"claims": {"sub": user}, "scopes": null}},
            "http": {"method": "POST"},
            "timeEpoch": 0,
        }));
        let context = context.expect("a context");
        request.extensions_mut().insert(RequestContext::ApiGatewayV2(context));
        drop(self.take_asked());
        let (head, body) = self.runtime.block_on(async {
            let (head, body) =
                router.oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
            (head, body.collect().await.expect("a body in memory").to_bytes())
        });
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Answer { status: head.status.as_u16(), headers: head.headers, text, json, asked: self.take_asked() }
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

    fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The SDK's HTTP client: tables in memory, a queue that takes everything, and a note of each call.
#[derive(Clone)]
struct Wire {
    engine: Engine,
    asked: Arc<Mutex<Vec<Asked>>>,
}

fn clients(engine: Engine) -> (Clients, Arc<Mutex<Vec<Asked>>>) {
    let asked = Arc::<Mutex<Vec<Asked>>>::default();
    let at = |service: &str| Some(format!("http://{service}.hostile"));
    let access = Access {
        region: "us-east-1".to_owned(),
        credentials: darkroom::connect::local_credentials(),
        endpoints: Endpoints { dynamodb: at("dynamodb"), kms: at("kms"), s3: at("s3"), sqs: at("sqs") },
    };
    let wire = Wire { engine, asked: Arc::clone(&asked) };
    (Clients::over(SharedHttpClient::new(wire), &access), asked)
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.answer(&request))
    }
}

impl Wire {
    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let asked =
            Asked { operation: operation.to_owned(), body: serde_json::from_slice(body).unwrap_or_default() };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        let (status, answer) = match operation {
            "SendMessage" => (200, json!({"MessageId": "m"}).to_string()),
            operation => self.engine.answer(operation, body),
        };
        let status = StatusCode::try_from(status).map_err(|error| ConnectorError::user(Box::new(error)))?;
        let mut response = HttpResponse::new(status, SdkBody::from(answer));
        // The worker asks until it knows the store's clock.
        response.headers_mut().insert("date", httpdate::fmt_http_date(SystemTime::now()));
        Ok(response)
    }
}
