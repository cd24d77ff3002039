// SPDX-License-Identifier: Apache-2.0
//! What is in the database, how it is made, and which versions of it this program can use.
//!
//! - `meta`: one row. These columns are the same in every version. `checkpoints` counts them: each is preceded by a
//!   commit of the new number, so main file and log agree on it with the bell exactly if they belong together.
//! - `kv`: the objects. For blocks, `affinity` and `room` repeat what hints ask for; `room` is 0 or 1, so that the index
//!   changes only when a block fills up or gets its first free ordinal. Rows have row IDs: objects written together
//!   lie together, and long values do not make the tree of keys deep. (`WITHOUT ROWID` was measured: 40 % more time
//!   per commit at 5 000 addresses.)
//! - `changes`: the last revisions and what they changed. The highest is the store's revision, so it is never empty.
//! - `journal`: history for people.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, types::Type};

use super::{failure::Failure, files::Paths, options::Incarnation};
use crate::error::StoreError;

/// What this program writes.
pub(super) const SCHEMA_VERSION: i64 = 1;
/// The oldest programs, by their `SCHEMA_VERSION`, that may use what this one writes.
const MIN_READER_VERSION: i64 = 1;
/// "CALI", in the header of the file.
pub(super) const APPLICATION_ID: u32 = 0x4341_4c49;

const TABLES: &str = "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        schema_version INTEGER NOT NULL,
        min_reader_version INTEGER NOT NULL,
        incarnation TEXT NOT NULL,
        checkpoints INTEGER NOT NULL
    );
    CREATE TABLE kv (
        key TEXT NOT NULL PRIMARY KEY,
        revision INTEGER NOT NULL,
        affinity TEXT,
        room INTEGER,
        value TEXT NOT NULL
    );
    CREATE INDEX blocks ON kv (affinity, room, key) WHERE affinity IS NOT NULL;
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL
    );
    CREATE TABLE journal (
        sequence INTEGER PRIMARY KEY,
        time_us INTEGER NOT NULL,
        event TEXT NOT NULL,
        subject TEXT NOT NULL,
        handle TEXT NOT NULL,
        cause TEXT NOT NULL,
        duration_us INTEGER NOT NULL
    );";

const READ_META: &str = "
    SELECT schema_version, min_reader_version, incarnation, checkpoints, (SELECT max(revision) FROM changes)
    FROM meta";

/// The facts every open reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) schema_version: i64,
    pub(super) min_reader_version: i64,
    pub(super) incarnation: Incarnation,
    pub(super) revision: u64,
    pub(super) checkpoints: u64,
}

/// Reads them. Without them a database is damaged, or another program's.
pub(super) fn read_meta(connection: &Connection) -> Result<Meta, Failure> {
    let row = connection
        .prepare(READ_META)
        .and_then(|mut statement| statement.query_row([], meta).optional());
    match row {
        Ok(Some(meta)) => Ok(meta),
        Ok(None) => Err(Failure::Damaged("it has lost its identity".to_owned())),
        // "no such table", "no such column"
        Err(problem) if problem.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            let application: u32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            let ours = application == APPLICATION_ID;
            let reason = if ours {
                problem.to_string()
            } else {
                "it is no database of this suite".to_owned()
            };
            Err(Failure::Damaged(reason))
        }
        Err(problem) => Err(problem.into()),
    }
}

fn meta(row: &Row<'_>) -> rusqlite::Result<Meta> {
    let incarnation: String = row.get(2)?;
    Ok(Meta {
        schema_version: row.get(0)?,
        min_reader_version: row.get(1)?,
        incarnation: Incarnation::parse(&incarnation)
            .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, incarnation, Type::Text))?,
        checkpoints: unsigned(row, 3)?,
        revision: unsigned(row, 4)?,
    })
}

impl Meta {
    /// Refuses a store that only newer programs can use.
    pub(super) fn check_version(&self, paths: &Paths) -> Result<(), StoreError> {
        if self.min_reader_version <= SCHEMA_VERSION {
            return Ok(());
        }
        Err(StoreError::Refused {
            store: paths.database.display().to_string(),
            reason: format!(
                "it has schema version {}, for programs that know version {} or later, and this one knows {}; \
                 install the newer version again, or move the file away to start with an empty store",
                self.schema_version, self.min_reader_version, SCHEMA_VERSION
            ),
        })
    }
}

/// Fills an empty database. `revision` is its first.
pub(super) fn create(
    connection: &Connection,
    incarnation: Incarnation,
    revision: u64,
) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta (id, schema_version, min_reader_version, incarnation, checkpoints)
         VALUES (1, ?1, ?2, ?3, 0)",
        params![SCHEMA_VERSION, MIN_READER_VERSION, incarnation.to_string()],
    )?;
    forget_history(&transaction, revision)?;
    transaction.commit()
}

/// Gives a database that was found restored the identity `meta`, and no history to watch.
pub(super) fn begin_incarnation(connection: &Connection, meta: &Meta) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(
        "UPDATE meta SET incarnation = ?1, checkpoints = ?2",
        params![meta.incarnation.to_string(), signed(meta.checkpoints)],
    )?;
    forget_history(&transaction, meta.revision)?;
    transaction.commit()
}

/// Leaves one change, of no object, at `revision`.
fn forget_history(connection: &Connection, revision: u64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM changes", [])?;
    connection.execute(
        "INSERT INTO changes (revision, key) VALUES (?1, '')",
        [signed(revision)],
    )?;
    Ok(())
}

/// A count as one of SQLite's integers. One that no store has ever reached becomes one that matches nothing.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(-1)
}

/// A count out of one of SQLite's integers.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Looks for damage: the structure of every page, or with `thorough` also whether indices and tables agree.
pub(super) fn check_integrity(connection: &Connection, thorough: bool) -> Result<(), Failure> {
    let pragma = if thorough {
        "PRAGMA integrity_check(1)"
    } else {
        "PRAGMA quick_check(1)"
    };
    for table in ["meta", "kv", "changes", "journal"] {
        connection.prepare(&format!("SELECT * FROM {table}"))?;
    }
    let verdict: String = connection.query_row(pragma, [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(Failure::Damaged(verdict.trim().replace('\n', "; ")))
    }
}
