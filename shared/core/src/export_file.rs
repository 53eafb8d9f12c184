//! The rows of an export and how they are written.
//!
//! One list of cells serves both formats. A row is written as it comes and nothing is kept of it, so that a file of any length
//! takes the memory of its page.

use std::borrow::Cow;
use std::collections::BTreeMap;

use csv::{Terminator, WriterBuilder};
use serde_json::{Map, Value};

use crate::export::{ExportFormat, ExportKind, ExportRequest, GroupBy};
use crate::id::{BatchId, JobId};
use crate::job::{Job, Outcome, Stage};
use crate::ledger::{Settlement, Tokens};
use crate::request::Prompt;
use crate::time::Timestamp;

/// Something that is exported.
#[derive(Clone)]
pub enum Row {
    /// A job, with its prompt.
    Job(Box<Job>, Option<Prompt>),
    /// Tokens given to an account.
    Grant {
        /// When.
        at: Timestamp,
        /// How many.
        tokens: Tokens,
        /// The operation that gave them.
        op_id: String,
    },
    /// How a job's hold ended.
    Settle {
        /// When.
        at: Timestamp,
        /// Paid or given back.
        settlement: Settlement,
        /// How many.
        tokens: Tokens,
        /// The job.
        job: JobId,
    },
    /// What was left of a batch's hold was given back.
    BatchRefund {
        /// When.
        at: Timestamp,
        /// How many.
        tokens: Tokens,
        /// The batch.
        batch: BatchId,
    },
}

/// Sums by period.
pub type Totals = BTreeMap<String, Vec<u64>>;

/// Why rows cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A sum does not fit in 64 bits.
    #[error("a sum does not fit in 64 bits")]
    Overflow,
    /// A row could not be written down.
    #[error("a row could not be written as CSV")]
    Unwritable,
}

const JOB: [&str; 21] = [
    "id",
    "status",
    "created_at",
    "started_at",
    "finished_at",
    "model",
    "drawn_by",
    "aspect_ratio",
    "size",
    "cost",
    "settled",
    "attempts",
    "provider_calls",
    "error_code",
    "conversation_id",
    "retry_of",
    "batch_id",
    "batch_line",
    "image_sha256",
    "image_bytes",
    "prompt",
];
const ENTRY: [&str; 6] = ["at", "kind", "tokens", "job_id", "batch_id", "op_id"];
const JOB_SUMS: [&str; 8] =
    ["period", "jobs", "drawn", "failed", "cancelled", "unsettled", "captured", "refunded"];
const ENTRY_SUMS: [&str; 5] = ["period", "entries", "granted", "captured", "refunded"];

/// The columns of an export, in their order.
pub const fn columns(request: &ExportRequest) -> &'static [&'static str] {
    match (request.kind, request.group_by) {
        (ExportKind::Jobs, None) => &JOB,
        (ExportKind::Jobs, Some(_)) => &JOB_SUMS,
        (ExportKind::Ledger, None) => &ENTRY,
        (ExportKind::Ledger, Some(_)) => &ENTRY_SUMS,
    }
}

/// One value of a row.
enum Cell {
    Text(String),
    Number(u64),
    None,
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::None, Self::Text)
    }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

impl Row {
    /// The moment by which it belongs to a day.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Job(job, _) => job.order.created_at,
            Self::Grant { at, .. } | Self::Settle { at, .. } | Self::BatchRefund { at, .. } => *at,
        }
    }

    /// Its cells, in the order of its columns.
    fn cells(&self) -> Vec<Cell> {
        match self {
            Self::Job(job, prompt) => job_cells(job, prompt.as_ref()),
            Self::Grant { at, tokens, op_id } => {
                entry_cells(*at, "grant", *tokens, [Cell::None, Cell::None, text(op_id)])
            }
            Self::Settle { at, settlement, tokens, job } => {
                entry_cells(*at, settlement.as_str(), *tokens, [text(job.as_str()), Cell::None, Cell::None])
            }
            Self::BatchRefund { at, tokens, batch } => {
                let refunded = Settlement::Refunded.as_str();
                entry_cells(*at, refunded, *tokens, [Cell::None, text(batch.as_str()), Cell::None])
            }
        }
    }

    /// What it adds to the sums of its period, in the order of their columns.
    fn sums(&self) -> Vec<u64> {
        let when = |is: bool, number: u64| if is { number } else { 0 };
        match self {
            Self::Job(job, _) => {
                let outcome = match &job.stage {
                    Stage::Settled(settled) => Some(&settled.outcome),
                    Stage::Pending(_) | Stage::Processing(_) => None,
                };
                let settlement = job.settlement();
                vec![
                    1,
                    u64::from(matches!(outcome, Some(Outcome::Drawn { .. }))),
                    u64::from(matches!(outcome, Some(Outcome::Failed(_)))),
                    u64::from(matches!(outcome, Some(Outcome::Cancelled))),
                    u64::from(outcome.is_none()),
                    when(settlement == Some(Settlement::Captured), job.order.cost),
                    when(settlement == Some(Settlement::Refunded), job.order.cost),
                ]
            }
            Self::Grant { tokens, .. } => vec![1, *tokens, 0, 0],
            Self::BatchRefund { tokens, .. } => vec![1, 0, 0, *tokens],
            Self::Settle { settlement, tokens, .. } => vec![
                1,
                0,
                when(*settlement == Settlement::Captured, *tokens),
                when(*settlement == Settlement::Refunded, *tokens),
            ],
        }
    }
}

/// `of` is the job, the batch and the operation that it is an entry of.
fn entry_cells(at: Timestamp, kind: &str, tokens: Tokens, of: [Cell; 3]) -> Vec<Cell> {
    [text(&at.rfc3339()), text(kind), Cell::Number(tokens)].into_iter().chain(of).collect()
}

fn job_cells(job: &Job, prompt: Option<&Prompt>) -> Vec<Cell> {
    let order = &job.order;
    let settled = match &job.stage {
        Stage::Settled(settled) => Some(settled),
        Stage::Pending(_) | Stage::Processing(_) => None,
    };
    let (drawn_by, error) = match settled.map(|settled| &settled.outcome) {
        Some(Outcome::Drawn { drawn_by, .. }) => (Some(drawn_by.clone()), None),
        Some(Outcome::Failed(failure)) => (None, Some(failure.code.as_str().to_owned())),
        Some(Outcome::Cancelled) | None => (None, None),
    };
    vec![
        text(job.id.as_str()),
        text(job.status().as_str()),
        text(&order.created_at.rfc3339()),
        job.started_at.map(Timestamp::rfc3339).into(),
        settled.map(|settled| settled.finished_at.rfc3339()).into(),
        text(order.model.as_str()),
        drawn_by.into(),
        text(order.shape.aspect_ratio.as_str()),
        text(order.shape.size.as_str()),
        Cell::Number(order.cost),
        job.settlement().map(|settlement| settlement.as_str().to_owned()).into(),
        Cell::Number(job.tries.into()),
        Cell::Number(job.calls.into()),
        error.into(),
        order.conversation_id.as_ref().map(ToString::to_string).into(),
        order.retry_of.as_ref().map(ToString::to_string).into(),
        order.batch.as_ref().map(|line| line.batch.to_string()).into(),
        order.batch.as_ref().map_or(Cell::None, |line| Cell::Number(line.number.into())),
        job.image().map(|image| image.sha256.clone()).into(),
        job.image().map_or(Cell::None, |image| Cell::Number(image.bytes)),
        order.prompt.as_ref().or(prompt).map(|prompt| prompt.reveal().to_owned()).into(),
    ]
}

/// Adds rows to the sums of their periods.
///
/// # Errors
/// [`FileError::Overflow`].
pub fn add(totals: &mut Totals, group_by: GroupBy, rows: &[Row]) -> Result<(), FileError> {
    for row in rows {
        let sums = row.sums();
        let totals = totals.entry(group_by.period(row.at())).or_insert_with(|| vec![0; sums.len()]);
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = total.checked_add(sum).ok_or(FileError::Overflow)?;
        }
    }
    Ok(())
}

/// What stands before the first row.
///
/// # Errors
/// [`FileError::Unwritable`].
pub fn write_head(request: &ExportRequest, file: &mut Vec<u8>) -> Result<(), FileError> {
    match request.format {
        ExportFormat::Csv => csv(file, [columns(request).iter().copied().map(Cow::Borrowed).collect()]),
        ExportFormat::Jsonl => Ok(()),
    }
}

/// Writes rows behind what is written.
///
/// # Errors
/// [`FileError::Unwritable`].
pub fn write_rows(request: &ExportRequest, rows: &[Row], file: &mut Vec<u8>) -> Result<(), FileError> {
    write(request, rows.iter().map(Row::cells), file)
}

/// Writes the sums, one row for each period in which there is anything, in their order.
///
/// # Errors
/// [`FileError::Unwritable`].
pub fn write_totals(request: &ExportRequest, totals: &Totals, file: &mut Vec<u8>) -> Result<(), FileError> {
    let row = |(period, sums): (&String, &Vec<u64>)| {
        [text(period)].into_iter().chain(sums.iter().copied().map(Cell::Number)).collect()
    };
    write(request, totals.iter().map(row), file)
}

fn write(
    request: &ExportRequest,
    rows: impl Iterator<Item = Vec<Cell>>,
    file: &mut Vec<u8>,
) -> Result<(), FileError> {
    match request.format {
        ExportFormat::Csv => csv(file, rows.map(|row| row.into_iter().map(Cell::in_csv).collect())),
        ExportFormat::Jsonl => {
            for row in rows {
                let members = columns(request).iter().zip(row);
                let object: Map<_, _> =
                    members.map(|(name, cell)| ((*name).to_owned(), cell.in_json())).collect();
                file.extend(Value::Object(object).to_string().bytes());
                file.push(b'\n');
            }
            Ok(())
        }
    }
}

/// Writes records of RFC 4180.
fn csv(file: &mut Vec<u8>, rows: impl IntoIterator<Item = Vec<Cow<'static, str>>>) -> Result<(), FileError> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(file);
    for row in rows {
        writer.write_record(row.iter().map(|cell| cell.as_bytes())).map_err(|_| FileError::Unwritable)?;
    }
    writer.flush().map_err(|_| FileError::Unwritable)
}

impl Cell {
    /// Numbers are ours; a text may be anybody's, and a spreadsheet must not take it for a formula.
    fn in_csv(self) -> Cow<'static, str> {
        match self {
            Self::Text(text) if is_formula(&text) => Cow::Owned(format!("'{text}")),
            Self::Text(text) => Cow::Owned(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::None => Cow::Borrowed(""),
        }
    }

    fn in_json(self) -> Value {
        match self {
            Self::Text(text) => Value::String(text),
            Self::Number(number) => number.into(),
            Self::None => Value::Null,
        }
    }
}

/// Whether a spreadsheet calculates a cell that begins so (OWASP, "CSV Injection"), in letters of full width, too.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}
