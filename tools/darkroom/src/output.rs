//! What commands print: one JSON value with `--json`, words and tables otherwise.
#![allow(clippy::print_stdout, reason = "a command prints")]

use serde_json::Value;

/// Prints a command's result.
pub(crate) fn print(json: bool, value: &Value, words: impl FnOnce() -> String) {
    if json {
        println!("{value:#}");
    } else {
        println!("{}", words());
    }
}

/// Prints one line of progress.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// A table with aligned columns and a head.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}
