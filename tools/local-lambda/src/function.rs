//! One function: its settings, and how it is invoked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::environment::Invocation;
use crate::error::{InvokeError, SettingsError};
use crate::ids;
use crate::lambda::House;
use crate::log::FunctionLog;
use crate::pool::{Pool, Slot};
use crate::runtime_api::PAYLOAD_BYTES;
use crate::stats::Stats;
use crate::variables;

/// Lambda's longest time-out.
const MAX_TIMEOUT: Duration = Duration::from_secs(900);

/// What a function is.
#[derive(Debug, Clone)]
pub struct FunctionSettings {
    /// 1 to 64 of `A-Z a-z 0-9 - _`.
    pub name: String,
    /// The program, built on `lambda_runtime`.
    pub binary: PathBuf,
    /// Its own variables.
    pub environment: BTreeMap<String, String>,
    /// After so long its environment is killed; above 0, at most 900 s.
    pub timeout: Duration,
    /// Told to the function; not enforced here.
    pub memory_mb: u32,
    /// Most environments at a time; 0 switches the function off.
    pub reserved_concurrency: usize,
    /// `AWS_LAMBDA_LOG_LEVEL`.
    pub log_level: String,
}

impl FunctionSettings {
    /// Lambda's defaults (time-out 3 s, 128 MB, level INFO), no variables, ten environments.
    pub fn new(name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            binary: binary.into(),
            environment: BTreeMap::new(),
            timeout: Duration::from_secs(3),
            memory_mb: 128,
            reserved_concurrency: 10,
            log_level: "INFO".to_owned(),
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        let name = || self.name.clone();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(allowed) {
            return Err(SettingsError::Name(name()));
        }
        if self.timeout.is_zero() || self.timeout > MAX_TIMEOUT {
            return Err(SettingsError::Timeout { name: name(), timeout: self.timeout });
        }
        if !self.binary.is_file() {
            return Err(SettingsError::Binary { name: name(), binary: self.binary.clone() });
        }
        match self.environment.keys().find(|variable| variables::is_reserved(variable)) {
            Some(variable) => {
                Err(SettingsError::ReservedVariable { name: name(), variable: variable.clone() })
            }
            None => Ok(()),
        }
    }
}

/// A function that can be invoked. Its environments end when the last handle to it is dropped.
pub struct Function {
    pool: Arc<Pool>,
}

impl Function {
    pub(crate) fn new(settings: FunctionSettings, house: Arc<House>) -> Result<Self, SettingsError> {
        settings.check()?;
        let shared = &house.settings;
        let log =
            FunctionLog::open(&settings.name, shared.log_folder.as_deref(), shared.log_listener.clone())?;
        Ok(Self { pool: Pool::new(settings, house, log) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.pool.settings.name
    }

    /// Its settings.
    pub fn settings(&self) -> &FunctionSettings {
        &self.pool.settings
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        self.pool.arn()
    }

    /// Invokes it synchronously with an event of at most 6 MB and gives its answer (JSON) back.
    ///
    /// The invocation goes on when the caller drops this future, as on AWS.
    ///
    /// # Errors
    /// See [`InvokeError`]. Nothing is retried, and only [`InvokeError::Throttled`],
    /// [`InvokeError::PayloadTooLarge`] and [`InvokeError::Stopped`] promise that the handler never saw the event.
    pub async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        let slot = self.pool.try_slot()?;
        self.invoke_in(slot, payload).await
    }

    /// A unit of concurrency, waited for up to `patience`.
    pub(crate) async fn slot_within(&self, patience: Duration) -> Result<Slot, InvokeError> {
        match tokio::time::timeout(patience, self.pool.slot()).await {
            Ok(slot) => slot,
            Err(_) => Err(self.pool.throttled()),
        }
    }

    /// Returns when an invocation would not be throttled at this moment.
    pub(crate) async fn free(&self) -> Result<(), InvokeError> {
        self.pool.free().await
    }

    /// Invokes the function with a unit of concurrency that is already held.
    pub(crate) async fn invoke_in(&self, slot: Slot, payload: Bytes) -> Result<Bytes, InvokeError> {
        if payload.len() > PAYLOAD_BYTES {
            return Err(InvokeError::PayloadTooLarge { bytes: payload.len(), limit: PAYLOAD_BYTES });
        }
        let (reply, answer) = oneshot::channel();
        self.pool.dispatch(Invocation { request_id: ids::uuid(), payload, reply, slot });
        answer.await.unwrap_or(Err(InvokeError::Stopped))
    }

    /// Starts environments until `environments` of them (or as many as the reserved concurrency allows) wait for
    /// work: Lambda's provisioned concurrency.
    ///
    /// # Errors
    /// [`InvokeError::InitFailed`] of the first that did not start, [`InvokeError::Stopped`] after the end.
    pub async fn warm(&self, environments: usize) -> Result<(), InvokeError> {
        self.pool.warm(environments).await
    }

    /// The process ids of its environments.
    pub fn process_ids(&self) -> Vec<u32> {
        self.pool.process_ids()
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.pool.stats(|stats| stats.clone())
    }

    pub(crate) fn stop(&self, grace: Duration) {
        self.pool.stop(grace);
    }

    pub(crate) async fn stopped(&self) {
        self.pool.stopped().await;
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.pool.stop(Duration::ZERO);
    }
}
