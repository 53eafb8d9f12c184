//! What can go wrong at the stores, by what the caller must do about it.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use thiserror::Error;

use crate::attributes::{Item, ItemError};
use crate::keys::readable_key;

/// A store did not do what it was asked. Refused conditions are not errors.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store asks us to slow down, or other writes of the same item were in the way: try again later. The try that
    /// was answered so wrote nothing; an earlier one whose answer was lost may have.
    #[error("{store} is too busy for {operation}: try again later")]
    Throttled {
        /// The store.
        store: &'static str,
        /// The operation.
        operation: &'static str,
    },
    /// The store did not answer, or answered with a fault of its own: whether the write happened is unknown.
    #[error("{store} failed at {operation} ({code}): try again; a write may or may not have happened")]
    Unavailable {
        /// The store.
        store: &'static str,
        /// The operation.
        operation: &'static str,
        /// The store's code, or what happened on the wire.
        code: String,
        /// What the SDK said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The store refused the call itself: a missing table or permission. Trying again does not help.
    #[error(
        "{store} refused {operation} ({code}: {message}): check the table, queue, bucket or KMS key, and the caller's policy"
    )]
    Refused {
        /// The store.
        store: &'static str,
        /// The operation.
        operation: &'static str,
        /// The store's code.
        code: String,
        /// The store's words.
        message: String,
    },
    /// An item is not of the form that this release writes.
    #[error("the item {key} cannot be read ({problem}): it was written by another release or by hand")]
    Unreadable {
        /// The item's key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The books contradict each other; nothing was written.
    #[error("the books of job {job} do not add up ({problem}): run `darkroom tokens audit`")]
    Books {
        /// The job that was to be settled.
        job: String,
        /// What does not add up.
        problem: String,
    },
}

impl StoreError {
    /// An item is not of the form that this release writes.
    pub(crate) fn unreadable(item: &Item, problem: &ItemError) -> Self {
        Self::Unreadable { key: readable_key(item), problem: problem.to_string() }
    }

    /// Sorts an SDK error.
    pub(crate) fn from_sdk<E, R>(store: &'static str, operation: &'static str, error: SdkError<E, R>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let SdkError::ServiceError(service) = &error else {
            let code = match &error {
                SdkError::TimeoutError(_) => "timeout",
                SdkError::DispatchFailure(_) => "no connection",
                SdkError::ResponseError(_) => "unreadable answer",
                SdkError::ConstructionFailure(_) => "request not built",
                _ => "unknown",
            };
            return Self::Unavailable { store, operation, code: code.to_owned(), source: Some(error.into()) };
        };
        let code = service.err().code().unwrap_or("unknown").to_owned();
        if is_contention(&code) {
            return Self::Throttled { store, operation };
        }
        if is_server_fault(&code) {
            return Self::Unavailable { store, operation, code, source: Some(error.into()) };
        }
        let message = service.err().message().unwrap_or("no message").to_owned();
        Self::Refused { store, operation, code, message }
    }

    /// Whether the same call may succeed later.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. })
    }
}

/// Codes that say nothing about the data: a conflict, or that the pace is too fast (AWS SDK reference, "retryable
/// throttling errors").
pub(crate) fn is_contention(code: &str) -> bool {
    is_conflict(code) || is_throttling(code)
}

/// Codes with which another write of the same item, then under way, stopped this one. DynamoDB API reference:
/// `TransactionConflict` is a reason of a cancelled transaction, `TransactionConflictException` what a single write is
/// answered. S3 API reference, `PutObject` with `If-None-Match`: on 409 "retry the upload".
pub(crate) fn is_conflict(code: &str) -> bool {
    matches!(
        code,
        "TransactionConflict"
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ConditionalRequestConflict"
            | "OperationAborted"
    )
}

fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException"
            | "ThrottlingError"
            | "Throttling"
            | "ProvisionedThroughputExceededException"
            | "ProvisionedThroughputExceeded"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "SlowDown"
            | "TooManyRequestsException"
    )
}

fn is_server_fault(code: &str) -> bool {
    matches!(
        code,
        "InternalServerError"
            | "InternalFailure"
            | "InternalError"
            | "KMSInternalException"
            | "DependencyTimeoutException"
            | "KeyUnavailableException"
            | "ServiceUnavailable"
            | "unknown"
            | "RequestTimeout"
    )
}
