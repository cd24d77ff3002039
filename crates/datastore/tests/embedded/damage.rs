// SPDX-License-Identifier: Apache-2.0
//! What happens to the files between two processes: every kind of loss, damage and restoration.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use datastore::{EmbeddedStore, Incarnation, OpenOptions, Opened, Provenance, Revision, Store, StoreError};
use model::KeyRange;

use crate::support::{Folder, batch, create, handle, put, value};

const OBJECTS: usize = 300;

/// A store with most of its content in the main file and some in the log; its incarnation and revision.
fn filled(folder: &Folder) -> (Incarnation, Revision) {
    let store = folder.open().store;
    for number in 0..OBJECTS {
        put(&store, &handle(number), format_args!("\"{number:>600}\""));
    }
    let revision = store.list(&KeyRange::Everything).unwrap().revision;
    assert!(fs::metadata(folder.database()).unwrap().len() > 100_000);
    assert!(
        fs::metadata(folder.file("-wal")).unwrap().len() > 32,
        "the log is not empty"
    );
    (store.incarnation(), revision)
}

/// The store works: what is there can be read, more can be written, and the next process finds it as it is.
fn assert_works(folder: &Folder, store: &EmbeddedStore) {
    for entry in store.list(&KeyRange::Everything).unwrap().entries {
        store.get(&entry.key).unwrap();
    }
    put(store, &handle("after"), 1);
    let again = folder.existing();
    assert_eq!(again.incarnation(), store.incarnation());
    assert_eq!(value(&again, &handle("after")).unwrap(), "1");
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], offset).unwrap();
}

fn cut(path: &Path, length: u64) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

#[test]
fn an_undisturbed_store_is_the_same_one() {
    let folder = Folder::new();
    let (incarnation, revision) = filled(&folder);
    let store = folder.existing();
    assert_eq!(store.incarnation(), incarnation);
    assert_eq!(store.list(&KeyRange::Everything).unwrap().revision, revision);
    for suffix in ["", "-wal", "-shm", ".bell", ".lock"] {
        let mode = fs::metadata(folder.file(suffix))
            .unwrap_or_else(|_| File::open("/dev/null").unwrap().metadata().unwrap());
        assert!(
            suffix == ".lock" || mode.permissions().mode() & 0o777 == 0o600,
            "{suffix}: {mode:?}"
        );
    }
    assert_works(&folder, &store);
}

#[test]
fn a_cut_off_file_is_moved_aside() {
    let length = {
        let folder = Folder::new();
        filled(&folder);
        fs::metadata(folder.database()).unwrap().len()
    };
    for rest in [
        0,
        1,
        50,
        100,
        1000,
        4095,
        4096,
        4097,
        8192,
        16_384,
        length / 2,
        length - 4096,
        length - 1,
    ] {
        let folder = Folder::new();
        let (incarnation, revision) = filled(&folder);
        cut(&folder.database(), rest);
        let Opened { store, provenance } = folder.open();
        assert_ne!(store.incarnation(), incarnation, "cut to {rest}: {provenance:?}");
        assert!(
            store.list(&KeyRange::Everything).unwrap().revision > revision,
            "revisions never go back"
        );
        match provenance {
            Provenance::Replaced {
                moved_to: Some(path),
                reason,
            } => {
                assert_eq!(fs::metadata(&path).unwrap().len(), rest);
                assert!(!reason.is_empty());
                assert!(store.list(&KeyRange::Everything).unwrap().entries.is_empty());
            }
            // The log can make up for a lost end.
            Provenance::Restored { .. } => assert!(rest > 4096),
            other => panic!("cut to {rest}: {other:?}"),
        }
        assert_works(&folder, &store);
    }
}

#[test]
fn flipped_bytes_anywhere_in_the_main_file_are_noticed() {
    let template = Folder::new();
    let (incarnation, revision) = filled(&template);
    let length = fs::metadata(template.database()).unwrap().len();
    let header = 0..100;
    let pages = (0..length)
        .step_by(4096)
        .flat_map(|page| [page + 100, page + 101, page + 103, page + 108]);
    let bodies = (100..length).step_by(1999);
    let mut replaced = 0;
    for offset in header
        .chain(pages)
        .chain(bodies)
        .filter(|offset| *offset < length)
    {
        let folder = Folder::new();
        template.copy_to(folder.path());
        flip(&folder.database(), offset);
        let Opened { store, provenance } = folder.open();
        assert_ne!(store.incarnation(), incarnation, "byte {offset}: {provenance:?}");
        match provenance {
            Provenance::Replaced { moved_to, .. } => {
                assert!(moved_to.is_some());
                replaced += 1;
            }
            Provenance::Restored { .. } => {}
            other => panic!("byte {offset}: {other:?}"),
        }
        assert!(store.list(&KeyRange::Everything).unwrap().revision > revision);
        put(&store, &handle("after"), 1);
    }
    // Most flips hit values, and the log hides those of the pages it holds.
    assert!(replaced > 10, "{replaced}");
}

#[test]
fn a_damaged_log_loses_its_end_and_that_is_noticed() {
    for offset in [0, 10, 17, 33, 60, 2000, 4200] {
        let folder = Folder::new();
        let (incarnation, _) = filled(&folder);
        flip(&folder.file("-wal"), offset);
        let Opened { store, provenance } = folder.open();
        assert!(
            matches!(provenance, Provenance::Restored { .. }),
            "byte {offset}: {provenance:?}"
        );
        assert_ne!(store.incarnation(), incarnation);
        assert!(store.list(&KeyRange::Handles).unwrap().entries.len() > OBJECTS / 2);
        assert_works(&folder, &store);
    }
}

#[test]
fn shared_memory_left_behind_does_not_matter() {
    let folder = Folder::new();
    let (incarnation, revision) = filled(&folder);
    for damage in 0..3 {
        match damage {
            0 => (0..32_768)
                .step_by(7)
                .for_each(|offset| flip(&folder.file("-shm"), offset)),
            1 => cut(&folder.file("-shm"), 100),
            _ => fs::remove_file(folder.file("-shm")).unwrap(),
        }
        let store = folder.existing();
        assert_eq!(store.incarnation(), incarnation);
        assert_eq!(store.list(&KeyRange::Everything).unwrap().revision, revision);
    }
}

#[test]
fn each_file_lost_alone() {
    for (suffix, expected) in [
        ("", "replaced"),
        ("-wal", "restored"),
        (".bell", "restored"),
        (".lock", "existing"),
    ] {
        let folder = Folder::new();
        let (incarnation, _) = filled(&folder);
        fs::remove_file(folder.file(suffix)).unwrap();
        let Opened { store, provenance } = folder.open();
        let kept = store.list(&KeyRange::Handles).unwrap().entries.len();
        match (&provenance, expected) {
            (Provenance::Replaced { moved_to: None, .. }, "replaced") => assert_eq!(kept, 0),
            (Provenance::Restored { .. }, "restored") => assert!(kept > OBJECTS / 2),
            (Provenance::Existing, "existing") => assert_eq!(kept, OBJECTS),
            _ => panic!("{suffix:?}: {provenance:?}"),
        }
        assert_eq!(
            store.incarnation() == incarnation,
            expected == "existing",
            "{suffix:?}"
        );
        assert_works(&folder, &store);
    }
}

#[test]
fn all_files_lost_is_a_new_store() {
    let folder = Folder::new();
    let (incarnation, _) = filled(&folder);
    folder
        .names()
        .iter()
        .for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
    let Opened { store, provenance } = folder.open();
    assert_eq!(provenance, Provenance::Created);
    assert_ne!(store.incarnation(), incarnation);
    assert_works(&folder, &store);
}

/// Puts files of an old copy back: only some of them, in place or by rename.
fn restore(folder: &Folder, copy: &Path, suffixes: &[&str], by_rename: bool) {
    for suffix in suffixes {
        let from = copy.join(format!("node.db{suffix}"));
        if by_rename {
            let staged = folder.file(".restored");
            fs::copy(from, &staged).unwrap();
            fs::rename(staged, folder.file(suffix)).unwrap();
        } else {
            fs::write(folder.file(suffix), fs::read(from).unwrap()).unwrap();
        }
    }
}

#[test]
fn an_old_copy_is_restored_whichever_way_it_comes_back() {
    let everything: &[&str] = &["", "-wal", "-shm", ".bell", ".lock"];
    for by_rename in [false, true] {
        for suffixes in [
            &[""][..],
            &["", "-wal"],
            &["", ".bell"],
            &["", "-wal", "-shm"],
            everything,
        ] {
            let folder = Folder::new();
            let (incarnation, _) = filled(&folder);
            let copy = folder.path().join("copy");
            fs::create_dir(&copy).unwrap();
            for suffix in everything {
                let name = format!("node.db{suffix}");
                let _ = fs::copy(folder.path().join(&name), copy.join(&name));
            }
            // Far enough for several checkpoints, and for pages to be used for other things.
            let store = folder.existing();
            let mut last = Revision(0);
            for number in 0..OBJECTS {
                last = put(&store, &handle(number), format_args!("\"{number:>2000}\""));
            }
            put(&store, &handle("later"), 1);
            drop(store);
            restore(&folder, &copy, suffixes, by_rename);
            let context = format!("{suffixes:?}, by rename: {by_rename}");
            let Opened { store, provenance } = folder.open();
            assert!(
                matches!(provenance, Provenance::Restored { .. }),
                "{context}: {provenance:?}"
            );
            assert_ne!(store.incarnation(), incarnation, "{context}");
            assert_eq!(
                value(&store, &handle("later")),
                None,
                "{context}: newer content shines through"
            );
            let entries = store.list(&KeyRange::Handles).unwrap().entries;
            assert!(
                entries.iter().all(|entry| entry.value.len() == 602),
                "{context}: a mixture"
            );
            assert!(entries.len() > OBJECTS / 2, "{context}: {}", entries.len());
            if suffixes.contains(&"-wal") {
                assert_eq!(entries.len(), OBJECTS, "{context}: the copy had a log of its own");
            }
            if !suffixes.contains(&".bell") {
                assert!(
                    store.list(&KeyRange::Everything).unwrap().revision > last,
                    "{context}"
                );
            }
            assert_works(&folder, &store);
        }
    }
}

#[test]
fn attributes_changed_by_an_operator_lose_nothing() {
    let folder = Folder::new();
    let (_, _) = filled(&folder);
    fs::set_permissions(folder.database(), fs::Permissions::from_mode(0o640)).unwrap();
    let Opened { store, provenance } = folder.open();
    assert!(
        matches!(provenance, Provenance::Restored { .. }),
        "it cannot be told from a copy: {provenance:?}"
    );
    assert_eq!(store.list(&KeyRange::Handles).unwrap().entries.len(), OBJECTS);
    assert_works(&folder, &store);
}

#[test]
fn only_a_few_damaged_files_are_kept() {
    let folder = Folder::new();
    for _ in 0..6 {
        filled(&folder);
        fs::write(folder.database(), "not a database at all").unwrap();
        assert!(matches!(
            folder.open().provenance,
            Provenance::Replaced {
                moved_to: Some(_),
                ..
            }
        ));
    }
    let kept = folder
        .names()
        .into_iter()
        .filter(|name| name.contains(".damaged-") && !name.ends_with("-wal"));
    assert_eq!(kept.count(), 3, "{:?}", folder.names());
}

#[test]
fn a_damaged_store_is_not_touched_by_readers() {
    let folder = Folder::new();
    filled(&folder);
    let sound = folder.path().join("sound");
    folder.copy_to(&sound);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(folder.file(suffix)).unwrap();
    }
    fs::write(folder.database(), "not a database at all").unwrap();
    let names = folder.names();
    let problem = EmbeddedStore::open(&folder.database(), OpenOptions::read_only()).unwrap_err();
    assert!(matches!(problem, StoreError::Corrupt { .. }), "{problem:?}");
    assert_eq!(folder.names(), names);
    restore(&folder, &sound, &["", "-wal"], false);
    let opened = EmbeddedStore::open(&folder.database(), OpenOptions::read_only()).unwrap();
    assert!(
        matches!(opened.provenance, Provenance::Suspect { .. }),
        "{:?}",
        opened.provenance
    );
    assert_eq!(
        opened.store.list(&KeyRange::Handles).unwrap().entries.len(),
        OBJECTS
    );
}

#[test]
fn a_bell_that_knows_more_than_the_store_means_that_commits_were_lost() {
    let folder = Folder::new();
    let (incarnation, revision) = filled(&folder);
    // What a power loss does to commits that were not synced.
    let bell = File::options().write(true).open(folder.file(".bell")).unwrap();
    bell.write_all_at(&(revision.0 + 5).to_le_bytes(), 8).unwrap();
    let Opened { store, provenance } = folder.open();
    let Provenance::Restored { reason } = provenance else {
        panic!("{provenance:?}")
    };
    assert!(reason.contains(&(revision.0 + 5).to_string()), "{reason}");
    assert_ne!(store.incarnation(), incarnation);
    assert_eq!(store.list(&KeyRange::Handles).unwrap().entries.len(), OBJECTS);
    let next = store.commit(&batch([create(&handle("next"), "1")])).unwrap()[0];
    assert!(next.0 > revision.0 + 6);
}
