//! The service: what all functions of one owner share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::SettingsError;
use crate::function::{Function, FunctionSettings};
use crate::launch::{Launcher, Spawner};
use crate::log::LogListener;

/// The credentials functions find in their environment. Has no `Debug` on purpose.
#[derive(Clone)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`; Lambda always gives one, local services need none.
    pub session_token: Option<String>,
}

/// What all functions of one [`Lambda`] have in common.
#[derive(Clone)]
pub struct LambdaSettings {
    /// Region, for variables and ARNs.
    pub region: String,
    /// Twelve digits, for ARNs.
    pub account_id: String,
    /// What functions sign with.
    pub credentials: Credentials,
    /// Folder of the log files, one `<function>.log` each, appended to; none are written without it.
    pub log_folder: Option<PathBuf>,
    /// Hears every line as well.
    pub log_listener: Option<LogListener>,
    /// How processes are started; see [`Launcher::detect`].
    pub launcher: Launcher,
    /// Longest time from start to the first request for work. Lambda's is 10 s.
    pub init_limit: Duration,
    /// An environment without work for so long is stopped; `None` keeps them.
    pub idle_limit: Option<Duration>,
}

impl LambdaSettings {
    /// Lambda's own limits, the strongest launcher at hand, no log, environments kept until shut down.
    pub fn new(region: impl Into<String>, account_id: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            region: region.into(),
            account_id: account_id.into(),
            credentials,
            log_folder: None,
            log_listener: None,
            launcher: Launcher::detect(),
            init_limit: Duration::from_secs(10),
            idle_limit: None,
        }
    }
}

/// What the environments of all functions need of the service.
pub(crate) struct House {
    pub(crate) settings: LambdaSettings,
    pub(crate) spawner: Spawner,
}

/// Lambda's part on this machine. Dropping it (and every [`Function`] it gave out) kills what it started.
pub struct Lambda {
    house: Arc<House>,
    functions: Mutex<BTreeMap<String, Arc<Function>>>,
}

impl Lambda {
    /// Starts the service; no process yet.
    ///
    /// # Errors
    /// When the system refuses one more thread, and for [`Launcher::Itself`] in a program whose `main` has not called
    /// [`become_function_if_asked`](crate::become_function_if_asked).
    pub fn new(settings: LambdaSettings) -> std::io::Result<Self> {
        settings.launcher.check()?;
        let house = Arc::new(House { settings, spawner: Spawner::start()? });
        Ok(Self { house, functions: Mutex::default() })
    }

    /// Makes a function known. Its first environment starts with its first invocation.
    ///
    /// # Errors
    /// When the settings cannot work; see [`SettingsError`].
    pub fn add(&self, settings: FunctionSettings) -> Result<Arc<Function>, SettingsError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if functions.contains_key(&settings.name) {
            return Err(SettingsError::Duplicate(settings.name));
        }
        let function = Arc::new(Function::new(settings, Arc::clone(&self.house))?);
        functions.insert(function.name().to_owned(), Arc::clone(&function));
        Ok(function)
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every function, by name.
    pub fn functions(&self) -> Vec<Arc<Function>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Ends every environment: SIGTERM at once, SIGKILL after `grace`. Invocations under way fail with
    /// [`InvokeError::Crashed`](crate::InvokeError::Crashed), later ones with
    /// [`InvokeError::Stopped`](crate::InvokeError::Stopped); so shut gateways, mappings and schedules down first.
    /// Returns when no process is left.
    pub async fn shutdown(self, grace: Duration) {
        let functions = self.functions();
        for function in &functions {
            function.stop(grace);
        }
        for function in &functions {
            function.stopped().await;
        }
    }
}
