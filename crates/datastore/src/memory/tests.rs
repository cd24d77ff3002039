// SPDX-License-Identifier: Apache-2.0
//! Faults do what they say. What all backends have in common is in the conformance suite.

use std::time::Duration;

use model::Key;

use super::*;
use crate::{conformance::conformance_tests, store::WatchEvent};

fn memory(options: MemoryOptions) -> Box<dyn Store> {
    Box::new(MemoryStore::new(options))
}

mod as_embedded {
    use super::*;

    conformance_tests!(|| memory(MemoryOptions::embedded()), remembering 50: || memory(MemoryOptions {
        history: 50,
        ..MemoryOptions::embedded()
    }));
}

mod as_kubernetes {
    use super::*;

    conformance_tests!(|| memory(MemoryOptions::kubernetes()), remembering 50: || memory(MemoryOptions {
        history: 50,
        ..MemoryOptions::kubernetes()
    }));
}

fn handle(name: &str) -> Key {
    Key::Handle(name.to_owned())
}

fn create(name: &str) -> Write {
    Write::Create {
        key: handle(name),
        value: "{}".to_owned(),
    }
}

fn batch(writes: impl IntoIterator<Item = Write>) -> Batch {
    Batch {
        writes: writes.into_iter().collect(),
        journal: Vec::new(),
    }
}

fn names(store: &MemoryStore) -> Vec<String> {
    store
        .snapshot()
        .iter()
        .map(|(key, _, _)| key.to_string().rsplit('/').next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_crash_cuts_an_ordered_batch_and_lasts_until_restart() {
    for (number, applied, expected) in [
        (0, false, &[][..]),
        (0, true, &["a"]),
        (1, false, &["a"]),
        (2, false, &["a", "b"]),
        (2, true, &["a", "b", "c"]),
    ] {
        let store = MemoryStore::new(MemoryOptions::kubernetes());
        let other = store.client();
        store.plan_faults(FaultPlan::at(number, Fault::Crash { applied }));
        let result = store.commit(&batch(["a", "b", "c"].map(create)));
        assert!(matches!(result, Err(StoreError::Unknown { .. })), "{result:?}");
        assert!(store.crashed());
        assert_eq!(names(&store), expected, "crash at {number}, applied {applied}");
        assert!(matches!(
            store.get(&handle("a")),
            Err(StoreError::Unavailable { .. })
        ));
        assert!(matches!(
            store.commit(&batch([create("z")])),
            Err(StoreError::Unavailable { .. })
        ));
        assert!(other.get(&handle("a")).is_ok(), "other clients live on");
        store.restart();
        assert!(store.get(&handle("a")).is_ok());
    }
}

#[test]
fn a_crash_of_an_atomic_batch_applies_all_or_nothing() {
    for (applied, expected) in [(false, &[][..]), (true, &["a", "b"])] {
        let store = MemoryStore::new(MemoryOptions::embedded());
        store.plan_faults(FaultPlan::at(0, Fault::Crash { applied }));
        assert!(store.commit(&batch(["a", "b"].map(create))).is_err());
        assert_eq!(names(&store), expected);
    }
}

#[test]
fn lost_replies_say_unknown_whether_applied_or_not() {
    for (applied, expected) in [(false, &[][..]), (true, &["a"])] {
        let store = MemoryStore::new(MemoryOptions::embedded());
        store.plan_faults(FaultPlan::at(0, Fault::LostReply { applied }));
        let result = store.commit(&batch([create("a")]));
        assert!(matches!(result, Err(StoreError::Unknown { .. })), "{result:?}");
        assert_eq!(names(&store), expected);
    }
}

#[test]
fn unavailable_says_nothing_changed_only_when_that_is_true() {
    let store = MemoryStore::new(MemoryOptions::kubernetes());
    store.plan_faults(FaultPlan::script([
        (0, Fault::Unavailable),
        (2, Fault::Unavailable),
    ]));
    let first = store.commit(&batch(["a", "b"].map(create)));
    assert!(matches!(first, Err(StoreError::Unavailable { .. })), "{first:?}");
    assert!(names(&store).is_empty());
    let second = store.commit(&batch(["a", "b"].map(create)));
    assert!(matches!(second, Err(StoreError::Unknown { .. })), "{second:?}");
    assert_eq!(names(&store), ["a"]);
}

#[test]
fn an_injected_conflict_is_gone_after_reading_again() {
    for options in [MemoryOptions::embedded(), MemoryOptions::kubernetes()] {
        let store = MemoryStore::new(options);
        let revision = store.commit(&batch([create("a")])).unwrap()[0];
        let update = |revision| Write::Update {
            key: handle("a"),
            value: "1".to_owned(),
            revision,
        };
        store.plan_faults(FaultPlan::at(0, Fault::Conflict { write: 0 }));
        let result = store.commit(&batch([update(revision)]));
        assert!(
            matches!(result, Err(StoreError::Conflict { applied: 0, .. })),
            "{result:?}"
        );
        let current = store.get(&handle("a")).unwrap().unwrap();
        assert_eq!(current.value, "{}");
        assert!(current.revision > revision);
        store.commit(&batch([update(current.revision)])).unwrap();
        assert_eq!(store.counts().conflicts, 1);
    }
}

#[test]
fn an_injected_conflict_of_a_create_leaves_nothing_behind() {
    let store = MemoryStore::new(MemoryOptions::embedded());
    store.plan_faults(FaultPlan::at(0, Fault::Conflict { write: 1 }));
    let result = store.commit(&batch(["a", "b"].map(create)));
    let Err(StoreError::AlreadyExists { key, applied: 0 }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(key, handle("b"));
    assert!(names(&store).is_empty());
    store.commit(&batch(["a", "b"].map(create))).unwrap();
}

#[test]
fn a_plan_may_let_another_client_act_between_two_writes() {
    let store = MemoryStore::new(MemoryOptions::kubernetes());
    let rival = store.client();
    store.plan_faults(FaultPlan::from_fn(move |step| {
        if let Step::Write { number: 1, .. } = step {
            rival.commit(&batch([create("b")])).unwrap();
        }
        None
    }));
    let result = store.commit(&batch(["a", "b"].map(create)));
    assert!(
        matches!(result, Err(StoreError::AlreadyExists { applied: 1, .. })),
        "{result:?}"
    );
}

#[test]
fn seeded_plans_repeat_and_keep_their_rates() {
    let run = |seed| -> Vec<Option<Fault>> {
        let rates = Rates {
            conflict: 1000,
            lost_reply: 1000,
            unavailable: 500,
            crash: 500,
        };
        let mut plan = FaultPlan::seeded(seed, rates);
        let writes = ["a", "b"].map(create);
        (0..20_000)
            .map(|number| {
                plan.ask(&Step::Write {
                    number,
                    writes: &writes,
                })
            })
            .collect()
    };
    let faults = run(7);
    assert_eq!(faults, run(7));
    assert_ne!(faults, run(8));
    let share = |wanted: fn(&Fault) -> bool| faults.iter().flatten().filter(|fault| wanted(fault)).count();
    let conflicts = share(|fault| matches!(fault, Fault::Conflict { .. }));
    let lost = share(|fault| matches!(fault, Fault::LostReply { .. }));
    let crashes = share(|fault| matches!(fault, Fault::Crash { .. }));
    assert!((1700..2300).contains(&conflicts), "{conflicts}");
    assert!((1700..2300).contains(&lost), "{lost}");
    assert!((800..1200).contains(&crashes), "{crashes}");
}

#[test]
fn a_restored_snapshot_takes_revisions_back_and_relists() {
    let store = MemoryStore::new(MemoryOptions::embedded());
    store.commit(&batch([create("a")])).unwrap();
    let old = store.snapshot();
    store.commit(&batch([create("b")])).unwrap();
    let mut watch = store
        .watch(&KeyRange::Handles, store.snapshot().revision())
        .unwrap();
    store.restore(&old);
    assert_eq!(names(&store), ["a"]);
    assert_eq!(watch.next(Duration::ZERO).unwrap(), Some(WatchEvent::Relist));
    assert_eq!(watch.next(Duration::ZERO).unwrap(), None);
}

#[test]
fn a_watch_dies_with_its_client() {
    let store = MemoryStore::new(MemoryOptions::embedded());
    let mut watch = store.watch(&KeyRange::Handles, Revision(0)).unwrap();
    store.plan_faults(FaultPlan::at(0, Fault::Crash { applied: true }));
    assert!(store.commit(&batch([create("a")])).is_err());
    store.restart();
    assert!(watch.next(Duration::ZERO).is_err());
}
