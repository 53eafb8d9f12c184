//! The SDK's HTTP client of a simulated process: the seam at which faults happen.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::now;
use serde_json::json;

use super::call::{Answer, Call, Service};
use super::check::Check;
use super::fault::{Fault, LATE};
use super::process::Process;
use super::stores::Stores;
use super::time::{belongs_to, pass};

/// Half of a round trip.
const ONE_WAY: Duration = Duration::from_millis(1);

#[derive(Clone)]
struct Wire {
    stores: Arc<Stores>,
    /// `None` for the simulation's own look at the stores, which takes no time and meets no fault.
    process: Option<Process>,
    /// Looks after every write.
    check: Option<Arc<Check>>,
}

/// The clients of a process.
pub(crate) fn clients(
    stores: &Arc<Stores>,
    process: Option<&Process>,
    check: Option<&Arc<Check>>,
) -> Clients {
    let wire = Wire { stores: Arc::clone(stores), process: process.cloned(), check: check.cloned() };
    let at = |service: &str| Some(format!("http://{service}.simulated"));
    Clients::over(
        SharedHttpClient::new(wire),
        &Access {
            region: "us-east-1".to_owned(),
            credentials: darkroom::connect::local_credentials(),
            endpoints: Endpoints { dynamodb: at("dynamodb"), kms: at("kms"), s3: at("s3"), sqs: at("sqs") },
        },
    )
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("process", &self.process).finish_non_exhaustive()
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.clone();
        HttpConnectorFuture::new(async move {
            let call = read(&request)?;
            if let Some(process) = &wire.process {
                return wire.exchange(process, call).await;
            }
            let mut response = response(wire.stores.answer(&call))?;
            // A worker asks until it knows the store's clock, where time is the machine's. What an answer tells holds in the
            // whole process, so the store goes by the clock of whoever asks.
            let now = UNIX_EPOCH + Duration::from_millis(now().as_millis());
            response.headers_mut().insert("date", httpdate::fmt_http_date(now));
            Ok(response)
        })
    }
}

impl Wire {
    async fn exchange(&self, process: &Process, call: Call) -> Result<HttpResponse, ConnectorError> {
        // Others of its tasks may have been about to run when it was killed.
        if process.is_dead() {
            return pending().await;
        }
        belongs_to(process.wrong_by_ms);
        let fault = self.stores.step(process.function, &call);
        pass(ONE_WAY).await;
        if process.is_dead() {
            return pending().await;
        }
        match fault {
            Some(Fault::KilledBefore) => {
                process.kill();
                pending().await
            }
            Some(Fault::Dropped) => Err(broken()),
            Some(Fault::Late) => {
                let wire = self.clone();
                tokio::spawn(async move {
                    pass(LATE).await;
                    wire.answer(&call).await
                });
                pending().await
            }
            Some(fault) => match call.refusal(fault) {
                Some(refusal) => response(refusal),
                None => self.done(process, &call, Some(fault)).await,
            },
            None => self.done(process, &call, None).await,
        }
    }

    async fn done(
        &self,
        process: &Process,
        call: &Call,
        fault: Option<Fault>,
    ) -> Result<HttpResponse, ConnectorError> {
        let answer = self.answer(call).await;
        pass(ONE_WAY).await;
        match fault {
            Some(Fault::KilledAfter) => {
                process.kill();
                pending().await
            }
            Some(Fault::AnswerLost) => Err(broken()),
            _ => response(answer),
        }
    }

    /// What the store makes of it; everything is looked at after every write that was done.
    async fn answer(&self, call: &Call) -> Answer {
        let answer = self.stores.answer(call);
        if let (Some(check), Some(process)) = (&self.check, &self.process)
            && answer.status == 200
            && call.changes_jobs()
        {
            check.look(process).await;
        }
        answer
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io("the connection broke".into())
}

fn read(request: &HttpRequest) -> Result<Call, ConnectorError> {
    let uri: http::Uri = request.uri().parse().map_err(|error| ConnectorError::user(Box::new(error)))?;
    let service = match uri.host().and_then(|host| host.split('.').next()) {
        Some("dynamodb") => Service::DynamoDb,
        Some("kms") => Service::Kms,
        Some("sqs") => Service::Sqs,
        _ => Service::S3,
    };
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let operation = match (service, request.method()) {
        (Service::S3, method) => of_s3(method, uri.query().unwrap_or_default()),
        _ => target.rsplit('.').next().unwrap_or_default(),
    };
    let operation = operation.to_owned();
    let if_none_match = request.headers().get("if-none-match").is_some();
    let invocation = request.headers().get("amz-sdk-invocation-id").unwrap_or_default().to_owned();
    let body = request.body().bytes().unwrap_or_default().to_vec();
    let request = match service {
        Service::S3 => json!({"prefix": parameter(&uri, "prefix")}),
        _ => serde_json::from_slice(&body).unwrap_or_default(),
    };
    Ok(Call { service, operation, path: uri.path().to_owned(), if_none_match, invocation, request, body })
}

/// What is asked of S3: the query tells what of an object, or of all.
fn of_s3<'a>(method: &'a str, query: &str) -> &'a str {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match method {
        "PUT" if has("tagging") => "PutObjectTagging",
        "PUT" => "PutObject",
        "DELETE" => "DeleteObject",
        "GET" if has("list-type") => "ListObjectsV2",
        "GET" => "GetObject",
        other => other,
    }
}

/// A parameter of a query; empty when it is not there.
fn parameter(uri: &http::Uri, name: &str) -> String {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value).next();
    // Of what is asked for here only strokes are written otherwise in a query.
    value.unwrap_or_default().replace("%2F", "/")
}

fn response(answer: Answer) -> Result<HttpResponse, ConnectorError> {
    let status =
        StatusCode::try_from(answer.status).map_err(|error| ConnectorError::user(Box::new(error)))?;
    Ok(HttpResponse::new(status, answer.object.map_or_else(|| SdkBody::from(answer.body), SdkBody::from)))
}
