//! A server on the loopback interface that does exactly what it is told, byte for byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What each request is met with.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// These bytes, the connection stays open.
    Answer(Vec<u8>),
    /// These bytes, then the connection is closed.
    AnswerAndClose(Vec<u8>),
    /// These bytes over and over until the client goes away.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing.
    Hang,
    /// RST.
    Reset,
    /// These bytes, and after the time the connection is closed without a further request.
    AnswerAndCloseLater(Vec<u8>, Duration),
    /// These bytes, once this path has been asked for so many times.
    AnswerAfter(&'static str, usize, Vec<u8>),
    /// What the path says: its first request is met with the first, and so on; the last is for all others.
    ByPath(Vec<(&'static str, Vec<Script>)>),
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Each request as it came.
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) connections: usize,
    pub(crate) closed: usize,
    /// Bytes written by [`Script::Endless`].
    pub(crate) written: usize,
}

#[derive(Debug)]
pub(crate) struct RawServer {
    pub(crate) port: u16,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl RawServer {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Self { port, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                seen.lock().unwrap().connections += 1;
                let (script, seen) = (script.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    serve(stream, script, &seen).await;
                    seen.lock().unwrap().closed += 1;
                });
            }
        });
        server
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.requests.iter().map(|request| String::from_utf8_lossy(request).into_owned()).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// How many requests asked for this path.
    pub(crate) fn requests_to(&self, path: &str) -> usize {
        self.seen.lock().unwrap().requests_to(path)
    }

    /// Waits until `done` or fails after ten seconds.
    pub(crate) async fn until(&self, done: impl Fn(&Seen) -> bool) {
        until(&self.seen, done).await;
    }
}

impl Seen {
    fn requests_to(&self, path: &str) -> usize {
        self.requests.iter().filter(|request| is_to(request, path)).count()
    }
}

async fn until(seen: &Mutex<Seen>, done: impl Fn(&Seen) -> bool) {
    for _ in 0..1000 {
        if done(&seen.lock().unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {:?}", seen.lock().unwrap());
}

fn is_to(request: &[u8], path: &str) -> bool {
    let line = String::from_utf8_lossy(request);
    let target = line.split(' ').nth(1).unwrap_or_default();
    target.split('?').next() == Some(path)
}

/// The script that is meant for this request, the latest in `seen`.
fn pick(script: &Script, request: &[u8], seen: &Seen) -> Script {
    let Script::ByPath(routes) = script else { return script.clone() };
    let (path, scripts) = routes.iter().find(|(path, _)| is_to(request, path)).expect("a path of the script");
    scripts[(seen.requests_to(path) - 1).min(scripts.len() - 1)].clone()
}

async fn serve(mut stream: TcpStream, script: Script, seen: &Mutex<Seen>) {
    while let Some(request) = read_request(&mut stream).await {
        let script = {
            let mut seen = seen.lock().unwrap();
            seen.requests.push(request.clone());
            pick(&script, &request, &seen)
        };
        match &script {
            Script::ByPath(_) => panic!("a path leads to a path"),
            Script::AnswerAfter(path, times, bytes) => {
                until(seen, |seen| seen.requests_to(path) >= *times).await;
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Script::Answer(bytes) => {
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Script::AnswerAndClose(bytes) => {
                drop(stream.write_all(bytes).await);
                drop(stream.shutdown().await);
                return;
            }
            Script::AnswerAndCloseLater(bytes, later) => {
                drop(stream.write_all(bytes).await);
                tokio::time::sleep(*later).await;
                return;
            }
            Script::Endless(head, piece) => {
                drop(stream.write_all(head).await);
                while stream.write_all(piece).await.is_ok() {
                    seen.lock().unwrap().written += piece.len();
                }
                return;
            }
            Script::Hang => {
                // Returns when the client closes.
                drop(stream.read(&mut [0; 64]).await);
                return;
            }
            Script::Reset => {
                drop(stream.set_zero_linger());
                return;
            }
        }
    }
}

/// Head and body of one request; what came so far when the client closes.
async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.ok()?;
        if read == 0 {
            return (!request.is_empty()).then_some(request);
        }
        request.extend_from_slice(buffer.get(..read)?);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                })
                .and_then(|length| length.parse::<usize>().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(request);
            }
        } else if text.len() > 3 && !text.starts_with("POST") && !text.starts_with("GET ") {
            // Not HTTP: kept as it is, for tests of what reaches a server that speaks no TLS.
            return Some(request);
        }
    }
}

/// A response with its length.
pub(crate) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
