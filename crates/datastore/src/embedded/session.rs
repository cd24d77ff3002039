// SPDX-License-Identifier: Apache-2.0
//! One SQLite connection, set up the way every user of the store must have it.

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    failure::{self, Failure},
    files::FileSet,
    options::Access,
    place::Place,
    schema::{self, Meta},
};
use crate::error::StoreError;

/// Different statements of one store; the cache never forgets one.
const STATEMENTS: usize = 32;

/// A connection and the files it has open.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    files: FileSet,
}

impl Session {
    /// Opens the database, which must exist, and reads what it says of itself.
    pub(super) fn open(place: &Place) -> Result<(Self, Meta), Failure> {
        loop {
            let before = FileSet::present(&place.paths)?;
            let opened = Self::open_once(place)?;
            // SQLite makes log and shared memory where they are missing; what was there must be what it has opened.
            if before.is_part_of(opened.0.files) {
                return Ok(opened);
            }
        }
    }

    fn open_once(place: &Place) -> Result<(Self, Meta), Failure> {
        let paths = &place.paths;
        let connection = match place.options.access {
            Access::ReadWrite => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                Connection::open_with_flags(&paths.database, flags)?
            }
            Access::ReadOnly => open_for_reading(place)?,
        };
        if place.options.access == Access::ReadWrite && connection.is_readonly("main")? {
            return Err(not_writable(place).into());
        }
        connection.busy_timeout(place.options.patience)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Checkpoints happen under our write lock only, and are recorded in the bell.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let meta = schema::read_meta(&connection)?;
        if place.options.access == Access::ReadWrite {
            connection.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL")?;
        }
        let files = FileSet::present(paths)?;
        Ok((Self { connection, files }, meta))
    }

    /// Whether the files are still those this connection has open.
    pub(super) fn is_current(&self, present: FileSet) -> bool {
        self.files == present
    }
}

/// Without log and shared memory nobody has the database open, and it is whole: it is read as a plain file, since SQLite
/// would create the two.
fn open_for_reading(place: &Place) -> Result<Connection, Failure> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !FileSet::present(&place.paths)?.at_rest() {
        return Ok(Connection::open_with_flags(&place.paths.database, flags)?);
    }
    flags |= OpenFlags::SQLITE_OPEN_URI;
    let mut uri = b"file:".to_vec();
    for byte in place.paths.database.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            uri.push(*byte);
        } else {
            uri.extend(format!("%{byte:02x}").bytes());
        }
    }
    uri.extend(b"?immutable=1");
    let uri = String::from_utf8(uri).expect("everything but ASCII is escaped");
    Ok(Connection::open_with_flags(uri, flags)?)
}

/// SQLite falls back to reading when it may not write; here that is an error, and the caller wants to know which.
fn not_writable(place: &Place) -> StoreError {
    let paths = &place.paths;
    let writable = std::fs::OpenOptions::new().append(true).open(&paths.database);
    match writable {
        Err(problem) => failure::from_io(&problem, paths),
        Ok(_) => StoreError::ReadOnly { store: place.name() },
    }
}
