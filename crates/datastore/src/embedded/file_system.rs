// SPDX-License-Identifier: Apache-2.0
//! Refuses file systems on which SQLite's write-ahead log is unsafe: it needs locks and shared memory that all
//! processes see, which network and FUSE file systems do not promise (<https://sqlite.org/wal.html>, "All processes
//! using a database must be on the same host computer").

use std::{io, path::Path};

use nix::sys::statfs::{FsType, statfs};

use crate::error::StoreError;

/// `f_type` of the file systems refused, from `linux/magic.h` and the file systems' own sources. 9p and FUSE are how
/// virtual machines share a host's files; virtiofs reports FUSE's.
const REFUSED: [(u32, &str); 22] = [
    (0x0000_6969, "nfs"),
    (0x0000_517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x6573_5546, "fuse or virtiofs"),
    (0x6573_5543, "fuse"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0bd0_0bd0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x4750_4653, "gpfs"),
    (0x0000_564c, "ncp"),
    (0x1983_0326, "beegfs"),
    (0x2003_0528, "orangefs"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
    (0x7c7c_6673, "prl_fs"),
    (0xaad7_aaea, "panfs"),
];

/// Fails if `directory` is on a file system that cannot carry the store at `database`.
pub(super) fn check(database: &Path, directory: &Path) -> Result<(), StoreError> {
    let found = statfs(directory).map_err(|errno| StoreError::Unavailable {
        store: database.display().to_string(),
        reason: format!("cannot examine its file system: {}", io::Error::from(errno)),
    })?;
    match refused(found.filesystem_type()) {
        None => Ok(()),
        Some(name) => Err(StoreError::Refused {
            store: database.display().to_string(),
            reason: format!(
                "it is on a file system of type {name}, whose locks cannot be relied on; \
                 set datastore_path or CALICO_STATE_DIR to a directory on a local disk"
            ),
        }),
    }
}

fn refused(found: FsType) -> Option<&'static str> {
    // The kernel's number has 32 bits; the C type may be wider and sign-extend it.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "see above"
    )]
    let magic = found.0 as u32;
    REFUSED
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_fuse_file_systems_are_refused_by_name() {
        for (magic, name) in [
            (0x6969, "nfs"),
            (0xff53_4d42, "cifs"),
            (0xfe53_4d42_u32.cast_signed().into(), "smb2"),
            (0x6573_5546, "fuse or virtiofs"),
            (0x0102_1997, "9p"),
            (0x00c3_6400, "ceph"),
            (0x0bd0_0bd0, "lustre"),
            (0x7461_636f, "ocfs2"),
            (0x0116_1970, "gfs2"),
        ] {
            assert_eq!(refused(FsType(magic)), Some(name), "{magic:x}");
        }
    }

    #[test]
    fn local_file_systems_are_allowed() {
        // ext4, xfs, btrfs, tmpfs, overlayfs, f2fs, zfs, bcachefs
        for magic in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0xf2f5_2010,
            0x2fc1_2fc1,
            0xca45_1a4e,
        ] {
            assert_eq!(refused(FsType(magic)), None, "{magic:x}");
        }
    }

    #[test]
    fn the_temporary_directory_of_this_machine_is_allowed_or_named() {
        let directory = std::env::temp_dir();
        let magic = statfs(&directory).unwrap().filesystem_type();
        let result = check(&directory.join("node.db"), &directory);
        assert_eq!(result.is_err(), refused(magic).is_some(), "{result:?}");
    }
}
