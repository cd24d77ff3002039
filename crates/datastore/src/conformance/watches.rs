// SPDX-License-Identifier: Apache-2.0
//! Watches: order, ranges, merging, waking, falling behind.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use model::{Key, KeyRange};

use super::{Factory, PATIENCE, apply, batch, create, delete, handle, update};
use crate::store::{Change, Revision, Store, Watch, WatchEvent};

fn start(store: &dyn Store) -> Revision {
    store.list(&KeyRange::Everything).unwrap().revision
}

/// What one event is about: key and revision, `true` where there is an object.
fn facts(event: WatchEvent) -> Vec<(Key, Revision, bool)> {
    match event {
        WatchEvent::Relist => panic!("told to list again"),
        WatchEvent::Changes(changes) => changes
            .into_iter()
            .map(|change| match change {
                Change::Put(entry) => (entry.key, entry.revision, true),
                Change::Deleted { key, revision } => (key, revision, false),
            })
            .collect(),
    }
}

/// All changes up to the one of `last`.
fn until(watch: &mut dyn Watch, last: &Key) -> Vec<(Key, Revision, bool)> {
    let mut seen = Vec::new();
    while seen.iter().all(|(key, _, _)| key != last) {
        let event = watch.next(PATIENCE).unwrap().expect("no change in all that time");
        seen.extend(facts(event));
    }
    seen
}

pub(crate) fn a_watch_sees_everything_after_its_start(new: Factory<'_>) {
    let store = new();
    let [old, a, b, end] = ["old", "a", "b", "end"].map(handle);
    let of_old = apply(&*store, create(&old, "1"));
    let mut watch = store.watch(&KeyRange::Handles, start(&*store)).unwrap();
    let of_a = apply(&*store, create(&a, "1"));
    let of_b = apply(&*store, create(&b, "1"));
    let of_old = apply(&*store, update(&old, "2", of_old));
    let deleted = apply(&*store, delete(&a, of_a));
    let of_end = apply(&*store, create(&end, "1"));
    let seen = until(&mut *watch, &end);
    // The creation of `a` may be merged into its deletion.
    let mut last: Vec<_> = seen
        .iter()
        .filter(|(key, revision, _)| *key != a || *revision > of_a)
        .cloned()
        .collect();
    last.dedup();
    let expected = [
        (b, of_b, true),
        (old, of_old, true),
        (a, deleted, false),
        (end, of_end, true),
    ];
    assert_eq!(last, expected);
    assert_eq!(watch.next(Duration::ZERO).unwrap(), None, "nothing is repeated");
}

pub(crate) fn a_watch_sees_its_range_only(new: Factory<'_>) {
    let store = new();
    let mut watch = store
        .watch(&KeyRange::Blocks { v6: false }, start(&*store))
        .unwrap();
    let block = |prefix: &str| Key::Block(prefix.parse().unwrap());
    apply(&*store, create(&handle("a"), "1"));
    apply(&*store, create(&block("10.0.0.0/26"), "{}"));
    apply(&*store, create(&block("fd00::/122"), "{}"));
    apply(&*store, create(&block("10.0.0.64/26"), "{}"));
    let seen = until(&mut *watch, &block("10.0.0.64/26"));
    let keys: Vec<Key> = seen.into_iter().map(|(key, _, _)| key).collect();
    assert_eq!(keys, [block("10.0.0.0/26"), block("10.0.0.64/26")]);
}

pub(crate) fn changes_of_one_key_may_be_merged_into_the_last(new: Factory<'_>) {
    let store = new();
    let [key, end] = ["key", "end"].map(handle);
    let mut watch = store.watch(&KeyRange::Handles, start(&*store)).unwrap();
    let mut revision = apply(&*store, create(&key, "0"));
    for round in 1..20 {
        revision = apply(&*store, update(&key, &round.to_string(), revision));
    }
    apply(&*store, create(&end, "1"));
    let seen = until(&mut *watch, &end);
    let of_key: Vec<Revision> = seen
        .iter()
        .filter(|(seen, _, _)| *seen == key)
        .map(|(_, at, _)| *at)
        .collect();
    assert!(of_key.is_sorted(), "{of_key:?}");
    assert_eq!(of_key.last(), Some(&revision));
}

pub(crate) fn a_deleted_and_recreated_object_is_there(new: Factory<'_>) {
    let store = new();
    let [key, gone, end] = ["key", "gone", "end"].map(handle);
    let first = apply(&*store, create(&key, "1"));
    let mut watch = store.watch(&KeyRange::Handles, start(&*store)).unwrap();
    apply(&*store, delete(&key, first));
    let again = apply(&*store, create(&key, "2"));
    let first = apply(&*store, create(&gone, "1"));
    apply(&*store, delete(&gone, first));
    let first = apply(&*store, create(&gone, "1"));
    let deleted = apply(&*store, delete(&gone, first));
    apply(&*store, create(&end, "1"));
    let seen = until(&mut *watch, &end);
    let last_of = |wanted: &Key| seen.iter().rfind(|(key, _, _)| key == wanted).cloned();
    assert_eq!(last_of(&key), Some((key, again, true)));
    assert_eq!(last_of(&gone), Some((gone, deleted, false)));
}

pub(crate) fn a_watch_without_changes_times_out(new: Factory<'_>) {
    let store = new();
    let mut watch = store.watch(&KeyRange::Handles, start(&*store)).unwrap();
    assert_eq!(watch.next(Duration::ZERO).unwrap(), None);
    let begun = Instant::now();
    assert_eq!(watch.next(Duration::from_millis(30)).unwrap(), None);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    // Changes elsewhere do not end the wait.
    apply(&*store, create(&Key::IpamConfig, "{}"));
    assert_eq!(watch.next(Duration::from_millis(30)).unwrap(), None);
}

pub(crate) fn a_waiting_watch_is_woken(new: Factory<'_>) {
    let store = new();
    let mut watch = store.watch(&KeyRange::Handles, start(&*store)).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || until(&mut *watch, &handle("a")));
        apply(&*store, create(&handle("a"), "1"));
        assert_eq!(waiting.join().unwrap().len(), 1);
    });
}

pub(crate) fn a_list_and_a_watch_miss_nothing(new: Factory<'_>) {
    let store = new();
    let store = &*store;
    let end = handle("end");
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let key = handle(&format!("{:02}", round % 7));
                match store.get(&key).unwrap() {
                    None => apply(store, create(&key, &round.to_string())),
                    Some(entry) if round % 3 == 0 => apply(store, delete(&key, entry.revision)),
                    Some(entry) => apply(store, update(&key, &round.to_string(), entry.revision)),
                };
            }
            apply(store, create(&end, "1"));
        });
        for _ in 0..3 {
            let listing = store.list(&KeyRange::Handles).unwrap();
            let mut watch = store.watch(&KeyRange::Handles, listing.revision).unwrap();
            let mut copy: BTreeMap<String, String> = listing
                .entries
                .into_iter()
                .map(|entry| (entry.key.to_string(), entry.value))
                .collect();
            let mut last = listing.revision;
            while !copy.contains_key(&end.to_string()) {
                let Some(WatchEvent::Changes(changes)) = watch.next(PATIENCE).unwrap() else {
                    panic!("nothing new in all that time");
                };
                for change in changes {
                    let revision = match change {
                        Change::Put(entry) => {
                            copy.insert(entry.key.to_string(), entry.value);
                            entry.revision
                        }
                        Change::Deleted { key, revision } => {
                            copy.remove(&key.to_string());
                            revision
                        }
                    };
                    assert!(revision > last, "changes come in order and once");
                    last = revision;
                }
            }
            let entries = store.list(&KeyRange::Handles).unwrap().entries;
            let stored: BTreeMap<String, String> = entries
                .into_iter()
                .map(|entry| (entry.key.to_string(), entry.value))
                .collect();
            assert_eq!(copy, stored);
        }
    });
}

pub(crate) fn several_watches_see_the_same(new: Factory<'_>) {
    let store = new();
    let from = start(&*store);
    let mut watches: Vec<_> = (0..4)
        .map(|_| store.watch(&KeyRange::Everything, from).unwrap())
        .collect();
    let keys = ["a", "b", "c"].map(handle);
    store
        .commit(&batch(keys.iter().map(|key| create(key, "1"))))
        .unwrap();
    let seen: Vec<_> = watches
        .iter_mut()
        .map(|watch| until(&mut **watch, &keys[2]))
        .collect();
    assert_eq!(seen[0].len(), 3);
    assert!(seen.iter().all(|other| *other == seen[0]));
    let mut late = store.watch(&KeyRange::Everything, from).unwrap();
    assert_eq!(
        until(&mut *late, &keys[2]),
        seen[0],
        "history is there for who comes later"
    );
}

pub(crate) fn a_watch_left_behind_is_told_to_list_again(new: Factory<'_>, history: usize) {
    let store = new();
    let key = handle("a");
    let mut revision = apply(&*store, create(&key, "0"));
    let mut watch = store.watch(&KeyRange::Handles, start(&*store)).unwrap();
    for round in 0..history * 3 {
        revision = apply(&*store, update(&key, &round.to_string(), revision));
    }
    assert_eq!(watch.next(PATIENCE).unwrap(), Some(WatchEvent::Relist));
    let mut ancient = store.watch(&KeyRange::Handles, Revision(0)).unwrap();
    assert_eq!(ancient.next(PATIENCE).unwrap(), Some(WatchEvent::Relist));
    let mut ahead = store
        .watch(&KeyRange::Handles, Revision(revision.0 + 1_000_000))
        .unwrap();
    assert_eq!(
        ahead.next(PATIENCE).unwrap(),
        Some(WatchEvent::Relist),
        "of a store that was another"
    );
    // All of them go on from here.
    let revision = apply(&*store, update(&key, "last", revision));
    for watch in [&mut watch, &mut ancient, &mut ahead] {
        assert_eq!(
            until(&mut **watch, &key).last(),
            Some(&(key.clone(), revision, true))
        );
    }
}
