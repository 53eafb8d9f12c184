//! TLS: who is trusted, and when hands are shaken.
//!
//! Trusted roots come from the machine or from `SSL_CERT_FILE`, which only a process of its own can be given: the test runs
//! its own program again for the client's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The client's side learns from its environment where the server is.
#![allow(clippy::disallowed_methods)]

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use darkroom_core::id::{JobId, ModelName};
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_providers::{BaseUrl, ConnectError, DrawError, DrawRequest, Progress, Providers, Settings};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const ADDRESS: &str = "DARKROOM_TEST_TLS_ADDRESS";

#[derive(Default)]
struct Counts {
    handshakes: AtomicUsize,
    requests: AtomicUsize,
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, counts: Arc<Counts>) {
    let Ok(mut stream) = tls.accept(stream).await else { return };
    counts.handshakes.fetch_add(1, Ordering::SeqCst);
    let mut buffer = [0; 16 * 1024];
    // A request of this test arrives in one piece.
    while let Ok(1..) = stream.read(&mut buffer).await {
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
}

/// Starts a server for `localhost`; gives its port and its certificate as PEM.
async fn server(counts: Arc<Counts>) -> (u16, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&counts)));
        }
    });
    (port, certified.cert.pem())
}

async fn client(test: &'static str, host: &str, port: u16, roots: &std::path::Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--ignored", test])
        .env(ADDRESS, format!("https://{host}:{port}"))
        .env("SSL_CERT_FILE", roots)
        .env_remove("SSL_CERT_DIR");
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_call_finds_the_warm_connection_and_nobody_unproven_sees_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let (counts, other) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
    let (port, pem) = server(Arc::clone(&counts)).await;
    let (_, other_pem) = server(other).await;
    let (own, foreign, none) =
        (folder.path().join("own"), folder.path().join("foreign"), folder.path().join("none"));
    std::fs::write(&own, pem).unwrap();
    std::fs::write(&foreign, other_pem).unwrap();
    std::fs::write(&none, "").unwrap();

    let output = client("trusting", "localhost", port, &own).await;
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(counts.handshakes.load(Ordering::SeqCst), 1, "while warming, and never again");
    assert_eq!(counts.requests.load(Ordering::SeqCst), 2);

    for (test, host, roots) in [
        ("distrusting", "localhost", &foreign),
        // The certificate is for a name, not for this address.
        ("distrusting", "127.0.0.1", &own),
        ("rootless", "localhost", &none),
    ] {
        let output = client(test, host, port, roots).await;
        assert!(output.status.success(), "{test}: {}", told(&output));
    }
    assert_eq!(counts.requests.load(Ordering::SeqCst), 2, "nothing was sent to a server without proof");
}

fn providers() -> Providers {
    let address = std::env::var(ADDRESS).expect("run by the test above");
    Providers::new(Settings { gemini_base_url: BaseUrl::parse(&address).unwrap(), ..Settings::default() })
}

async fn draw(providers: &Providers) -> DrawError {
    let request = DrawRequest {
        job: &JobId::parse(&format!("job_{}", "a".repeat(52))).unwrap(),
        call: 1,
        model: &ModelName::parse("m").unwrap(),
        prompt: &Prompt::parse("p").unwrap(),
        reference: None,
        shape: Shape { aspect_ratio: AspectRatio::R1x1, size: ImageSize::K1 },
        seed: 1,
        secret: Some(&Secret::parse("key").unwrap()),
        progress: &Progress::unknown(),
    };
    let drawn = providers.get(ProviderName::Gemini).draw(request, Duration::from_secs(20)).await;
    drawn.expect_err("the server draws nothing")
}

#[tokio::test]
#[ignore = "the client's side of the test above"]
async fn trusting() {
    let providers = providers();
    providers.warm(&[ProviderName::Gemini]).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(draw(&providers).await, DrawError::Refused(_)));
    }
}

#[tokio::test]
#[ignore = "the client's side of the test above"]
async fn distrusting() {
    let providers = providers();
    assert!(matches!(providers.warm(&[ProviderName::Gemini]).await, Err(ConnectError::Tls(_))));
    assert!(matches!(draw(&providers).await, DrawError::NotSent { .. }));
}

#[tokio::test]
#[ignore = "the client's side of the test above"]
async fn rootless() {
    let providers = providers();
    assert!(matches!(providers.warm(&[ProviderName::Gemini]).await, Err(ConnectError::NoTls(_))));
    assert!(matches!(draw(&providers).await, DrawError::NotSent { .. }));
}
