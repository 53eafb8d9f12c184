//! What may be asked for as an export, how its record changes, and what its file is.

use darkroom_core::error_code::Language;
use darkroom_core::export::GroupBy;
use darkroom_core::export::{
    Export, ExportFailure, ExportFile, ExportRequest, ExportStage, ExportSubmission, ExportSweep, Parts,
    Place, Progress, Unclaimable,
};
use darkroom_core::export_file::{
    FileError, Row, Totals, add, columns, write_head, write_rows, write_totals,
};
use darkroom_core::id::{BatchId, ExportId, IdempotencyKey, JobId, Stamp, UserId};
use darkroom_core::ledger::Settlement;
use darkroom_core::limits::{EXPORT_DEADLINE, EXPORT_LEASE, EXPORT_TRIES_MAX, EXPORT_WAKE};
use darkroom_core::request::Prompt;
use darkroom_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{at, job, pending};

fn body() -> Value {
    json!({"kind": "jobs", "format": "csv", "start_date": "2026-01-01", "end_date": "2026-12-31"})
}

fn with(changes: &Value) -> Value {
    let mut body = body();
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn request(changes: &Value) -> ExportRequest {
    ExportRequest::parse(&with(changes)).unwrap()
}

#[test]
fn what_may_be_asked_for() {
    for changes in [
        json!({}),
        json!({"kind": "ledger"}),
        json!({"format": "jsonl"}),
        json!({"group_by": null}),
        json!({"group_by": "day"}),
        json!({"group_by": "week"}),
        json!({"group_by": "month"}),
        json!({"start_date": "2026-12-31"}),
        json!({"start_date": "2028-02-29", "end_date": "2028-02-29"}),
    ] {
        request(&changes);
    }
    assert_eq!(request(&json!({})).file_name(), "darkroom-jobs-2026-01-01-2026-12-31.csv");
}

#[test]
fn anything_else_is_pointed_to() {
    for (changes, pointers) in [
        (json!({"kind": "images"}), vec!["/kind"]),
        (json!({"kind": 7}), vec!["/kind"]),
        (json!({"format": "CSV"}), vec!["/format"]),
        (json!({"format": null}), vec!["/format"]),
        (json!({"start_date": "2026-02-30"}), vec!["/start_date"]),
        (json!({"start_date": "2026-01-01T00:00:00Z"}), vec!["/start_date"]),
        (json!({"end_date": 20_261_231}), vec!["/end_date"]),
        (json!({"end_date": "2025-12-31"}), vec!["/end_date"]),
        (json!({"end_date": "2027-01-01"}), vec!["/end_date"]),
        (json!({"end_date": "9999-12-31"}), vec!["/end_date"]),
        (json!({"group_by": "year"}), vec!["/group_by"]),
        (json!({"group_by": ""}), vec!["/group_by"]),
        (json!({"user": "bob"}), vec!["/user"]),
        (
            json!({"kind": 1, "format": 2, "start_date": "x", "end_date": "y"}),
            vec!["/kind", "/format", "/start_date", "/end_date"],
        ),
    ] {
        let faults = ExportRequest::parse(&with(&changes)).unwrap_err();
        assert_eq!(
            faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(),
            pointers,
            "{changes}"
        );
    }
    assert_eq!(ExportRequest::parse(&json!({})).unwrap_err().len(), 4);
    assert!(ExportRequest::parse(&json!([])).is_err());
}

#[test]
fn each_part_of_a_request_is_in_its_hash() {
    let hashes: std::collections::HashSet<_> = [
        json!({}),
        json!({"kind": "ledger"}),
        json!({"format": "jsonl"}),
        json!({"start_date": "2026-01-02"}),
        json!({"end_date": "2026-12-30"}),
        json!({"group_by": "day"}),
        json!({"group_by": "week"}),
    ]
    .map(|changes| request(&changes).hash())
    .into();
    assert_eq!(hashes.len(), 7);
    assert_eq!(request(&json!({"group_by": null})).hash(), request(&json!({})).hash());
}

fn stamp(name: &str) -> Stamp {
    Stamp::from_stored(name.to_owned())
}

fn export() -> Export {
    let user = UserId::parse("alice").unwrap();
    let id = ExportId::derive(&user, &IdempotencyKey::parse("k").unwrap());
    let request = request(&json!({"kind": "ledger"}));
    Export::submitted(ExportSubmission { id, user, request, asked_at: at(100), op: stamp("asked") })
}

fn progress(place: &str, rows: u64) -> Progress {
    let parts = Parts { key: "k".to_owned(), upload_id: "u".to_owned(), etags: vec!["e".to_owned()] };
    Progress { place: Place::Behind(place.to_owned()), rows, upload: Some(parts), ..Progress::default() }
}

#[test]
fn nothing_written_after_it_was_asked_for_is_in_it() {
    let mut export = export();
    let days = export.request.days;
    assert_eq!(export.span(), (days.from(), at(100)));
    export.asked_at = days.until().plus(EXPORT_WAKE);
    assert_eq!(export.span(), (days.from(), days.until()));
}

#[test]
fn one_at_a_time_holds_it_and_not_for_ever() {
    let export = export();
    assert_eq!(export.due_at(), Some(at(100).plus(EXPORT_WAKE)));
    let first = export.claim(at(101), stamp("one")).unwrap();
    assert_eq!((first.attempt, first.tries, first.version, first.status()), (1, 1, 2, "processing"));
    assert_eq!(first.due_at(), Some(at(101).plus(EXPORT_LEASE)));
    let held_until = at(101).plus(EXPORT_LEASE);
    let just_before = Timestamp::from_millis(held_until.as_millis() - 1);
    assert_eq!(first.claim(just_before, stamp("two")), Err(Unclaimable::Held));
    assert_eq!(first.sweep(just_before, stamp("two")), ExportSweep::Leave);
    // Its holder may say that it lives, or get further: then all tries are there again.
    let renewed = first.renewed(Progress::default(), just_before, stamp("renewed"));
    assert_eq!((renewed.tries, renewed.due_at()), (1, Some(just_before.plus(EXPORT_LEASE))));
    let further = renewed.renewed(progress("x", 7), just_before, stamp("further"));
    assert_eq!((further.tries, further.rows, further.attempt), (0, 7, 1));
    // Whoever takes it up goes on from there.
    let later = just_before.plus(EXPORT_LEASE);
    let ExportSweep::Send(swept) = further.sweep(later, stamp("swept")) else { panic!("not sent") };
    assert_eq!((swept.status(), swept.due_at()), ("pending", Some(later.plus(EXPORT_WAKE))));
    let second = swept.claim(later, stamp("three")).unwrap();
    assert_eq!((second.attempt, second.progress()), (2, Some(&progress("x", 7))));
    let released = second.released(progress("y", 9), later, stamp("four"));
    assert_eq!((released.status(), released.due_at(), released.tries), ("pending", Some(later), 0));
    assert!(matches!(released.sweep(later, stamp("five")), ExportSweep::Send(_)));
}

#[test]
fn what_was_lost_is_begun_anew_in_another_object() {
    let claimed = export().claim(at(101), stamp("one")).unwrap();
    let further = claimed.renewed(progress("x", 7), at(102), stamp("two"));
    let anew = further.restarted(at(103), stamp("three"));
    assert_eq!((anew.attempt, anew.tries, anew.rows), (2, 1, 0));
    assert_eq!(anew.progress(), Some(&Progress::default()));
}

#[test]
fn it_ends_when_its_time_or_its_tries_are_over() {
    let mut export = export();
    let mut now = at(100);
    for number in 0..EXPORT_TRIES_MAX {
        now = now.plus(EXPORT_LEASE);
        export = match export.sweep(now, stamp("sweep")) {
            ExportSweep::Send(next) => next,
            other => panic!("{number}: {other:?}"),
        };
        export = export.claim(now, stamp("claim")).unwrap();
    }
    now = now.plus(EXPORT_LEASE);
    assert_eq!(export.claim(now, stamp("one more")), Err(Unclaimable::NothingLeft));
    let ExportSweep::End(failed) = export.sweep(now, stamp("end")) else { panic!("it goes on") };
    assert!(matches!(failed.stage, ExportStage::Failed { failure: ExportFailure::AttemptsExhausted, .. }));
    assert_eq!((failed.due_at(), failed.progress()), (None, None));
    assert_eq!(failed.claim(now, stamp("again")), Err(Unclaimable::Over));
    assert_eq!(failed.sweep(now.plus(EXPORT_DEADLINE), stamp("again")), ExportSweep::Leave);

    let over = at(100).plus(EXPORT_DEADLINE);
    let waiting = self::export();
    assert_eq!(waiting.claim(over, stamp("late")), Err(Unclaimable::NothingLeft));
    let ExportSweep::End(failed) = waiting.sweep(over, stamp("late")) else { panic!("it goes on") };
    assert!(matches!(failed.stage, ExportStage::Failed { failure: ExportFailure::DeadlineExceeded, .. }));
    // A live lease is not cut off.
    let claimed = waiting.claim(Timestamp::from_millis(over.as_millis() - 1), stamp("in time")).unwrap();
    assert_eq!(claimed.sweep(over, stamp("late")), ExportSweep::Leave);
}

#[test]
fn each_failure_has_words_of_its_own_and_says_whether_to_ask_again() {
    let words: std::collections::HashSet<_> = ExportFailure::ALL
        .iter()
        .flat_map(|failure| [Language::En, Language::Tr].map(|language| failure.message(language)))
        .collect();
    assert_eq!(words.len(), 2 * ExportFailure::ALL.len());
    let for_good: Vec<_> = ExportFailure::ALL.iter().filter(|failure| !failure.is_retryable()).collect();
    assert_eq!(for_good, [&ExportFailure::TooLarge]);
    for failure in ExportFailure::ALL {
        assert_eq!(ExportFailure::from_stored(failure.as_str()), *failure);
    }
    assert_eq!(ExportFailure::from_stored("of a newer release"), ExportFailure::AttemptsExhausted);
}

#[test]
fn it_is_its_owners_until_it_expires() {
    let file = ExportFile { key: "k".to_owned(), bytes: 3 };
    let ready = export().claim(at(101), stamp("one")).unwrap().ready(file, 2, at(102), stamp("two"));
    let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
    let expires_at = ready.expires_at().unwrap();
    assert!(ready.belongs_to(&alice, at(102)) && !ready.belongs_to(&bob, at(102)));
    assert!(!ready.belongs_to(&alice, expires_at));
    assert_eq!((ready.rows, ready.status()), (2, "ready"));
}

fn grant(op_id: &str, tokens: u64) -> Row {
    Row::Grant { at: at(200), tokens, op_id: op_id.to_owned() }
}

fn written(request: &ExportRequest, rows: &[Row]) -> String {
    let mut file = Vec::new();
    write_head(request, &mut file).unwrap();
    write_rows(request, rows, &mut file).unwrap();
    String::from_utf8(file).unwrap()
}

#[test]
fn no_cell_is_a_formula() {
    let csv = request(&json!({"kind": "ledger"}));
    for (op_id, cell) in [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "\"'\rx\""),
        ("\nx", "\"'\nx\""),
        ("\u{ff1d}1", "'\u{ff1d}1"),
        ("=\"a\",b", "\"'=\"\"a\"\",b\""),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        (" =1", " =1"),
        ("a,b", "\"a,b\""),
        ("a\"b", "\"a\"\"b\""),
        ("", ""),
    ] {
        let head = "at,kind,tokens,job_id,batch_id,op_id\r\n";
        let row = format!("{},grant,7,,,{cell}\r\n", at(200).rfc3339());
        assert_eq!(written(&csv, &[grant(op_id, 7)]), format!("{head}{row}"), "{op_id:?}");
    }
    // JSON is no spreadsheet's.
    let jsonl = request(&json!({"kind": "ledger", "format": "jsonl"}));
    let line: Value = serde_json::from_str(written(&jsonl, &[grant("=1+1", 7)]).trim_end()).unwrap();
    assert_eq!(
        line,
        json!({"at": at(200).rfc3339(), "kind": "grant", "tokens": 7, "job_id": null, "batch_id": null, "op_id": "=1+1"})
    );
}

#[test]
fn what_a_batch_gives_back_is_an_entry_of_the_batch() {
    let batch = BatchId::derive(&UserId::parse("alice").unwrap(), &IdempotencyKey::parse("k").unwrap());
    let refund = Row::BatchRefund { at: at(200), tokens: 7, batch: batch.clone() };
    let csv = request(&json!({"kind": "ledger"}));
    let row = format!("{},refunded,7,,{batch},", at(200).rfc3339());
    assert_eq!(written(&csv, std::slice::from_ref(&refund)).lines().last(), Some(row.as_str()));
    let by_month = request(&json!({"kind": "ledger", "group_by": "month"}));
    let mut totals = Totals::new();
    add(&mut totals, by_month.group_by.unwrap(), &[grant("g", 5), refund]).unwrap();
    assert_eq!(totals.into_values().collect::<Vec<_>>(), [vec![2, 5, 0, 7]]);
}

#[test]
fn a_jobs_prompt_is_in_its_row_wherever_it_is_kept() {
    let jsonl = request(&json!({"format": "jsonl"}));
    let mut kept_beside = job(0, pending(at(10), at(20)));
    kept_beside.order.prompt = None;
    let prompt = Prompt::parse("a long one").unwrap();
    let text = written(&jsonl, &[Row::Job(Box::new(kept_beside), Some(prompt))]);
    let row: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(row["prompt"], "a long one");
    assert_eq!(row.as_object().unwrap().len(), columns(&jsonl).len());
}

#[test]
fn sums_are_of_their_periods_and_do_not_overflow() {
    let seconds = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
    let settle = |after: u64, settlement, tokens| Row::Settle {
        at: seconds(after),
        settlement,
        tokens,
        job: JobId::parse(&format!("job_{}", "a".repeat(52))).unwrap(),
    };
    let day = 86_400;
    let rows = [
        settle(1, Settlement::Captured, 3),
        settle(day - 1, Settlement::Refunded, 5),
        settle(day, Settlement::Captured, 7),
        Row::Grant { at: seconds(day), tokens: 11, op_id: "x".to_owned() },
    ];
    let mut totals = Totals::new();
    for row in &rows {
        add(&mut totals, GroupBy::Day, std::slice::from_ref(row)).unwrap();
    }
    let mut file = Vec::new();
    let csv = request(&json!({"kind": "ledger", "group_by": "day"}));
    write_head(&csv, &mut file).unwrap();
    write_totals(&csv, &totals, &mut file).unwrap();
    let expected =
        "period,entries,granted,captured,refunded\r\n1970-01-01,2,0,3,5\r\n1970-01-02,2,11,7,0\r\n";
    assert_eq!(String::from_utf8(file).unwrap(), expected);
    let most = [grant("x", u64::MAX), grant("y", 1)];
    assert_eq!(add(&mut Totals::new(), GroupBy::Month, &most), Err(FileError::Overflow));
}

proptest! {
    /// Whatever an operation is called, both files say it, each in its own way.
    #[test]
    fn a_csv_reader_reads_what_was_written(names in prop::collection::vec("\\PC{0,20}|[=+@,\"\r\n\t-]{0,8}", 1..20)) {
        let rows: Vec<_> = names.iter().map(|name| grant(name, 1)).collect();
        let text = written(&request(&json!({"kind": "ledger"})), &rows);
        let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let read: Vec<_> = reader.records().map(|record| record.unwrap()[5].to_owned()).collect();
        prop_assert_eq!(read.len(), names.len());
        for (read, name) in read.iter().zip(&names) {
            let is_formula = name.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
            let expected = if is_formula { format!("'{name}") } else { name.clone() };
            prop_assert_eq!(read, &expected);
        }
        let text = written(&request(&json!({"kind": "ledger", "format": "jsonl"})), &rows);
        let read = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["op_id"].clone());
        prop_assert_eq!(read.collect::<Vec<_>>(), names.iter().map(|name| json!(name)).collect::<Vec<_>>());
    }
}
