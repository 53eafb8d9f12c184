//! One open connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::websocket::{MESSAGE_BYTES, Sockets};
use super::websocket_event::{self, Client, Kind};
use crate::ids;
use crate::running::StopSignal;

/// A frame from a client at most.
const FRAME_BYTES: usize = 32 * 1024;

/// A client that takes nothing for so long has gone.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Messages of one client that are with the function at a time; API Gateway knows no such limit, and hands each on at once.
const UNDER_WAY: usize = 64;

/// What the function wants of a connection.
pub(super) enum Order {
    Send(Bytes),
    Close,
}

pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(FRAME_BYTES))
}

pub(super) struct Socket {
    pub(super) sockets: Arc<Sockets>,
    pub(super) client: Arc<Client>,
    pub(super) stream: WebSocketStream<TokioIo<Upgraded>>,
    pub(super) inbox: mpsc::Receiver<Order>,
}

/// What to do next.
enum Next {
    GoOn,
    Send(Utf8Bytes),
    Close(CloseCode),
    Ended,
}

impl Socket {
    /// Until either side closes, or a limit does.
    pub(super) async fn run(mut self, mut stop: StopSignal) {
        let ends_at = Instant::now() + self.sockets.settings.connection_limit;
        let mut idle_at = Instant::now() + self.sockets.settings.idle_limit;
        // What the function gave no answer to, told to the client as API Gateway does.
        let (failed, mut failures) = mpsc::channel(UNDER_WAY);
        loop {
            let next = tokio::select! {
                biased;
                () = stop.stopped() => Next::Close(CloseCode::Away),
                () = sleep_until(ends_at.min(idle_at)) => Next::Close(CloseCode::Away),
                order = self.inbox.recv() => match order {
                    Some(Order::Send(text)) => {
                        idle_at = Instant::now() + self.sockets.settings.idle_limit;
                        Next::Send(String::from_utf8_lossy(&text).into_owned().into())
                    }
                    Some(Order::Close) | None => Next::Close(CloseCode::Normal),
                },
                failure = failures.recv() => Next::Send(failure.unwrap_or_default()),
                message = self.stream.next() => {
                    idle_at = Instant::now() + self.sockets.settings.idle_limit;
                    self.heard(message, &failed)
                }
            };
            match next {
                Next::GoOn => {}
                Next::Ended => return,
                Next::Send(text) => {
                    if !matches!(timeout(SEND_LIMIT, self.stream.send(Message::Text(text))).await, Ok(Ok(())))
                    {
                        return;
                    }
                }
                Next::Close(code) => {
                    let frame = CloseFrame { code, reason: Utf8Bytes::default() };
                    // The client may have gone: then there is nobody to tell.
                    let _ = timeout(SEND_LIMIT, self.stream.close(Some(frame))).await;
                    return;
                }
            }
        }
    }

    fn heard(&self, message: Option<Result<Message, Error>>, failed: &mpsc::Sender<Utf8Bytes>) -> Next {
        match message {
            Some(Ok(Message::Text(text))) => {
                // A client that floods: what is too much is refused, as throttling on AWS does.
                let Ok(permit) = failed.clone().try_reserve_owned() else {
                    return Next::Send(self.failure("Too Many Requests"));
                };
                let (sockets, client) = (Arc::clone(&self.sockets), Arc::clone(&self.client));
                let failure = self.failure("Internal server error");
                tokio::spawn(async move {
                    let message_id = ids::gateway_request_id();
                    let kind = Kind::Message { message_id: &message_id, body: &text };
                    let event = websocket_event::build(&sockets, &client, &kind);
                    if let Err(error) = sockets.settings.function.invoke(event).await {
                        tracing::warn!(function.name = sockets.settings.function.name(), %error, "a message was not answered");
                        permit.send(failure);
                    }
                });
                Next::GoOn
            }
            Some(Ok(Message::Binary(_))) => Next::Close(CloseCode::Unsupported),
            // Pings are answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Next::GoOn,
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => Next::Close(CloseCode::Size),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Next::Ended,
        }
    }

    fn failure(&self, message: &str) -> Utf8Bytes {
        let id = &self.client.connection_id;
        let text = json!({"message": message, "connectionId": id, "requestId": ids::gateway_request_id()});
        text.to_string().into()
    }
}
