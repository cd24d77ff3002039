// SPDX-License-Identifier: Apache-2.0
//! Decides, whenever a store is opened, whether its files are the ones last written here, and puts them right if not.
//!
//! The usual case takes no lock: the bell knows the state of the main file after our last checkpoint, and the database
//! agrees with the bell on incarnation, revision and number of checkpoints. Everything else is looked at under the write
//! lock:
//!
//! | found | done | provenance |
//! |---|---|---|
//! | no file | a new store | created; replaced, if the bell knew one |
//! | not a database, or one that fails the check | moved aside, a new store | replaced |
//! | neither ours nor known to a bell | refused | |
//! | a checkpoint was cut off | completed | existing |
//! | a sound file, but not as we left it | new incarnation, revisions go on behind the highest known | restored |
//! | an older file beside our newer log | the log is moved aside, then as above | restored |
//! | needs a newer program | refused | |

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::PathBuf,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    bell::{Bell, Record},
    checkpoint,
    failure::{self, Failure},
    file_system,
    files::{self, FileIdentity},
    options::{Access, Incarnation, Provenance},
    place::Place,
    schema::{self, Meta},
    session::Session,
    write_lock::WriteGuard,
};
use crate::error::StoreError;

/// A session of a store that may be used.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) session: Session,
    pub(super) incarnation: Incarnation,
    pub(super) provenance: Provenance,
}

impl Admitted {
    fn new(session: Session, meta: &Meta, provenance: Provenance) -> Self {
        Self {
            session,
            incarnation: meta.incarnation,
            provenance,
        }
    }
}

/// Opens a store, whatever state it is in.
pub(super) fn admit(place: &Place) -> Result<Admitted, StoreError> {
    prepare_directory(place)?;
    let known = open_known(place).map_err(|failure| failure.into_store_error(&place.paths))?;
    match (known, place.options.access) {
        (Some(known), _) => Ok(known),
        (None, Access::ReadOnly) => {
            look_only(place).map_err(|failure| failure.into_store_error(&place.paths))
        }
        (None, Access::ReadWrite) => repair(place, &place.lock()?, None),
    }
}

/// Opens a store under the write lock and puts right what is wrong with it. `suspicion` is what an operation stumbled
/// over: then everything is checked.
pub(super) fn repair(
    place: &Place,
    _guard: &WriteGuard,
    suspicion: Option<&str>,
) -> Result<Admitted, StoreError> {
    Repair::new(place)
        .and_then(|repair| repair.run(suspicion))
        .map_err(|failure| failure.into_store_error(&place.paths))
}

fn prepare_directory(place: &Place) -> Result<(), StoreError> {
    let directory = place.paths.directory();
    let problem = |problem: io::Error| failure::from_io(&problem, &place.paths);
    if !directory.try_exists().map_err(problem)? {
        if place.options.access == Access::ReadOnly {
            return Err(missing(place));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(problem)?;
    }
    if place.options.any_file_system {
        return Ok(());
    }
    file_system::check(&place.paths.database, directory)
}

/// The usual case: the files are as we left them. No lock is taken, so anything unusual is left for later.
fn open_known(place: &Place) -> Result<Option<Admitted>, Failure> {
    let (record, found) = observe(place)?;
    let (Some(record), Some(found)) = (record, found) else {
        return Ok(None);
    };
    if record.in_checkpoint || record.database != found {
        return Ok(None);
    }
    let (session, meta) = match Session::open(place) {
        Ok(opened) => opened,
        Err(failure) if failure.damage().is_some() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    meta.check_version(&place.paths)?;
    Ok(is_behind(&record, &meta)
        .is_none()
        .then(|| Admitted::new(session, &meta, Provenance::Existing)))
}

/// Reading only: whatever is wrong is reported and left alone.
fn look_only(place: &Place) -> Result<Admitted, Failure> {
    let (record, found) = observe(place)?;
    let Some(found) = found else {
        return Err(missing(place).into());
    };
    let (session, meta) = Session::open(place)?;
    meta.check_version(&place.paths)?;
    let doubt = match &record {
        None => Some("its bell is missing".to_owned()),
        Some(record) => is_behind(record, &meta).or_else(|| is_changed(record, found)),
    };
    let provenance = doubt.map_or(Provenance::Existing, |reason| Provenance::Suspect { reason });
    Ok(Admitted::new(session, &meta, provenance))
}

/// The bell, and then the main file: commits of others between the two only make the database newer than its bell. A
/// checkpoint begins with a word in the bell, so none has come between if the bell still says the same afterwards.
fn observe(place: &Place) -> io::Result<(Option<Record>, Option<FileIdentity>)> {
    let checkpoint =
        |record: &Option<Record>| record.map(|record| (record.checkpoints, record.in_checkpoint));
    let mut record = Record::read(&place.paths.bell)?;
    loop {
        let found = FileIdentity::of(&place.paths.database)?;
        if record.map(|record| record.database) == found {
            return Ok((record, found));
        }
        let again = Record::read(&place.paths.bell)?;
        if checkpoint(&again) == checkpoint(&record) {
            return Ok((record, found));
        }
        record = again;
    }
}

/// Whether the database is not what the bell has seen: the content of an older copy, or another store.
fn is_behind(record: &Record, meta: &Meta) -> Option<String> {
    if meta.incarnation != record.incarnation {
        return Some(format!(
            "it is {}, and {} was here before",
            meta.incarnation, record.incarnation
        ));
    }
    if meta.revision < record.revision || meta.checkpoints < record.checkpoints {
        return Some(format!(
            "it ends at revision {}, and {} had been reached",
            meta.revision, record.revision
        ));
    }
    None
}

/// Whether something other than a checkpoint of ours has changed the main file.
fn is_changed(record: &Record, found: FileIdentity) -> Option<String> {
    if record.in_checkpoint || record.database == found {
        return None;
    }
    let what = if record.database.same_content(&found) {
        "its attributes were changed, or it was copied over"
    } else {
        "its file was copied over or changed by another program"
    };
    Some(format!("{what}, or the machine lost power"))
}

fn missing(place: &Place) -> StoreError {
    StoreError::Missing { store: place.name() }
}

/// Everything that happens under the lock.
struct Repair<'a> {
    place: &'a Place,
    record: Option<Record>,
    /// Where what cannot be used is moved to.
    aside: PathBuf,
}

impl<'a> Repair<'a> {
    fn new(place: &'a Place) -> Result<Self, Failure> {
        place.paths.remove_staging()?;
        let record = Record::read(&place.paths.bell)?;
        let aside = place.paths.name_for_damaged()?;
        Ok(Self { place, record, aside })
    }

    fn run(&self, suspicion: Option<&str>) -> Result<Admitted, Failure> {
        let paths = &self.place.paths;
        let found = FileIdentity::of(&paths.database)?;
        if self.record.map(|record| record.database) != found {
            // Whoever still has the files open may keep shared memory alive that describes other files than these.
            files::remove_if_exists(&paths.shm)?;
        }
        match found {
            None => self.replace_missing(),
            // Somebody reserved the name.
            Some(found) if found.size == 0 && self.record.is_none() => {
                files::remove_if_exists(&paths.database)?;
                self.start_anew(Provenance::Created)
            }
            Some(found) => match self.examine(found, suspicion) {
                Err(failure) => match failure.damage() {
                    Some(reason) => self.replace_damaged(found, reason, suspicion),
                    None => Err(failure),
                },
                admitted => admitted,
            },
        }
    }

    fn replace_missing(&self) -> Result<Admitted, Failure> {
        if self.record.is_none() && files::size(&self.place.paths.wal)? == 0 {
            return self.start_anew(Provenance::Created);
        }
        self.place.paths.set_log_aside(&self.aside)?;
        let reason = "the database file is gone".to_owned();
        self.start_anew(Provenance::Replaced {
            moved_to: None,
            reason,
        })
    }

    fn replace_damaged(
        &self,
        found: FileIdentity,
        reason: String,
        suspicion: Option<&str>,
    ) -> Result<Admitted, Failure> {
        let paths = &self.place.paths;
        // A main file that is not as we left it may be sound, and only mixed with a log that is not its own.
        let changed = self
            .record
            .as_ref()
            .is_some_and(|record| record.database != found);
        if changed && files::size(&paths.wal)? > 0 {
            paths.set_log_aside(&self.aside)?;
            match self.examine(found, suspicion) {
                Err(failure) if failure.damage().is_some() => {}
                examined => return examined,
            }
        }
        if self.record.is_none() && !self.has_our_mark()? {
            return Err(Failure::Store(StoreError::Refused {
                store: self.place.name(),
                reason: format!(
                    "{reason}, and nothing says that it has ever been a store; \
                     set datastore_path to a file of its own, or move this one away"
                ),
            }));
        }
        paths.set_database_aside(&self.aside)?;
        let moved_to = Some(self.aside.clone());
        self.start_anew(Provenance::Replaced { moved_to, reason })
    }

    /// Whether the header of the main file, if nothing else, says that it is a store.
    fn has_our_mark(&self) -> io::Result<bool> {
        let mut mark = [0; 4];
        let read = File::open(&self.place.paths.database)?.read_exact_at(&mut mark, 68);
        Ok(read.is_ok() && u32::from_be_bytes(mark) == schema::APPLICATION_ID)
    }

    /// Looks at a file that is there. Fails with damage if it cannot be used.
    fn examine(&self, found: FileIdentity, suspicion: Option<&str>) -> Result<Admitted, Failure> {
        let place = self.place;
        let (mut session, mut meta) = Session::open(place)?;
        meta.check_version(&place.paths)?;
        let mut doubt = match &self.record {
            None => Some("its bell is missing".to_owned()),
            Some(record) => is_behind(record, &meta).or_else(|| is_changed(record, found)),
        };
        if self.log_belongs_to_a_newer_file(&meta)? {
            drop(session);
            place.paths.set_log_aside(&self.aside)?;
            (session, meta) = Session::open(place)?;
            doubt = Some("an older copy of its file was put beside the newer log".to_owned());
        }
        let cut_off = self.record.is_some_and(|record| record.in_checkpoint);
        if doubt.is_some() || cut_off || suspicion.is_some() {
            schema::check_integrity(&session.connection, suspicion.is_some())?;
        }
        let Some(reason) = doubt else {
            if cut_off {
                checkpoint::run(place, &session, &self.bell()?, &meta)?;
            }
            return Ok(Admitted::new(session, &meta, Provenance::Existing));
        };
        self.begin_incarnation(&session, &mut meta)?;
        place.paths.forget_oldest_damaged()?;
        Ok(Admitted::new(session, &meta, Provenance::Restored { reason }))
    }

    /// Whether the log is the one our last commit went to, and the main file is from before. The two are then a mixture
    /// that no check of structure is sure to find.
    fn log_belongs_to_a_newer_file(&self, meta: &Meta) -> io::Result<bool> {
        let Some(record) = &self.record else {
            return Ok(false);
        };
        let older = meta.incarnation != record.incarnation || meta.checkpoints < record.checkpoints;
        Ok(older && files::log_salts(&self.place.paths.wal)? == Some(record.salts))
    }

    /// Makes a sound file the current store, and a new one in the eyes of everybody who knew another.
    fn begin_incarnation(&self, session: &Session, meta: &mut Meta) -> Result<(), Failure> {
        meta.incarnation = new_incarnation()?;
        meta.revision = self.first_revision(meta.revision);
        meta.checkpoints = meta
            .checkpoints
            .max(self.record.map_or(0, |record| record.checkpoints));
        // Another program may have changed the mode.
        session.connection.pragma_update(None, "journal_mode", "WAL")?;
        session.connection.pragma_update(None, "synchronous", "FULL")?;
        schema::begin_incarnation(&session.connection, meta)?;
        session.connection.pragma_update(None, "synchronous", "NORMAL")?;
        checkpoint::run(self.place, session, &self.bell()?, meta)
    }

    /// Puts a new, empty store where nothing is now.
    fn start_anew(&self, provenance: Provenance) -> Result<Admitted, Failure> {
        let paths = &self.place.paths;
        let created = self.create_database();
        if created.is_err() {
            paths.remove_staging()?;
        }
        created?;
        paths.forget_oldest_damaged()?;
        let (session, meta) = Session::open(self.place)?;
        self.bell()?.write(&Record {
            revision: meta.revision,
            salts: [0; 8],
            incarnation: meta.incarnation,
            database: FileIdentity::of(&paths.database)?.unwrap_or_default(),
            checkpoints: meta.checkpoints,
            in_checkpoint: false,
        })?;
        Ok(Admitted::new(session, &meta, provenance))
    }

    /// Under another name first, so that nobody ever sees half a store.
    fn create_database(&self) -> Result<(), Failure> {
        let paths = &self.place.paths;
        // SQLite gives log and shared memory the mode of the database.
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&paths.staging)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&paths.staging, flags)?;
        connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")?;
        schema::create(&connection, new_incarnation()?, self.first_revision(0))?;
        connection.execute_batch("PRAGMA journal_mode = WAL")?;
        connection.close().map_err(|(_, problem)| problem)?;
        file.sync_all()?;
        // Those of an earlier database must not be taken for the new one's.
        files::remove_if_exists(&paths.wal)?;
        files::remove_if_exists(&paths.shm)?;
        fs::rename(&paths.staging, &paths.database)?;
        File::open(paths.directory())?.sync_all()?;
        Ok(())
    }

    fn bell(&self) -> io::Result<Bell> {
        Bell::open(&self.place.paths.bell)
    }

    /// The first revision of a new incarnation. It leaves a gap behind every one that has been used here, so that none
    /// is repeated and a watch that stood at the last sees that it has missed something.
    fn first_revision(&self, found: u64) -> u64 {
        match self.record.map_or(found, |record| record.revision.max(found)) {
            0 => 1,
            last => last + 2,
        }
    }
}

fn new_incarnation() -> io::Result<Incarnation> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Incarnation(bytes))
}
