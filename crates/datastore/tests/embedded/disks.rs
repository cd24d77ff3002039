// SPDX-License-Identifier: Apache-2.0
//! Full and read-only disks: small memory file systems, mounted in a child's own mount namespace.

use std::{fs, io::Write as _, path::Path};

use datastore::{EmbeddedStore, OpenOptions, Opened, Provenance, Store, StoreError};
use model::KeyRange;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::Uid,
};

use crate::support::{Folder, Running, batch, create, handle, put, skip, value};

fn in_a_child(role: &str) {
    if !Uid::effective().is_root() {
        skip("mounting needs root");
        return;
    }
    let folder = Folder::new();
    Running::start(role, &[&folder.path().display()]).finish();
}

/// Mounts a memory file system of 2 MiB on `directory`, seen by this process only.
fn mount_small_disk(directory: &str) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
    mount(
        Some("tmpfs"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=2m"),
    )
    .unwrap();
}

/// Takes all the space that is left; as large pieces first, so that nothing is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [65_536, 4096, 512, 64, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

fn open(database: &Path) -> Result<Opened, StoreError> {
    EmbeddedStore::open(database, OpenOptions::default())
}

#[test]
fn a_full_disk_is_a_clear_error_and_nothing_is_half_done() {
    in_a_child("full disk");
}

/// Role.
pub(crate) fn on_a_full_disk(directory: &str) {
    mount_small_disk(directory);
    let directory = Path::new(directory);
    let (database, filler) = (directory.join("node.db"), directory.join("filler"));
    // Creating a store.
    fill(&filler);
    let problem = open(&database).unwrap_err();
    assert!(matches!(problem, StoreError::Full { .. }), "{problem:?}");
    assert!(problem.to_string().contains("no space left"), "{problem}");
    assert!(!database.exists());
    fs::remove_file(&filler).unwrap();
    let opened = open(&database).unwrap();
    assert_eq!(opened.provenance, Provenance::Created);
    // Writing: small and large, in the log and at the checkpoint.
    let store = opened.store;
    let mut number = 0;
    for _ in 0..5 {
        number += 1;
        put(&store, &handle(number), "1");
        fill(&filler);
        let before = store.list(&KeyRange::Everything).unwrap();
        let large = format!("\"{}\"", "x".repeat(300_000));
        let writes = [create(&handle("new-a"), "1"), create(&handle("new-b"), &large)];
        let problem = store.commit(&batch(writes)).unwrap_err();
        assert!(matches!(problem, StoreError::Full { .. }), "{problem:?}");
        let after = store.list(&KeyRange::Everything).unwrap();
        assert_eq!((before.entries, before.revision), (after.entries, after.revision));
        let fresh = open(&database).unwrap();
        assert_eq!(fresh.provenance, Provenance::Existing);
        assert_eq!(
            fresh.store.list(&KeyRange::Everything).unwrap().revision,
            after.revision
        );
        fs::remove_file(&filler).unwrap();
    }
    // A disk that fills up slowly: every commit that succeeds is there, every other one is not.
    let mut written = Vec::new();
    let problem = loop {
        number += 1;
        match store.commit(&batch([create(&handle(number), &format!("\"{:>5000}\"", ""))])) {
            Ok(_) => written.push(number),
            Err(problem) => break problem,
        }
    };
    assert!(matches!(problem, StoreError::Full { .. }), "{problem:?}");
    assert!(written.len() > 50, "{}", written.len());
    drop(store);
    let opened = open(&database).unwrap();
    assert_eq!(opened.provenance, Provenance::Existing);
    assert!(
        written
            .iter()
            .all(|number| value(&opened.store, &handle(number)).is_some())
    );
    assert_eq!(value(&opened.store, &handle(number)), None);
}

#[test]
fn a_read_only_disk_can_be_read_and_says_what_it_is() {
    in_a_child("read-only disk");
}

/// Role.
pub(crate) fn on_a_read_only_disk(directory: &str) {
    mount_small_disk(directory);
    let remount = |flags: MsFlags| {
        let flags = MsFlags::MS_REMOUNT | flags;
        mount(None::<&str>, directory, None::<&str>, flags, None::<&str>).unwrap();
    };
    let database = Path::new(directory).join("node.db");
    remount(MsFlags::MS_RDONLY);
    let problem = open(&database).unwrap_err();
    assert!(matches!(problem, StoreError::ReadOnly { .. }), "{problem:?}");
    remount(MsFlags::empty());
    let store = open(&database).unwrap().store;
    put(&store, &handle("a"), 1);
    drop(store);
    for without_log in [false, true] {
        if without_log {
            // As a backup of a checkpointed store is: the main file alone.
            let connection = rusqlite::Connection::open(&database).unwrap();
            connection
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
                .unwrap();
            drop(connection);
            assert!(!Path::new(directory).join("node.db-shm").exists());
        }
        remount(MsFlags::MS_RDONLY);
        let problem = open(&database).unwrap_err();
        assert!(matches!(problem, StoreError::ReadOnly { .. }), "{problem:?}");
        assert!(problem.to_string().contains("read-only"), "{problem}");
        let opened = EmbeddedStore::open(&database, OpenOptions::read_only()).unwrap();
        assert_eq!(value(&opened.store, &handle("a")).unwrap(), "1");
        drop(opened);
        remount(MsFlags::empty());
    }
    // A disk that becomes read-only under an open store.
    let store = open(&database).unwrap().store;
    put(&store, &handle("b"), 1);
    let result = mount(
        None::<&str>,
        directory,
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY,
        None::<&str>,
    );
    if result.is_ok() {
        let problem = store.commit(&batch([create(&handle("c"), "1")])).unwrap_err();
        assert!(matches!(problem, StoreError::ReadOnly { .. }), "{problem:?}");
    }
}
