//! What calls to servers that are not AWS's share: TLS that trusts what the machine trusts, and one HTTP/1.1 connection on an
//! open stream. Less than a client on purpose: nothing here looks a name up, retries, follows a redirect or asks a proxy.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection's read buffer, and therefore the longest response head.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Sends requests over a connection, one at a time.
pub type Sender = SendRequest<Full<Bytes>>;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The machine trusts nobody.
    #[error(
        "no trusted root certificates were found: install ca-certificates, or set SSL_CERT_FILE to a bundle"
    )]
    NoRoots,
    /// The library refuses its own defaults.
    #[error("TLS cannot be configured")]
    Configuration(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 from `ring`, trusting what the machine trusts. Reading a few hundred kilobytes of roots belongs neither
/// in a constructor nor on a thread that serves others.
pub async fn tls_config() -> Result<Arc<ClientConfig>, TlsError> {
    let roots = tokio::task::spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        (usable > 0).then_some(roots)
    });
    let roots = roots.await.ok().flatten().ok_or(TlsError::NoRoots)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configuration)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS on an open stream, with a server that proves to be this host; an IPv6 address may be in brackets.
///
/// # Errors
/// When it does not prove that, or speaks no TLS.
pub async fn tls(
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// HTTP/1.1 on an open stream. Opening it writes nothing; the spawned half lives until either end closes.
///
/// # Errors
/// When the stream is closed already.
pub async fn hand_shake<T>(stream: T) -> hyper::Result<Sender>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(stream).await?;
    // Its failure reaches whoever waits for an answer; with nobody waiting there is nobody to tell.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
