//! An app's side of the WebSocket: connects with a ticket, synchronises, and keeps of each job the highest version.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::stack::{App, PATIENCE};

/// One connection.
pub struct Watcher {
    stream: WebSocketStream<TcpStream>,
    /// Every job that it was told of, as it was told last.
    pub jobs: BTreeMap<String, Value>,
    /// Versions of a job that came after a higher one, and were dropped.
    pub dropped: u64,
    /// How the server closed it, once it has.
    pub closed: Option<u16>,
}

/// A handshake that the server answered with another status than 101.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub u16);

impl Watcher {
    /// Connects to this URL, its ticket included, with these headers.
    ///
    /// # Errors
    /// When nobody listens, or the answer is no HTTP. A refusal is an outcome.
    pub async fn connect_to(
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Result<Self, Refused>> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let address = request.uri().authority().context("no host")?.to_string();
        let stream = TcpStream::connect(&address).await.with_context(|| address)?;
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((stream, _)) => Ok(Ok(Self { stream, jobs: BTreeMap::new(), dropped: 0, closed: None })),
            Err(Error::Http(answer)) => Ok(Err(Refused(answer.status().as_u16()))),
            Err(error) => Err(error.into()),
        }
    }

    /// Connects as this user, with a fresh ticket.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(app: &App, user: &str) -> anyhow::Result<Self> {
        let url = ticket_url(app, user).await?;
        let connected = Self::connect_to(&url, &[]).await?;
        connected.map_err(|Refused(status)| anyhow::anyhow!("{user} was refused: {status}"))
    }

    /// Says something.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        self.send(Message::text(message.to_string())).await
    }

    /// Sends a frame as it stands.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.stream.send(message).await?)
    }

    /// The next message until then; `None` when none came, or the connection has ended ([`Self::closed`]).
    ///
    /// # Errors
    /// For what is no JSON.
    pub async fn next_until(&mut self, until: Instant) -> anyhow::Result<Option<Value>> {
        loop {
            let Ok(next) = timeout_at(until, self.stream.next()).await else { return Ok(None) };
            match next {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).with_context(|| text.to_string())?;
                    self.keep(&message);
                    return Ok(Some(message));
                }
                Some(Ok(Message::Close(frame))) => {
                    self.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    self.closed.get_or_insert(1006);
                    return Ok(None);
                }
            }
        }
    }

    /// The client's rule: of each job the highest version.
    fn keep(&mut self, message: &Value) {
        if message["type"] != "job.updated" {
            return;
        }
        let (job, version) = (&message["job"], message["version"].as_u64());
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        let known = self.jobs.get(&id).and_then(|job| job["version"].as_u64());
        if known > version {
            self.dropped += 1;
        } else {
            self.jobs.insert(id, job.clone());
        }
    }

    /// Reads until a message of this type.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn until(&mut self, kind: &str) -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.next_until(until).await? {
                Some(message) if message["type"] == kind => return Ok(message),
                Some(_) => {}
                None => bail!("no {kind} came; closed: {:?}", self.closed),
            }
        }
    }

    /// Synchronises, and names these jobs.
    ///
    /// # Errors
    /// When the sync does not end in time.
    pub async fn sync(&mut self, jobs: &[&str]) -> anyhow::Result<Value> {
        self.say(&json!({"type": "sync", "jobs": jobs})).await?;
        self.until("synced").await
    }

    /// Reads until this job has ended, and returns it as it was told.
    ///
    /// # Errors
    /// When it is not told in time.
    pub async fn settled(&mut self, id: &str) -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.jobs.get(id) {
                Some(job) if !job["settled"].is_null() => return Ok(job.clone()),
                _ => {}
            }
            ensure!(
                self.next_until(until).await?.is_some(),
                "the end of {id} was not told; closed: {:?}, known: {:?}",
                self.closed,
                self.jobs.get(id)
            );
        }
    }

    /// Reads until the server has closed, and returns how.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn ended(&mut self) -> anyhow::Result<u16> {
        let until = Instant::now() + PATIENCE;
        while self.next_until(until).await?.is_some() {}
        self.closed.context("the server never closed it")
    }

    /// Nothing is told for so long.
    ///
    /// # Errors
    /// When something is.
    pub async fn is_told_nothing(&mut self, span: Duration) -> anyhow::Result<()> {
        match self.next_until(Instant::now() + span).await? {
            Some(message) => bail!("told {message}"),
            None => Ok(()),
        }
    }
}

/// A ticket of this user's, in the URL that it opens.
///
/// # Errors
/// When none is given.
pub async fn ticket_url(app: &App, user: &str) -> anyhow::Result<String> {
    let issued = app.post(user, "/v1/ws-tickets").await?;
    ensure!(issued.status == 201, "{}", issued.body);
    Ok(issued.text("url").to_owned())
}
