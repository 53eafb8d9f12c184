//! A user's own server, which is called for webhooks: it answers, fails, stalls, redirects or never ends, and notes what came.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::stack::PATIENCE;

/// How a call is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status and body.
    Status(u16, &'static str),
    /// With 301 to there.
    Redirect(String),
    /// Never: the connection stays open.
    Stall,
    /// With 200, and a body that never ends.
    Endless,
    /// Not at all: the connection ends.
    HangUp,
}

/// How calls are answered: one by one, then as the last one.
#[derive(Clone, Debug)]
pub struct Answers(Vec<Reply>);

impl Answers {
    /// With this status, always.
    pub fn always(status: u16) -> Self {
        Self(vec![Reply::Status(status, "noted")])
    }

    /// In turn, and on as the last.
    pub const fn in_turn(replies: Vec<Reply>) -> Self {
        Self(replies)
    }

    fn next(&mut self) -> Reply {
        if self.0.len() > 1 { self.0.remove(0) } else { self.0[0].clone() }
    }
}

/// A call that came.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As it was sent.
    pub body: String,
}

impl Call {
    /// `webhook-id`.
    pub fn id(&self) -> &str {
        self.headers.get("webhook-id").map_or("", String::as_str)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).context("the body is no JSON")
    }

    /// How many of its signatures this secret makes, checked as Standard Webhooks has a receiver check them; and that it is no
    /// older than five minutes.
    ///
    /// # Errors
    /// When it has no signature or time.
    pub fn signed_by(&self, secret: &str) -> anyhow::Result<usize> {
        let header = |name: &str| self.headers.get(name).with_context(|| format!("no {name}"));
        let at: u64 = header("webhook-timestamp")?.parse()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        ensure!(now.abs_diff(at) < 300, "it was signed at {at}");
        let key = BASE64.decode(secret.strip_prefix("whsec_").context("no secret")?.as_bytes())?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
        mac.update(format!("{}.{at}.{}", self.id(), self.body).as_bytes());
        let expected = format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()));
        Ok(header("webhook-signature")?.split(' ').filter(|signature| *signature == expected).count())
    }
}

struct State {
    answers: Answers,
    calls: Vec<Call>,
}

/// The server, on the loopback interface and a thread of its own. Dropped, it stops.
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts without TLS.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(answers: Answers) -> anyhow::Result<Self> {
        Self::serve(answers, None)
    }

    /// Starts with TLS, as the host of this certificate.
    ///
    /// # Errors
    /// When no port is free, or the certificate is none.
    pub fn start_tls(
        answers: Answers,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Self::serve(answers, Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn serve(answers: Answers, tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { answers, calls: Vec::new() }));
        let (stop, stopped) = oneshot::channel();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let accepting = accept(listener, tls, Arc::clone(&state));
        let thread = std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = accepting => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, scheme, state, stop: Some(stop), thread: Some(thread) })
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers so from now on.
    pub fn answer(&self, answers: Answers) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answers = answers;
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }

    /// Waits for so many calls; all that came.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn received(&self, count: usize) -> anyhow::Result<Vec<Call>> {
        let started = Instant::now();
        loop {
            let calls = self.calls();
            if calls.len() >= count {
                return Ok(calls);
            }
            ensure!(started.elapsed() < PATIENCE, "{} calls came instead of {count}", calls.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It panicked, which its own thread has told.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn accept(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<Mutex<State>>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        // The caller sees whatever goes wrong.
        tokio::spawn(async move {
            match tls {
                Some(tls) => converse(tls.accept(stream).await?, &state).await,
                None => converse(stream, &state).await,
            }
        });
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &Mutex<State>) -> io::Result<()> {
    let Some(call) = read(&mut stream).await? else { return Ok(()) };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls.push(call);
        state.answers.next()
    };
    match reply {
        Reply::Status(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
        }
        Reply::Redirect(to) => {
            let head = format!("HTTP/1.1 301 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
        }
        Reply::Stall => std::future::pending().await,
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'a'; 16 * 1024]).await?;
            }
        }
        Reply::HangUp => return Ok(()),
    }
    stream.shutdown().await
}

/// One request; `None` when the connection ends before it is whole.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Call>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 8 * 1024]);
    loop {
        if let Some(call) = parse(&bytes) {
            return Ok(Some(call));
        }
        match stream.read(&mut part).await? {
            0 => return Ok(None),
            count => bytes.extend(part.get(..count).unwrap_or_default()),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Call> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let target = lines.next()?.strip_prefix("POST ")?.strip_suffix(" HTTP/1.1")?.to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    (body.len() >= length).then(|| Call { target, headers, body: body.to_owned() })
}
