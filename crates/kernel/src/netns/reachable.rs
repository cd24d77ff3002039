// SPDX-License-Identifier: Apache-2.0
//! Every network namespace that a process or a mount keeps alive: what has to be looked through before it can be said
//! that nobody has an address.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Namespace, Opened};
use crate::error::{Error, Result};

/// What [`reachable`] found.
#[derive(Debug, Default)]
pub struct Reachable {
    /// The namespaces, once each.
    pub namespaces: Vec<Namespace>,
    /// What this process may not look at: there can be more behind it.
    pub hidden: Vec<PathBuf>,
}

/// Every network namespace that has a process in it, or is mounted where this process or process 1 sees it
/// (`/run/netns/…`, `/run/docker/netns/…`). Those that only a file descriptor or a thread keeps alive are not found.
/// Needs root, `CAP_SYS_PTRACE` and the host's process IDs.
pub fn reachable() -> Result<Reachable> {
    let failed = |error: io::Error| Error::new("list processes", error);
    let mut found = Found::default();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_process = entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        if is_process {
            found.add(&entry.path().join("ns/net"))?;
        }
    }
    for (table, root) in [
        ("/proc/self/mountinfo", "/"),
        ("/proc/1/mountinfo", "/proc/1/root"),
    ] {
        let text = match fs::read(table) {
            Ok(text) => text,
            Err(error) if is_gone(&error) => continue,
            Err(error) if is_forbidden(&error) => {
                found.hidden.push(table.into());
                continue;
            }
            Err(error) => return Err(Error::new(format!("read {table}"), error)),
        };
        for path in mounted(&text) {
            found.add(&Path::new(root).join(path.strip_prefix("/").unwrap_or(&path)))?;
        }
    }
    Ok(Reachable {
        namespaces: found.namespaces.into_values().collect(),
        hidden: found.hidden,
    })
}

#[derive(Default)]
struct Found {
    /// By device and inode.
    namespaces: BTreeMap<(u64, u64), Namespace>,
    hidden: Vec<PathBuf>,
}

impl Found {
    fn add(&mut self, path: &Path) -> Result<()> {
        // By inode first: many processes share a namespace, and opening is what costs.
        let identity = match fs::metadata(path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if is_forbidden(&error) => {
                self.hidden.push(path.to_owned());
                return Ok(());
            }
            Err(error) => return Err(Error::new(format!("examine {}", path.display()), error)),
        };
        if !self.namespaces.contains_key(&identity)
            && let Opened::Namespace(namespace) = Namespace::open(path)?
        {
            self.namespaces.insert(identity, namespace);
        }
        Ok(())
    }
}

/// The process has ended, or is ending.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

/// The mount points of network namespaces in a `mountinfo` (proc_pid_mountinfo(5)).
fn mounted(table: &[u8]) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let point = fields.next()?;
        root.starts_with(b"net:[")
            .then(|| PathBuf::from(OsString::from_vec(unescape(point))))
    };
    table.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// Blanks and backslashes of a path are octal there.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(value) = value {
            plain.push(value);
            rest = &tail[3..];
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_network_namespaces_are_taken() {
        let table = b"22 1 0:21 / /proc rw - proc proc rw\n\
            40 22 0:4 net:[4026532000] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw\n\
            41 22 0:4 mnt:[4026532001] /run/mnt/x rw - nsfs nsfs rw\n\
            short line\n\n\
            42 22 0:4 net:[4026532002] /run/docker/netns/1\\ rw - nsfs nsfs rw";
        let expected: [PathBuf; 2] = ["/run/netns/a b".into(), "/run/docker/netns/1\\".into()];
        assert_eq!(mounted(table), expected);
    }
}
