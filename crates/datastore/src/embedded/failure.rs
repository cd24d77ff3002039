// SPDX-License-Identifier: Apache-2.0
//! What goes wrong inside the embedded store, before it is known what that means for the caller.

use std::io;

use rusqlite::{Error as Sqlite, ErrorCode, ffi};

use super::{files::Paths, write_lock::LockError};
use crate::error::StoreError;

/// Any failure of an operation.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite's.
    Sqlite(Sqlite),
    /// Of a file beside the database.
    Io(io::Error),
    /// What was read cannot be the content of a store; SQLite did not notice.
    Damaged(String),
    /// Already in the caller's terms.
    Store(StoreError),
}

impl From<Sqlite> for Failure {
    fn from(problem: Sqlite) -> Self {
        Self::Sqlite(problem)
    }
}

impl From<io::Error> for Failure {
    fn from(problem: io::Error) -> Self {
        Self::Io(problem)
    }
}

impl From<StoreError> for Failure {
    fn from(problem: StoreError) -> Self {
        Self::Store(problem)
    }
}

impl Failure {
    /// What is damaged, if the failure says that the database is.
    pub(super) fn damage(&self) -> Option<String> {
        match self {
            Self::Damaged(reason) => Some(reason.clone()),
            Self::Sqlite(problem) => is_damage(problem).then(|| problem.to_string()),
            Self::Io(_) | Self::Store(_) => None,
        }
    }

    /// In the caller's terms.
    pub(super) fn into_store_error(self, paths: &Paths) -> StoreError {
        match self {
            Self::Store(problem) => problem,
            Self::Io(problem) => from_io(&problem, paths),
            Self::Sqlite(problem) => from_sqlite(&problem, paths),
            Self::Damaged(reason) => StoreError::Corrupt {
                store: name(paths),
                reason,
            },
        }
    }
}

fn name(paths: &Paths) -> String {
    paths.database.display().to_string()
}

fn is_damage(problem: &Sqlite) -> bool {
    match problem {
        // A table or column that every store has.
        Sqlite::SqliteFailure(cause, Some(text)) if cause.code == ErrorCode::Unknown => {
            text.starts_with("no such ")
        }
        Sqlite::SqliteFailure(cause, _) => {
            matches!(cause.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || matches!(
                    cause.extended_code,
                    ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS
                )
        }
        Sqlite::FromSqlConversionFailure(..)
        | Sqlite::IntegralValueOutOfRange(..)
        | Sqlite::InvalidColumnType(..)
        | Sqlite::Utf8Error(..) => true,
        _ => false,
    }
}

/// A failure to take the write lock.
pub(super) fn from_lock(problem: LockError, paths: &Paths) -> StoreError {
    match problem {
        LockError::Timeout => StoreError::Unavailable {
            store: name(paths),
            reason: format!(
                "another process has held its write lock ({}) all the time",
                paths.lock.display()
            ),
        },
        LockError::Io(problem) => from_io(&problem, paths),
    }
}

/// A failure of a file operation.
pub(super) fn from_io(problem: &io::Error, paths: &Paths) -> StoreError {
    let store = name(paths);
    match problem.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { store },
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { store },
        io::ErrorKind::PermissionDenied => not_permitted(store),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            StoreError::Refused {
                store,
                reason: format!("{problem}; choose another place for the store, or move away what is there"),
            }
        }
        _ => StoreError::Unavailable {
            store,
            reason: problem.to_string(),
        },
    }
}

fn not_permitted(store: String) -> StoreError {
    let reason = "permission denied; it belongs to root, and so must whoever uses it".to_owned();
    StoreError::Refused { store, reason }
}

fn from_sqlite(problem: &Sqlite, paths: &Paths) -> StoreError {
    let store = name(paths);
    if is_damage(problem) {
        return StoreError::Corrupt {
            store,
            reason: problem.to_string(),
        };
    }
    let reason = problem.to_string();
    match problem.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { store },
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { store },
        Some(ErrorCode::PermissionDenied) => not_permitted(store),
        Some(ErrorCode::CannotOpen) => cannot_open(paths, reason),
        // Shared memory and log cannot grow: SQLite does not say why.
        Some(ErrorCode::SystemIoFailure) if no_space(paths) => StoreError::Full { store },
        Some(ErrorCode::TooBig) => StoreError::Refused {
            store,
            reason: format!("{reason}; store less in one object"),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Unavailable {
            store,
            reason: "another program has locked the database".to_owned(),
        },
        _ => StoreError::Unavailable { store, reason },
    }
}

/// SQLite does not tell why; trying the file again does.
fn cannot_open(paths: &Paths, reason: String) -> StoreError {
    let files = [&paths.database, &paths.wal, &paths.shm];
    let problem = files.iter().find_map(|path| {
        let opened = std::fs::metadata(path).err();
        opened.filter(|problem| problem.kind() == io::ErrorKind::PermissionDenied)
    });
    match problem {
        Some(problem) => from_io(&problem, paths),
        None if no_space(paths) => StoreError::Full { store: name(paths) },
        None => StoreError::Unavailable {
            store: name(paths),
            reason,
        },
    }
}

fn no_space(paths: &Paths) -> bool {
    let space = nix::sys::statvfs::statvfs(paths.directory());
    space.is_ok_and(|space| {
        space.blocks_available() < 16 || (space.files() > 0 && space.files_available() == 0)
    })
}
