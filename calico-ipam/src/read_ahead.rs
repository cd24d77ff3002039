// SPDX-License-Identifier: Apache-2.0
//! The store of one run, with what an assignment needs of pools, reservations and this node read ahead: before the
//! host lock is taken and not under it. When many containers start at once, the time under that lock is what they
//! wait for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use datastore::{
    Batch, EmbeddedStore, Entry, Hint, JournalRecord, Listing, Revision, Store, StoreError, Watch,
};
use model::{Key, KeyRange, Kind};

/// A store that answers from what it has read ahead, until the next commit.
pub(crate) struct ReadAhead {
    store: EmbeddedStore,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    object: Option<(Key, Option<Entry>)>,
    lists: Vec<(KeyRange, Listing)>,
}

impl ReadAhead {
    pub(crate) fn new(store: EmbeddedStore) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn embedded(&self) -> &EmbeddedStore {
        &self.store
    }

    /// Reads what an assignment for a node needs and what nobody changes at every assignment.
    pub(crate) fn fill(&self, node: &str) -> Result<(), StoreError> {
        let key = Key::resource(Kind::Node, node);
        let object = Some((key.clone(), self.store.get(&key)?));
        let mut lists = Vec::new();
        for kind in [Kind::IpPool, Kind::IpReservation] {
            let range = KeyRange::Kind(kind);
            lists.push((range.clone(), self.store.list(&range)?));
        }
        *self.kept() = Kept { object, lists };
        self.store.make_ready()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ReadAhead {
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if let Some((kept, entry)) = &self.kept().object
            && kept == key
        {
            return Ok(entry.clone());
        }
        self.store.get(key)
    }

    fn list_hinted(&self, range: &KeyRange, hint: &Hint) -> Result<Listing, StoreError> {
        // Leaving out is allowed, not required.
        if let Some((_, listing)) = self.kept().lists.iter().find(|(kept, _)| kept == range) {
            return Ok(listing.clone());
        }
        self.store.list_hinted(range, hint)
    }

    fn applies_hints(&self) -> bool {
        self.store.applies_hints()
    }

    fn make_ready(&self) -> Result<(), StoreError> {
        self.store.make_ready()
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Revision>, StoreError> {
        *self.kept() = Kept::default();
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

#[cfg(test)]
mod tests {
    use datastore::{OpenOptions, Write};

    use super::*;

    #[test]
    fn what_was_read_ahead_is_forgotten_with_the_next_commit() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            EmbeddedStore::open(&folder.path().join("node.db"), OpenOptions::default())
                .unwrap()
                .store
        };
        let (store, other) = (ReadAhead::new(open()), open());
        let create = |key: &Key| Batch {
            writes: vec![Write::create(key.clone(), &serde_json::json!({}))],
            ..Batch::default()
        };
        store.fill("n").unwrap();
        let (node, pool) = (Key::resource(Kind::Node, "n"), Key::resource(Kind::IpPool, "p"));
        other.commit(&create(&node)).unwrap();
        other.commit(&create(&pool)).unwrap();
        let pools = KeyRange::Kind(Kind::IpPool);
        assert_eq!(store.get(&node).unwrap(), None);
        assert_eq!(store.list(&pools).unwrap().entries, []);
        assert!(store.get(&pool).unwrap().is_some(), "was not read ahead");
        store.commit(&create(&Key::resource(Kind::Node, "m"))).unwrap();
        assert!(store.get(&node).unwrap().is_some());
        assert_eq!(store.list(&pools).unwrap().entries.len(), 1);
    }
}
