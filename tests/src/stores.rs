//! The stores alone, without functions: for tests of single writes.

use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::{JobTable, KeyTable, LedgerTable};
use darkroom_local_aws::{Credentials, LocalAws, Settings};
use darkroom_template::{Names, Template};
use tempfile::TempDir;

/// Tables as the template describes them, on a local AWS of their own.
pub struct TestStores {
    /// Jobs.
    pub jobs: JobTable,
    /// Ledger.
    pub ledger: LedgerTable,
    /// Keys.
    pub keys: KeyTable,
    /// For writing items by hand.
    pub clients: Clients,
    /// The jobs table's name.
    pub jobs_name: String,
    /// The ledger table's name.
    pub ledger_name: String,
    _aws: LocalAws,
    _folder: TempDir,
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
        let parameters = [("JwtIssuer", "https://localhost"), ("JwtAudience", "test")];
        let names = Names {
            stack: "test".to_owned(),
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            partition: "aws".to_owned(),
            queue_url_prefix: aws.sqs_endpoint().to_owned(),
            api_url: "http://127.0.0.1".to_owned(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let stack = Template::parse(include_str!("../../infra/template.yaml"))?.stack(&names)?;
        for table in &stack.tables {
            aws.ensure_table(table.create_table.clone(), table.ttl_attribute.as_deref()).await?;
        }
        let clients = Clients::new(&Access {
            region: "us-east-1".to_owned(),
            credentials: darkroom::connect::local_credentials(),
            endpoints: Endpoints {
                dynamodb: Some(aws.dynamodb_endpoint().to_owned()),
                s3: Some(aws.s3_endpoint().to_owned()),
                sqs: Some(aws.sqs_endpoint().to_owned()),
            },
        });
        let ledger = LedgerTable::new(clients.dynamodb.clone(), "test-ledger".to_owned());
        Ok(Self {
            jobs: JobTable::new(clients.dynamodb.clone(), "test-jobs".to_owned(), ledger.clone()),
            keys: KeyTable::new(clients.dynamodb.clone(), "test-keys".to_owned()),
            ledger,
            clients,
            jobs_name: "test-jobs".to_owned(),
            ledger_name: "test-ledger".to_owned(),
            _aws: aws,
            _folder: folder,
        })
    }
}
