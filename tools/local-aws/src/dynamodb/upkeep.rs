//! What DynamoDB does by itself: expire items past their time to live, and forget stream records after 24
//! hours.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynoxide::Database;
use rusqlite::Connection;
use tokio::task::JoinHandle;

use super::SERVICE;
use crate::StartError;

/// AWS keeps stream records for 24 hours.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
const STREAM_RETENTION: Duration = Duration::from_hours(24);

/// Records forgotten per transaction, so that no request waits long behind one.
const SLICE: usize = 500;

/// The engine looks for the last sequence number of a table on each write to a stream, and for the records
/// after a position on each read, without an index: both would grow with the records kept. This gives it one.
const STREAM_INDEX: &str = "CREATE INDEX IF NOT EXISTS _stream_records_by_sequence
    ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

/// The oldest records, while they are past the cut. Ids ascend with time.
const FORGET: &str = "DELETE FROM _stream_records
    WHERE created_at < ?1 AND id IN (SELECT id FROM _stream_records ORDER BY id LIMIT ?2)";

/// Begins the upkeep of `database`, which lives in `file`. It ends when the handle is aborted.
pub(super) fn start(
    database: Database,
    file: &Path,
    interval: Duration,
) -> Result<JoinHandle<()>, StartError> {
    let streams = open_streams(file).map_err(|error| StartError::storage(SERVICE, error))?;
    Ok(tokio::spawn(run(database, streams, interval)))
}

fn open_streams(file: &Path) -> rusqlite::Result<Connection> {
    let streams = Connection::open(file)?;
    streams.busy_timeout(Duration::from_secs(5))?;
    streams.pragma_update(None, "synchronous", "NORMAL")?;
    streams.execute_batch(STREAM_INDEX)?;
    Ok(streams)
}

async fn run(database: Database, mut streams: Connection, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let database = database.clone();
        let round = tokio::task::spawn_blocking(move || {
            once(&database, &streams);
            streams
        });
        match round.await {
            Ok(given_back) => streams = given_back,
            Err(error) => return tracing::error!(service = SERVICE, %error, "upkeep ended"),
        }
    }
}

fn once(database: &Database, streams: &Connection) {
    match database.sweep_ttl() {
        Ok(0) => {}
        Ok(expired) => tracing::debug!(service = SERVICE, expired, "items expired"),
        Err(error) => {
            tracing::warn!(service = SERVICE, %error, "expired items could not be swept; the next round tries again");
        }
    }
    if let Err(error) = forget_old_records(streams) {
        tracing::warn!(service = SERVICE, %error, "old stream records are kept; the next round tries again");
    }
}

fn forget_old_records(streams: &Connection) -> rusqlite::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cut = now.saturating_sub(STREAM_RETENTION).as_secs();
    while streams.execute(FORGET, (cut, SLICE))? == SLICE {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(streams: &Connection) -> i64 {
        streams.query_row("SELECT count(*) FROM _stream_records", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn records_older_than_a_day_are_forgotten_and_newer_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dynamodb.sqlite");
        let _database = Database::new(file.to_str().unwrap()).unwrap();
        let streams = open_streams(&file).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for (number, age) in (0..1_200).map(|number| (number, 90_000)).chain([(1_200, 80_000)]) {
            let insert = "INSERT INTO _stream_records
                (table_name, event_name, keys_json, sequence_number, shard_id, created_at)
                VALUES ('jobs', 'INSERT', '{}', ?1, 'shard', ?2)";
            streams.execute(insert, (number.to_string(), now - age)).unwrap();
        }
        forget_old_records(&streams).unwrap();
        assert_eq!(kept(&streams), 1);
    }

    #[test]
    fn reading_on_in_a_stream_does_not_read_what_was_read_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dynamodb.sqlite");
        let _database = Database::new(file.to_str().unwrap()).unwrap();
        let streams = open_streams(&file).unwrap();
        // The engine's own statement, as its version 3.2 runs it on each read of a stream.
        let mut plan = streams
            .prepare(
                "EXPLAIN QUERY PLAN SELECT event_name FROM _stream_records
                 WHERE table_name = ?1 AND shard_id = ?2 AND CAST(sequence_number AS INTEGER) > ?3
                 ORDER BY CAST(sequence_number AS INTEGER) ASC LIMIT ?4",
            )
            .unwrap();
        let steps = plan.query_map(("jobs", "shard", 7, 100), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.map(Result::unwrap).collect();
        assert!(steps.len() == 1 && steps[0].contains("_stream_records_by_sequence"), "{steps:?}");
    }

    #[test]
    fn finding_a_streams_last_number_does_not_read_all_records() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dynamodb.sqlite");
        let _database = Database::new(file.to_str().unwrap()).unwrap();
        let streams = open_streams(&file).unwrap();
        // The engine's own statement, as its version 3.2 runs it on each write to a stream.
        let plan: String = streams
            .query_row(
                "EXPLAIN QUERY PLAN SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1
                 FROM _stream_records WHERE table_name = ?1",
                ["jobs"],
                |row| row.get(3),
            )
            .unwrap();
        assert!(plan.contains("SEARCH") && plan.contains("_stream_records_by_sequence"), "{plan}");
    }
}
