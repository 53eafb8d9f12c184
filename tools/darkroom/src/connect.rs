//! Which system a command speaks to: the local one, or a deployed stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::config::{Environment, SweepRules};
use darkroom_aws::{JobQueue, JobTable, KeyTable, LedgerTable, Sweep};
use serde::{Deserialize, Serialize};

/// The local system's access key: it opens nothing but this machine's local system.
pub const LOCAL_ACCESS_KEY: &str = "darkroom-local";
/// Its secret, equally public.
pub const LOCAL_SECRET_KEY: &str = "darkroom-local-secret";

/// What a running local system leaves in its data folder for the commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    /// The process.
    pub process_id: u32,
    /// The HTTP API.
    pub api_url: String,
    /// The region it plays.
    pub region: String,
    /// DynamoDB's endpoint.
    pub dynamodb_url: String,
    /// S3's endpoint.
    pub s3_url: String,
    /// SQS's endpoint.
    pub sqs_url: String,
    /// The queue of jobs.
    pub queue_url: String,
    /// The sweeper's variables: a sweep by command goes by the same rules.
    pub sweeper_variables: BTreeMap<String, String>,
}

/// The file's name.
const FILE: &str = "running.json";

impl Running {
    /// Leaves it in the data folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let file = data.join(FILE);
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))
    }

    /// Takes it away.
    pub fn remove(data: &Path) {
        if let Err(error) = std::fs::remove_file(data.join(FILE)) {
            tracing::warn!(error = %error, "running.json could not be removed");
        }
    }

    /// The system that runs on this data folder.
    ///
    /// # Errors
    /// When none does.
    pub fn read(data: &Path) -> anyhow::Result<Self> {
        let file = data.join(FILE);
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!(
                "no local system runs on {}: start one with `darkroom local`, or name a stack with --stack",
                data.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} cannot be read", file.display()))
    }

    /// How its clients reach it.
    pub fn access(&self) -> Access {
        Access {
            region: self.region.clone(),
            credentials: local_credentials(),
            endpoints: Endpoints {
                dynamodb: Some(self.dynamodb_url.clone()),
                s3: Some(self.s3_url.clone()),
                sqs: Some(self.sqs_url.clone()),
            },
        }
    }
}

/// The credentials of every local system.
pub fn local_credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(LOCAL_ACCESS_KEY, LOCAL_SECRET_KEY, None, None, "local"))
}

/// The stores of a system, for commands.
pub struct Stores {
    /// Jobs.
    pub jobs: JobTable,
    /// Ledger.
    pub ledger: LedgerTable,
    /// Keys, scopes, models.
    pub keys: KeyTable,
    /// The scheduled sweep's own code, with the scheduled sweep's settings.
    pub sweep: Sweep,
}

impl Stores {
    /// Connects to the local system on this data folder.
    ///
    /// # Errors
    /// When none runs there or it does not answer.
    pub async fn local(data: &Path) -> anyhow::Result<Self> {
        let running = Running::read(data)?;
        let stores = Self::new(&running.access(), &running.sweeper_variables, running.queue_url.clone())?;
        if let Err(error) = stores.keys.ping().await {
            bail!(
                "the local system of {} (process {}) does not answer: start it again with `darkroom local` ({error})",
                data.display(),
                running.process_id
            );
        }
        Ok(stores)
    }

    /// Connects to a deployed stack, whose tables and queue have the template's names. The sweep goes by the template's
    /// defaults, unless `DARKROOM_…` variables in this environment say otherwise.
    ///
    /// # Errors
    /// When the environment has no credentials or region, or the stack does not answer.
    pub async fn deployed(stack: &str) -> anyhow::Result<Self> {
        let access = Access::from_environment(&Environment::process())
            .context("--stack takes the environment's AWS credentials and region")?;
        let queue_name = format!("{stack}-jobs");
        let queue_url = JobQueue::url(&Clients::new(&access).sqs, &queue_name)
            .await
            .with_context(|| format!("the stack {stack} has no queue {queue_name} in {}", access.region))?;
        let mut variables: BTreeMap<_, _> =
            std::env::vars().filter(|(name, _)| name.starts_with("DARKROOM_")).collect();
        for (variable, table) in [
            ("DARKROOM_JOBS_TABLE", "jobs"),
            ("DARKROOM_LEDGER_TABLE", "ledger"),
            ("DARKROOM_KEYS_TABLE", "keys"),
        ] {
            variables.insert(variable.to_owned(), format!("{stack}-{table}"));
        }
        let stores = Self::new(&access, &variables, queue_url)?;
        stores.keys.ping().await.with_context(|| format!("the tables of the stack {stack} do not answer"))?;
        Ok(stores)
    }

    /// The stores behind these clients, with the sweeper's variables.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub fn new(
        access: &Access,
        variables: &BTreeMap<String, String>,
        queue_url: String,
    ) -> anyhow::Result<Self> {
        let environment = Environment::from_fn(|name| variables.get(name).cloned());
        let tables = darkroom_aws::config::Tables::read(&environment)?;
        let rules = SweepRules::read(&environment)?.rules;
        let clients = Clients::new(access);
        let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
        let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs, ledger.clone());
        let sweep = Sweep { jobs: jobs.clone(), queue: JobQueue::new(clients.sqs, queue_url), rules };
        Ok(Self { jobs, ledger, keys: KeyTable::new(clients.dynamodb, tables.keys), sweep })
    }
}

/// The data folder unless another is named.
pub fn default_data() -> PathBuf {
    PathBuf::from(".darkroom")
}
