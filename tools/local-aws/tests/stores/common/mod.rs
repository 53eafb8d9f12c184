//! A local AWS in a folder of its own, and the real SDK's clients for it.

pub(crate) mod items;
pub(crate) mod sqs;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials as SdkCredentials;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use darkroom_local_aws::{Credentials, LocalAws, Settings};
use tempfile::TempDir;

pub(crate) const KEY: &str = "AKIALOCALDARKROOM";
pub(crate) const SECRET: &str = "a-secret-for-tests-only";

/// Where the four services listen.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) dynamodb: String,
    pub(crate) kms: String,
    pub s3: String,
    pub(crate) sqs: String,
}

pub(crate) struct Local {
    pub(crate) aws: LocalAws,
    folder: TempDir,
}

impl Local {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { aws: LocalAws::start(settings(folder.path())).await.unwrap(), folder }
    }

    /// Stops everything and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.aws.shutdown().await;
        Self { aws: LocalAws::start(settings(self.folder.path())).await.unwrap(), folder: self.folder }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        Endpoints {
            dynamodb: self.aws.dynamodb_endpoint().to_owned(),
            kms: self.aws.kms_endpoint().to_owned(),
            s3: self.aws.s3_endpoint().to_owned(),
            sqs: self.aws.sqs_endpoint().to_owned(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        s3(&self.endpoints().s3, SECRET)
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        sqs_client(&self.endpoints().sqs, KEY)
    }

    pub(crate) fn kms(&self) -> aws_sdk_kms::Client {
        kms_client(&self.endpoints().kms, KEY)
    }

    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        dynamodb(&self.endpoints().dynamodb)
    }

    /// A queue with attributes; its URL.
    pub(crate) async fn queue(&self, name: &str, attributes: &[(&str, &str)]) -> String {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.aws.ensure_queue(name, &attributes).await.unwrap().url
    }
}

pub(crate) fn settings(folder: impl Into<PathBuf>) -> Settings {
    let credentials = Credentials { access_key_id: KEY.to_owned(), secret_access_key: SECRET.to_owned() };
    Settings::new(folder, credentials)
}

fn region() -> Region {
    Region::from_static("us-east-1")
}

pub(crate) fn s3(endpoint: &str, secret: &str) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region())
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(SdkCredentials::new(KEY, secret, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

pub(crate) fn sqs_client(endpoint: &str, key: &str) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region())
            .endpoint_url(endpoint)
            .credentials_provider(SdkCredentials::new(key, SECRET, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

pub(crate) fn kms_client(endpoint: &str, key: &str) -> aws_sdk_kms::Client {
    aws_sdk_kms::Client::from_conf(
        aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region())
            .endpoint_url(endpoint)
            .credentials_provider(SdkCredentials::new(key, SECRET, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

pub(crate) fn dynamodb(endpoint: &str) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region())
            .endpoint_url(endpoint)
            .credentials_provider(SdkCredentials::new(KEY, SECRET, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

/// A client without the SDK. It wants a TLS provider installed even for plain HTTP.
pub(crate) fn http() -> reqwest::Client {
    // A second installation finds the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Asks again and again until there is an answer, for at most half a minute.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within thirty seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
