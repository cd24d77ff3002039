// SPDX-License-Identifier: Apache-2.0
//! Carrying planned assignments into the store: the handle's count, the blocks and the caller's own writes, as one
//! batch in the order that is safe when cut off anywhere (the handle first, so that it never counts too little).
//!
//! With transactions a batch is applied or not, and a lost reply is settled by looking for the planned allocation:
//! handle, attributes and sequence number together occur once. Without them a batch can be cut off in the middle:
//! the run then keeps account of what it already has and of what the handle counts too much, carries that over to
//! its next attempt, and undoes it if it gives up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use datastore::Write;
use ipnet::IpNet;
use model::{AllocationAttribute, IpamBlock, IpamHandle, Key, names::effective_handle};

use crate::{
    block::{self, Taken},
    error::AccessError,
    freeing, handle,
    notice::Notice,
    operation::{Committed, Event, Operation, Stored},
    release,
    request::{AssignCompanions, Assigned, ReleaseOption},
    retry::Step,
};

/// A block with addresses taken from it in memory.
#[derive(Debug)]
pub(crate) struct BlockPlan {
    pub(crate) stored: Stored<IpamBlock>,
    pub(crate) taken: Vec<Taken>,
}

impl BlockPlan {
    pub(crate) fn assigned(&self) -> impl Iterator<Item = Assigned> {
        let block = &self.stored.value;
        self.taken.iter().filter_map(|taken| {
            Some(Assigned {
                address: block.address(taken.ordinal)?,
                block: block.cidr,
                sequence: taken.sequence,
            })
        })
    }
}

/// The attribute stored with each address of a request.
pub(crate) fn attribute(handle: &str, attributes: &BTreeMap<String, String>) -> AllocationAttribute {
    AllocationAttribute {
        handle_id: Some(effective_handle(handle).to_owned()),
        secondary: attributes.clone(),
        ..AllocationAttribute::default()
    }
}

/// One request on its way into the store, over all its attempts.
pub(crate) struct AllocationRun<'r, 'c> {
    handle: String,
    attribute: AllocationAttribute,
    companions: &'r mut AssignCompanions<'c>,
    /// Allocations that are in the store.
    obtained: Vec<Assigned>,
    /// By block: how many allocations the handle counts for this run that are in no block.
    surplus: BTreeMap<IpNet, usize>,
    /// The handle as this run last wrote it, while `surplus` depends on nobody else having changed it.
    written_handle: Option<IpamHandle>,
    /// Allocations whose write got no reply.
    doubtful: Vec<Assigned>,
    /// The caller's write that met a changed object in a store without transactions.
    companion_conflict: Option<Key>,
}

impl<'r, 'c> AllocationRun<'r, 'c> {
    pub(crate) fn new(
        handle: &str,
        attribute: &AllocationAttribute,
        companions: &'r mut AssignCompanions<'c>,
    ) -> Self {
        Self {
            handle: effective_handle(handle).to_owned(),
            attribute: attribute.clone(),
            companions,
            obtained: Vec::new(),
            surplus: BTreeMap::new(),
            written_handle: None,
            doubtful: Vec::new(),
            companion_conflict: None,
        }
    }

    /// The allocations this run already has; the next plan is for the rest.
    pub(crate) fn obtained(&self) -> &[Assigned] {
        &self.obtained
    }

    /// Looks whether a write without reply was applied. With transactions, `true` means that all of it was.
    pub(crate) fn settle_doubt(&mut self, operation: &Operation<'_>) -> Result<bool, AccessError> {
        let blocks: BTreeSet<IpNet> = self.doubtful.iter().map(|assigned| assigned.block).collect();
        for cidr in blocks {
            let Some(stored) = operation.unless_damaged(operation.block(cidr))?.flatten() else {
                continue;
            };
            let (applied, doubtful) =
                std::mem::take(&mut self.doubtful)
                    .into_iter()
                    .partition(|assigned: &Assigned| {
                        assigned.block == cidr && self.is_ours(&stored.value, assigned)
                    });
            self.doubtful = doubtful;
            for assigned in applied {
                self.obtain(assigned);
            }
        }
        Ok(operation.engine.store.atomic() && !self.obtained.is_empty())
    }

    fn is_ours(&self, block: &IpamBlock, assigned: &Assigned) -> bool {
        block.ordinal(assigned.address).is_some_and(|ordinal| {
            block.attribute(ordinal) == Some(&self.attribute)
                && block::sequence_of(block, ordinal) == assigned.sequence
        })
    }

    fn obtain(&mut self, assigned: Assigned) {
        if !self.obtained.contains(&assigned) {
            self.obtained.push(assigned);
            if let Some(surplus) = self.surplus.get_mut(&assigned.block) {
                *surplus = surplus.saturating_sub(1);
            }
        }
    }

    /// The result: IPv4 first, otherwise as taken.
    pub(crate) fn finish(&mut self) -> Vec<Assigned> {
        let mut assigned = std::mem::take(&mut self.obtained);
        assigned.sort_by_key(|assigned| assigned.address.is_ipv6());
        assigned
    }

    /// Commits a plan. `Again`: plan anew, for what [`AllocationRun::obtained`] leaves.
    pub(crate) fn carry_out(
        &mut self,
        operation: &Operation<'_>,
        plans: Vec<BlockPlan>,
        passed_over: &BTreeSet<IpAddr>,
    ) -> Result<Step<Vec<Assigned>>, AccessError> {
        let planned: Vec<Vec<Assigned>> = plans.iter().map(|plan| plan.assigned().collect()).collect();
        let (handle_after, handle_write) = self.count(operation, &plans)?;
        let mut writes: Vec<Write> = handle_write.into_iter().collect();
        let first_block = writes.len();
        for plan in plans {
            let Stored { mut value, revision } = plan.stored;
            block::advance(&mut value);
            writes.push(Write::update(value.key(), &value, revision));
        }
        let first_companion = writes.len();
        writes.extend(self.companion_writes(operation, &planned)?);
        let companion_keys: Vec<Key> = writes[first_companion..]
            .iter()
            .map(|write| write.key().clone())
            .collect();
        let assign = planned
            .iter()
            .flatten()
            .map(|assigned| Event::new("assign", &assigned.address, &self.handle));
        let skip = passed_over
            .iter()
            .map(|address| Event::new("skip", address, &self.handle));
        let events: Vec<Event> = assign.chain(skip).collect();
        let outcome = if writes.is_empty() {
            Committed::Done(Vec::new())
        } else {
            operation.commit(writes, &events)?
        };
        match outcome {
            Committed::Done(_) => {
                planned
                    .into_iter()
                    .flatten()
                    .for_each(|assigned| self.obtain(assigned));
                Ok(Step::Done(self.finish()))
            }
            Committed::Unknown(reason) => {
                if !operation.engine.store.atomic() {
                    self.note_handle(handle_after, &planned);
                }
                self.doubtful.extend(planned.into_iter().flatten());
                Ok(Step::Again(format!(
                    "handle {} (reply lost: {reason})",
                    self.handle
                )))
            }
            Committed::Conflict { key, applied } => {
                if applied > 0 && first_block > 0 {
                    self.note_handle(handle_after, &planned);
                }
                for assigned in planned
                    .into_iter()
                    .take(applied.saturating_sub(first_block))
                    .flatten()
                {
                    self.obtain(assigned);
                }
                let repeated = self.companion_conflict.as_ref() == Some(&key);
                if companion_keys.contains(&key) && (operation.engine.store.atomic() || repeated) {
                    return Err(AccessError::Companion { key });
                }
                let object = key.to_string();
                self.companion_conflict = Some(key).filter(|key| companion_keys.contains(key));
                Ok(Step::Again(object))
            }
        }
    }

    /// The handle as it has to be before these blocks are written, and the write that makes it so.
    fn count(
        &mut self,
        operation: &Operation<'_>,
        plans: &[BlockPlan],
    ) -> Result<(IpamHandle, Option<Write>), AccessError> {
        let stored = operation.handle(&self.handle)?;
        if self.written_handle.is_some()
            && stored.as_ref().map(|stored| &stored.value) != self.written_handle.as_ref()
        {
            // Somebody else changed it since: what we added may be gone. Counting it again is safe, trusting it is not.
            self.surplus.clear();
            self.written_handle = None;
        }
        let mut value = stored
            .as_ref()
            .map(|stored| stored.value.clone())
            .unwrap_or_default();
        let mut surplus = self.surplus.clone();
        for plan in plans {
            let cidr = plan.stored.value.cidr;
            let counted = surplus.remove(&cidr).unwrap_or(0);
            handle::add(&mut value, cidr, plan.taken.len().saturating_sub(counted));
            surplus.insert(cidr, counted.saturating_sub(plan.taken.len()));
        }
        for (cidr, count) in surplus {
            // A write without reply may still arrive: keep it counted.
            if !self.doubtful.iter().any(|assigned| assigned.block == cidr) {
                handle::subtract(&mut value, cidr, count);
            }
        }
        let write = handle::write(&self.handle, stored, &value);
        Ok((value, write))
    }

    /// The handle now counts exactly these for the run, beside what it has obtained.
    fn note_handle(&mut self, value: IpamHandle, planned: &[Vec<Assigned>]) {
        self.surplus.clear();
        for assigned in planned.iter().flatten() {
            *self.surplus.entry(assigned.block).or_default() += 1;
        }
        self.written_handle = Some(value);
    }

    /// The caller's writes for everything obtained and planned; after a lost reply or a conflict in a store without
    /// transactions, without those that have been applied already.
    fn companion_writes(
        &mut self,
        operation: &Operation<'_>,
        planned: &[Vec<Assigned>],
    ) -> Result<Vec<Write>, AccessError> {
        let mut all: Vec<Assigned> = self
            .obtained
            .iter()
            .chain(planned.iter().flatten())
            .copied()
            .collect();
        all.sort_by_key(|assigned| assigned.address.is_ipv6());
        let partly = self.companion_conflict.is_some() || !self.obtained.is_empty();
        freeing::left_to_apply(operation, (self.companions)(&all), partly)
    }

    /// Gives back what the run has, after it failed. What cannot be given back stays counted by the handle, so that
    /// a release by handle finds it.
    pub(crate) fn undo(&mut self, operation: &Operation<'_>) {
        if let Err(error) = self.try_undo(operation) {
            operation.notice(&Notice::Postponed {
                step: "undoing a failed assignment",
                object: format!("handle {}", self.handle),
                reason: error.to_string(),
            });
        }
    }

    fn try_undo(&mut self, operation: &Operation<'_>) -> Result<(), AccessError> {
        self.settle_doubt(operation)?;
        if !self.obtained.is_empty() {
            let options: Vec<ReleaseOption> = (self.obtained.drain(..))
                .map(|assigned| ReleaseOption {
                    address: assigned.address,
                    handle: Some(self.handle.clone()),
                    sequence: Some(assigned.sequence),
                })
                .collect();
            release::release_options(operation, &options, None)?;
            // The release changed the handle: from here on it is not ours to correct.
            return Ok(());
        }
        if self.surplus.values().any(|count| *count > 0) {
            let (_, write) = self.count(operation, &[])?;
            if let Some(write) = write {
                operation.commit(vec![write], &[])?;
            }
        }
        Ok(())
    }
}
