//! KMS: symmetric keys that encrypt data keys, in the JSON protocol. Every key is the one master key of the folder,
//! bound to the key's id.

mod blob;
mod error;
mod keys;
mod master_key;
mod server;
mod wire;

use tokio::net::TcpListener;

use crate::counters::Counters;
use crate::data_dir::DataDir;
use crate::http_server::HttpServer;
use crate::{EnsureError, Settings, StartError};
use keys::Keys;
use master_key::MasterKey;

const SERVICE: &str = "KMS";

/// A running KMS.
pub(crate) struct KmsServer {
    keys: Keys,
    server: HttpServer,
}

impl KmsServer {
    /// Reads (or makes) the folder's master key and serves it on `listener`.
    pub(crate) fn start(
        data_dir: &DataDir,
        listener: TcpListener,
        settings: &Settings,
        counters: Counters,
    ) -> Result<Self, StartError> {
        let master_key = MasterKey::of(data_dir)?;
        let keys = Keys::new(&settings.region, &settings.account_id);
        let access_key_id = &settings.credentials.access_key_id;
        let router = server::router(master_key, keys.clone(), access_key_id, counters);
        Ok(Self { keys, server: HttpServer::start(SERVICE, listener, router) })
    }

    /// See [`crate::LocalAws::ensure_key`].
    pub(crate) fn ensure_key(&self, id: &str) -> Result<(), EnsureError> {
        self.keys.ensure(id)
    }

    /// See [`crate::LocalAws::ensure_alias`].
    pub(crate) fn ensure_alias(&self, name: &str, key_id: &str) -> Result<(), EnsureError> {
        self.keys.ensure_alias(name, key_id)
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}
