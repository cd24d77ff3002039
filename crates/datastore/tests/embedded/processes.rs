// SPDX-License-Identifier: Apache-2.0
//! Several processes at one store, alive, stopped and killed.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datastore::{
    Batch, Change, EmbeddedStore, JournalEntry, OpenOptions, Revision, Store, StoreError, WatchEvent,
};
use model::{Key, KeyRange, Kind};
use nix::sys::signal::Signal;

use crate::support::{
    Folder, PATIENCE, Running, batch, checkpointing, create, eventually, handle, put, say, upsert, value,
};

fn open(path: &str) -> EmbeddedStore {
    EmbeddedStore::open(Path::new(path), checkpointing())
        .unwrap()
        .store
}

fn microseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// Role: opens the store and says which it is.
pub(crate) fn open_once(path: &str) {
    say(open(path).incarnation());
}

#[test]
fn processes_that_open_a_new_store_at_once_share_one() {
    let folder = Folder::new();
    let path = folder.path().join("made/on/demand/node.db");
    let children: Vec<Running> = (0..64)
        .map(|_| Running::start("open", &[&path.display()]))
        .collect();
    let incarnations: HashSet<String> = children.into_iter().flat_map(Running::finish).collect();
    assert_eq!(incarnations.len(), 1, "{incarnations:?}");
    let store = open(path.to_str().unwrap());
    assert!(incarnations.contains(&store.incarnation().to_string()));
}

#[test]
fn a_process_killed_while_it_creates_or_replaces_a_store_leaves_a_place_for_one() {
    let folder = Folder::new();
    let mut ended = 0;
    for attempt in 0..60_u64 {
        // Nothing there; a damaged store; an older copy.
        if attempt.is_multiple_of(3) {
            for name in folder.names() {
                fs::remove_file(folder.path().join(name)).unwrap();
            }
        } else {
            let store = folder.open().store;
            put(&store, &handle("a"), attempt);
            drop(store);
            let damage = if attempt % 3 == 1 {
                Vec::new()
            } else {
                fs::read(folder.database()).unwrap()
            };
            fs::write(folder.database(), damage).unwrap();
        }
        let mut child = Running::start("open", &[&folder.database().display()]);
        thread::sleep(Duration::from_micros(2000 + attempt * 7919 % 9000));
        child.signal(Signal::SIGKILL);
        ended += usize::from(child.hear().is_some());
        drop(child);
        let store = folder.open().store;
        put(&store, &handle("b"), attempt);
        assert_eq!(
            value(&folder.existing(), &handle("b")).unwrap(),
            attempt.to_string()
        );
        assert!(
            !folder.names().iter().any(|name| name.contains(".new")),
            "{:?}",
            folder.names()
        );
    }
    assert!(ended < 60, "no process was killed in time");
}

/// Role: adds one to a number, many times.
pub(crate) fn increment(path: &str, times: usize) {
    let store = open(path);
    for _ in 0..times {
        loop {
            let entry = store.get(&handle("counter")).unwrap().unwrap();
            let next = entry.value.parse::<u64>().unwrap() + 1;
            let update = datastore::Write::Update {
                key: entry.key,
                value: next.to_string(),
                revision: entry.revision,
            };
            match store.commit(&batch([update])) {
                Ok(_) => break,
                Err(problem) => assert!(problem.is_conflict(), "{problem}"),
            }
        }
    }
}

#[test]
fn sixteen_counting_processes_lose_nothing() {
    let folder = Folder::new();
    let store = folder.open().store;
    put(&store, &handle("counter"), 0);
    let database = folder.database();
    let children: Vec<Running> = (0..16)
        .map(|_| Running::start("increment", &[&database.display(), &50]))
        .collect();
    for child in children {
        child.finish();
    }
    assert_eq!(value(&store, &handle("counter")).unwrap(), "800");
}

/// Role: writes two objects, a pool and a journal line together, again and again, until it is killed.
pub(crate) fn hammer(path: &str) {
    let store = open(path);
    let pool = Key::resource(Kind::IpPool, "pool");
    say("ready");
    loop {
        let round: u64 = value(&store, &handle("one")).map_or(0, |text| text.trim().parse().unwrap()) + 1;
        // Of changing length, so that pages are freed and used again.
        let length = 200 + usize::try_from(round * 977 % 9000).unwrap();
        let text = format!("{round:>length$}");
        let mut writes = vec![
            upsert(&store, &handle("one"), &text),
            upsert(&store, &handle("other"), &text),
        ];
        if round.is_multiple_of(16) {
            writes.push(upsert(&store, &pool, round));
        }
        let line = JournalEntry {
            event: "assign",
            subject: round.to_string(),
            handle: String::new(),
            cause: "test".to_owned(),
            duration: Duration::ZERO,
        };
        store
            .commit(&Batch {
                writes,
                journal: vec![line],
            })
            .unwrap();
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_whole_batches_and_the_same_store() {
    let folder = Folder::new();
    let store = folder.open().store;
    let incarnation = store.incarnation();
    drop(store);
    let mut last = 0;
    for attempt in 0..60_u64 {
        let mut child = Running::start("hammer", &[&folder.database().display()]);
        assert_eq!(child.hear().as_deref(), Some("ready"));
        // Everything between "at once" and "after several checkpoints".
        thread::sleep(Duration::from_micros(attempt * 7919 % 20_000));
        drop(child);
        let store = folder.existing();
        assert_eq!(store.incarnation(), incarnation);
        let read = |name: &str| value(&store, &handle(name)).map_or(0, |text| text.trim().parse().unwrap());
        let round: u64 = read("one");
        assert_eq!(round, read("other"), "half a batch");
        assert!(round >= last, "round {round} after {last}");
        let journalled = store
            .journal(1)
            .unwrap()
            .first()
            .map_or(0, |line| line.subject.parse().unwrap());
        assert_eq!(journalled, round);
        last = round;
    }
    assert!(last > 60, "only {last} rounds: the writers did not get to write");
}

/// Role: says when each change arrives.
pub(crate) fn watch(path: &str) {
    let store = open(path);
    let from = store.list(&KeyRange::Handles).unwrap().revision;
    let mut watch = store.watch(&KeyRange::Handles, from).unwrap();
    say("ready");
    loop {
        match watch.next(PATIENCE).unwrap() {
            None => {}
            Some(WatchEvent::Relist) => say("relist"),
            Some(WatchEvent::Changes(changes)) => {
                let now = microseconds();
                for change in changes {
                    let Change::Put(entry) = change else { continue };
                    say(format_args!("{} {now}", entry.revision.0));
                }
            }
        }
    }
}

/// The revision a watching child reports next, and when it saw it.
fn hear_change(child: &mut Running) -> (Revision, u128) {
    let line = child.hear().expect("the watching process has ended");
    let (revision, time) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    (Revision(revision.parse().unwrap()), time.parse().unwrap())
}

#[test]
fn another_process_sees_a_change_within_20_ms() {
    let folder = Folder::new();
    let store = folder.open().store;
    let mut child = Running::start("watch", &[&folder.database().display()]);
    assert_eq!(child.hear().as_deref(), Some("ready"));
    let mut delays: Vec<u128> = (0..100)
        .map(|round| {
            let revision = put(&store, &handle(format_args!("{round}")), round);
            let committed = microseconds();
            let (seen, at) = hear_change(&mut child);
            assert_eq!(seen, revision);
            at.saturating_sub(committed)
        })
        .collect();
    delays.sort_unstable();
    // A machine that runs other tests too may keep a process from running for longer than that.
    assert!(delays[90] < 20_000, "microseconds: {delays:?}");
}

#[test]
fn a_commit_whose_writer_died_before_ringing_is_seen_within_two_seconds() {
    let folder = Folder::new();
    let store = folder.open().store;
    let mut child = Running::start("watch", &[&folder.database().display()]);
    assert_eq!(child.hear().as_deref(), Some("ready"));
    let first = put(&store, &handle("rung"), 1);
    assert_eq!(hear_change(&mut child).0, first);
    // What such a writer leaves: the commit without the bell.
    let connection = rusqlite::Connection::open(folder.database()).unwrap();
    let unheard = first.0 + 1;
    connection
        .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .unwrap();
    let sql = format!(
        "BEGIN IMMEDIATE;
         INSERT INTO kv (key, revision, value) VALUES ('/calico/ipam/v2/handle/silent', {unheard}, '{{}}');
         INSERT INTO changes (revision, key) VALUES ({unheard}, '/calico/ipam/v2/handle/silent');
         COMMIT"
    );
    connection.execute_batch(&sql).unwrap();
    let committed = microseconds();
    let (seen, at) = hear_change(&mut child);
    assert_eq!(seen, Revision(unheard));
    assert!(at - committed < 2_000_000, "{} us", at - committed);
    drop(connection);
    // The store goes on, and so does a fresh process.
    assert_eq!(put(&store, &handle("next"), 1), Revision(unheard + 1));
    assert_eq!(value(&folder.existing(), &handle("silent")).unwrap(), "{}");
}

/// Role: holds the write lock until it is killed.
pub(crate) fn hold_lock(path: &str) {
    let file = File::options().write(true).open(path).unwrap();
    file.lock().unwrap();
    say("locked");
    loop {
        thread::park();
    }
}

#[test]
fn a_stopped_lock_holder_makes_writers_give_up_after_their_patience_and_readers_not_at_all() {
    let folder = Folder::new();
    let options = OpenOptions {
        patience: Duration::from_millis(200),
        ..OpenOptions::default()
    };
    let store = EmbeddedStore::open(&folder.database(), options).unwrap().store;
    put(&store, &handle("a"), 1);
    let mut holder = Running::start("lock", &[&folder.file(".lock").display()]);
    assert_eq!(holder.hear().as_deref(), Some("locked"));
    holder.signal(Signal::SIGSTOP);
    for _ in 0..3 {
        let problem = store.commit(&batch([create(&handle("b"), "1")])).unwrap_err();
        assert!(matches!(problem, StoreError::Unavailable { .. }), "{problem:?}");
        assert!(problem.to_string().contains("node.db.lock"), "{problem}");
        assert_eq!(value(&store, &handle("a")).unwrap(), "1");
        assert_eq!(
            value(&folder.existing(), &handle("a")).unwrap(),
            "1",
            "opening needs no lock"
        );
    }
    drop(holder);
    // The threads that gave up may hold the lock for an instant.
    eventually("a write after the holder's death", || {
        store.commit(&batch([create(&handle("b"), "1")])).is_ok()
    });
}
