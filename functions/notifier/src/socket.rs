//! Clients that connect, speak and go.

use darkroom_aws::{Connected, Heard, Listed, StoreError, Watcher, now};
use darkroom_core::error_code::Language;
use darkroom_core::id::{ConnectionId, JobId};
use darkroom_core::job::{Job, Stage};
use darkroom_core::limits::LIST_SWEEP_JOBS;
use darkroom_core::push::{ClientMessage, ConnectTicket, Connection, pong, synced};
use serde_json::{Value, json};

use crate::Notifier;
use crate::event::{EventType, SocketEvent};

/// What API Gateway is answered: a status, of which only `$connect`'s reaches the client.
fn status(code: u16) -> Value {
    json!({"statusCode": code})
}

impl Notifier {
    /// Answers an event of the WebSocket API. A store that fails is logged: `$connect` is refused with 503, and a client
    /// whose message was not answered is cut off, so that it comes again.
    pub(crate) async fn answer(&self, event: SocketEvent) -> Value {
        let id = event.request_context.connection_id.clone();
        match event.request_context.event_type {
            EventType::Connect => self.connect(&id, &event).await.unwrap_or_else(|error| {
                tracing::error!(error = %error, "a connection could not be stored");
                status(503)
            }),
            EventType::Message => {
                if let Err(error) = self.hear(&id, event.text()).await {
                    tracing::error!(connection.id = %id, error = %error, "a client was not answered, and is cut off");
                    self.cut_off(&id).await;
                }
                status(200)
            }
            EventType::Disconnect => {
                self.forget(&id).await;
                status(200)
            }
        }
    }

    /// A ticket opens one connection: 401 without one, for a second time, and after its minute.
    async fn connect(&self, id: &ConnectionId, event: &SocketEvent) -> Result<Value, StoreError> {
        let Some(ticket) = event.query("ticket").and_then(ConnectTicket::parse) else {
            return Ok(status(401));
        };
        let connected_at = now();
        let Some(user) = self.push.ticket(&ticket, connected_at).await? else { return Ok(status(401)) };
        let language = Language::negotiate(event.header("accept-language").unwrap_or_default());
        let connection = Connection { id: id.clone(), connected_at, language };
        let seen =
            self.push.connections(std::slice::from_ref(&user)).await?.remove(&user).unwrap_or_default();
        let Connected::Open { evicted } = self.push.open(&ticket, &user, seen, &connection).await? else {
            return Ok(status(401));
        };
        for evicted in &evicted {
            tracing::info!(connection.id = %evicted, "ended: its user has opened too many since");
            self.end(evicted).await;
        }
        Ok(status(200))
    }

    /// One message. Whoever sends what is none, or more than one a second, is cut off: everybody's messages cost the same.
    async fn hear(&self, id: &ConnectionId, text: Option<&str>) -> Result<(), StoreError> {
        let Some(message) = text.and_then(ClientMessage::parse) else {
            tracing::info!(connection.id = %id, "cut off: its message is none");
            self.cut_off(id).await;
            return Ok(());
        };
        let watcher = match self.push.hear(id, now()).await? {
            Heard::Of(watcher) => watcher,
            Heard::TooSoon => {
                tracing::info!(connection.id = %id, "cut off: it sends too fast");
                self.cut_off(id).await;
                return Ok(());
            }
            // Ended meanwhile, here or at the gateway; whoever is still there has to come again.
            Heard::Unknown => {
                self.end(id).await;
                return Ok(());
            }
        };
        match message {
            ClientMessage::Ping => {
                self.tell(id, pong()).await;
                Ok(())
            }
            ClientMessage::Sync { jobs } => self.sync(id, &watcher, &jobs).await,
        }
    }

    /// Tells a connection its user's jobs that are under way, and those that it names, as they are now. They are read after
    /// the connection was stored, so whatever changes later is told by its change.
    async fn sync(&self, id: &ConnectionId, watcher: &Watcher, named: &[JobId]) -> Result<(), StoreError> {
        let (mut jobs, complete) = self.under_way(watcher).await?;
        let at = now();
        let named = self.jobs.read_many(named).await?;
        let of_user = named.into_iter().filter(|job| job.belongs_to(&watcher.user, at));
        for job in of_user {
            if jobs.iter().all(|other| other.id != job.id) {
                jobs.push(job);
            }
        }
        // `synced` means that what was not told is not there any more.
        if self.tell_jobs(id, watcher, &jobs).await? {
            self.tell(id, synced(complete)).await;
        } else {
            self.cut_off(id).await;
        }
        Ok(())
    }

    /// The user's jobs in flight, of the newest [`LIST_SWEEP_JOBS`] that they can have; and whether these are all.
    async fn under_way(&self, watcher: &Watcher) -> Result<(Vec<Job>, bool), StoreError> {
        let inflight = self.ledger.balance(&watcher.user).await?.inflight;
        if inflight == 0 {
            return Ok((Vec::new(), true));
        }
        let most = usize::try_from(inflight).unwrap_or(usize::MAX).min(LIST_SWEEP_JOBS);
        // Those of batches are not in flight, and may be thousands: a client that shows some names them.
        let is_in_flight = |job: &Job| {
            job.user == watcher.user && job.order.batch.is_none() && !matches!(job.stage, Stage::Settled(_))
        };
        let page = self.jobs.list(Listed::OfUser(&watcher.user), None, most, is_in_flight).await?;
        // Fewer: the index lags, or some have ended meanwhile. The balance does not lag.
        let complete = page.jobs.len() as u64 >= inflight;
        Ok((page.jobs, complete))
    }

    /// Ends a connection that is to be told nothing any more.
    async fn cut_off(&self, id: &ConnectionId) {
        self.end(id).await;
        self.forget(id).await;
    }

    async fn end(&self, id: &ConnectionId) {
        if let Err(error) = self.gateway.end(id).await {
            tracing::warn!(connection.id = %id, error = %error, "a connection could not be ended; it ends by itself");
        }
    }
}
