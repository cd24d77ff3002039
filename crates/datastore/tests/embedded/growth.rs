// SPDX-License-Identifier: Apache-2.0
//! The files stay small, however much is written. `cargo run --release -p datastore --example embedded_store -- cycles`
//! does the same a million times.

use std::{fs, time::Duration};

use datastore::{Batch, EmbeddedStore, JournalEntry, OpenOptions, Store, Write};
use ipnet::IpNet;
use model::{Key, Kind, LocalTable};

use crate::support::{Folder, create, handle, put};

fn disk_use(folder: &Folder) -> u64 {
    let sizes = folder
        .names()
        .into_iter()
        .map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
    sizes.sum()
}

/// What one ADD and the DEL after it write.
fn cycle(store: &EmbeddedStore, number: usize) {
    let block: IpNet = "10.0.0.0/26".parse().unwrap();
    let block = Key::Block(block);
    let id = format!("{number:064x}");
    let own = [
        handle(format_args!("k8s-pod-network.{id}")),
        Key::local(LocalTable::Attachment, format!("node1/k8s-pod-network/{id}/eth0")),
        Key::namespaced(
            Kind::WorkloadEndpoint,
            "default",
            format!("node1-k8s-web--{number}-eth0"),
        ),
    ];
    let line = |event| JournalEntry {
        event,
        subject: "10.0.0.1".to_owned(),
        handle: format!("k8s-pod-network.{id}"),
        cause: "ADD".to_owned(),
        duration: Duration::from_micros(700),
    };
    let revision = store.get(&block).unwrap().unwrap().revision;
    let content = |fill: usize| {
        format!(
            r#"{{"affinity":"host:node1","unallocated":[1],"x":"{:>fill$}"}}"#,
            ""
        )
    };
    let mut writes = vec![Write::Update {
        key: block.clone(),
        value: content(2000 + number % 5 * 900),
        revision,
    }];
    writes.extend(own.iter().map(|key| create(key, &content(600))));
    let revisions = store
        .commit(&Batch {
            writes,
            journal: vec![line("assign")],
        })
        .unwrap();
    let mut writes = vec![Write::Update {
        key: block,
        value: content(1500 + number % 7 * 900),
        revision: revisions[0],
    }];
    let deletes = own.iter().zip(&revisions[1..]);
    writes.extend(deletes.map(|(key, revision)| Write::Delete {
        key: key.clone(),
        revision: *revision,
    }));
    store
        .commit(&Batch {
            writes,
            journal: vec![line("release")],
        })
        .unwrap();
}

#[test]
fn the_files_stop_growing() {
    let folder = Folder::new();
    let options = OpenOptions {
        history: 400,
        journal: 300,
        ..OpenOptions::default()
    };
    let open = || EmbeddedStore::open(&folder.database(), options).unwrap().store;
    let store = open();
    let block: IpNet = "10.0.0.0/26".parse().unwrap();
    store
        .commit(&crate::support::batch([create(&Key::Block(block), "{}")]))
        .unwrap();
    drop(store);
    let run = |numbers: std::ops::Range<usize>| {
        // A process lives for a few cycles only.
        for number in numbers.clone().step_by(10) {
            let store = open();
            (number..number + 10).for_each(|number| cycle(&store, number));
        }
        disk_use(&folder)
    };
    let early = run(0..500);
    let late = run(500..3000);
    assert!(
        late <= early + early / 4,
        "{early} bytes after 500 cycles, {late} after 3000"
    );
    assert!(late < 4 << 20, "{late} bytes");
    let store = open();
    let journal = store.journal(usize::MAX).unwrap();
    assert!(
        (300..=300 + 300 / 8).contains(&journal.len()),
        "{}",
        journal.len()
    );
    let ancient = store
        .watch(&model::KeyRange::Everything, datastore::Revision(1))
        .unwrap()
        .next(Duration::ZERO);
    assert_eq!(ancient.unwrap(), Some(datastore::WatchEvent::Relist));
}

/// While many write at once nobody waits for the disk, and afterwards the log is short again.
#[test]
fn a_burst_has_a_longer_log_but_not_without_bounds() {
    let folder = Folder::new();
    let size = || fs::metadata(folder.file("-wal")).map_or(0, |found| found.len());
    let fill = |burst: Duration| {
        let options = OpenOptions {
            burst,
            ..OpenOptions::default()
        };
        let store = EmbeddedStore::open(&folder.database(), options).unwrap().store;
        let mut longest = 0;
        for number in 0..2000 {
            put(&store, &handle(number % 50), format_args!("\"{number:>3000}\""));
            longest = longest.max(size());
        }
        longest
    };
    let (alone, burst) = (fill(Duration::ZERO), fill(Duration::from_secs(3600)));
    assert!(alone < 1_000_000, "{alone}");
    assert!(burst > 2 * alone && burst < 8_000_000, "{burst}");
    fill(Duration::ZERO);
    assert!(size() < 1_000_000, "{}", size());
}
