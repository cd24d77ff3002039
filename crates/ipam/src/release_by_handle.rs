// SPDX-License-Identifier: Apache-2.0
//! Releasing everything under a handle, which is what the end of a container means.
//!
//! The handle says in which blocks to look; a thorough release looks in every block, for handles that were lost or
//! damaged. Afterwards the handle is gone: where it counted more than a block has, the block is written all the
//! same, so that an assignment that has counted but not yet written its block conflicts and counts again. (Calico
//! leaves such handles behind for ever.)

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use datastore::{Revision, Write};
use ipnet::IpNet;
use model::{AffinityOwner, IpamHandle, Key, names::effective_handle};

use crate::{
    block,
    engine::Engine,
    error::AccessError,
    family::Family,
    freeing::{BlockRelease, Freed, free, left_to_apply, settle_empty},
    handle,
    operation::{Committed, Event, Operation, Stored},
    request::{ReleaseCompanions, ReleaseReport},
    retry::{Step, retry},
};

/// Where a release by handle looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandleSearch {
    /// In the blocks that the handle lists: a handful of reads.
    #[default]
    Listed,
    /// In every block: for addresses whose handle was lost. Reads all blocks.
    Thorough,
}

impl Engine<'_> {
    /// Releases all addresses of a handle and deletes it, together with `companions`, which are committed even if
    /// there is nothing to release. An unknown handle is no error: [`ReleaseReport::handle_found`].
    pub fn release_by_handle(
        &self,
        handle: &str,
        search: HandleSearch,
        cause: &str,
        companions: &mut ReleaseCompanions<'_>,
    ) -> Result<ReleaseReport, AccessError> {
        let operation = Operation::new(*self, cause);
        let mut run = HandleRun {
            operation: &operation,
            id: effective_handle(handle),
            search,
            found: false,
            released: BTreeSet::new(),
            emptied: BTreeMap::new(),
            doubt: Vec::new(),
            partly: false,
            companion_conflict: None,
        };
        let damaged = retry(self.clock, || run.attempt(companions))?;
        for (cidr, owner) in &run.emptied {
            settle_empty(&operation, *cidr, owner);
        }
        Ok(ReleaseReport {
            released: run.released.into_iter().collect(),
            handle_found: run.found,
            damaged,
            ..ReleaseReport::default()
        })
    }
}

struct HandleRun<'s, 'a> {
    operation: &'s Operation<'a>,
    id: &'s str,
    search: HandleSearch,
    found: bool,
    released: BTreeSet<IpAddr>,
    emptied: BTreeMap<IpNet, AffinityOwner>,
    /// Block changes whose write got no reply.
    doubt: Vec<BlockRelease>,
    partly: bool,
    companion_conflict: Option<Key>,
}

type Damaged = Vec<(Key, String)>;

impl HandleRun<'_, '_> {
    fn attempt(&mut self, companions: &mut ReleaseCompanions<'_>) -> Result<Step<Damaged>, AccessError> {
        self.settle_doubt()?;
        let operation = self.operation;
        let (stored, revision) = self.read_handle()?;
        self.found |= revision.is_some();
        let mut left = IpamHandle {
            block: BTreeMap::new(),
            ..stored.clone()
        };
        let mut damaged = Vec::new();
        let mut blocks = Vec::new();
        for cidr in self.blocks_to_search(&stored)? {
            match operation.block(cidr) {
                Ok(Some(block)) => blocks.extend(self.plan_block(block, stored.block.contains_key(&cidr))?),
                Ok(None) => {}
                Err(AccessError::Damaged { key, defect }) => {
                    if let Some(count) = stored.block.get(&cidr) {
                        handle::add(&mut left, cidr, *count);
                    }
                    damaged.push((key, defect));
                }
                Err(error) => return Err(error),
            }
        }
        let freed: Vec<Freed> = blocks.iter().flat_map(|block| block.freed.clone()).collect();
        let mut addresses: Vec<IpAddr> = self.released.iter().copied().collect();
        addresses.extend(freed.iter().map(|freed| freed.address));
        let companions = left_to_apply(operation, companions(&addresses), self.partly)?;
        let companion_keys: Vec<Key> = companions.iter().map(|write| write.key().clone()).collect();
        let handle_write = revision.and_then(|revision| {
            let before = Stored {
                value: stored,
                revision,
            };
            handle::write(self.id, Some(before), &left)
        });
        let block_writes = blocks.iter().map(|block| block.write.clone());
        let writes: Vec<Write> = block_writes.chain(handle_write).chain(companions).collect();
        if writes.is_empty() {
            return Ok(Step::Done(damaged));
        }
        let events: Vec<Event> = freed.iter().map(Freed::event).collect();
        match operation.commit(writes, &events)? {
            Committed::Done(_) => {
                for block in blocks {
                    self.note_block(block);
                }
                Ok(Step::Done(damaged))
            }
            Committed::Unknown(reason) => {
                self.partly = true;
                self.doubt = blocks;
                Ok(Step::Again(format!("handle {} (reply lost: {reason})", self.id)))
            }
            Committed::Conflict { key, applied } => {
                for block in blocks.into_iter().take(applied) {
                    self.note_block(block);
                }
                let repeated = self.companion_conflict.as_ref() == Some(&key);
                if companion_keys.contains(&key) && (operation.engine.store.atomic() || repeated) {
                    return Err(AccessError::Companion { key });
                }
                self.partly |= !operation.engine.store.atomic();
                let object = key.to_string();
                self.companion_conflict = Some(key).filter(|key| companion_keys.contains(key));
                Ok(Step::Again(object))
            }
        }
    }

    /// The handle and its revision. A damaged one counts nothing; only a thorough release may go on with it.
    fn read_handle(&self) -> Result<(IpamHandle, Option<Revision>), AccessError> {
        match self.operation.handle(self.id) {
            Ok(Some(stored)) => Ok((stored.value, Some(stored.revision))),
            Ok(None) => Ok((IpamHandle::default(), None)),
            Err(AccessError::Damaged { .. }) if self.search == HandleSearch::Thorough => {
                let entry = self
                    .operation
                    .engine
                    .store
                    .get(&Key::Handle(self.id.to_owned()))?;
                Ok((IpamHandle::default(), entry.map(|entry| entry.revision)))
            }
            Err(error) => Err(error),
        }
    }

    fn blocks_to_search(&self, handle: &IpamHandle) -> Result<BTreeSet<IpNet>, AccessError> {
        let mut blocks: BTreeSet<IpNet> = handle.block.keys().copied().collect();
        if self.search == HandleSearch::Thorough {
            let found = blocks_naming(self.operation, self.id)?;
            blocks.extend(found);
        }
        Ok(blocks)
    }

    fn plan_block(
        &self,
        stored: Stored<model::IpamBlock>,
        listed: bool,
    ) -> Result<Option<BlockRelease>, AccessError> {
        let ordinals = block::ordinals_of(&stored.value, self.id);
        if ordinals.is_empty() && !listed {
            return Ok(None);
        }
        free(self.operation, stored, &ordinals).map(Some)
    }

    fn note_block(&mut self, block: BlockRelease) {
        if let Some(after) = block.after
            && let Some(owner) = &after.affinity
            && block::is_empty(&after)
        {
            self.emptied.insert(after.cidr, owner.clone());
        }
        self.released
            .extend(block.freed.iter().map(|freed| freed.address));
    }

    fn settle_doubt(&mut self) -> Result<(), AccessError> {
        for block in std::mem::take(&mut self.doubt) {
            let Some(cidr) = block.freed.first().map(|freed| freed.block) else {
                continue;
            };
            let now = self
                .operation
                .unless_damaged(self.operation.block(cidr))?
                .flatten();
            let gone = |freed: &Freed| !now.as_ref().is_some_and(|now| freed.is_in(&now.value));
            if block.freed.iter().all(gone) {
                self.note_block(block);
            }
        }
        Ok(())
    }
}

/// The blocks whose stored text contains a handle ID; every block, if the ID may be spelt otherwise in JSON.
pub(crate) fn blocks_naming(operation: &Operation<'_>, id: &str) -> Result<Vec<IpNet>, AccessError> {
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:@+=,~".contains(&byte));
    let mut blocks = Vec::new();
    for family in [Family::V4, Family::V6] {
        for entry in operation.engine.store.list(&family.blocks())?.entries {
            if let Key::Block(cidr) = entry.key
                && (!plain || entry.value.contains(id))
            {
                blocks.push(cidr);
            }
        }
    }
    Ok(blocks)
}
