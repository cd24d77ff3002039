// SPDX-License-Identifier: Apache-2.0
//! One assignment or release of a host at a time: an exclusive flock on `ipam_lock_file`, as Calico takes it. With
//! it, processes of one host meet no conflicts in the store; without it they would still be correct, only slower.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use kernel::file_lock::lock_exclusive;

/// The lock; dropping it, or dying, releases it.
#[derive(Debug)]
pub struct HostLock {
    file: File,
}

impl HostLock {
    /// Waits at most `limit`. Waiting is first come, first served, in the kernel.
    pub fn take(path: &Path, limit: Duration) -> io::Result<Self> {
        let file = open(path)?;
        if lock_exclusive(&file, Instant::now() + limit)? {
            return Ok(Self { file });
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("another plugin has held the lock for {} s", limit.as_secs()),
        ))
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // Closing is not enough where a child process has a copy of the descriptor.
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A pipe in its place is an error, not a wait.
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_second_waits_for_the_first_and_gives_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/ipam.lock");
        let first = HostLock::take(&path, Duration::from_secs(1)).unwrap();
        let error = HostLock::take(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waiting = thread::spawn({
            let path = path.clone();
            move || HostLock::take(&path, Duration::from_secs(10)).is_ok()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }
}
