// SPDX-License-Identifier: Apache-2.0
//! Releasing given addresses, each with conditions on its handle and sequence number, all or nothing per block.
//!
//! Order: blocks, then handles, then the caller's own writes: cut off anywhere, a handle counts too much and never
//! too little. An empty block that is nobody's is deleted. An empty block whose pool no longer selects its owner is
//! given back ([`settle_empty`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use datastore::{Revision, Write};
use ipnet::IpNet;
use model::{AffinityOwner, IpamBlock, Key, names::effective_handle};

use crate::{
    affinity::ReleaseRules,
    block,
    engine::Engine,
    error::AccessError,
    handle,
    locate::Locator,
    notice::Notice,
    operation::{Committed, Event, Operation, Stored},
    pool_selection::selects_node,
    request::{ReleaseCompanions, ReleaseOption, ReleaseRefusal, ReleaseReport},
    retry::{Step, retry},
};

impl Engine<'_> {
    /// Releases addresses. With `companions` everything is one batch, of blocks, handles and then those writes,
    /// which are committed even if nothing is left to release; without, there is one batch for each block.
    pub fn release_addresses(
        &self,
        options: &[ReleaseOption],
        cause: &str,
        companions: Option<&mut ReleaseCompanions<'_>>,
    ) -> Result<ReleaseReport, AccessError> {
        release_options(&Operation::new(*self, cause), options, companions)
    }
}

/// See [`Engine::release_addresses`].
pub(crate) fn release_options(
    operation: &Operation<'_>,
    options: &[ReleaseOption],
    companions: Option<&mut ReleaseCompanions<'_>>,
) -> Result<ReleaseReport, AccessError> {
    let locator = Locator::new(operation);
    let mut report = ReleaseReport::default();
    let mut groups: BTreeMap<IpNet, Vec<&ReleaseOption>> = BTreeMap::new();
    for option in options {
        match locator.prefix_of(option.address)? {
            Some(block) => groups.entry(block).or_default().push(option),
            None => report.unallocated.push(option.address),
        }
    }
    if let Some(companions) = companions {
        ReleaseRun::default().run(operation, &groups, companions, &mut report)?;
    } else {
        for (block, options) in groups {
            let groups = BTreeMap::from([(block, options)]);
            ReleaseRun::default().run(operation, &groups, &mut |_| Vec::new(), &mut report)?;
        }
    }
    Ok(report)
}

/// The change of one block.
#[derive(Debug)]
pub(crate) struct BlockRelease {
    pub(crate) write: Write,
    /// The block as it will be; `None` if it is deleted.
    pub(crate) after: Option<IpamBlock>,
    /// What becomes free.
    pub(crate) freed: Vec<Freed>,
}

/// One address that becomes free, as it was.
#[derive(Clone, Debug)]
pub(crate) struct Freed {
    pub(crate) address: IpAddr,
    pub(crate) block: IpNet,
    ordinal: usize,
    handle: Option<String>,
    sequence: u64,
}

impl Freed {
    /// Whether a block still has the allocation.
    pub(crate) fn is_in(&self, block: &IpamBlock) -> bool {
        let attribute = block.attribute(self.ordinal);
        attribute.is_some_and(|found| found.released_at.is_none() && found.handle_id == self.handle)
            && block::sequence_of(block, self.ordinal) == self.sequence
    }

    /// The line for the journal.
    pub(crate) fn event(&self) -> Event {
        Event::new("release", &self.address, self.handle.clone().unwrap_or_default())
    }
}

/// Frees ordinals of a block in memory.
pub(crate) fn free(
    operation: &Operation<'_>,
    stored: Stored<IpamBlock>,
    ordinals: &BTreeSet<usize>,
) -> Result<BlockRelease, AccessError> {
    let Stored { mut value, revision } = stored;
    let freed = |ordinal: &usize| {
        Some(Freed {
            address: value.address(*ordinal)?,
            block: value.cidr,
            ordinal: *ordinal,
            handle: value
                .attribute(*ordinal)
                .and_then(|attribute| attribute.handle_id.clone()),
            sequence: block::sequence_of(&value, *ordinal),
        })
    };
    let freed: Vec<Freed> = ordinals.iter().filter_map(freed).collect();
    let now = operation.clock().now();
    block::release(&mut value, ordinals, now);
    block::normalise(&mut value, operation.cooldown()?, now);
    let key = value.key();
    if block::is_empty(&value) && value.affinity.is_none() {
        let write = Write::Delete { key, revision };
        return Ok(BlockRelease {
            write,
            after: None,
            freed,
        });
    }
    block::advance(&mut value);
    Ok(BlockRelease {
        write: Write::update(key, &value, revision),
        after: Some(value),
        freed,
    })
}

/// The change of one handle.
struct HandleRelease {
    id: String,
    before: Option<Revision>,
    write: Option<Write>,
    subtracted: BTreeMap<IpNet, usize>,
}

/// A batch whose reply was lost.
struct Doubt {
    blocks: Vec<BlockRelease>,
    handles: Vec<HandleRelease>,
}

/// One release over all its attempts.
#[derive(Default)]
struct ReleaseRun {
    released: BTreeSet<IpAddr>,
    /// By handle and block: released addresses that the handle still counts.
    owed: BTreeMap<String, BTreeMap<IpNet, usize>>,
    doubt: Option<Doubt>,
    /// Whether an earlier attempt may have been applied in part.
    partly: bool,
    companion_conflict: Option<Key>,
    /// Blocks left empty, with their owners.
    emptied: BTreeMap<IpNet, AffinityOwner>,
}

/// What one attempt found out about the addresses it does not release.
#[derive(Default)]
struct Findings {
    unallocated: Vec<IpAddr>,
    refused: Vec<(IpAddr, ReleaseRefusal)>,
}

impl ReleaseRun {
    fn run(
        mut self,
        operation: &Operation<'_>,
        groups: &BTreeMap<IpNet, Vec<&ReleaseOption>>,
        companions: &mut ReleaseCompanions<'_>,
        report: &mut ReleaseReport,
    ) -> Result<(), AccessError> {
        let findings = retry(operation.clock(), || self.attempt(operation, groups, companions))?;
        report.released.extend(self.released);
        report.unallocated.extend(findings.unallocated);
        report.refused.extend(findings.refused);
        for (cidr, owner) in self.emptied {
            settle_empty(operation, cidr, &owner);
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        operation: &Operation<'_>,
        groups: &BTreeMap<IpNet, Vec<&ReleaseOption>>,
        companions: &mut ReleaseCompanions<'_>,
    ) -> Result<Step<Findings>, AccessError> {
        self.settle_doubt(operation)?;
        let mut findings = Findings::default();
        let mut blocks = Vec::new();
        for (cidr, options) in groups {
            blocks.extend(self.plan_block(operation, *cidr, options, &mut findings)?);
        }
        let handles = self.plan_handles(operation, &blocks)?;
        let freed: Vec<Freed> = blocks.iter().flat_map(|block| block.freed.clone()).collect();
        let mut addresses: Vec<IpAddr> = self.released.iter().copied().collect();
        addresses.extend(freed.iter().map(|freed| freed.address));
        let companions = left_to_apply(operation, companions(&addresses), self.partly)?;
        let companion_keys: Vec<Key> = companions.iter().map(|write| write.key().clone()).collect();
        let block_writes = blocks.iter().map(|block| block.write.clone());
        let handle_writes = handles.iter().filter_map(|handle| handle.write.clone());
        let writes: Vec<Write> = block_writes.chain(handle_writes).chain(companions).collect();
        if writes.is_empty() {
            return Ok(Step::Done(findings));
        }
        let events: Vec<Event> = freed.iter().map(Freed::event).collect();
        match operation.commit(writes, &events)? {
            Committed::Done(_) => {
                let count = blocks.len() + handles.len();
                self.note_applied(blocks, handles, count);
                Ok(Step::Done(findings))
            }
            Committed::Unknown(reason) => {
                self.partly = true;
                self.doubt = Some(Doubt { blocks, handles });
                Ok(Step::Again(format!("a block (reply lost: {reason})")))
            }
            Committed::Conflict { key, applied } => {
                self.partly |= applied > 0;
                self.note_applied(blocks, handles, applied);
                let repeated = self.companion_conflict.as_ref() == Some(&key);
                if companion_keys.contains(&key) && (operation.engine.store.atomic() || repeated) {
                    return Err(AccessError::Companion { key });
                }
                let object = key.to_string();
                self.companion_conflict = Some(key).filter(|key| companion_keys.contains(key));
                self.partly |= self.companion_conflict.is_some();
                Ok(Step::Again(object))
            }
        }
    }

    /// Checks the options of one block and frees what they name.
    fn plan_block(
        &self,
        operation: &Operation<'_>,
        cidr: IpNet,
        options: &[&ReleaseOption],
        findings: &mut Findings,
    ) -> Result<Option<BlockRelease>, AccessError> {
        let options = options
            .iter()
            .filter(|option| !self.released.contains(&option.address));
        let options: Vec<&ReleaseOption> = options.copied().collect();
        let stored = match operation.block(cidr) {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                findings
                    .unallocated
                    .extend(options.iter().map(|option| option.address));
                return Ok(None);
            }
            Err(AccessError::Damaged { key, defect }) => {
                findings.refused.extend(options.iter().map(|option| {
                    let (key, defect) = (key.clone(), defect.clone());
                    (option.address, ReleaseRefusal::DamagedBlock { key, defect })
                }));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut ordinals = BTreeSet::new();
        for option in &options {
            let Some(ordinal) = stored.value.ordinal(option.address) else {
                continue;
            };
            match check(&stored.value, ordinal, option) {
                Ok(true) => {
                    ordinals.insert(ordinal);
                }
                Ok(false) => findings.unallocated.push(option.address),
                Err(refusal) => {
                    let address = option.address;
                    let rest = options.iter().filter(|other| other.address != address);
                    let companion = ReleaseRefusal::Companion { address, block: cidr };
                    findings
                        .refused
                        .extend(rest.map(|other| (other.address, companion.clone())));
                    findings.refused.push((address, refusal));
                    return Ok(None);
                }
            }
        }
        if ordinals.is_empty() {
            return Ok(None);
        }
        free(operation, stored, &ordinals).map(Some)
    }

    /// The handles of everything that is freed now or owed from before.
    fn plan_handles(
        &self,
        operation: &Operation<'_>,
        blocks: &[BlockRelease],
    ) -> Result<Vec<HandleRelease>, AccessError> {
        let mut due = self.owed.clone();
        for freed in blocks.iter().flat_map(|block| &block.freed) {
            if let Some(id) = &freed.handle {
                let id = effective_handle(id).to_owned();
                *due.entry(id).or_default().entry(freed.block).or_default() += 1;
            }
        }
        let mut handles = Vec::new();
        for (id, subtracted) in due {
            // A handle that is damaged, or gone, does not keep an address from being released.
            let Some(Some(stored)) = operation.unless_damaged(operation.handle(&id))? else {
                continue;
            };
            let before = Some(stored.revision);
            let mut value = stored.value.clone();
            for (block, count) in &subtracted {
                handle::subtract(&mut value, *block, *count);
            }
            let write = handle::write(&id, Some(stored), &value);
            handles.push(HandleRelease {
                id,
                before,
                write,
                subtracted,
            });
        }
        Ok(handles)
    }

    /// Accounts for the first `applied` writes of a batch of blocks and then handles.
    fn note_applied(&mut self, blocks: Vec<BlockRelease>, handles: Vec<HandleRelease>, applied: usize) {
        let block_count = blocks.len();
        for block in blocks.into_iter().take(applied) {
            self.note_block(block);
        }
        let with_write = handles.into_iter().filter(|handle| handle.write.is_some());
        for handle in with_write.take(applied.saturating_sub(block_count)) {
            self.note_handle(&handle);
        }
    }

    fn note_block(&mut self, block: BlockRelease) {
        if let Some(after) = block.after
            && let Some(owner) = &after.affinity
            && block::is_empty(&after)
        {
            self.emptied.insert(after.cidr, owner.clone());
        }
        for freed in block.freed {
            self.released.insert(freed.address);
            if let Some(id) = freed.handle {
                let id = effective_handle(&id).to_owned();
                *self.owed.entry(id).or_default().entry(freed.block).or_default() += 1;
            }
        }
    }

    fn note_handle(&mut self, handle: &HandleRelease) {
        if let Some(owed) = self.owed.get_mut(&handle.id) {
            for (block, count) in &handle.subtracted {
                if let Some(owed) = owed.get_mut(block) {
                    *owed = owed.saturating_sub(*count);
                }
            }
        }
    }

    /// Finds out what a batch without reply did. An address that is no longer allocated as it was counts as
    /// released. A handle is owed only if it certainly was not written: counting too much is safe.
    fn settle_doubt(&mut self, operation: &Operation<'_>) -> Result<(), AccessError> {
        let Some(doubt) = self.doubt.take() else {
            return Ok(());
        };
        for block in doubt.blocks {
            let Some(cidr) = block.freed.first().map(|freed| freed.block) else {
                continue;
            };
            let now = operation.unless_damaged(operation.block(cidr))?.flatten();
            let gone = |freed: &Freed| !now.as_ref().is_some_and(|now| freed.is_in(&now.value));
            if block.freed.iter().all(gone) {
                self.note_block(block);
            }
        }
        for handle in doubt.handles {
            let now = operation.unless_damaged(operation.handle(&handle.id))?.flatten();
            if now.map(|now| now.revision) != handle.before {
                self.note_handle(&handle);
            }
        }
        Ok(())
    }
}

/// Whether an option frees its ordinal (`false`: it is free already).
fn check(block: &IpamBlock, ordinal: usize, option: &ReleaseOption) -> Result<bool, ReleaseRefusal> {
    let found = block::sequence_of(block, ordinal);
    if let Some(expected) = option.sequence
        && expected != found
    {
        return Err(ReleaseRefusal::Sequence { found, expected });
    }
    if !block::in_use(block, ordinal) {
        return Ok(false);
    }
    let stored = block
        .attribute(ordinal)
        .and_then(|attribute| attribute.handle_id.as_deref());
    match &option.handle {
        Some(expected) if !stored.is_some_and(|stored| block::same_handle(stored, expected)) => {
            Err(ReleaseRefusal::Handle {
                found: stored.map(str::to_owned),
                expected: expected.clone(),
            })
        }
        _ => Ok(true),
    }
}

/// The caller's writes that still have to be made; `partly` says that an earlier attempt may have made some.
pub(crate) fn left_to_apply(
    operation: &Operation<'_>,
    writes: Vec<Write>,
    partly: bool,
) -> Result<Vec<Write>, AccessError> {
    if !partly {
        return Ok(writes);
    }
    let mut left = Vec::new();
    for write in writes {
        let stored = operation.engine.store.get(write.key())?;
        let applied = match &write {
            Write::Create { value, .. } | Write::Update { value, .. } => {
                stored.is_some_and(|stored| stored.value == *value)
            }
            Write::Delete { .. } => stored.is_none(),
            Write::Check { .. } => false,
        };
        if !applied {
            left.push(write);
        }
    }
    Ok(left)
}

/// Gives a block that has become empty back if its owner should not have it any more: a node that the block's pool
/// no longer selects, or the virtual owner of load balancer addresses, which keeps no empty blocks.
pub(crate) fn settle_empty(operation: &Operation<'_>, cidr: IpNet, owner: &AffinityOwner) {
    let result = unwanted(operation, cidr, owner).and_then(|unwanted| {
        if unwanted {
            operation.release_affinity(owner, cidr, ReleaseRules::EMPTY)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        operation.notice(&Notice::Postponed {
            step: "giving back an empty block",
            object: cidr.to_string(),
            reason: error.to_string(),
        });
    }
}

fn unwanted(operation: &Operation<'_>, cidr: IpNet, owner: &AffinityOwner) -> Result<bool, AccessError> {
    let AffinityOwner::Host(name) = owner else {
        return Ok(true);
    };
    let Some(pool) = operation.pool_containing(&cidr)? else {
        return Ok(false);
    };
    if matches!(pool.spec.node_selector.trim(), "" | "all()") {
        return Ok(false);
    }
    let Some(node) = operation.node(name)? else {
        return Ok(false);
    };
    // A selector that cannot be read is no reason to take a block away.
    Ok(!selects_node(pool, &node).unwrap_or(true))
}
