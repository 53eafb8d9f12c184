//! Opening the databases of ours (DynamoDB's engine opens its own).

use std::path::Path;

use rusqlite::Connection;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// What SQLite says.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Its tables are not those that this version reads and writes.
    #[error("its data was written by another version of this program (layout {found}, this one has {known})")]
    OtherLayout {
        /// In the file.
        found: i64,
        /// In this program.
        known: i64,
    },
}

/// Opens `file`, making its tables when it is new. `layout` changes whenever `schema` does.
pub(crate) fn open(file: &Path, schema: &str, layout: i64) -> Result<Connection, OpenError> {
    let connection = Connection::open(file)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found != 0 && found != layout {
        return Err(OpenError::OtherLayout { found, known: layout });
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Survives the death of the process; only loss of power needs more.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if found == 0 {
        connection.execute_batch(&format!("BEGIN; {schema} PRAGMA user_version = {layout}; COMMIT"))?;
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_layout_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.sqlite");
        let schema = "CREATE TABLE things (id INTEGER PRIMARY KEY);";
        open(&file, schema, 3).unwrap().execute("INSERT INTO things VALUES (7)", []).unwrap();
        let refused =
            open(&file, "CREATE TABLE others (id INTEGER PRIMARY KEY);", 4).unwrap_err().to_string();
        assert_eq!(
            refused,
            "its data was written by another version of this program (layout 3, this one has 4)"
        );
        let again = open(&file, schema, 3).unwrap();
        assert_eq!(again.query_row("SELECT id FROM things", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
    }
}
