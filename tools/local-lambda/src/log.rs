//! Where a function's lines go: its file, and whoever listens.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use crate::error::SettingsError;
use crate::ids;

/// CloudWatch's limit for one event; a longer line goes on in the next.
const LINE_BYTES: u64 = 256 * 1024;

/// How much of stderr a failure's message carries.
const TAIL_LINES: usize = 10;

/// Which of the three wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// The process's standard output: where `lambda_runtime`'s subscriber writes.
    Stdout,
    /// The process's standard error: where panics go.
    Stderr,
    /// Lambda itself: `platform.initReport` and `platform.report`, in the form of its JSON system log.
    Platform,
}

/// One line of a function's log.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    /// The function's name.
    pub function: &'a str,
    /// The environment's process id.
    pub process_id: u32,
    /// Who wrote it.
    pub source: LogSource,
    /// The line, without its end.
    pub text: &'a str,
}

/// Called for every line, on the runtime's threads: it must not block.
pub type LogListener = Arc<dyn Fn(LogLine<'_>) + Send + Sync>;

/// One function's log.
pub(crate) struct FunctionLog {
    function: String,
    file: Option<Mutex<File>>,
    listener: Option<LogListener>,
}

impl FunctionLog {
    /// Opens `<folder>/<function>.log` for appending, making the folder when it is missing.
    pub(crate) fn open(
        function: &str,
        folder: Option<&Path>,
        listener: Option<LogListener>,
    ) -> Result<Self, SettingsError> {
        let open = |folder: &Path| {
            let path = folder.join(format!("{function}.log"));
            std::fs::create_dir_all(folder)
                .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
                .map_err(|source| SettingsError::Log { path, source })
        };
        let file = folder.map(open).transpose()?.map(Mutex::new);
        Ok(Self { function: function.to_owned(), file, listener })
    }

    /// Writes one line. The write goes to the page cache and is a single call, so that lines of several
    /// environments stay whole; a thread pool hop would cost more than it saves.
    pub(crate) fn line(&self, process_id: u32, source: LogSource, text: &str) {
        if let Some(listener) = &self.listener {
            listener(LogLine { function: &self.function, process_id, source, text });
        }
        let Some(file) = &self.file else { return };
        let mut line = String::with_capacity(text.len() + 1);
        line.push_str(text);
        line.push('\n');
        if let Err(error) = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()) {
            tracing::warn!(function.name = self.function, %error, "a log line could not be written");
        }
    }

    /// Writes one event of Lambda's system log.
    pub(crate) fn platform(&self, process_id: u32, kind: &str, record: &Value) {
        let event = json!({ "time": ids::rfc3339_millis(), "type": kind, "record": record });
        self.line(process_id, LogSource::Platform, &event.to_string());
    }
}

/// The last lines a process wrote to stderr.
#[derive(Default)]
pub(crate) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// `what`, followed by the lines if there are any.
    pub(crate) fn explain(&self, what: &str) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(what.to_owned(), |text, line| text + "\n  " + line)
    }
}

/// Copies a process's stream to its function's log, line by line, until the process closes it.
pub(crate) async fn copy_lines(
    stream: impl AsyncRead + Unpin,
    log: Arc<FunctionLog>,
    process_id: u32,
    source: LogSource,
    tail: Option<Arc<Tail>>,
) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(function.name = log.function, %error, "a function's output could not be read");
                return;
            }
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        log.line(process_id, source, text);
        if let Some(tail) = &tail {
            tail.push(text);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_appended_whole_and_the_last_of_stderr_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: LogListener = Arc::new({
            let heard = Arc::clone(&heard);
            move |line: LogLine<'_>| heard.lock().unwrap().push((line.process_id, line.text.to_owned()))
        });
        for _ in 0..2 {
            let log = Arc::new(FunctionLog::open("f", Some(folder.path()), Some(listener.clone())).unwrap());
            let tail = Arc::new(Tail::default());
            let lines: Vec<String> = (0..12).map(|n| format!("line {n}")).collect();
            let text = lines.join("\r\n") + "\r\nno end";
            copy_lines(text.as_bytes(), log, 7, LogSource::Stderr, Some(Arc::clone(&tail))).await;
            assert_eq!(tail.explain("why").lines().count(), 1 + TAIL_LINES);
            assert!(tail.explain("why").ends_with("\n  line 11\n  no end"));
        }
        let written = std::fs::read_to_string(folder.path().join("f.log")).unwrap();
        assert_eq!(written.lines().count(), 26);
        assert!(written.ends_with("line 11\nno end\n"));
        assert_eq!(heard.lock().unwrap().len(), 26);
        assert_eq!(heard.lock().unwrap()[0], (7, "line 0".to_owned()));
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_and_not_collected() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(FunctionLog::open("f", Some(folder.path()), None).unwrap());
        let endless = vec![b'x'; usize::try_from(LINE_BYTES).unwrap() + 1];
        copy_lines(endless.as_slice(), log, 7, LogSource::Stdout, None).await;
        assert_eq!(std::fs::read_to_string(folder.path().join("f.log")).unwrap().lines().count(), 2);
    }
}
