//! SQS: standard queues in the JSON protocol, kept in SQLite.

mod attributes;
mod digest;
mod error;
mod fairness;
mod messages;
mod moves;
mod queues;
mod receipt;
mod receive;
mod server;
mod state;
mod store;
mod validate;
mod wire;

use std::collections::BTreeMap;

use tokio::net::TcpListener;

use crate::counters::Counters;
use crate::data_dir::DataDir;
use crate::http_server::HttpServer;
use crate::{EnsureError, Queue, Settings, StartError};

const SERVICE: &str = "SQS";

/// A running SQS.
pub(crate) struct SqsServer {
    store: store::Store,
    server: HttpServer,
}

impl SqsServer {
    /// Opens (or makes) its file in the folder and serves it on `listener`, which is at `endpoint`.
    pub(crate) fn start(
        data_dir: DataDir,
        listener: TcpListener,
        endpoint: &str,
        settings: &Settings,
        counters: Counters,
    ) -> Result<Self, StartError> {
        let identity = state::Identity {
            region: settings.region.clone(),
            account: settings.account_id.clone(),
            endpoint: endpoint.to_owned(),
        };
        let store =
            store::Store::open(data_dir, identity).map_err(|error| StartError::storage(SERVICE, error))?;
        let router = server::router(store.handle(), &settings.credentials.access_key_id, counters);
        Ok(Self { server: HttpServer::start(SERVICE, listener, router), store })
    }

    /// See [`crate::LocalAws::ensure_queue`].
    pub(crate) async fn ensure_queue(
        &self,
        name: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<Queue, EnsureError> {
        let (queue, attributes) = (name.to_owned(), attributes.clone());
        let made = self.store.handle().call(move |state| queues::ensure(state, &queue, &attributes)).await;
        made.map_err(|refusal| EnsureError::refused(&format!("queue {name}"), refusal.message))
    }

    pub(crate) async fn stop(self) {
        // Long polls end first: otherwise the server would wait for them.
        self.store.handle().stop_waiting();
        self.server.stop().await;
        self.store.stop().await;
    }
}
