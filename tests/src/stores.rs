//! The stores alone, without functions: for tests of single writes.

use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::{JobTable, KeyTable, LedgerTable, SecretBox};
use darkroom_local_aws::{Credentials, LocalAws, Settings};
use darkroom_template::{Names, Stack, Template};
use tempfile::TempDir;

/// Tables as the template describes them, on a local AWS of their own.
pub struct TestStores {
    /// Jobs.
    pub jobs: JobTable,
    /// Ledger.
    pub ledger: LedgerTable,
    /// Keys.
    pub keys: KeyTable,
    /// Seals and opens secrets.
    pub secrets: SecretBox,
    /// For writing items by hand.
    pub clients: Clients,
    /// The jobs table's name.
    pub jobs_name: String,
    /// The ledger table's name.
    pub ledger_name: String,
    /// Where the stores listen.
    pub endpoints: Endpoints,
    /// The keys table's name.
    pub keys_name: String,
    /// The local AWS behind them.
    pub aws: LocalAws,
    _folder: TempDir,
}

const JOBS: &str = "test-jobs";
const LEDGER: &str = "test-ledger";

/// Clients of these endpoints.
pub fn clients(endpoints: Endpoints) -> Clients {
    Clients::new(&Access {
        region: "us-east-1".to_owned(),
        credentials: darkroom::connect::local_credentials(),
        endpoints,
    })
}

/// The stack of this name that the template describes, its queues at this endpoint.
///
/// # Errors
/// When the template is broken.
pub fn stack(name: &str, sqs_endpoint: &str) -> anyhow::Result<Stack> {
    let parameters = [("JwtIssuer", "https://localhost"), ("JwtAudience", "test")];
    let names = Names {
        stack: name.to_owned(),
        region: "us-east-1".to_owned(),
        account: "000000000000".to_owned(),
        partition: "aws".to_owned(),
        queue_url_prefix: sqs_endpoint.to_owned(),
        api_url: "http://127.0.0.1".to_owned(),
        parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    };
    Ok(Template::parse(include_str!("../../infra/template.yaml"))?.stack(&names)?)
}

impl TestStores {
    /// Starts them.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let credentials = Credentials {
            access_key_id: darkroom::connect::LOCAL_ACCESS_KEY.to_owned(),
            secret_access_key: darkroom::connect::LOCAL_SECRET_KEY.to_owned(),
        };
        let aws = LocalAws::start(Settings::new(folder.path(), credentials)).await?;
        let stack = stack("test", aws.sqs_endpoint())?;
        for table in &stack.tables {
            aws.ensure_table(table.create_table.clone(), table.ttl_attribute.as_deref()).await?;
        }
        for key in &stack.kms_keys {
            aws.ensure_key(&key.id)?;
        }
        let endpoints = Endpoints {
            dynamodb: Some(aws.dynamodb_endpoint().to_owned()),
            kms: Some(aws.kms_endpoint().to_owned()),
            s3: Some(aws.s3_endpoint().to_owned()),
            sqs: Some(aws.sqs_endpoint().to_owned()),
        };
        let clients = clients(endpoints.clone());
        let ledger = LedgerTable::new(clients.dynamodb.clone(), LEDGER.to_owned());
        Ok(Self {
            jobs: JobTable::new(clients.dynamodb.clone(), JOBS.to_owned(), ledger.clone()),
            keys: KeyTable::new(clients.dynamodb.clone(), "test-keys".to_owned()),
            secrets: SecretBox::new(clients.kms(), "test-SecretsKey".to_owned()),
            ledger,
            clients,
            jobs_name: JOBS.to_owned(),
            ledger_name: LEDGER.to_owned(),
            endpoints,
            keys_name: "test-keys".to_owned(),
            aws,
            _folder: folder,
        })
    }

    /// The jobs table as a client sees it that goes to DynamoDB at this URL.
    pub fn jobs_at(&self, dynamodb: &str) -> JobTable {
        let client =
            clients(Endpoints { dynamodb: Some(dynamodb.to_owned()), ..Endpoints::default() }).dynamodb;
        JobTable::new(client.clone(), JOBS.to_owned(), LedgerTable::new(client, LEDGER.to_owned()))
    }
}
