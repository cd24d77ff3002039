// SPDX-License-Identifier: Apache-2.0
//! The journal, where there is one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Factory, create, handle};
use crate::store::{Batch, JournalEntry, Store};

fn line(subject: &str) -> JournalEntry {
    JournalEntry {
        event: "assign",
        subject: subject.to_owned(),
        handle: "k8s-pod-network.4f1c".to_owned(),
        cause: "ADD".to_owned(),
        duration: Duration::from_micros(1234),
    }
}

fn has_journal(store: &dyn Store) -> bool {
    store
        .commit(&Batch {
            writes: Vec::new(),
            journal: vec![line("probe")],
        })
        .unwrap();
    !store.journal(1).unwrap().is_empty()
}

pub(crate) fn lines_are_kept_newest_first(new: Factory<'_>) {
    let store = new();
    assert_eq!(store.journal(10).unwrap(), []);
    if !has_journal(&*store) {
        return;
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let begun = now();
    let writes = vec![create(&handle("a"), "1")];
    store
        .commit(&Batch {
            writes,
            journal: vec![line("10.0.0.1"), line("10.0.0.2")],
        })
        .unwrap();
    store
        .commit(&Batch {
            writes: Vec::new(),
            journal: vec![line("10.0.0.3")],
        })
        .unwrap();
    let records = store.journal(10).unwrap();
    let subjects: Vec<&str> = records.iter().map(|record| record.subject.as_str()).collect();
    assert_eq!(subjects, ["10.0.0.3", "10.0.0.2", "10.0.0.1", "probe"]);
    let newest = &records[0];
    assert_eq!((newest.event.as_str(), newest.cause.as_str()), ("assign", "ADD"));
    assert_eq!(
        (newest.handle.as_str(), newest.duration),
        ("k8s-pod-network.4f1c", Duration::from_micros(1234))
    );
    let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert!(
        sequences.is_sorted_by(|newer, older| *newer == older + 1),
        "{sequences:?}"
    );
    assert!(
        records[..3]
            .iter()
            .all(|record| (begun..=now()).contains(&u128::try_from(record.time_us).unwrap()))
    );
    assert_eq!(store.journal(2).unwrap(), records[..2]);
    assert_eq!(store.journal(0).unwrap(), []);
}

pub(crate) fn a_failed_batch_leaves_no_line(new: Factory<'_>) {
    let store = new();
    if !has_journal(&*store) {
        return;
    }
    let batch = Batch {
        writes: vec![create(&handle("a"), "1")],
        journal: vec![line("10.0.0.1")],
    };
    store.commit(&batch).unwrap();
    store.commit(&batch).unwrap_err();
    let records = store.journal(10).unwrap();
    assert_eq!(records.len(), 2);
    store
        .commit(&Batch {
            writes: Vec::new(),
            journal: vec![line("10.0.0.2")],
        })
        .unwrap();
    assert_eq!(store.journal(1).unwrap()[0].sequence, records[0].sequence + 1);
}
