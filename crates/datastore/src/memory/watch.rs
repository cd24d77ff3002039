// SPDX-License-Identifier: Apache-2.0
//! Watches of a store in memory: wait on the condition variable, then read what changed.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use model::KeyRange;

use super::{
    client::{self, Client},
    content::Shared,
};
use crate::{
    error::StoreError,
    store::{Revision, Watch, WatchEvent},
};

pub(super) struct MemoryWatch {
    shared: Arc<Shared>,
    client: Arc<Client>,
    life: u64,
    generation: u64,
    prefix: String,
    /// Everything up to here has been delivered.
    position: u64,
}

impl MemoryWatch {
    pub(super) fn new(shared: &Arc<Shared>, client: &Arc<Client>, range: &KeyRange, from: Revision) -> Self {
        Self {
            life: client.life(),
            generation: shared.lock().generation(),
            shared: Arc::clone(shared),
            client: Arc::clone(client),
            prefix: range.prefix(),
            position: from.0,
        }
    }
}

impl Watch for MemoryWatch {
    fn next(&mut self, timeout: Duration) -> Result<Option<WatchEvent>, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut content = self.shared.lock();
        loop {
            self.client.check_alive()?;
            if self.client.life() != self.life {
                return Err(client::unavailable("the watch ended when its client crashed"));
            }
            let replaced = content.generation() != self.generation;
            let changes = content
                .changes_since(self.position, &self.prefix)
                .filter(|_| !replaced);
            self.position = content.revision();
            self.generation = content.generation();
            match changes {
                None => return Ok(Some(WatchEvent::Relist)),
                Some(changes) if !changes.is_empty() => return Ok(Some(WatchEvent::Changes(changes))),
                Some(_) => {}
            }
            let Some(left) = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                return Ok(None);
            };
            let waited = self.shared.changed.wait_timeout(content, left);
            content = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
