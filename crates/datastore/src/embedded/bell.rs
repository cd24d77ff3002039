// SPDX-License-Identifier: Apache-2.0
//! The bell: a small file beside the database with two uses.
//!
//! It *rings*: after each commit the new revision is written to it, which wakes every watch that has an inotify on it
//! (inotify on the write-ahead log would come before the commit is visible). And it *remembers*: the last revision, the
//! log it went to, the incarnation, and the state of the main file after our last checkpoint; an open compares these
//! with what it finds. It is written under the write lock and never synced: after a power loss it may be older than
//! the database, or the database older than it, and then the store counts as restored.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use super::{
    files::{FileIdentity, not_regular, open_beside},
    options::Incarnation,
};

const MAGIC: [u8; 8] = *b"CALBELL1";
const LENGTH: usize = 88;
/// Where revision and salts are, the part that rings.
const REVISION: usize = 8;

/// What the bell remembers. Numbers are stored little-endian in this order, after the magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Revision of the last commit.
    pub(super) revision: u64,
    /// Salts of the log that commit went to; 0 when the log was empty.
    pub(super) salts: [u8; 8],
    /// Of the database.
    pub(super) incarnation: Incarnation,
    /// The main file after our last checkpoint.
    pub(super) database: FileIdentity,
    /// How many checkpoints there have been; the database holds the number as it was at its last one.
    pub(super) checkpoints: u64,
    /// A checkpoint had begun when this was written: the main file may be in any state, and needs its log.
    pub(super) in_checkpoint: bool,
}

impl Record {
    /// Reads the bell; `None` if it is missing or not one.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let options = &mut fs::OpenOptions::new();
        match options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
            Ok(file) if !file.metadata()?.is_file() => Err(not_regular(path)),
            Ok(file) => Self::read_from(&file),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    fn read_from(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; LENGTH];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Self::decode(&bytes)),
            Err(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let mut rest: &[u8] = bytes;
        let magic: [u8; 8] = take(&mut rest);
        let record = Self {
            revision: u64::from_le_bytes(take(&mut rest)),
            salts: take(&mut rest),
            incarnation: Incarnation(take(&mut rest)),
            database: FileIdentity {
                inode: u64::from_le_bytes(take(&mut rest)),
                size: u64::from_le_bytes(take(&mut rest)),
                modified: i64::from_le_bytes(take(&mut rest)),
                changed: i64::from_le_bytes(take(&mut rest)),
            },
            checkpoints: u64::from_le_bytes(take(&mut rest)),
            in_checkpoint: u64::from_le_bytes(take(&mut rest)) != 0,
        };
        (magic == MAGIC).then_some(record)
    }

    fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(MAGIC);
        bytes.extend(self.revision.to_le_bytes());
        bytes.extend(self.salts);
        bytes.extend(self.incarnation.0);
        bytes.extend(self.database.inode.to_le_bytes());
        bytes.extend(self.database.size.to_le_bytes());
        bytes.extend(self.database.modified.to_le_bytes());
        bytes.extend(self.database.changed.to_le_bytes());
        bytes.extend(self.checkpoints.to_le_bytes());
        bytes.extend(u64::from(self.in_checkpoint).to_le_bytes());
        bytes
            .try_into()
            .expect("the fields above are LENGTH bytes together")
    }
}

/// Splits the first `N` bytes off.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest
        .split_first_chunk()
        .expect("a record has LENGTH bytes, which its fields add up to");
    *rest = tail;
    *head
}

/// The bell, open for writing. Only the holder of the write lock has one.
#[derive(Debug)]
pub(super) struct Bell {
    file: File,
}

impl Bell {
    /// Opens it, or makes an empty one. The file is never replaced, since watches wait on it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open_beside(path)?,
        })
    }

    /// What it remembers.
    pub(super) fn record(&self) -> io::Result<Option<Record>> {
        Record::read_from(&self.file)
    }

    /// Tells every watch of a commit.
    pub(super) fn ring(&self, revision: u64, salts: [u8; 8]) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&revision.to_le_bytes());
        bytes[8..].copy_from_slice(&salts);
        self.file.write_all_at(&bytes, REVISION as u64)
    }

    /// Remembers everything anew.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        self.file.write_all_at(&record.encode(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            revision: 0x0102_0304_0506_0708,
            salts: *b"saltsalt",
            incarnation: Incarnation([7; 16]),
            database: FileIdentity {
                inode: 11,
                size: 12,
                modified: -13,
                changed: 14,
            },
            checkpoints: 15,
            in_checkpoint: true,
        }
    }

    #[test]
    fn a_record_survives_encoding_and_ringing_changes_revision_and_salts_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bell");
        assert_eq!(Record::read(&path).unwrap(), None);
        let bell = Bell::open(&path).unwrap();
        assert_eq!(bell.record().unwrap(), None);
        bell.write(&record()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record()));
        bell.ring(99, *b"newsalts").unwrap();
        let expected = Record {
            revision: 99,
            salts: *b"newsalts",
            ..record()
        };
        assert_eq!(Bell::open(&path).unwrap().record().unwrap(), Some(expected));
        assert_eq!(fs::metadata(&path).unwrap().len(), LENGTH as u64);
    }

    #[test]
    fn what_is_not_a_bell_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bell");
        for content in [&b""[..], b"CALBELL1", &[0; LENGTH], &[0xff; 3 * LENGTH]] {
            fs::write(&path, content).unwrap();
            assert_eq!(Record::read(&path).unwrap(), None);
        }
    }
}
