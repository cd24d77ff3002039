// SPDX-License-Identifier: Apache-2.0
//! The conformance suite on SQLite, and what is particular to this backend and needs no second process.

use super::*;
use crate::conformance::conformance_tests;

/// A store in a folder of its own, which goes with it.
struct Temporary {
    store: EmbeddedStore,
    _directory: tempfile::TempDir,
}

impl Store for Temporary {
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key)
    }
    fn list_hinted(&self, range: &KeyRange, hint: &Hint) -> Result<Listing, StoreError> {
        self.store.list_hinted(range, hint)
    }
    fn applies_hints(&self) -> bool {
        self.store.applies_hints()
    }
    fn commit(&self, batch: &Batch) -> Result<Vec<Revision>, StoreError> {
        self.store.commit(batch)
    }
    fn atomic(&self) -> bool {
        self.store.atomic()
    }
    fn watch(&self, range: &KeyRange, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.store.watch(range, from)
    }
    fn journal(&self, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        self.store.journal(limit)
    }
}

fn temporary(options: OpenOptions) -> Box<dyn Store> {
    let directory = tempfile::tempdir().unwrap();
    let opened = EmbeddedStore::open(&directory.path().join("node.db"), options).unwrap();
    assert_eq!(opened.provenance, Provenance::Created);
    Box::new(Temporary {
        store: opened.store,
        _directory: directory,
    })
}

conformance_tests!(|| temporary(OpenOptions::default()), remembering 50: || temporary(OpenOptions {
    history: 50,
    ..OpenOptions::default()
}));
