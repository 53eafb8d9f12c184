//! Which system a command speaks to: the local one, or a deployed stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::config::{Environment, SweepRules, bulk_queue_url, kms_key};
use darkroom_aws::{BulkQueue, JobQueue, JobTable, KeyTable, LedgerTable, SecretBox, Sweep, read_clock};
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
    /// KMS's endpoint.
    pub kms_url: String,
    /// S3's endpoint.
    pub s3_url: String,
    /// SQS's endpoint.
    pub sqs_url: String,
    /// The queue of jobs.
    pub queue_url: String,
    /// The KMS key that secrets are sealed under.
    pub kms_key: String,
    /// The sweeper's variables: a sweep by command goes by the same rules.
    pub sweeper_variables: BTreeMap<String, String>,
}

/// The variable that names the KMS key, for a stack whose key has not the template's alias.
pub(crate) const KMS_KEY: &str = "DARKROOM_KMS_KEY";

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

    /// Its stores.
    ///
    /// # Errors
    /// When its variables are those of another release.
    pub fn stores(&self) -> anyhow::Result<Stores> {
        let (queue_url, kms_key) = (self.queue_url.clone(), self.kms_key.clone());
        Stores::new(&self.access(), &self.sweeper_variables, queue_url, kms_key)
    }

    /// How its clients reach it.
    pub fn access(&self) -> Access {
        Access {
            region: self.region.clone(),
            credentials: local_credentials(),
            endpoints: Endpoints {
                dynamodb: Some(self.dynamodb_url.clone()),
                kms: Some(self.kms_url.clone()),
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
    /// Keys, scopes, breakers, models.
    pub keys: KeyTable,
    /// The provider's minute.
    pub quota_minute: Duration,
    /// Seals the secrets of keys. On AWS the operator's credentials may seal; only the worker's role may open.
    pub secrets: SecretBox,
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
        let stores = running.stores()?;
        if let Err(error) = read_clock(&stores.keys).await {
            bail!(
                "the local system of {} (process {}) does not answer: start it again with `darkroom local` ({error})",
                data.display(),
                running.process_id
            );
        }
        Ok(stores)
    }

    /// Connects to a deployed stack, whose tables, queues and KMS alias have the template's names (`DARKROOM_KMS_KEY` in
    /// this environment names another KMS key). The sweep goes by the template's
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
        let bulk_name = format!("{stack}-bulk");
        let bulk_url = JobQueue::url(&Clients::new(&access).sqs, &bulk_name)
            .await
            .with_context(|| format!("the stack {stack} has no queue {bulk_name} in {}", access.region))?;
        let mut variables: BTreeMap<_, _> =
            std::env::vars().filter(|(name, _)| name.starts_with("DARKROOM_")).collect();
        for (variable, table) in [
            ("DARKROOM_JOBS_TABLE", "jobs"),
            ("DARKROOM_LEDGER_TABLE", "ledger"),
            ("DARKROOM_KEYS_TABLE", "keys"),
        ] {
            variables.insert(variable.to_owned(), format!("{stack}-{table}"));
        }
        variables.insert("DARKROOM_BULK_QUEUE_URL".to_owned(), bulk_url);
        variables.entry(KMS_KEY.to_owned()).or_insert_with(|| format!("alias/{stack}-secrets"));
        let kms_key = kms_key(&Environment::from_fn(|name| variables.get(name).cloned()))?;
        let stores = Self::new(&access, &variables, queue_url, kms_key)?;
        read_clock(&stores.keys)
            .await
            .with_context(|| format!("the tables of the stack {stack} do not answer"))?;
        Ok(stores)
    }

    /// The stores behind these clients, with the sweeper's variables and the KMS key of the secrets.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub fn new(
        access: &Access,
        variables: &BTreeMap<String, String>,
        queue_url: String,
        kms_key: String,
    ) -> anyhow::Result<Self> {
        let environment = Environment::from_fn(|name| variables.get(name).cloned());
        let tables = darkroom_aws::config::Tables::read(&environment)?;
        let SweepRules { rules, quota_minute, .. } = SweepRules::read(&environment)?;
        let clients = Clients::new(access);
        let bulk = BulkQueue::new(clients.sqs.clone(), bulk_queue_url(&environment)?);
        let secrets = SecretBox::new(clients.kms(), kms_key);
        let ledger = LedgerTable::new(clients.dynamodb.clone(), tables.ledger);
        let jobs = JobTable::new(clients.dynamodb.clone(), tables.jobs, ledger.clone());
        let keys = KeyTable::new(clients.dynamodb, tables.keys);
        let queue = JobQueue::new(clients.sqs, queue_url);
        let sweep = Sweep::new(jobs.clone(), keys.clone(), queue, Some(bulk), quota_minute, rules);
        Ok(Self { jobs, ledger, keys, quota_minute, secrets, sweep })
    }
}

/// The data folder unless another is named.
pub fn default_data() -> PathBuf {
    PathBuf::from(".darkroom")
}
