// SPDX-License-Identifier: Apache-2.0
//! A store in memory, for tests of engines and programs: several clients (hosts) on one content, atomic batches or
//! writes applied one by one as Kubernetes will, and faults injected by a plan per client.
//!
//! Nothing here knows SQLite; what the two backends share is the trait, the projection behind hints and the
//! conformance suite.

mod client;
mod content;
mod faults;
mod options;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, atomic::Ordering};

use model::{Key, KeyRange};

pub use client::Counts;
pub use content::Snapshot;
pub use faults::{Fault, FaultPlan, Rates, Step};
pub use options::MemoryOptions;

use crate::{
    error::StoreError,
    store::{Batch, Entry, Hint, JournalRecord, Listing, Revision, Store, Watch, Write},
};
use client::Client;
use content::Shared;
use watch::MemoryWatch;

/// One client of a store in memory. Clones are the same client; [`MemoryStore::client`] makes a further one.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    client: Arc<Client>,
}

impl MemoryStore {
    /// An empty store and its first client.
    pub fn new(options: MemoryOptions) -> Self {
        Self {
            shared: Arc::new(Shared::new(options)),
            client: Arc::default(),
        }
    }

    /// A further client of the same content, with its own faults, counts and crash.
    #[must_use]
    pub fn client(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            client: Arc::default(),
        }
    }

    /// Sets what goes wrong from now on for this client.
    pub fn plan_faults(&self, plan: FaultPlan) {
        self.client.plan_faults(plan);
    }

    /// Whether this client has met [`Fault::Crash`].
    pub fn crashed(&self) -> bool {
        self.client.crashed.load(Ordering::SeqCst)
    }

    /// Brings a crashed client back. Its plan goes on where it was; its watches stay dead.
    pub fn restart(&self) {
        self.client.restart();
    }

    /// What this client has done so far.
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }

    /// The content as it is, past all faults and counts. Costs nothing until the next write, which then copies the
    /// index of the content once.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.lock().snapshot()
    }

    /// Replaces the content, as an operator who restores an old copy does: revisions go back too, watches relist.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.shared.lock().restore(snapshot);
        self.shared.changed.notify_all();
    }

    /// One step of a commit. `done` writes of the batch are applied already; `journal` goes with the last step.
    fn write_step(&self, step: &Batch, done: usize) -> Result<Vec<Revision>, StoreError> {
        let lost = |reason: &str| StoreError::Unknown {
            reason: reason.to_owned(),
        };
        let finish = |result: Result<Vec<Revision>, StoreError>| {
            self.shared.changed.notify_all();
            self.client.count_step(&step.writes, &result);
            result
        };
        let apply = || finish(self.shared.lock().apply(step, done));
        match self.client.write_fault(&step.writes) {
            None => apply(),
            Some(Fault::Conflict { write }) => {
                let mut content = self.shared.lock();
                let met = content.interfere(&step.writes, write, done);
                finish(met.and_then(|()| content.apply(step, done)))
            }
            Some(Fault::LostReply { applied }) => {
                if applied {
                    let _lost = apply();
                }
                Err(lost("injected: the reply was lost"))
            }
            Some(Fault::Unavailable) if done > 0 => Err(lost("injected: unavailable after the first writes")),
            Some(Fault::Unavailable) => Err(client::unavailable("injected: unavailable")),
            Some(Fault::Crash { applied }) => {
                if applied {
                    let _lost = apply();
                }
                self.client.crash();
                Err(lost("injected: the client crashed"))
            }
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.client.read(|counts| &counts.gets)?;
        Ok(self.shared.lock().get(key))
    }

    fn list_hinted(&self, range: &KeyRange, hint: &Hint) -> Result<Listing, StoreError> {
        self.client.read(|counts| &counts.lists)?;
        Ok(self.shared.lock().list(range, hint))
    }

    fn applies_hints(&self) -> bool {
        self.shared.options.hints
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Revision>, StoreError> {
        batch.check_keys()?;
        self.client.begin_commit()?;
        if self.shared.options.atomic {
            return self.write_step(batch, 0);
        }
        let mut revisions = Vec::with_capacity(batch.writes.len());
        for (index, write) in batch.writes.iter().enumerate() {
            let last = index + 1 == batch.writes.len();
            let step = Batch {
                writes: vec![Write::clone(write)],
                journal: if last { batch.journal.clone() } else { Vec::new() },
            };
            revisions.extend(self.write_step(&step, index)?);
        }
        Ok(revisions)
    }

    fn atomic(&self) -> bool {
        self.shared.options.atomic
    }

    fn watch(&self, range: &KeyRange, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.client.read(|counts| &counts.watches)?;
        Ok(Box::new(MemoryWatch::new(
            &self.shared,
            &self.client,
            range,
            from,
        )))
    }

    fn journal(&self, limit: usize) -> Result<Vec<JournalRecord>, StoreError> {
        self.client.check_alive()?;
        Ok(self.shared.lock().journal(limit))
    }
}
