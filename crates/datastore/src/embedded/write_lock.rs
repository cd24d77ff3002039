// SPDX-License-Identifier: Apache-2.0
//! One writer at a time, across processes and threads: an exclusive `flock` on a file beside the database.
//!
//! SQLite's own lock is waited for by sleeping and trying again, which is slow and unfair under load; the kernel hands
//! a `flock` on in the order of arrival. A lock dies with its process.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use kernel::file_lock::lock_exclusive;

use super::files::open_beside;

/// Holds the lock until dropped.
#[derive(Debug)]
pub(super) struct WriteGuard {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Somebody else held it all the time.
    Timeout,
    /// The lock file cannot be used.
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(problem: io::Error) -> Self {
        Self::Io(problem)
    }
}

/// Takes the lock, waiting at most `patience`.
pub(super) fn acquire(path: &Path, patience: Duration) -> Result<WriteGuard, LockError> {
    let deadline = Instant::now() + patience;
    loop {
        let file = open_beside(path)?;
        if !lock_exclusive(&file, deadline)? {
            return Err(LockError::Timeout);
        }
        // Somebody may have deleted the file meanwhile: then the next one locks another file.
        let current = fs::metadata(path).map(|found| found.ino()).ok();
        if current == Some(file.metadata()?.ino()) {
            return Ok(WriteGuard { _file: file });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_second_holder_waits_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = acquire(&path, LONG).unwrap();
        assert!(matches!(
            acquire(&path, Duration::from_millis(20)),
            Err(LockError::Timeout)
        ));
        let waiting = thread::spawn({
            let path = path.clone();
            move || acquire(&path, LONG).map(drop)
        });
        assert!(!waiting.is_finished());
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_wait_that_was_given_up_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = acquire(&path, LONG).unwrap();
        for _ in 0..8 {
            assert!(acquire(&path, Duration::from_millis(1)).is_err());
        }
        drop(first);
        acquire(&path, LONG).unwrap();
    }

    /// Waits until somebody waits for the lock of this file.
    fn until_wanted(inode: u64) {
        let deadline = Instant::now() + LONG;
        let wanted = || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            let of_file = format!(":{inode} ");
            locks
                .lines()
                .any(|line| line.contains("->") && line.contains(&of_file))
        };
        while !wanted() {
            assert!(Instant::now() < deadline, "nobody waits for file {inode}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_deleted_lock_file_does_not_let_two_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let inode = || fs::metadata(&path).unwrap().ino();
        let first = acquire(&path, LONG).unwrap();
        let waiting = thread::spawn({
            let path = path.clone();
            move || acquire(&path, LONG)
        });
        until_wanted(inode());
        fs::remove_file(&path).unwrap();
        let second = acquire(&path, LONG).unwrap();
        drop(first);
        // The waiter now gets the lock of the deleted file, and must go on to wait for the second holder.
        until_wanted(inode());
        assert!(!waiting.is_finished());
        drop(second);
        waiting.join().unwrap().unwrap();
    }
}
