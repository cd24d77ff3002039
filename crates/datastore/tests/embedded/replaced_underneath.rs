// SPDX-License-Identifier: Apache-2.0
//! A process that keeps the store open, as an agent does, while somebody deletes, restores or destroys its files.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use datastore::{EmbeddedStore, Incarnation, Revision, Store, StoreError, Watch, WatchEvent};
use model::KeyRange;

use crate::support::{Folder, PATIENCE, batch, create, handle, put, value};

/// An open store with some content, and what is needed to see whether it notices.
struct Agent {
    folder: Folder,
    store: EmbeddedStore,
    watch: Box<dyn Watch>,
    incarnation: Incarnation,
}

impl Agent {
    fn new() -> Self {
        let folder = Folder::new();
        let store = folder.open().store;
        for number in 0..200 {
            put(&store, &handle(number), format_args!("\"{number:>600}\""));
        }
        let from = store.list(&KeyRange::Everything).unwrap().revision;
        let watch = store.watch(&KeyRange::Everything, from).unwrap();
        let incarnation = store.incarnation();
        Self {
            folder,
            store,
            watch,
            incarnation,
        }
    }

    fn write(&self, name: &str) -> Result<Vec<Revision>, StoreError> {
        self.store.commit(&batch([create(&handle(name), "1")]))
    }

    /// The write after the event fails and says why, the next succeeds; the watch says to list again; a new process
    /// finds the same store.
    fn assert_notices_at_the_next_write(mut self) -> Self {
        let problem = self.write("first").unwrap_err();
        assert!(matches!(problem, StoreError::Replaced { .. }), "{problem:?}");
        assert_ne!(self.store.incarnation(), self.incarnation);
        self.write("second").unwrap();
        assert_eq!(value(&self.store, &handle("first")), None);
        assert_eq!(self.watch.next(PATIENCE).unwrap(), Some(WatchEvent::Relist));
        let fresh = self.folder.existing();
        assert_eq!(fresh.incarnation(), self.store.incarnation());
        assert_eq!(value(&fresh, &handle("second")).unwrap(), "1");
        self
    }
}

fn handles(store: &EmbeddedStore) -> usize {
    store.list(&KeyRange::Handles).unwrap().entries.len()
}

#[test]
fn a_deleted_database_is_noticed_by_a_writer() {
    let agent = Agent::new();
    fs::remove_file(agent.folder.database()).unwrap();
    let agent = agent.assert_notices_at_the_next_write();
    assert_eq!(handles(&agent.store), 1);
}

#[test]
fn a_deleted_folder_content_is_noticed_by_a_writer() {
    let agent = Agent::new();
    agent
        .folder
        .names()
        .iter()
        .for_each(|name| fs::remove_file(agent.folder.path().join(name)).unwrap());
    let agent = agent.assert_notices_at_the_next_write();
    assert_eq!(handles(&agent.store), 1);
}

#[test]
fn a_deleted_database_is_noticed_by_a_reader_and_a_watch() {
    let mut agent = Agent::new();
    fs::remove_file(agent.folder.database()).unwrap();
    assert_eq!(agent.watch.next(PATIENCE).unwrap(), Some(WatchEvent::Relist));
    assert_eq!(handles(&agent.store), 0);
    assert_ne!(agent.store.incarnation(), agent.incarnation);
    agent.write("next").unwrap();
    let Some(WatchEvent::Changes(changes)) = agent.watch.next(PATIENCE).unwrap() else {
        panic!()
    };
    assert_eq!(changes.len(), 1);
}

fn old_copy(agent: &Agent) -> std::path::PathBuf {
    let copy = agent.folder.path().join("copy.db");
    fs::copy(agent.folder.database(), &copy).unwrap();
    for number in 0..200 {
        put(&agent.store, &handle(number), format_args!("\"{number:>900}\""));
    }
    // Let the watch see them: only the restoration is of interest.
    copy
}

fn assert_restored(mut agent: Agent, replace: impl FnOnce(&Path, &Path)) {
    let copy = old_copy(&agent);
    while agent.watch.next(Duration::ZERO).unwrap().is_some() {}
    replace(&copy, &agent.folder.database());
    let _ = fs::remove_file(&copy);
    let agent = agent.assert_notices_at_the_next_write();
    let entries = agent.store.list(&KeyRange::Handles).unwrap().entries;
    assert!(entries.len() > 100, "{}", entries.len());
    assert!(
        entries
            .iter()
            .all(|entry| entry.value.len() == 602 || entry.value == "1"),
        "a mixture"
    );
}

#[test]
fn an_old_copy_put_in_place_of_the_database_is_noticed() {
    assert_restored(Agent::new(), |copy, database| fs::rename(copy, database).unwrap());
}

#[test]
fn an_old_copy_written_over_the_database_is_noticed() {
    assert_restored(Agent::new(), |copy, database| {
        fs::write(database, fs::read(copy).unwrap()).unwrap();
    });
}

#[test]
fn a_destroyed_database_is_replaced() {
    for length in [0, 100, 5000, 50_000] {
        let agent = Agent::new();
        File::options()
            .write(true)
            .open(agent.folder.database())
            .unwrap()
            .set_len(length)
            .unwrap();
        agent.assert_notices_at_the_next_write();
        let agent = Agent::new();
        fs::write(agent.folder.database(), vec![0xa5; 200_000]).unwrap();
        let agent = agent.assert_notices_at_the_next_write();
        assert_eq!(handles(&agent.store), 1);
    }
}

#[test]
fn damage_that_only_a_read_meets_is_looked_into() {
    let agent = Agent::new();
    fs::write(agent.folder.database(), vec![0xa5; 200_000]).unwrap();
    // The connection may answer from what it remembers, but nothing it does not know any more.
    let mut problems = Vec::new();
    for number in 0..200 {
        match agent.store.get(&handle(number)) {
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    assert!(problems.len() <= 1, "{problems:?}");
    for problem in problems {
        assert!(matches!(problem, StoreError::Replaced { .. }), "{problem:?}");
        assert_ne!(agent.store.incarnation(), agent.incarnation);
    }
}

#[test]
fn a_lost_log_is_noticed() {
    let agent = Agent::new();
    fs::remove_file(agent.folder.file("-wal")).unwrap();
    let agent = agent.assert_notices_at_the_next_write();
    assert!(handles(&agent.store) > 100);
}

#[test]
fn lost_shared_memory_is_made_again() {
    let agent = Agent::new();
    fs::remove_file(agent.folder.file("-shm")).unwrap();
    // Another process comes first and has its own.
    let other = agent.folder.existing();
    put(&other, &handle("theirs"), 1);
    agent.write("ours").unwrap();
    put(&other, &handle("again"), 1);
    for store in [&agent.store, &other, &agent.folder.existing()] {
        assert_eq!(handles(store), 203);
        assert_eq!(store.incarnation(), agent.incarnation);
    }
}

#[test]
fn a_lost_bell_is_made_again_and_heard() {
    let mut agent = Agent::new();
    fs::remove_file(agent.folder.file(".bell")).unwrap();
    let problem = agent.write("first").unwrap_err();
    assert!(matches!(problem, StoreError::Replaced { .. }), "{problem:?}");
    assert_eq!(agent.watch.next(PATIENCE).unwrap(), Some(WatchEvent::Relist));
    for number in 0..20 {
        agent.write(&format!("n{number}")).unwrap();
        let begun = std::time::Instant::now();
        assert!(matches!(
            agent.watch.next(PATIENCE).unwrap(),
            Some(WatchEvent::Changes(_))
        ));
        assert!(
            begun.elapsed() < Duration::from_millis(900),
            "the bell is not heard"
        );
    }
}
