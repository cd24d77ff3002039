// SPDX-License-Identifier: Apache-2.0
//! Stores of newer programs, and databases of other ones.

use datastore::{EmbeddedStore, OpenOptions, Provenance, StoreError};
use rusqlite::{Connection, config::DbConfig};

use crate::support::{Folder, handle, put, value};

/// Changes the store as a newer program would; that it was not us who wrote is noticed, too.
fn alter(folder: &Folder, sql: &str) {
    let connection = Connection::open(folder.database()).unwrap();
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn a_newer_store_that_says_it_can_be_read_is_used() {
    let folder = Folder::new();
    put(&folder.open().store, &handle("a"), 1);
    alter(
        &folder,
        "UPDATE meta SET schema_version = 2, min_reader_version = 1;
         ALTER TABLE kv ADD COLUMN added TEXT;
         CREATE TABLE added (a);
         INSERT INTO kv (key, revision, value) VALUES ('/calico/of/another/layout', 1, '{}')",
    );
    let store = folder.existing();
    assert_eq!(value(&store, &handle("a")).unwrap(), "1");
    put(&store, &handle("a"), 2);
    let listed = datastore::Store::list(&store, &model::KeyRange::Everything).unwrap();
    assert_eq!(
        listed.entries.len(),
        1,
        "objects of unknown kinds do not exist here"
    );
}

#[test]
fn a_newer_store_that_needs_a_newer_program_is_refused_with_the_remedy() {
    let folder = Folder::new();
    put(&folder.open().store, &handle("a"), 1);
    alter(
        &folder,
        "UPDATE meta SET schema_version = 7, min_reader_version = 5",
    );
    for options in [OpenOptions::default(), OpenOptions::read_only()] {
        let problem = EmbeddedStore::open(&folder.database(), options).unwrap_err();
        assert!(matches!(problem, StoreError::Refused { .. }), "{problem:?}");
        let text = problem.to_string();
        assert!(
            text.contains("schema version 7") && text.contains("version 5 or later"),
            "{text}"
        );
        assert!(text.contains("install the newer version"), "{text}");
    }
    // Back again.
    alter(
        &folder,
        "UPDATE meta SET schema_version = 1, min_reader_version = 1",
    );
    assert_eq!(value(&folder.existing(), &handle("a")).unwrap(), "1");
}

#[test]
fn a_store_is_sqlite_that_a_stock_tool_can_read() {
    let folder = Folder::new();
    put(&folder.open().store, &handle("a"), 1);
    let connection = Connection::open(folder.database()).unwrap();
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    let application: i64 = connection
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .unwrap();
    assert_eq!((mode.as_str(), application), ("wal", 0x4341_4c49));
    let key: String = connection
        .query_row("SELECT key FROM kv", [], |row| row.get(0))
        .unwrap();
    assert_eq!(key, "/calico/ipam/v2/handle/a");
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let folder = Folder::new();
    let connection = Connection::open(folder.database()).unwrap();
    connection
        .execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (7)")
        .unwrap();
    drop(connection);
    let before = std::fs::read(folder.database()).unwrap();
    for options in [OpenOptions::default(), OpenOptions::read_only()] {
        let problem = EmbeddedStore::open(&folder.database(), options).unwrap_err();
        assert!(
            matches!(problem, StoreError::Refused { .. } | StoreError::Corrupt { .. }),
            "{problem:?}"
        );
        assert!(
            problem.to_string().contains("no database of this suite"),
            "{problem}"
        );
    }
    assert_eq!(std::fs::read(folder.database()).unwrap(), before);
}

#[test]
fn a_file_that_never_was_a_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    let text = "root:x:0:0:root:/root:/bin/bash\n".repeat(100);
    std::fs::write(folder.database(), &text).unwrap();
    let problem = folder.try_open().unwrap_err();
    assert!(matches!(problem, StoreError::Refused { .. }), "{problem:?}");
    assert!(problem.to_string().contains("datastore_path"), "{problem}");
    assert_eq!(std::fs::read_to_string(folder.database()).unwrap(), text);
}

#[test]
fn an_empty_file_is_a_place_for_a_store() {
    let folder = Folder::new();
    std::fs::write(folder.database(), "").unwrap();
    assert_eq!(folder.open().provenance, Provenance::Created);
}

#[test]
fn reading_only_creates_nothing_and_changes_nothing() {
    let folder = Folder::new();
    let read_only = || EmbeddedStore::open(&folder.database(), OpenOptions::read_only());
    assert!(matches!(read_only().unwrap_err(), StoreError::Missing { .. }));
    assert_eq!(folder.names(), [""; 0]);
    let nowhere = folder.path().join("no/folder/node.db");
    let problem = EmbeddedStore::open(&nowhere, OpenOptions::read_only()).unwrap_err();
    assert!(matches!(problem, StoreError::Missing { .. }), "{problem:?}");
    assert!(!folder.path().join("no").exists());

    put(&folder.open().store, &handle("a"), 1);
    let names = folder.names();
    let files: Vec<_> = ["", "-wal", ".bell"]
        .map(|suffix| std::fs::read(folder.file(suffix)).unwrap())
        .into();
    let opened = read_only().unwrap();
    assert_eq!(opened.provenance, Provenance::Existing);
    assert_eq!(value(&opened.store, &handle("a")).unwrap(), "1");
    let write = crate::support::create(&handle("b"), "1");
    let problem = datastore::Store::commit(&opened.store, &crate::support::batch([write])).unwrap_err();
    assert!(problem.to_string().contains("reading only"), "{problem}");
    // It follows what writers do.
    put(&folder.existing(), &handle("a"), 2);
    assert_eq!(value(&opened.store, &handle("a")).unwrap(), "2");
    drop(opened);
    assert_eq!(folder.names(), names);
    assert_eq!(
        std::fs::read(folder.database()).unwrap(),
        files[0],
        "no checkpoint"
    );
}
