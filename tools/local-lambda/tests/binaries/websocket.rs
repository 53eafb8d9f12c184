//! The WebSocket API: handshakes, events, `@connections`, limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::{ACCOUNT, SOON, add_probe, lambda, until};
use darkroom_local_lambda::{Gateway, GatewaySettings, Lambda, WebSocketSettings};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

type Client = WebSocketStream<TcpStream>;

struct Stand {
    lambda: Lambda,
    gateway: Gateway,
    address: SocketAddr,
    seen: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stand {
    async fn start(change: impl FnOnce(&mut WebSocketSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let lambda = lambda();
        let function = add_probe(&lambda, |function| {
            function.environment.insert("PROBE_SEEN".into(), seen.to_str().unwrap().into());
            function.reserved_concurrency = 2;
        });
        let mut websocket = WebSocketSettings::new("ws", function, "AKIALOCAL");
        change(&mut websocket);
        let settings =
            GatewaySettings { websocket: Some(websocket), ..GatewaySettings::new(ACCOUNT, Vec::new()) };
        let gateway = Gateway::start(settings).await.unwrap();
        let address = gateway.address();
        Self { lambda, gateway, address, seen, _folder: folder }
    }

    /// Connects with this query; the status when it is refused.
    async fn connect(&self, query: &str) -> Result<Client, u16> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/ws{query}", self.address);
        match tokio_tungstenite::client_async(url, stream).await {
            Ok((client, _)) => Ok(client),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seen).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn of_type(&self, event_type: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["requestContext"]["eventType"] == event_type).collect()
    }

    fn connection_id(&self) -> String {
        self.of_type("CONNECT").last().unwrap()["requestContext"]["connectionId"].as_str().unwrap().to_owned()
    }

    /// A request to `@connections`: the status, and what stands before the body.
    async fn manage(&self, method: &str, id: &str, authorization: &str, body: &str) -> (u16, String) {
        let id = id.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F");
        let request = format!(
            "{method} /ws/@connections/{id} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    async fn stop(self) {
        self.gateway.shutdown(Duration::from_secs(1)).await;
        self.lambda.shutdown(Duration::from_secs(1)).await;
    }
}

const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 Credential=AKIALOCAL/20261130/x, Signature=y\r\n";

async fn next(client: &mut Client) -> Option<Message> {
    tokio::time::timeout(SOON, client.next()).await.unwrap().and_then(Result::ok)
}

async fn close_code(client: &mut Client) -> u16 {
    loop {
        match next(client).await {
            Some(Message::Close(frame)) => return frame.map_or(1005, |frame| frame.code.into()),
            Some(_) => {}
            None => return 1006,
        }
    }
}

#[tokio::test]
async fn a_connection_lives_from_connect_over_messages_to_disconnect() {
    let stand = Stand::start(|_| {}).await;
    let mut client = stand.connect("?ticket=a%2Bb&x=1&x=2").await.unwrap();
    let connect = stand.of_type("CONNECT").remove(0);
    assert_eq!(connect["queryStringParameters"], json!({"ticket": "a+b", "x": "2"}));
    assert_eq!(connect["multiValueQueryStringParameters"]["x"], json!(["1", "2"]));
    assert_eq!(connect["headers"]["upgrade"], "websocket");
    let context = &connect["requestContext"];
    assert_eq!((&context["routeKey"], &context["stage"]), (&json!("$connect"), &json!("ws")));
    assert_eq!(context["identity"]["sourceIp"], "127.0.0.1");

    client.send(Message::text(r#"{"type":"sync"}"#)).await.unwrap();
    until("the message arrived", || !stand.of_type("MESSAGE").is_empty()).await;
    let message = stand.of_type("MESSAGE").remove(0);
    assert_eq!(
        (&message["body"], &message["isBase64Encoded"]),
        (&json!(r#"{"type":"sync"}"#), &json!(false))
    );
    assert_eq!(message["requestContext"]["routeKey"], "$default");
    assert_eq!(message["requestContext"]["connectionId"], context["connectionId"]);

    let id = stand.connection_id();
    assert_eq!(stand.manage("POST", &id, SIGNED, "hello").await.0, 200);
    assert_eq!(next(&mut client).await, Some(Message::text("hello")));
    client.close(None).await.unwrap();
    until("it is told", || !stand.of_type("DISCONNECT").is_empty()).await;
    assert_eq!(stand.of_type("DISCONNECT")[0]["requestContext"]["connectionId"], json!(id));
    let (status, answer) = stand.manage("POST", &id, SIGNED, "late").await;
    assert!(status == 410 && answer.contains("x-amzn-errortype: GoneException"), "{answer}");
    stand.stop().await;
}

#[tokio::test]
async fn connect_decides_who_comes_in() {
    let stand = Stand::start(|_| {}).await;
    for (query, status) in [
        ("?status=401", 401),
        ("?status=403", 403),
        ("?status=503", 503),
        ("?status=none", 502),
        ("?status=abc", 502),
    ] {
        assert_eq!(stand.connect(query).await.err(), Some(status), "{query}");
    }
    assert!(stand.of_type("DISCONNECT").is_empty(), "nobody was in");
    // No handshake.
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    stand.stop().await;
}

#[tokio::test]
async fn the_function_ends_a_connection_and_nobody_else_reaches_it() {
    let stand = Stand::start(|_| {}).await;
    let mut client = stand.connect("").await.unwrap();
    let id = stand.connection_id();
    for authorization in
        ["", "authorization: Bearer alice\r\n", "authorization: AWS4-HMAC-SHA256 Credential=AKIAOTHER/x\r\n"]
    {
        assert_eq!(stand.manage("POST", &id, authorization, "x").await.0, 403, "{authorization}");
        assert_eq!(stand.manage("DELETE", &id, authorization, "").await.0, 403, "{authorization}");
    }
    assert_eq!(stand.manage("POST", &id, SIGNED, &"x".repeat(128 * 1024 + 1)).await.0, 413);
    assert_eq!(stand.manage("DELETE", &id, SIGNED, "").await.0, 204);
    assert_eq!(close_code(&mut client).await, 1000);
    until("it is gone", || !stand.of_type("DISCONNECT").is_empty()).await;
    assert_eq!(stand.manage("DELETE", &id, SIGNED, "").await.0, 410);
    stand.stop().await;
}

#[tokio::test]
async fn what_the_gateway_does_not_take_closes_the_connection() {
    let stand = Stand::start(|_| {}).await;
    let mut client = stand.connect("").await.unwrap();
    client.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(close_code(&mut client).await, 1003);
    let mut client = stand.connect("").await.unwrap();
    client.send(Message::text("x".repeat(32 * 1024))).await.unwrap();
    until("the largest frame", || stand.of_type("MESSAGE").len() == 1).await;
    client.send(Message::text("x".repeat(32 * 1024 + 1))).await.unwrap();
    assert_eq!(close_code(&mut client).await, 1009);
    stand.stop().await;
}

#[tokio::test]
async fn a_message_that_the_function_fails_is_answered_by_the_gateway() {
    let stand = Stand::start(|_| {}).await;
    let mut client = stand.connect("").await.unwrap();
    client.send(Message::text("error")).await.unwrap();
    let Some(Message::Text(told)) = next(&mut client).await else { panic!("nothing was told") };
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["message"], "Internal server error");
    assert_eq!(told["connectionId"], json!(stand.connection_id()));
    stand.stop().await;
}

#[tokio::test]
async fn an_idle_connection_and_an_old_one_are_closed() {
    let stand = Stand::start(|settings| {
        settings.idle_limit = Duration::from_millis(400);
        settings.connection_limit = Duration::from_millis(1_500);
    })
    .await;
    let mut idle = stand.connect("").await.unwrap();
    let mut lively = stand.connect("").await.unwrap();
    let started = std::time::Instant::now();
    let talking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if lively.send(Message::text("x")).await.is_err() {
                break;
            }
            if let Ok(Some(Ok(Message::Close(frame)))) =
                tokio::time::timeout(Duration::from_millis(10), lively.next()).await
            {
                return frame.map_or(0, |frame| u16::from(frame.code));
            }
        }
        1006
    };
    let (idle_code, lively_code) = tokio::join!(close_code(&mut idle), talking);
    assert_eq!(idle_code, 1001);
    assert!(lively_code == 1001 || lively_code == 1006, "{lively_code}");
    assert!(started.elapsed() >= Duration::from_millis(1_500), "it was closed although it was not idle");
    stand.stop().await;
}

#[tokio::test]
async fn a_shutdown_closes_connections() {
    let stand = Stand::start(|_| {}).await;
    let mut client = stand.connect("").await.unwrap();
    let closed = tokio::spawn(async move { close_code(&mut client).await });
    stand.stop().await;
    assert_eq!(closed.await.unwrap(), 1001);
}
