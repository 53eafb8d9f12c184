//! DynamoDB and its streams: the `dynoxide` engine on one SQLite file, served by threads of its own.
//!
//! The engine answers each request on the thread that read it, waiting for one lock, so it gets its own small
//! runtime: a busy table cannot then hold up S3, SQS or whatever else the process does.

mod counting;
mod engine;
mod streams;
mod tables;
mod tally;
mod units;
mod upkeep;

use std::path::Path;
use std::thread;
use std::time::Duration;

use dynoxide::Database;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::data_dir::DataDir;
use crate::http_server::STOP_PATIENCE;
use crate::{EnsureError, StartError};

pub(crate) use counting::Counting;
pub use engine::Engine;
pub use streams::StreamRecord;
pub use tally::{DynamoDbUse, HotItem, OperationUse};

const SERVICE: &str = "DynamoDB";

/// Threads that read requests. The engine itself works on one at a time, under its lock; the second reads,
/// parses and answers meanwhile.
const THREADS: usize = 2;

/// A running DynamoDB.
pub(crate) struct DynamoDb {
    database: Database,
    stop: oneshot::Sender<()>,
    server: thread::JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl DynamoDb {
    /// Opens (or makes) its file in the folder and serves it on `listener`.
    pub(crate) fn start(
        data_dir: DataDir,
        listener: TcpListener,
        sweep_interval: Duration,
    ) -> Result<Self, StartError> {
        let file = data_dir.join("dynamodb.sqlite");
        let database = open(&file)?;
        let upkeep = upkeep::start(database.clone(), &file, sweep_interval)?;
        let (stop, stopped) = oneshot::channel();
        let server = serve(database.clone(), listener, stopped, data_dir)?;
        Ok(Self { database, stop, server, upkeep })
    }

    /// See [`crate::LocalAws::ensure_table`].
    pub(crate) async fn ensure_table(
        &self,
        definition: Value,
        ttl_attribute: Option<&str>,
    ) -> Result<(), EnsureError> {
        let database = self.database.clone();
        let ttl_attribute = ttl_attribute.map(str::to_owned);
        tokio::task::spawn_blocking(move || tables::ensure(&database, definition, ttl_attribute.as_deref()))
            .await
            .map_err(|stopped| EnsureError::storage("table", stopped))?
    }

    /// See [`crate::LocalAws::stream_reader`].
    pub(crate) fn stream_reader(&self) -> StreamReader {
        StreamReader { database: self.database.clone() }
    }

    pub(crate) async fn sweep_expired_items(&self) -> Result<usize, dynoxide::DynoxideError> {
        let database = self.database.clone();
        let sweep = tokio::task::spawn_blocking(move || database.sweep_ttl());
        sweep
            .await
            .unwrap_or_else(|stopped| Err(dynoxide::DynoxideError::InternalServerError(stopped.to_string())))
    }

    pub(crate) async fn stop(self) {
        self.upkeep.abort();
        // The server may have ended already; then there is nobody to tell.
        let _ = self.stop.send(());
        let server = self.server;
        // It ends by itself within its patience; a panic in it was reported by the runtime.
        let _ = tokio::task::spawn_blocking(move || server.join()).await;
    }
}

/// Reads the streams of tables.
#[derive(Clone)]
pub struct StreamReader {
    database: Database,
}

impl StreamReader {
    /// The changes of `table` after this place, or all that are kept, oldest first, at most so many (and at most 1,000).
    ///
    /// # Errors
    /// In the engine's words, when there is no such table or its stream is off.
    pub async fn read(
        &self,
        table: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<StreamRecord>, String> {
        let database = self.database.clone();
        let read = move || streams::read(&database, &table, after.as_deref(), limit);
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|stopped| stopped.to_string())?.map_err(|error| error.to_string())
    }
}

fn open(file: &Path) -> Result<Database, StartError> {
    let path =
        file.to_str().ok_or_else(|| StartError::storage(SERVICE, "the data folder's path is not Unicode"))?;
    let database = Database::new(path).map_err(|error| StartError::storage(SERVICE, error))?;
    // The engine opens its file in write-ahead mode with `synchronous = FULL`: one flush to the disk per
    // commit, which only matters when power fails. Leaving its bulk mode is its one way to say `synchronous =
    // NORMAL`.
    database.enable_bulk_loading().map_err(|error| StartError::storage(SERVICE, error))?;
    database.disable_bulk_loading().map_err(|error| StartError::storage(SERVICE, error))?;
    Ok(database)
}

fn serve(
    database: Database,
    listener: TcpListener,
    stopped: oneshot::Receiver<()>,
    data_dir: DataDir,
) -> Result<thread::JoinHandle<()>, StartError> {
    let failed = |source: std::io::Error| StartError::storage(SERVICE, source);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("dynamodb")
        .enable_all()
        .build()
        .map_err(failed)?;
    // A listener belongs to the runtime that made it, so it changes hands as a plain socket.
    let listener = listener.into_std().map_err(failed)?;
    let serving = async move {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(service = SERVICE, %error, "the listener was lost"),
        };
        let until = async move {
            // A dropped sender means the same as a sent stop.
            let _ = stopped.await;
        };
        if let Err(error) = dynoxide::server::serve_with_shutdown(listener, database, until).await {
            tracing::error!(service = SERVICE, error, "the server ended");
        }
    };
    thread::Builder::new()
        .name("dynamodb".to_owned())
        .spawn(move || {
            runtime.block_on(serving);
            runtime.shutdown_timeout(STOP_PATIENCE);
            drop(data_dir);
        })
        .map_err(failed)
}
