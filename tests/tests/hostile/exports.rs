//! A file of a million rows takes the memory of one part.

use std::sync::PoisonError;

use darkroom_core::export::ExportRequest;
use darkroom_core::export_file::{Row, write_head, write_rows};
use darkroom_core::limits::{EXPORT_ENTRIES, EXPORT_PART_BYTES};
use darkroom_core::time::Timestamp;
use serde_json::json;

use crate::QUIET;
use crate::bombs::counted;

const ROWS: u64 = 1_000_000;
const HEAP_MAX: usize = 3 * EXPORT_PART_BYTES + 1024 * 1024;

#[test]
fn a_million_rows_take_the_memory_of_one_part() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    for format in ["csv", "jsonl"] {
        let body =
            json!({"kind": "ledger", "format": format, "start_date": "2026-01-01", "end_date": "2026-12-31"});
        let request = ExportRequest::parse(&body).unwrap();
        // A part, twice while its buffer grows, and a page.
        let (sent, rows) = counted(&format!("a million rows as {format}"), HEAP_MAX, || {
            let (mut unsent, mut sent, mut rows) = (Vec::new(), 0_usize, 0_u64);
            write_head(&request, &mut unsent).unwrap();
            while rows < ROWS {
                let page: Vec<_> = (rows..rows + u64::from(EXPORT_ENTRIES))
                    .map(|row| Row::Grant {
                        at: Timestamp::from_millis(row),
                        tokens: row,
                        op_id: format!("={row}"),
                    })
                    .collect();
                write_rows(&request, &page, &mut unsent).unwrap();
                rows += page.len() as u64;
                if unsent.len() >= EXPORT_PART_BYTES {
                    sent += std::mem::take(&mut unsent).len();
                }
            }
            (sent + unsent.len(), rows)
        });
        assert_eq!(rows, ROWS);
        assert!(sent > 4 * EXPORT_PART_BYTES, "{sent} bytes are few parts");
    }
}
