//! The functions' routers, without processes and gateway: over stores that are nowhere, or that refuse everything.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::{Router, routing};
use darkroom_aws::clients::Endpoints;
use darkroom_aws::config::Environment;
use darkroom_tests::caller::context_of;
use darkroom_tests::openapi::Operation;
use darkroom_tests::stack::Answer;
use darkroom_tests::stores::{clients, stack};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A method that no path has: what is answered lists those that it has.
const NO_METHOD: &str = "PROPFIND";

/// The router of each function that answers HTTP.
pub(super) struct Routers {
    routers: Vec<Router>,
    /// The number of each route's function.
    functions: BTreeMap<String, usize>,
}

impl Routers {
    /// Over stores that nobody asks.
    pub(super) fn nowhere() -> Self {
        Self::over("http://127.0.0.1:9")
    }

    /// Over stores that all listen at this URL.
    fn over(stores: &str) -> Self {
        let stores = Some(stores.to_owned());
        let endpoints =
            Endpoints { dynamodb: stores.clone(), kms: stores.clone(), s3: stores.clone(), sqs: stores };
        let functions = stack("contract", "http://127.0.0.1").unwrap().functions;
        let clients = clients(endpoints);
        let (mut routers, mut numbers) = (Vec::new(), BTreeMap::new());
        for function in functions.iter().filter(|function| !function.routes.is_empty()) {
            let environment = Environment::from_fn(|name| function.environment.get(name).cloned());
            let clients = clients.clone();
            let router = match function.binary.as_str() {
                "submit" => submit::router(submit::start(&environment, clients).unwrap()),
                "api" => api::router(api::start(&environment, clients).unwrap()),
                other => panic!("{other} has routes and no router here"),
            };
            numbers.extend(function.routes.iter().map(|route| (route.key.clone(), routers.len())));
            routers.push(router);
        }
        Self { routers, functions: numbers }
    }

    /// Every route that they have. A path is read off what a router shows of itself, its methods off what it answers to another.
    pub(super) async fn routes(&self) -> BTreeSet<String> {
        let mut routes = BTreeSet::new();
        for router in &self.routers {
            let shown = format!("{router:?}");
            let paths: BTreeSet<_> = shown.split('"').filter(|text| text.starts_with('/')).collect();
            assert!(!paths.is_empty(), "a router no longer shows its paths: {shown}");
            for path in paths {
                let request = Request::builder().method(NO_METHOD).uri(path.replace(['{', '}'], ""));
                let answer = ask(router.clone(), request.body(Body::empty()).unwrap()).await;
                // That of its fallback, which shows as one.
                if answer.status == 404 {
                    continue;
                }
                assert_eq!(answer.status, 405, "{path}: {answer:?}");
                let methods = answer.header("allow").split(',').filter(|method| *method != "HEAD");
                routes.extend(methods.map(|method| format!("{method} {path}")));
            }
        }
        routes
    }

    /// Asks as an operation's examples have it, as this user or as nobody.
    pub(super) async fn ask(&self, operation: &Operation<'_>, user: Option<&str>) -> Answer {
        let (path, headers, body) = operation.example();
        let mut request = Request::builder().method(operation.method.as_str()).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request =
            request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap();
        if let Some(user) = user {
            request.extensions_mut().insert(context_of(user).unwrap());
        }
        ask(self.routers[self.functions[&operation.route]].clone(), request).await
    }
}

async fn ask(router: Router, request: Request<Body>) -> Answer {
    let (head, body) = router.oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() },
    }
}

/// Stores that answer every call with this error.
pub(super) struct Refusing {
    pub(super) routers: Routers,
    serving: tokio::task::JoinHandle<()>,
}

impl Refusing {
    pub(super) async fn with(error: &'static str) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let routers = Routers::over(&format!("http://{}", listener.local_addr()?));
        let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{error}"), "message": error});
        let refuse = move || std::future::ready((StatusCode::BAD_REQUEST, body.to_string()));
        let server = Router::new().fallback(routing::any(refuse));
        let serving = tokio::spawn(async move { axum::serve(listener, server).await.unwrap() });
        Ok(Self { routers, serving })
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
