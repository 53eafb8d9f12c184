//! Why a local AWS could not start, or could not make what it was asked to make.

use std::path::PathBuf;

/// Any error of the engine below.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why [`LocalAws::start`](crate::LocalAws::start) failed. Nothing keeps running after it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder cannot be made, or its lock file cannot be opened.
    #[error("the data folder {} cannot be used: check that it can be written to", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another live process holds the folder.
    #[error("the data folder {} is in use by {holder}: stop that process, or use another folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// "process 4711", or "another process" where it left no number.
        holder: String,
    },
    /// A port cannot be bound.
    #[error("{service} cannot listen on 127.0.0.1:{port}: choose another port, or 0 for any")]
    Port {
        /// Which service.
        service: &'static str,
        /// The port asked for.
        port: u16,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The master key of KMS is not safe, or is no key.
    #[error("the master key {} of KMS cannot be used: {problem}", path.display())]
    MasterKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A service cannot open its data.
    #[error("{service} cannot open its data: move the data folder away to begin anew")]
    Storage {
        /// Which service.
        service: &'static str,
        /// What its storage said.
        source: Source,
    },
}

impl StartError {
    pub(crate) fn storage(service: &'static str, source: impl Into<Source>) -> Self {
        Self::Storage { service, source: source.into() }
    }
}

/// Why a table, bucket or queue is not there as asked.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// The service refused the definition.
    #[error("{resource} cannot be made: {reason}")]
    Refused {
        /// What was to be made, such as "table jobs".
        resource: String,
        /// The service's own words.
        reason: String,
    },
    /// It exists with a definition that cannot be changed in place.
    #[error("{resource} exists with another {difference}: move the data folder away to begin anew")]
    Differs {
        /// What exists, such as "table jobs".
        resource: String,
        /// In what it differs, such as "key schema".
        difference: String,
    },
    /// The storage failed.
    #[error("{resource} cannot be stored: see the source of this error")]
    Storage {
        /// What was to be made.
        resource: String,
        /// What the storage said.
        source: Source,
    },
}

impl EnsureError {
    pub(crate) fn refused(resource: &str, reason: impl std::fmt::Display) -> Self {
        Self::Refused { resource: resource.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn storage(resource: &str, source: impl Into<Source>) -> Self {
        Self::Storage { resource: resource.to_owned(), source: source.into() }
    }
}
