//! Calls users' own servers: one HTTP attempt at an address that was looked at, in ten seconds, whatever answers there.
//!
//! The address is asked about three times: as it is written, as its name is looked up (one address that may not be called, and
//! none is), and as the very one that is connected to. No redirect is followed and no proxy asked, and no connection is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use darkroom_core::limits::{WEBHOOK_ANSWER_BYTES_MAX, WEBHOOK_CALL_TIMEOUT};
use darkroom_core::webhook::{Reach, WebhookUrl};
use darkroom_core::webhook_delivery::{CallResult, Unanswered};
use darkroom_wire::{Sender, TlsError};
use http::{HeaderName, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

/// One of several addresses leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Calls endpoints.
pub(crate) struct Caller {
    reach: Reach,
    tls: OnceCell<Arc<ClientConfig>>,
}

/// What is sent.
pub(crate) struct Letter {
    pub(crate) headers: [(HeaderName, String); 3],
    pub(crate) body: Bytes,
}

impl Caller {
    /// Calls what may be called; opens nothing yet.
    pub(crate) fn new(reach: Reach) -> Self {
        Self { reach, tls: OnceCell::new() }
    }

    /// Makes one call, in [`WEBHOOK_CALL_TIMEOUT`]. What was answered in time counts, however the rest of the answer fares.
    pub(crate) async fn call(&self, url: &str, letter: Letter) -> CallResult {
        let deadline = Instant::now() + WEBHOOK_CALL_TIMEOUT;
        let Ok(url) = WebhookUrl::parse(url, self.reach) else {
            return CallResult::Unanswered(Unanswered::UrlRefused);
        };
        let exchanged = timeout_at(deadline, self.exchange(&url, letter)).await;
        match exchanged.unwrap_or(Err(Unanswered::TimedOut)) {
            // The connection lives until its answer is read.
            Ok((_connection, status, body)) => CallResult::answered(status, &beginning(body, deadline).await),
            Err(reason) => CallResult::Unanswered(reason),
        }
    }

    async fn exchange(
        &self,
        url: &WebhookUrl,
        letter: Letter,
    ) -> Result<(Sender, u16, Incoming), Unanswered> {
        let stream = self.connect(self.addresses(url).await?).await?;
        let connection = if url.is_tls() {
            let config = self.tls.get_or_try_init(darkroom_wire::tls_config).await.map_err(no_tls)?;
            let stream = darkroom_wire::tls(Arc::clone(config), url.host(), stream).await;
            darkroom_wire::hand_shake(TokioIo::new(stream.map_err(|_| Unanswered::Tls)?)).await
        } else {
            darkroom_wire::hand_shake(TokioIo::new(stream)).await
        };
        let mut connection = connection.map_err(|_| Unanswered::BrokenOff)?;
        let answer =
            connection.send_request(request(url, letter)?).await.map_err(|_| Unanswered::BrokenOff)?;
        let status = answer.status().as_u16();
        Ok((connection, status, answer.into_body()))
    }

    /// The addresses of a URL's name, every one of which may be called.
    async fn addresses(&self, url: &WebhookUrl) -> Result<Vec<SocketAddr>, Unanswered> {
        let host = url.host().trim_start_matches('[').trim_end_matches(']');
        let found: Vec<_> =
            lookup_host((host, url.port())).await.map_err(|_| Unanswered::NoAddress)?.collect();
        if found.is_empty() {
            return Err(Unanswered::NoAddress);
        }
        if found.iter().all(|address| self.reach.allows(address.ip())) {
            Ok(found)
        } else {
            Err(Unanswered::AddressRefused)
        }
    }

    /// A connection to the first of these that takes one: to the address itself, so no name is looked up again.
    async fn connect(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, Unanswered> {
        for address in addresses {
            let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else {
                continue;
            };
            let is_allowed = stream.peer_addr().is_ok_and(|peer| self.reach.allows(peer.ip()));
            return if is_allowed { Ok(stream) } else { Err(Unanswered::AddressRefused) };
        }
        Err(Unanswered::Unreachable)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn no_tls(error: TlsError) -> Unanswered {
    tracing::error!(error = %error, "no webhook can be called over TLS");
    Unanswered::Tls
}

fn request(url: &WebhookUrl, letter: Letter) -> Result<Request<Full<Bytes>>, Unanswered> {
    let mut request = Request::post(url.target())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, concat!("darkroom/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    for (name, value) in letter.headers {
        request = request.header(name, value);
    }
    request.body(Full::from(letter.body)).map_err(|_| Unanswered::UrlRefused)
}

/// The beginning of an answer's body: what came in time, and at most [`WEBHOOK_ANSWER_BYTES_MAX`] of it.
async fn beginning(mut body: Incoming, deadline: Instant) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < WEBHOOK_ANSWER_BYTES_MAX {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        read.extend(frame.into_data().unwrap_or_default());
    }
    read
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn letter() -> Letter {
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| (HeaderName::from_static(name), "x".to_owned()));
        Letter { headers, body: Bytes::from_static(b"{}") }
    }

    /// A name is looked up by the machine: what stands for this machine is not called, though its URL may be an endpoint's.
    #[tokio::test]
    async fn no_address_of_this_machine_is_connected_to() -> io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let caller = Caller::new(Reach::Public);
        let here = SocketAddr::from(([127, 0, 0, 1], port));
        assert!(matches!(caller.connect(vec![here]).await, Err(Unanswered::AddressRefused)));
        let anywhere = Caller::new(Reach::Anywhere);
        assert!(anywhere.connect(vec![here]).await.is_ok());
        let url = format!("https://127.0.0.1:{port}/");
        let Ok(url) = WebhookUrl::parse(&url, Reach::Anywhere) else { unreachable!("{url}") };
        assert_eq!(caller.addresses(&url).await, Err(Unanswered::AddressRefused));
        assert_eq!(anywhere.addresses(&url).await, Ok(vec![here]));
        let refused = caller.call(url.as_str(), letter()).await;
        assert_eq!(refused, CallResult::Unanswered(Unanswered::UrlRefused));
        Ok(())
    }

    /// The request as it goes over the wire, and an answer of which no more is read than is to be.
    #[tokio::test]
    async fn a_call_is_one_request_and_its_answer_is_read_so_far() -> io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/hook?a=1%202", listener.local_addr()?);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut request = vec![0; 4_096];
            let mut read = 0;
            while !request.get(..read).unwrap_or_default().ends_with(b"{}") {
                read += stream.read(request.get_mut(read..).unwrap_or_default()).await?;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n").await?;
            let mut sent = 0_usize;
            // Until the caller has had enough.
            while stream.write_all(&[b'a'; 8_192]).await.is_ok() && sent < 99_000_000 {
                sent += 8_192;
            }
            request.truncate(read);
            Ok::<_, io::Error>((String::from_utf8_lossy(&request).into_owned(), sent))
        });
        let result = Caller::new(Reach::Anywhere).call(&url, letter()).await;
        let CallResult::Answered { status, body } = result else { unreachable!("{result:?}") };
        assert_eq!((status, body), (200, "a".repeat(1_024)));
        let (request, sent) = server.await??;
        assert!(request.starts_with("POST /hook?a=1%202 HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        assert!(sent < 50_000_000, "{sent} bytes were taken");
        Ok(())
    }
}
