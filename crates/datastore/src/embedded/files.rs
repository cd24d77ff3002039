// SPDX-License-Identifier: Apache-2.0
//! The files of a store, and how they are told apart.
//!
//! Beside the database `node.db` lie SQLite's write-ahead log and shared memory (`-wal`, `-shm`), our lock file
//! (`.lock`) and our bell (`.bell`). The main file is changed by our own checkpoints only, so its state after the last
//! one, kept in the bell, identifies it.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// How many sets of damaged files are kept.
const DAMAGED_KEPT: usize = 3;

/// Where the files of a store are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) database: PathBuf,
    pub(super) wal: PathBuf,
    pub(super) shm: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) bell: PathBuf,
    /// Where a new database is made before it is renamed into place.
    pub(super) staging: PathBuf,
}

impl Paths {
    /// The files belonging to `database`. A symbolic link is followed, as SQLite does.
    pub(super) fn new(database: &Path) -> io::Result<Self> {
        let is_link = fs::symlink_metadata(database).is_ok_and(|found| found.is_symlink());
        let database = if is_link {
            fs::canonicalize(database)?
        } else {
            database.to_owned()
        };
        Ok(Self {
            wal: with_suffix(&database, "-wal"),
            shm: with_suffix(&database, "-shm"),
            lock: with_suffix(&database, ".lock"),
            bell: with_suffix(&database, ".bell"),
            staging: with_suffix(&database, ".new"),
            database,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        match self.database.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Removes what a process that died while creating left behind.
    pub(super) fn remove_staging(&self) -> io::Result<()> {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            remove_if_exists(&with_suffix(&self.staging, suffix))?;
        }
        Ok(())
    }

    /// Moves the log aside, to the name of a damaged database, and removes the shared memory, so that neither is ever
    /// used with the main file again.
    pub(super) fn set_log_aside(&self, aside: &Path) -> io::Result<()> {
        rename_if_exists(&self.wal, &with_suffix(aside, "-wal"))?;
        remove_if_exists(&self.shm)
    }

    /// Moves the database and its log aside.
    pub(super) fn set_database_aside(&self, aside: &Path) -> io::Result<()> {
        self.set_log_aside(aside)?;
        rename_if_exists(&self.database, aside)
    }

    /// A name for a damaged database that no other one has.
    pub(super) fn name_for_damaged(&self) -> io::Result<PathBuf> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut seconds = since_epoch.as_secs();
        loop {
            let name = with_suffix(&self.database, &format!(".damaged-{seconds}"));
            if !name.try_exists()? && !with_suffix(&name, "-wal").try_exists()? {
                return Ok(name);
            }
            seconds += 1;
        }
    }

    /// Keeps only the newest damaged files.
    pub(super) fn forget_oldest_damaged(&self) -> io::Result<()> {
        let Some(name) = self.database.file_name() else {
            return Ok(());
        };
        let mut prefix = name.to_owned();
        prefix.push(".damaged-");
        let seconds = |file: &OsString| -> Option<u64> {
            let rest = file.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?;
            let digits = rest.strip_suffix(b"-wal").unwrap_or(rest);
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        let mut sets: Vec<u64> = Vec::new();
        for entry in fs::read_dir(self.directory())? {
            sets.extend(seconds(&entry?.file_name()));
        }
        sets.sort_unstable();
        sets.dedup();
        sets.reverse();
        for old in sets.into_iter().skip(DAMAGED_KEPT) {
            let name = with_suffix(&self.database, &format!(".damaged-{old}"));
            remove_if_exists(&with_suffix(&name, "-wal"))?;
            remove_if_exists(&name)?;
        }
        Ok(())
    }
}

/// What tells one state of the main file from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileIdentity {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// When the content last changed, in nanoseconds since the Unix epoch. Can be set by copying programs.
    pub(super) modified: i64,
    /// When content or attributes last changed. Cannot be set.
    pub(super) changed: i64,
}

impl FileIdentity {
    /// The state of a file; `None` if there is none.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Ok(metadata(path)?.map(|found| Self {
            inode: found.ino(),
            size: found.size(),
            modified: nanoseconds(found.mtime(), found.mtime_nsec()),
            changed: nanoseconds(found.ctime(), found.ctime_nsec()),
        }))
    }

    /// Whether the content may be taken for the same, whatever happened to owner, mode and links.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }
}

/// Which files a connection has open: their inodes when it had just been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSet([Option<u64>; 3]);

impl FileSet {
    /// The files that are there now.
    pub(super) fn present(paths: &Paths) -> io::Result<Self> {
        let inode = |path: &Path| Ok::<_, io::Error>(metadata(path)?.map(|found| found.ino()));
        Ok(Self([
            inode(&paths.database)?,
            inode(&paths.wal)?,
            inode(&paths.shm)?,
        ]))
    }

    /// Whether every file of this set is in the other one.
    pub(super) fn is_part_of(self, other: Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .all(|(one, other)| one.is_none() || *one == other)
    }

    /// Whether the main file is there without log and shared memory: nobody has it open.
    pub(super) fn at_rest(self) -> bool {
        matches!(self.0, [Some(_), None, None])
    }
}

/// Identifies a log: SQLite chooses the two salts anew whenever it starts the log from its beginning. `None` for a log
/// that is missing or empty.
pub(super) fn log_salts(wal: &Path) -> io::Result<Option<[u8; 8]>> {
    let file = match File::open(wal) {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut salts = [0; 8];
    match file.read_exact_at(&mut salts, 16) {
        Ok(()) => Ok(Some(salts)),
        Err(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// The size of a file in bytes; 0 if there is none.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    Ok(metadata(path)?.map_or(0, |found| found.size()))
}

pub(super) fn remove_if_exists(path: &Path) -> io::Result<()> {
    unless_missing(fs::remove_file(path))
}

fn rename_if_exists(from: &Path, to: &Path) -> io::Result<()> {
    unless_missing(fs::rename(from, to))
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Opens a file beside the database, or makes it; anything but a regular file is refused, without waiting for the other
/// end of a pipe.
pub(super) fn open_beside(path: &Path) -> io::Result<File> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular(path))
    }
}

/// What has the place of a file and is none.
pub(super) fn not_regular(path: &Path) -> io::Error {
    let text = format!("{} is no regular file", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(not_regular(path)),
        Ok(found) => Ok(Some(found)),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
