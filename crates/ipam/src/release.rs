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
    block,
    engine::Engine,
    error::AccessError,
    freeing::{BlockRelease, Freed, free, left_to_apply, settle_empty},
    handle,
    locate::Locator,
    operation::{Committed, Event, Operation},
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
