// SPDX-License-Identifier: Apache-2.0
//! Several threads on one store.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use model::KeyRange;

use super::{Factory, apply, batch, create, handle, update, value};

const THREADS: usize = 8;

pub(crate) fn counting_threads_lose_nothing(new: Factory<'_>) {
    const ROUNDS: usize = 25;
    let store = new();
    let key = handle("counter");
    apply(&*store, create(&key, "0"));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    loop {
                        let entry = store.get(&key).unwrap().unwrap();
                        let next = entry.value.parse::<usize>().unwrap() + 1;
                        match store.commit(&batch([update(&key, &next.to_string(), entry.revision)])) {
                            Ok(_) => break,
                            Err(problem) => assert!(problem.is_conflict(), "{problem}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(value(&*store, &key).unwrap(), (THREADS * ROUNDS).to_string());
}

pub(crate) fn one_of_many_creators_wins(new: Factory<'_>) {
    let store = new();
    for round in 0..10 {
        let key = handle(&format!("prize-{round}"));
        let race = &|racer: usize| store.commit(&batch([create(&key, &racer.to_string())])).is_ok();
        let winners: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..THREADS)
                .map(|racer| scope.spawn(move || race(racer)))
                .collect();
            racers
                .into_iter()
                .map(|racer| usize::from(racer.join().unwrap()))
                .sum()
        });
        assert_eq!(winners, 1);
    }
}

pub(crate) fn readers_see_whole_batches(new: Factory<'_>) {
    let store = new();
    if !store.atomic() {
        return;
    }
    let keys = ["a", "b", "c", "d"].map(handle);
    let mut revisions = store
        .commit(&batch(keys.iter().map(|key| create(key, "0"))))
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut lists = 0;
                    while !done.load(Ordering::Relaxed) || lists == 0 {
                        let entries = store.list(&KeyRange::Handles).unwrap().entries;
                        assert!(
                            entries.iter().all(|entry| entry.value == entries[0].value),
                            "{entries:?}"
                        );
                        lists += 1;
                    }
                })
            })
            .collect();
        for round in 1..100 {
            let writes = keys
                .iter()
                .zip(&revisions)
                .map(|(key, at)| update(key, &round.to_string(), *at));
            revisions = store.commit(&batch(writes)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
