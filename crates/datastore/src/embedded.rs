// SPDX-License-Identifier: Apache-2.0
//! The store in one local file: SQLite in WAL mode, opened by any number of short-lived and long-lived processes.
//!
//! - A write takes our own lock, a fair one, then one SQLite transaction; then it rings the bell. Readers never wait.
//! - Every use of a connection first makes sure that the files are still those it has open.
//! - Opening decides whether the files are the ones last written here ([`Provenance`], [`Incarnation`]).
//!
//! The files inside: `admission` (opening and repairing), `session` (one connection), `batch` (writing), `query`
//! (reading), `watch`; below them `schema`, `checkpoint`, `bell`, `write_lock`, `files`, `file_system`, `failure`.

mod admission;
mod batch;
mod bell;
mod checkpoint;
mod failure;
mod file_system;
mod files;
mod options;
mod place;
mod query;
mod schema;
mod session;
#[cfg(test)]
mod tests;
mod watch;
mod write_lock;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{Key, KeyRange};
use rusqlite::Connection;

pub use options::{Access, Incarnation, OpenOptions, Provenance};

use crate::{
    error::StoreError,
    store::{Batch, Entry, Hint, JournalRecord, Listing, Revision, Store, Watch},
};
use admission::Admitted;
use bell::{Bell, Record};
use failure::Failure;
use files::{FileIdentity, FileSet, Paths};
use place::Place;
use query::{Bounds, Position};
use schema::Meta;
use session::Session;
use watch::EmbeddedWatch;
use write_lock::WriteGuard;

/// Connections kept for the next operation. More are made while more threads are at work.
const IDLE_SESSIONS: usize = 4;

/// A store in a local file. Clones share their connections.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    idle: Vec<Session>,
    incarnation: Incarnation,
}

/// An open store, and what opening it found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: EmbeddedStore,
    /// Whether it is the one that was last written here.
    pub provenance: Provenance,
}

impl EmbeddedStore {
    /// Opens the store in the file `path`, which the first writer creates, with its folder.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Opened, StoreError> {
        let paths = Paths::new(path).map_err(|problem| StoreError::Unavailable {
            store: path.display().to_string(),
            reason: problem.to_string(),
        })?;
        let place = Place { paths, options };
        let Admitted {
            session,
            incarnation,
            provenance,
        } = admission::admit(&place)?;
        let state = Mutex::new(State {
            idle: vec![session],
            incarnation,
        });
        let store = Self {
            shared: Arc::new(Shared { place, state }),
        };
        Ok(Opened { store, provenance })
    }

    /// The life of the store that this process last found.
    pub fn incarnation(&self) -> Incarnation {
        self.state().incarnation
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.place().paths.database
    }

    fn place(&self) -> &Place {
        &self.shared.place
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one read.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let session = self.session()?;
        match read(&session.connection) {
            Ok(result) => {
                self.keep(session);
                Ok(result)
            }
            Err(problem) => {
                drop(session);
                Err(self.explain(problem.into(), None))
            }
        }
    }

    /// A connection to the files as they are now.
    fn session(&self) -> Result<Session, StoreError> {
        let place = self.place();
        let present =
            FileSet::present(&place.paths).map_err(|problem| failure::from_io(&problem, &place.paths))?;
        if let Some(session) = self.idle_session(present) {
            return Ok(session);
        }
        let admitted = admission::admit(place)?;
        self.state().incarnation = admitted.incarnation;
        Ok(admitted.session)
    }

    fn idle_session(&self, present: FileSet) -> Option<Session> {
        let mut state = self.state();
        state.idle.retain(|session| session.is_current(present));
        state.idle.pop()
    }

    fn keep(&self, session: Session) {
        let mut state = self.state();
        if state.idle.len() < IDLE_SESSIONS {
            state.idle.push(session);
        }
    }

    /// The same for writing, with the bell. A store that is not the one this process knows is put right, and the write
    /// fails.
    fn session_for_writing(&self, guard: &WriteGuard) -> Result<(Session, Bell, Record), Failure> {
        let paths = &self.place().paths;
        let bell = Bell::open(&paths.bell)?;
        let record = bell.record()?;
        let found = FileIdentity::of(&paths.database)?;
        let undisturbed = record.filter(|record| Some(record.database) == found && !record.in_checkpoint);
        if let Some(record) = undisturbed
            && record.incarnation == self.incarnation()
        {
            let session = match self.idle_session(FileSet::present(paths)?) {
                Some(session) => session,
                None => Session::open(self.place())?.0,
            };
            return Ok((session, bell, record));
        }
        let before = self.incarnation();
        let provenance = self.repair(guard, None)?;
        if self.incarnation() == before {
            // A checkpoint had been cut off; now it is completed.
            return self.session_for_writing(guard);
        }
        Err(Failure::Store(self.replaced(provenance)))
    }

    fn repair(&self, guard: &WriteGuard, suspicion: Option<&str>) -> Result<Provenance, StoreError> {
        // Connections of one process share what they know of the log.
        self.state().idle.clear();
        let admitted = admission::repair(self.place(), guard, suspicion)?;
        let mut state = self.state();
        state.idle.push(admitted.session);
        state.incarnation = admitted.incarnation;
        Ok(admitted.provenance)
    }

    fn replaced(&self, provenance: Provenance) -> StoreError {
        let reason = match provenance {
            Provenance::Existing => "another process has replaced it".to_owned(),
            Provenance::Created => "it was deleted; a new, empty one was made".to_owned(),
            Provenance::Replaced {
                moved_to: None,
                reason,
            } => format!("{reason}; a new, empty one was made"),
            Provenance::Replaced {
                moved_to: Some(path),
                reason,
            } => {
                format!(
                    "{reason}; it was moved to {}, and a new, empty one was made",
                    path.display()
                )
            }
            Provenance::Restored { reason } | Provenance::Suspect { reason } => reason,
        };
        StoreError::Replaced {
            store: self.place().name(),
            reason,
        }
    }

    /// What a failure means for the caller. If it says that the database is damaged, that is looked into at once, and a
    /// damaged one is replaced.
    fn explain(&self, failure: Failure, guard: Option<&WriteGuard>) -> StoreError {
        let place = self.place();
        let damage = failure
            .damage()
            .filter(|_| place.options.access == Access::ReadWrite);
        let Some(reason) = damage else {
            return failure.into_store_error(&place.paths);
        };
        let repaired = match guard {
            Some(guard) => self.repair(guard, Some(&reason)),
            None => place.lock().and_then(|guard| self.repair(&guard, Some(&reason))),
        };
        match repaired {
            // Nothing was found: another process was putting things right at that moment.
            Ok(Provenance::Existing) => StoreError::Corrupt {
                store: place.name(),
                reason,
            },
            Ok(provenance) => self.replaced(provenance),
            Err(problem) => problem,
        }
    }

    fn commit_under_lock(&self, batch: &Batch, guard: &WriteGuard) -> Result<Vec<Revision>, Failure> {
        let place = self.place();
        let (session, bell, record) = self.session_for_writing(guard)?;
        let applied = match batch::apply(&session.connection, batch, &place.options, record.revision) {
            Ok(applied) => applied,
            Err(failure) => {
                if matches!(&failure, Failure::Store(problem) if problem.is_conflict()) {
                    self.keep(session);
                }
                return Err(failure);
            }
        };
        if let Some(revision) = applied.committed {
            // The batch is committed: whatever fails from here on is made up for by the next commit or open.
            let _ = Self::announce(place, &session, &bell, &record, revision);
        }
        self.keep(session);
        Ok(applied.revisions)
    }

    /// Rings the bell, and shortens the log if it has become long.
    fn announce(
        place: &Place,
        session: &Session,
        bell: &Bell,
        record: &Record,
        revision: u64,
    ) -> Result<(), Failure> {
        let salts = files::log_salts(&place.paths.wal)?.unwrap_or_default();
        bell.ring(revision, salts)?;
        if checkpoint::is_due(place, &record.database)? {
            let meta = Meta {
                revision,
                ..schema::read_meta(&session.connection)?
            };
            debug_assert_eq!(meta.incarnation, record.incarnation);
            checkpoint::run(place, session, bell, &meta)?;
        }
        Ok(())
    }
}

impl Store for EmbeddedStore {
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.read(|connection| query::get(connection, key))
    }

    fn list_hinted(&self, range: &KeyRange, hint: &Hint) -> Result<Listing, StoreError> {
        self.read(|connection| query::list(connection, range, hint))
    }

    fn applies_hints(&self) -> bool {
        true
    }

    fn make_ready(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            query::compile_list_of_blocks(connection)?;
            batch::compile(connection)
        })
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Revision>, StoreError> {
        batch.check_keys()?;
        let place = self.place();
        if place.options.access == Access::ReadOnly {
            let reason = "it was opened for reading only".to_owned();
            return Err(StoreError::Refused {
                store: place.name(),
                reason,
            });
        }
        let guard = place.lock()?;
        self.commit_under_lock(batch, &guard)
            .map_err(|failure| self.explain(failure, Some(&guard)))
    }

    fn atomic(&self) -> bool {
        true
    }

    fn watch(&self, range: &KeyRange, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let position = Position {
            incarnation: self.incarnation(),
            revision: from.0,
        };
        let bell = self.place().paths.bell.clone();
        let store = self.clone();
        let read_changes = move |position, bounds: &Bounds| {
            store.read(|connection| query::changes_since(connection, position, bounds))
        };
        Ok(Box::new(EmbeddedWatch::new(
            Box::new(read_changes),
            Bounds::of(range),
            position,
            bell,
        )))
    }

    fn journal(&self, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        self.read(|connection| query::journal(connection, limit))
    }
}
