//! An export: what is asked for, its record, and the only place where its state changes.
//!
//! `pending → processing → ready | failed`, and `processing → pending` when it is taken up again. Every change makes a new record
//! with a fresh stamp, and is written if the record still has the stamp of the one that it was made of: so nobody who was
//! overtaken changes anything (ADR 42).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::civil::Days;
use crate::error_code::Language;
use crate::export_file::Totals;
use crate::fields::{Fields, one_of};
use crate::id::{ExportId, Stamp, UserId, base32, digest};
use crate::lifecycle::expires_at;
use crate::limits::{
    EXPORT_DAYS_MAX, EXPORT_DEADLINE, EXPORT_LEASE, EXPORT_RECORD_DAYS, EXPORT_TRIES_MAX, EXPORT_WAKE,
};
use crate::request::Violation;
use crate::time::Timestamp;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Parses the stable text.
            ///
            /// # Errors
            /// What it must be, in words.
            pub fn parse(text: &str) -> Result<Self, String> {
                let known = Self::ALL.iter().find(|known| known.as_str() == text);
                known.copied().ok_or_else(|| one_of(&[$($word),+]))
            }
        }
    };
}

words!(
    /// What is exported.
    ExportKind {
        /// The user's jobs.
        Jobs = "jobs",
        /// The entries of the user's account.
        Ledger = "ledger",
    }
);
words!(
    /// How it is written.
    ExportFormat {
        /// RFC 4180.
        Csv = "csv",
        /// One JSON object a line.
        Jsonl = "jsonl",
    }
);
words!(
    /// What is summed up in one row.
    GroupBy {
        /// A day in UTC.
        Day = "day",
        /// A week of ISO 8601: it begins on Monday.
        Week = "week",
        /// A calendar month.
        Month = "month",
    }
);

impl ExportFormat {
    /// The media type of the file.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// What is exported.
    pub kind: ExportKind,
    /// How it is written.
    pub format: ExportFormat,
    /// Of which days in UTC.
    pub days: Days,
    /// Rows of sums in the place of rows of their own.
    pub group_by: Option<GroupBy>,
}

const FIELDS: [&str; 5] = ["kind", "format", "start_date", "end_date", "group_by"];

impl ExportRequest {
    /// Parses a request for an export.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing; of unknown fields the first 16 and how many more there are.
    pub fn parse(body: &Value) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(body, &FIELDS)?;
        let kind = fields.required("kind", ExportKind::parse);
        let format = fields.required("format", ExportFormat::parse);
        let start = fields.required("start_date", Days::parse_day);
        let end = fields.required("end_date", Days::parse_day);
        let group_by = fields.optional("group_by", GroupBy::parse);
        let days = match (start, end) {
            (Some(start), Some(end)) => Days::new(start, end, EXPORT_DAYS_MAX)
                .map_err(|reason| {
                    let pointer = "/end_date".to_owned();
                    fields.violations.push(Violation { pointer, reason, unknown_field: false });
                })
                .ok(),
            _ => None,
        };
        match (kind, format, days) {
            (Some(kind), Some(format), Some(days)) if fields.violations.is_empty() => {
                Ok(Self { kind, format, days, group_by })
            }
            _ => Err(fields.violations),
        }
    }

    /// A hash of everything asked for. The same key with another hash is another request: 422.
    pub fn hash(&self) -> String {
        let group_by = self.group_by.map_or("", GroupBy::as_str);
        let (start, end) = (self.days.start(), self.days.end());
        let parts = ["export-1", self.kind.as_str(), self.format.as_str(), &start, &end, group_by];
        base32(&digest(&parts)).get(..26).unwrap_or_default().to_owned()
    }

    /// The name under which the file is kept by whoever downloads it.
    pub fn file_name(&self) -> String {
        let (kind, extension) = (self.kind.as_str(), self.format.as_str());
        format!("darkroom-{kind}-{}-{}.{extension}", self.days.start(), self.days.end())
    }
}

/// An export as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Derived from owner and idempotency key.
    pub id: ExportId,
    /// Whose it is.
    pub user: UserId,
    /// What was asked for.
    pub request: ExportRequest,
    /// When: what was written later is not in the file.
    pub asked_at: Timestamp,
    /// When it must be done.
    pub deadline_at: Timestamp,
    /// Rises with every write. 1 is the submission.
    pub version: u64,
    /// The last write's stamp, which the next one names: the fence.
    pub op: Stamp,
    /// How often it was claimed.
    pub attempt: u32,
    /// Claims since the last progress.
    pub tries: u32,
    /// Rows so far.
    pub rows: u64,
    /// Where it stands.
    pub stage: ExportStage,
}

/// Where an export stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportStage {
    /// Waits.
    Pending {
        /// The sweeper looks at it then.
        due_at: Timestamp,
        /// What was done before.
        progress: Progress,
    },
    /// Is being written. It is due when the lease ends.
    Processing {
        /// Nobody else takes it up before then.
        lease_until: Timestamp,
        /// What is done.
        progress: Progress,
    },
    /// Can be downloaded.
    Ready {
        /// The file.
        file: ExportFile,
        /// When it was.
        finished_at: Timestamp,
        /// The record may be deleted then.
        expires_at: Timestamp,
    },
    /// Was given up.
    Failed {
        /// Why.
        failure: ExportFailure,
        /// When it was.
        finished_at: Timestamp,
        /// The record may be deleted then.
        expires_at: Timestamp,
    },
}

/// What is done of an export that is not: whoever takes it up goes on from here, and from nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where to read on.
    pub place: Place,
    /// Rows in the parts.
    pub rows: u64,
    /// Bytes in the parts.
    pub bytes: u64,
    /// The parts that S3 has; `None` before the first.
    pub upload: Option<Parts>,
    /// Sums so far.
    pub totals: Totals,
}

/// How far an export has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Not at all.
    #[default]
    Start,
    /// Up to here, in the words of what is read.
    Behind(String),
    /// To its end.
    End,
}

/// A multipart upload, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The object's key.
    pub key: String,
    /// S3's name for the upload.
    pub upload_id: String,
    /// What S3 answered to each part, in their order: the object is made of these bytes or not at all.
    pub etags: Vec<String>,
}

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFile {
    /// The object's key.
    pub key: String,
    /// Length.
    pub bytes: u64,
}

words!(
    /// Why an export failed.
    ExportFailure {
        /// It was not done by its deadline.
        DeadlineExceeded = "deadline_exceeded",
        /// Nobody got any further with it, several times in a row.
        AttemptsExhausted = "attempts_exhausted",
        /// There is more than one file can hold.
        TooLarge = "too_large",
    }
);

impl ExportFailure {
    /// The failure as it was stored. One that a newer release wrote reads as the most general.
    pub fn from_stored(text: &str) -> Self {
        Self::parse(text).unwrap_or(Self::AttemptsExhausted)
    }

    /// Whether the same request may succeed later.
    pub const fn is_retryable(self) -> bool {
        !matches!(self, Self::TooLarge)
    }

    /// What happened and what to do next, for the person who asked.
    pub const fn message(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::DeadlineExceeded, Language::En) => {
                "The export was not ready by its deadline. Please ask again, perhaps for fewer days."
            }
            (Self::DeadlineExceeded, Language::Tr) => {
                "Dışa aktarma süresi içinde hazırlanamadı. Lütfen yeniden isteyin, gerekirse daha az gün için."
            }
            (Self::AttemptsExhausted, Language::En) => {
                "The export failed several times. Please ask again in a few minutes."
            }
            (Self::AttemptsExhausted, Language::Tr) => {
                "Dışa aktarma birkaç kez başarısız oldu. Lütfen birkaç dakika sonra yeniden isteyin."
            }
            (Self::TooLarge, Language::En) => {
                "There is more to export than one file can hold. Please ask for fewer days at a time."
            }
            (Self::TooLarge, Language::Tr) => {
                "Dışa aktarılacak veri tek dosyaya sığmıyor. Lütfen her seferinde daha az gün isteyin."
            }
        }
    }
}

/// What a new export needs beside its request.
pub struct ExportSubmission {
    /// Derived from owner and idempotency key.
    pub id: ExportId,
    /// The owner.
    pub user: UserId,
    /// What is asked for.
    pub request: ExportRequest,
    /// Now.
    pub asked_at: Timestamp,
    /// This write's stamp.
    pub op: Stamp,
}

/// Why nobody works on an export that a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimable {
    /// It is over.
    Over,
    /// Somebody does.
    Held,
    /// Its time or its tries are over: the sweeper ends it.
    NothingLeft,
}

/// What the sweeper does with an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportSweep {
    /// Nothing: it is not due.
    Leave,
    /// Write this, then send its message.
    Send(Export),
    /// Write this: it has failed.
    End(Export),
}

impl Export {
    /// An export as it is asked for.
    pub fn submitted(submission: ExportSubmission) -> Self {
        let ExportSubmission { id, user, request, asked_at, op } = submission;
        let due_at = asked_at.plus(EXPORT_WAKE);
        Self {
            id,
            user,
            request,
            asked_at,
            deadline_at: asked_at.plus(EXPORT_DEADLINE),
            version: 1,
            op,
            attempt: 0,
            tries: 0,
            rows: 0,
            stage: ExportStage::Pending { due_at, progress: Progress::default() },
        }
    }

    /// What is exported: from this moment, to before that one. What is written after it was asked for is not: so the file has
    /// an end, whoever goes on with it and when.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        (self.request.days.from(), self.request.days.until().min(self.asked_at))
    }

    /// The state's name.
    pub const fn status(&self) -> &'static str {
        match self.stage {
            ExportStage::Pending { .. } => "pending",
            ExportStage::Processing { .. } => "processing",
            ExportStage::Ready { .. } => "ready",
            ExportStage::Failed { .. } => "failed",
        }
    }

    /// Whether this user sees it at this time. The store deletes an expired record some time later, so readers compare.
    pub fn belongs_to(&self, user: &UserId, now: Timestamp) -> bool {
        self.user == *user && self.expires_at().is_none_or(|at| at > now)
    }

    /// When the record may be deleted; `None` while it is not over.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self.stage {
            ExportStage::Ready { expires_at, .. } | ExportStage::Failed { expires_at, .. } => {
                Some(expires_at)
            }
            ExportStage::Pending { .. } | ExportStage::Processing { .. } => None,
        }
    }

    /// When the sweeper must look at it; `None` once it is over.
    pub const fn due_at(&self) -> Option<Timestamp> {
        match self.stage {
            ExportStage::Pending { due_at, .. } => Some(due_at),
            ExportStage::Processing { lease_until, .. } => Some(lease_until),
            ExportStage::Ready { .. } | ExportStage::Failed { .. } => None,
        }
    }

    /// What is done of it; `None` once it is over.
    pub const fn progress(&self) -> Option<&Progress> {
        match &self.stage {
            ExportStage::Pending { progress, .. } | ExportStage::Processing { progress, .. } => {
                Some(progress)
            }
            ExportStage::Ready { .. } | ExportStage::Failed { .. } => None,
        }
    }

    /// Taken up by whoever writes this.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn claim(&self, now: Timestamp, op: Stamp) -> Result<Self, Unclaimable> {
        let progress = self.progress().ok_or(Unclaimable::Over)?.clone();
        if self.is_held(now) {
            return Err(Unclaimable::Held);
        }
        if self.failure(now).is_some() {
            return Err(Unclaimable::NothingLeft);
        }
        let stage = ExportStage::Processing { lease_until: now.plus(EXPORT_LEASE), progress };
        Ok(Self { attempt: self.attempt + 1, tries: self.tries + 1, ..self.next(stage, op) })
    }

    /// It goes on, and so much of it is done now. Whoever gets further has all tries again.
    #[must_use]
    pub fn renewed(&self, progress: Progress, now: Timestamp, op: Stamp) -> Self {
        let tries = self.tries_after(&progress);
        let rows = progress.rows;
        let stage = ExportStage::Processing { lease_until: now.plus(EXPORT_LEASE), progress };
        Self { tries, rows, ..self.next(stage, op) }
    }

    /// Given back in good time, to be taken up again at once: so much of it is done.
    #[must_use]
    pub fn released(&self, progress: Progress, now: Timestamp, op: Stamp) -> Self {
        let tries = self.tries_after(&progress);
        let rows = progress.rows;
        Self { tries, rows, ..self.next(ExportStage::Pending { due_at: now, progress }, op) }
    }

    /// Begun anew, by whoever holds it: what was done is lost. It counts as another attempt, which writes another object.
    #[must_use]
    pub fn restarted(&self, now: Timestamp, op: Stamp) -> Self {
        let stage =
            ExportStage::Processing { lease_until: now.plus(EXPORT_LEASE), progress: Progress::default() };
        Self { attempt: self.attempt + 1, tries: self.tries + 1, rows: 0, ..self.next(stage, op) }
    }

    /// The file is there.
    #[must_use]
    pub fn ready(&self, file: ExportFile, rows: u64, now: Timestamp, op: Stamp) -> Self {
        let stage =
            ExportStage::Ready { file, finished_at: now, expires_at: expires_at(now, EXPORT_RECORD_DAYS) };
        Self { rows, ..self.next(stage, op) }
    }

    /// It is given up.
    #[must_use]
    pub fn failed(&self, failure: ExportFailure, now: Timestamp, op: Stamp) -> Self {
        let expires_at = expires_at(now, EXPORT_RECORD_DAYS);
        self.next(ExportStage::Failed { failure, finished_at: now, expires_at }, op)
    }

    /// What a sweep at `now` does with it.
    pub fn sweep(&self, now: Timestamp, op: Stamp) -> ExportSweep {
        let (Some(due_at), Some(progress)) = (self.due_at(), self.progress()) else {
            return ExportSweep::Leave;
        };
        if self.is_held(now) {
            return ExportSweep::Leave;
        }
        if let Some(failure) = self.failure(now) {
            return ExportSweep::End(self.failed(failure, now, op));
        }
        if due_at > now {
            return ExportSweep::Leave;
        }
        let stage = ExportStage::Pending { due_at: now.plus(EXPORT_WAKE), progress: progress.clone() };
        ExportSweep::Send(self.next(stage, op))
    }

    fn next(&self, stage: ExportStage, op: Stamp) -> Self {
        Self { version: self.version + 1, op, stage, ..self.clone() }
    }

    fn tries_after(&self, progress: &Progress) -> u32 {
        let is_further = self.progress().is_some_and(|before| before.place != progress.place);
        if is_further { 0 } else { self.tries }
    }

    fn is_held(&self, now: Timestamp) -> bool {
        matches!(self.stage, ExportStage::Processing { lease_until, .. } if lease_until > now)
    }

    /// Why nobody may take it up any more.
    fn failure(&self, now: Timestamp) -> Option<ExportFailure> {
        if self.deadline_at <= now {
            return Some(ExportFailure::DeadlineExceeded);
        }
        (self.tries >= EXPORT_TRIES_MAX).then_some(ExportFailure::AttemptsExhausted)
    }

    /// The JSON of the export, with this link to its file.
    pub fn render(
        &self,
        download_url: Option<(String, Duration)>,
        now: Timestamp,
        language: Language,
    ) -> Value {
        let (bytes, finished_at, failure) = match &self.stage {
            ExportStage::Ready { file, finished_at, .. } => (Some(file.bytes), Some(*finished_at), None),
            ExportStage::Failed { failure, finished_at, .. } => (None, Some(*finished_at), Some(*failure)),
            ExportStage::Pending { .. } | ExportStage::Processing { .. } => (None, None, None),
        };
        let (url, life) = download_url.unzip();
        json!({
            "id": self.id,
            "status": self.status(),
            "kind": self.request.kind.as_str(),
            "format": self.request.format.as_str(),
            "start_date": self.request.days.start(),
            "end_date": self.request.days.end(),
            "group_by": self.request.group_by.map(GroupBy::as_str),
            "rows": self.rows,
            "bytes": bytes,
            "download_url": url,
            "download_expires_at": life.map(|life| now.plus(life).rfc3339()),
            "error": failure.map(|failure| json!({
                "code": failure.as_str(),
                "message": failure.message(language),
                "retryable": failure.is_retryable(),
            })),
            "created_at": self.asked_at.rfc3339(),
            "finished_at": finished_at.map(Timestamp::rfc3339),
            "expires_at": self.expires_at().map(Timestamp::rfc3339),
        })
    }
}
