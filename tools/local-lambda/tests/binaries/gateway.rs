//! The HTTP API, in front of a real `lambda_http` binary.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{ACCOUNT, add_probe, call, call_later, example, lambda, until};
use bytes::Bytes;
use darkroom_local_lambda::{
    Function, FunctionSettings, Gateway, GatewaySettings, Lambda, Route, SettingsError,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn is_own(&self, status: u16, message: &str) {
        assert_eq!((self.status.as_u16(), self.json()), (status, json!({ "message": message })));
        assert_eq!(self.header("content-type"), ["application/json"]);
        assert_eq!(self.header("apigw-requestid").len(), 1);
    }
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = client.send_request(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:3000")
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, request("GET", path).body(Full::default()).unwrap()).await
}

/// What a server wrote to exactly these bytes, until it closed the connection.
async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(crate::common::SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

struct Stand {
    lambda: Lambda,
    gateway: Gateway,
    address: SocketAddr,
    probe: Arc<Function>,
}

impl Stand {
    /// `/raw…` shows the event itself, everything else what `lambda_http` made of it.
    async fn start(change: impl FnOnce(&mut FunctionSettings, &mut GatewaySettings)) -> Self {
        let lambda = lambda();
        let mut gateway = GatewaySettings::new(ACCOUNT, Vec::new());
        let probe = add_probe(&lambda, |settings| change(settings, &mut gateway));
        let http = lambda.add(FunctionSettings::new("http", example("local_lambda_http"))).unwrap();
        let http = |key| Route::new(key, Arc::clone(&http)).unwrap();
        let raw = |key| Route::new(key, Arc::clone(&probe)).unwrap();
        gateway.routes = vec![
            http("GET /v1/jobs"),
            http("POST /v1/jobs").authorized(),
            http("GET /v1/jobs/{id}").authorized(),
            http("PATCH /v1/jobs/{id}/metadata"),
            http("ANY /any/{a}/{b}"),
            http("GET /status"),
            http("HEAD /status"),
            raw("POST /raw"),
            raw("GET /raw/{id}").authorized_with(["jobs:read", "jobs:write"]),
        ];
        let gateway = Gateway::start(gateway).await.unwrap();
        let address = gateway.address();
        assert!(address.ip().is_loopback());
        Self { lambda, gateway, address, probe }
    }

    async fn stop(self) {
        self.gateway.shutdown(Duration::from_secs(1)).await;
        self.lambda.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn the_event_has_every_field_of_payload_format_2() {
    let stand = Stand::start(|_, _| {}).await;
    let request = request("GET", "/raw/job%20%C4%B1?status=a%20b+c&status=d&empty=&flag&x=%2C")
        .header("Authorization", "Bearer ada_1")
        .header("User-Agent", "probe/1")
        .header("X-Twice", "one")
        .header("X-Twice", "two")
        .header("Cookie", "a=1; b=2")
        .header("Cookie", "c=3")
        .header("X-Forwarded-For", "10.0.0.1")
        .body(Full::default())
        .unwrap();
    let answer = send(stand.address, request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), ["application/json"]);
    let mut event = answer.json();

    let context = event["requestContext"].as_object_mut().unwrap();
    let time = context.remove("time").unwrap();
    assert!(time.as_str().unwrap().ends_with(" +0000"), "{time}");
    assert!(context.remove("timeEpoch").unwrap().as_u64().unwrap() > 1_700_000_000_000);
    let request_id = context.remove("requestId").unwrap();
    assert_eq!(answer.header("apigw-requestid"), [request_id.as_str().unwrap()]);
    let trace = event["headers"].as_object_mut().unwrap().remove("x-amzn-trace-id").unwrap();
    assert!(trace.as_str().unwrap().starts_with("Root=1-"));
    assert_eq!(
        event,
        json!({
            "version": "2.0",
            "routeKey": "GET /raw/{id}",
            "rawPath": "/raw/job ı",
            "rawQueryString": "status=a%20b+c&status=d&empty=&flag&x=%2C",
            "cookies": ["a=1", "b=2", "c=3"],
            "headers": {
                "authorization": "Bearer ada_1",
                "host": "localhost:3000",
                "user-agent": "probe/1",
                "x-twice": "one,two",
                "x-forwarded-for": "10.0.0.1, 127.0.0.1",
                "x-forwarded-port": stand.address.port().to_string(),
                "x-forwarded-proto": "http",
            },
            "queryStringParameters": { "status": "a b c,d", "empty": "", "flag": "", "x": "," },
            "pathParameters": { "id": "job ı" },
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": "local",
                "authorizer": { "jwt": {
                    "claims": { "sub": "ada_1", "scope": "jobs:read jobs:write" },
                    "scopes": ["jobs:read", "jobs:write"],
                } },
                "domainName": "localhost:3000",
                "domainPrefix": "local",
                "http": {
                    "method": "GET",
                    "path": "/raw/job ı",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1",
                    "userAgent": "probe/1",
                },
                "routeKey": "GET /raw/{id}",
                "stage": "$default",
            },
            "isBase64Encoded": false,
        })
    );
    stand.stop().await;
}

#[tokio::test]
async fn lambda_http_sees_the_request_as_it_was_sent() {
    let stand = Stand::start(|_, _| {}).await;
    let body = r#"{"prompt":"ışık"}"#;
    let request = request("POST", "/v1/jobs?a=1&a=2&b=%26")
        .header("Authorization", "bearer ada")
        .header("Content-Type", "application/json; charset=utf-8")
        .header("Cookie", "c=1")
        .header("Idempotency-Key", "k-1")
        .body(Full::from(body))
        .unwrap();
    let answer = send(stand.address, request).await;
    assert_eq!(answer.status, 200);
    let seen = answer.json();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["uri"], "http://localhost:3000/v1/jobs?a=1&a=2&b=%26");
    assert_eq!(seen["raw_path"], "/v1/jobs");
    assert_eq!(seen["query"], json!([["a", "1"], ["a", "2"], ["b", "&"]]));
    assert_eq!((&seen["body_kind"], &seen["body"]), (&json!("text"), &json!(body)));
    assert_eq!(seen["headers"]["idempotency-key"], "k-1");
    assert_eq!(seen["headers"]["cookie"], "c=1");
    assert_eq!(seen["headers"]["content-length"], body.len().to_string());
    assert_eq!(seen["context"]["authorizer"]["jwt"]["claims"]["sub"], "ada");
    assert_eq!(seen["context"]["stage"], "$default");

    let answer = get(stand.address, "/any/x%20y/z").await;
    assert_eq!(answer.json()["path"], json!({ "a": "x y", "b": "z" }));
    assert_eq!(answer.json()["uri"], "http://localhost:3000/any/x%20y/z");
    assert_eq!(answer.json()["context"].get("authorizer"), None, "the route wants no token");
    stand.stop().await;
}

#[tokio::test]
async fn bodies_are_text_or_base64_and_absent_when_empty() {
    type Case = (&'static [u8], Option<&'static str>, Option<&'static str>, Value, bool);
    let cases: [Case; 8] = [
        (b"{\"a\":1}", Some("application/json"), None, json!("{\"a\":1}"), false),
        (b"{}", Some("application/merge-patch+json"), None, json!("{}"), false),
        (b"hello", Some("text/plain; charset=utf-8"), None, json!("hello"), false),
        (b"\xff\xfe", Some("text/plain"), None, json!("//4="), true),
        (b"a=1", Some("application/x-www-form-urlencoded"), None, json!("YT0x"), true),
        (b"hello", None, None, json!("aGVsbG8="), true),
        (b"zip", Some("application/json"), Some("gzip"), json!("emlw"), true),
        (b"", Some("application/json"), None, Value::Null, false),
    ];
    let stand = Stand::start(|_, _| {}).await;
    for (body, content_type, encoding, expected, base64) in cases {
        let mut request = request("POST", "/raw");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let answer = send(stand.address, request.body(Full::from(body)).unwrap()).await;
        let event = answer.json();
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&expected, &json!(base64)),
            "{content_type:?}"
        );
    }
    stand.stop().await;
}

#[tokio::test]
async fn an_unknown_path_or_method_is_404_and_never_reaches_a_function() {
    let stand = Stand::start(|_, _| {}).await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v2"),
        ("DELETE", "/v1/jobs"),
        ("GET", "/v1/jobs/"),
        ("GET", "/v1/jobs/a/b"),
        ("GET", "/v1/jobs/a/metadata"),
        ("GET", "/V1/jobs"),
        ("GET", "/raw"),
    ] {
        let answer = send(stand.address, request(method, path).body(Full::default()).unwrap()).await;
        answer.is_own(404, "Not Found");
    }
    get(stand.address, "/v1/jobs/%ff").await.is_own(400, "Bad Request");
    assert_eq!(stand.lambda.functions().iter().map(|function| function.stats().invocations).sum::<u64>(), 0);
    stand.stop().await;
}

#[tokio::test]
async fn the_default_route_takes_what_fits_no_other_behind_its_authorizer() {
    let stand = Stand::start(|_, _| {}).await;
    let probe = |key| Route::new(key, Arc::clone(&stand.probe)).unwrap();
    let routes = vec![probe("GET /v1/jobs"), probe("$default").authorized()];
    let gateway = Gateway::start(GatewaySettings::new(ACCOUNT, routes)).await.unwrap();
    for (method, path) in [("GET", "/v1/nothing"), ("DELETE", "/v1/jobs"), ("GET", "/")] {
        let ask = || request(method, path);
        let nobody = send(gateway.address(), ask().body(Full::default()).unwrap()).await;
        nobody.is_own(401, "Unauthorized");
        let caller = ask().header("authorization", "Bearer ada").body(Full::default()).unwrap();
        let event = send(gateway.address(), caller).await.json();
        assert_eq!((&event["routeKey"], &event["rawPath"]), (&json!("$default"), &json!(path)));
        assert_eq!(event["requestContext"]["http"]["method"], method);
    }
    assert_eq!(get(gateway.address(), "/v1/jobs").await.json()["routeKey"], "GET /v1/jobs");
    gateway.shutdown(Duration::from_secs(1)).await;
    stand.stop().await;
}

#[tokio::test]
async fn only_a_sound_bearer_token_becomes_a_caller() {
    let stand = Stand::start(|_, _| {}).await;
    let long = format!("Bearer {}", "x".repeat(65));
    for token in ["", "Bearer", "Bearer ", "Basic ada", "Bearer a b", "Bearer ad.a", "ada", &long] {
        let request =
            request("GET", "/v1/jobs/1").header("authorization", token).body(Full::default()).unwrap();
        let answer = send(stand.address, request).await;
        answer.is_own(401, "Unauthorized");
        assert_eq!(answer.header("www-authenticate"), ["Bearer"], "{token:?}");
    }
    get(stand.address, "/v1/jobs/1").await.is_own(401, "Unauthorized");
    let longest = "x".repeat(64);
    let request = request("GET", "/v1/jobs/1").header("authorization", format!("Bearer {longest}"));
    let answer = send(stand.address, request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.json()["context"]["authorizer"]["jwt"]["claims"], json!({ "sub": longest }));
    assert_eq!(answer.json()["context"]["authorizer"]["jwt"].get("scopes"), None);
    stand.stop().await;
}

#[tokio::test]
async fn an_answers_status_headers_cookies_and_bytes_reach_the_client() {
    let stand = Stand::start(|_, _| {}).await;
    let ask = |method: &str, status: u16| {
        let request = request(method, "/status").header("x-status", status.to_string());
        send(stand.address, request.body(Full::default()).unwrap())
    };
    let answer = ask("GET", 418).await;
    assert_eq!(answer.status, 418);
    assert_eq!(answer.body.as_ref(), [0, 159, 146, 150]);
    assert_eq!(answer.header("set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(answer.header("x-list"), ["one"]);
    assert_eq!(answer.header("content-type"), ["application/octet-stream"]);
    assert_eq!(answer.header("content-length"), ["4"]);
    assert_eq!(answer.header("x-private"), Vec::<&str>::new(), "named by Connection");
    assert!(answer.header("connection").is_empty());

    let answer = ask("HEAD", 200).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), ["4"]);
    for status in [204, 304] {
        let answer = ask("GET", status).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0));
        assert!(answer.header("content-length").is_empty());
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_function_that_fails_is_500_whatever_the_reason() {
    let lambda = lambda();
    let error = add_probe(&lambda, |settings| {
        settings.name = "never-starts".into();
        settings.environment.insert("PROBE_INIT".into(), "exit".into());
    });
    let http = lambda.add(FunctionSettings::new("http", example("local_lambda_http"))).unwrap();
    let routes = vec![Route::new("GET /init", error).unwrap(), Route::new("GET /status", http).unwrap()];
    let gateway = Gateway::start(GatewaySettings::new(ACCOUNT, routes)).await.unwrap();
    get(gateway.address(), "/init").await.is_own(500, "Internal Server Error");
    let no_number = request("GET", "/status").header("x-status", "none").body(Full::default()).unwrap();
    send(gateway.address(), no_number).await.is_own(500, "Internal Server Error");
    gateway.shutdown(Duration::from_secs(1)).await;
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_throttled_or_slow_function_is_503() {
    let stand = Stand::start(|function, gateway| {
        function.reserved_concurrency = 1;
        gateway.integration_timeout = Duration::from_millis(300);
    })
    .await;
    call(&stand.probe, json!({})).await.unwrap();
    let busy = call_later(&stand.probe, json!({ "sleep_ms": 700 }));
    until("it is at work", || stand.probe.stats().invocations == 2).await;
    let start = Instant::now();
    let post = || request("POST", "/raw").body(Full::default()).unwrap();
    send(stand.address, post()).await.is_own(503, "Service Unavailable");
    assert!(start.elapsed() < Duration::from_millis(250), "throttled at once: {:?}", start.elapsed());
    busy.await.unwrap().unwrap();
    assert_eq!(send(stand.address, post()).await.status, 200);
    stand.stop().await;

    let lambda = lambda();
    let slow = add_probe(&lambda, |settings| {
        settings.environment.insert("PROBE_INIT".into(), "1500".into());
    });
    let mut settings =
        GatewaySettings::new(ACCOUNT, vec![Route::new("$default", Arc::clone(&slow)).unwrap()]);
    settings.integration_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(settings).await.unwrap();
    get(gateway.address(), "/anything/at/all").await.is_own(503, "Service Unavailable");
    // The function goes on without its client.
    until("it has finished", || slow.stats().init_durations.len() == 1).await;
    assert_eq!(slow.stats().errors, 0);
    gateway.shutdown(Duration::from_secs(1)).await;
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn bodies_over_the_limits_are_413() {
    let stand = Stand::start(|_, _| {}).await;
    let post = |bytes: usize| request("POST", "/raw").body(Full::from(vec![b'x'; bytes])).unwrap();
    send(stand.address, post(10 * 1024 * 1024 + 1)).await.is_own(413, "Request Entity Too Large");
    // Within API Gateway's limit, over Lambda's: base64 makes 4 bytes of 3.
    send(stand.address, post(5 * 1024 * 1024)).await.is_own(413, "Request Entity Too Large");
    assert_eq!(stand.probe.stats().invocations, 0);
    let unannounced = format!(
        "POST /raw HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)).repeat(11)
    );
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(write.write_all(unannounced.as_bytes()), read.read_to_end(&mut answer));
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
    stand.stop().await;
}

#[tokio::test]
async fn headers_of_the_connection_are_not_passed_on() {
    let stand = Stand::start(|_, _| {}).await;
    let answer = raw(
        stand.address,
        "POST /raw HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n\
         TE: trailers\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let event: Value = serde_json::from_str(body).unwrap();
    let mut names: Vec<_> = event["headers"].as_object().unwrap().keys().map(String::as_str).collect();
    names.retain(|name| !name.starts_with("x-forwarded-"));
    assert_eq!(names, ["content-length", "content-type", "host", "x-amzn-trace-id"]);
    assert_eq!((&event["headers"]["content-length"], &event["body"]), (&json!("5"), &json!("hello")));
    stand.stop().await;
}

/// `lambda_http` panics on these.
const BAD_HOSTS: [&str; 14] = [
    "a b",
    "x:99999",
    "<script>",
    "[::1",
    "[x]",
    "%41",
    "x/y",
    "x:y",
    "1.2.3.999",
    "1.2.3.4.5",
    "0x1g.0xzz",
    "xn--a",
    "a..b",
    "a:b@c",
];

const GOOD_HOSTS: [&str; 7] = [
    "localhost",
    "127.0.0.1:3000",
    "[::1]:3000",
    "api.example.com",
    "API.example.com.:80",
    "my_host",
    "a-1:",
];

#[tokio::test]
async fn a_connection_serves_many_requests_and_a_bad_host_harms_nobody() {
    let stand = Stand::start(|_, _| {}).await;
    let request = "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = raw(stand.address, &format!("{request}{request}{last}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);

    for host in BAD_HOSTS {
        let bad = format!("GET /v1/jobs HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(stand.address, &bad).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    for host in GOOD_HOSTS {
        let good = format!("GET /v1/jobs HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(stand.address, &good).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    let without = raw(stand.address, "GET /v1/jobs HTTP/1.0\r\n\r\n").await;
    assert!(without.contains(" 200 OK"), "{without}");
    let stats = stand.lambda.function("http").unwrap().stats();
    assert_eq!((stats.errors, stats.invocations), (0, 4 + GOOD_HOSTS.len() as u64));
    stand.stop().await;
}

#[tokio::test]
async fn no_character_of_a_path_harms_a_function() {
    let stand = Stand::start(|_, _| {}).await;
    for byte in 0..=127_u8 {
        let answer = get(stand.address, &format!("/any/x%{byte:02x}y/z?q=%{byte:02x}")).await;
        // A slash makes another segment of the path.
        assert_eq!(answer.status, if byte == b'/' { 404 } else { 200 }, "{byte:02x}");
    }
    assert_eq!(stand.lambda.function("http").unwrap().stats().errors, 0);
    stand.stop().await;
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_takes_no_more() {
    let lambda = lambda();
    let slow = add_probe(&lambda, |settings| {
        settings.environment.insert("PROBE_INIT".into(), "500".into());
    });
    let routes = vec![Route::new("$default", Arc::clone(&slow)).unwrap()];
    let gateway = Gateway::start(GatewaySettings::new(ACCOUNT, routes)).await.unwrap();
    let address = gateway.address();
    // An idle kept-alive connection must not hold the shutdown up.
    let idle = TcpStream::connect(address).await.unwrap();
    let under_way = tokio::spawn(async move { get(address, "/").await.status });
    until("it has arrived", || slow.stats().invocations == 1).await;
    let start = Instant::now();
    gateway.shutdown(Duration::from_secs(10)).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(under_way.await.unwrap(), 200);
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
    lambda.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn routes_that_mean_nothing_are_refused() {
    let lambda = lambda();
    let function = add_probe(&lambda, |_| {});
    for key in [
        "",
        "GET",
        "GET v1",
        "get /v1",
        "TRACE /v1",
        "GET /{",
        "GET /a{b}",
        "GET /{a b}",
        "GET /{+}",
        "GET /{a+}/b",
        "GET /a?b",
        "GET  /a",
    ] {
        let refused = Route::new(key, Arc::clone(&function));
        assert!(matches!(refused, Err(SettingsError::Route { .. })), "{key}");
    }
    let twice = ["GET /a/{x}", "GET /a/{y}"].map(|key| Route::new(key, Arc::clone(&function)).unwrap());
    let refused = Gateway::start(GatewaySettings::new(ACCOUNT, twice.to_vec())).await;
    assert!(matches!(refused, Err(SettingsError::Route { .. })));
    let first = Gateway::start(GatewaySettings::new(ACCOUNT, Vec::new())).await.unwrap();
    let taken = GatewaySettings { port: first.address().port(), ..GatewaySettings::new(ACCOUNT, Vec::new()) };
    assert!(matches!(Gateway::start(taken).await, Err(SettingsError::Listen { .. })));
    lambda.shutdown(Duration::from_secs(1)).await;
}
