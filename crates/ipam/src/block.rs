// SPDX-License-Identifier: Apache-2.0
//! Pure arithmetic on one block, as Calico does it: which ordinals are assigned next, what a release leaves behind,
//! when a released address may be used again. `assign*`, `adopt`, `release*` and `affinity` call it.
//!
//! - `unallocated` is a FIFO queue: assign from its head, pass over what may not be used without moving it, put what
//!   becomes free at its tail in ascending order. So an address rests as long as possible before it is used again.
//! - Allocations with equal handle and maps share one attribute; an attribute that nobody refers to goes.
//! - The sequence number grows by one with each write ([`advance`]); an allocation remembers the number it was
//!   made at, and a block starts with nanoseconds, so no two assignments of an address share one.
//! - A released ordinal first gets an attribute that has only `releasedAt`; once the cooldown is over (at once, by
//!   default) [`normalise`] puts it back into the queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use model::{
    AllocationAttribute, IpamBlock, Timestamp,
    names::{WINDOWS_RESERVED_HANDLE, effective_handle},
};

/// An ordinal and the sequence number it was assigned at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) ordinal: usize,
    pub(crate) sequence: u64,
}

/// Whether a stored handle is the one meant: both are cut at the first carriage return, which malformed handles
/// from a host-local migration contain.
pub(crate) fn same_handle(stored: &str, wanted: &str) -> bool {
    effective_handle(stored) == effective_handle(wanted)
}

/// Whether the address is allocated and not merely cooling down.
pub(crate) fn in_use(block: &IpamBlock, ordinal: usize) -> bool {
    block
        .attribute(ordinal)
        .is_some_and(|attribute| attribute.released_at.is_none())
}

/// Whether no address is in use. Cooling addresses count as in use, those that Windows keeps back do not.
pub(crate) fn is_empty(block: &IpamBlock) -> bool {
    let reserved =
        |attribute: &AllocationAttribute| attribute.handle_id.as_deref() == Some(WINDOWS_RESERVED_HANDLE);
    let unused = |index: usize| block.attributes.get(index).is_some_and(reserved);
    block.allocations.iter().flatten().all(|index| unused(*index))
}

/// Assigns up to `count` addresses from the head of the queue, passing over those that are not `usable`.
pub(crate) fn assign_next<E>(
    block: &mut IpamBlock,
    count: usize,
    attribute: &AllocationAttribute,
    mut usable: impl FnMut(IpAddr) -> Result<bool, E>,
) -> Result<Vec<Taken>, E> {
    let mut ordinals = Vec::new();
    for &ordinal in &block.unallocated {
        if ordinals.len() == count {
            break;
        }
        if let Some(address) = block.address(ordinal)
            && usable(address)?
        {
            ordinals.push(ordinal);
        }
    }
    let taken: BTreeSet<usize> = ordinals.iter().copied().collect();
    block.unallocated.retain(|ordinal| !taken.contains(ordinal));
    Ok(ordinals
        .into_iter()
        .map(|ordinal| allocate(block, ordinal, attribute))
        .collect())
}

/// Assigns one given ordinal, whatever it was before.
pub(crate) fn assign_ordinal(
    block: &mut IpamBlock,
    ordinal: usize,
    attribute: &AllocationAttribute,
) -> Taken {
    block.unallocated.retain(|free| *free != ordinal);
    let taken = allocate(block, ordinal, attribute);
    drop_unused_attributes(block);
    taken
}

fn allocate(block: &mut IpamBlock, ordinal: usize, attribute: &AllocationAttribute) -> Taken {
    let index = attribute_index(block, attribute);
    block.allocations[ordinal] = Some(index);
    let sequence = block.sequence_number;
    block.sequence_number_for_allocation.insert(ordinal, sequence);
    Taken { ordinal, sequence }
}

/// The index of an equal attribute, or of a new one at the end.
fn attribute_index(block: &mut IpamBlock, attribute: &AllocationAttribute) -> usize {
    let found = block.attributes.iter().position(|existing| existing == attribute);
    found.unwrap_or_else(|| {
        block.attributes.push(attribute.clone());
        block.attributes.len() - 1
    })
}

/// Marks ordinals as released now; [`normalise`] frees them when their time has come.
pub(crate) fn release(block: &mut IpamBlock, ordinals: &BTreeSet<usize>, now: Timestamp) {
    let marker = AllocationAttribute {
        released_at: Some(now.whole_seconds()),
        ..AllocationAttribute::default()
    };
    for &ordinal in ordinals {
        allocate(block, ordinal, &marker);
    }
    drop_unused_attributes(block);
}

/// Frees the ordinals that were released at least `cooldown` ago. Returns whether there were any.
pub(crate) fn normalise(block: &mut IpamBlock, cooldown: Duration, now: Timestamp) -> bool {
    let over: Vec<bool> = (block.attributes.iter())
        .map(|attribute| {
            attribute
                .released_at
                .is_some_and(|released| now.since(released) >= cooldown)
        })
        .collect();
    if !over.contains(&true) {
        return false;
    }
    for ordinal in 0..block.allocations.len() {
        if block.allocations[ordinal].is_some_and(|index| over.get(index) == Some(&true)) {
            block.allocations[ordinal] = None;
            block.sequence_number_for_allocation.remove(&ordinal);
            block.unallocated.push(ordinal);
        }
    }
    drop_unused_attributes(block);
    true
}

/// The ordinals in use under a handle.
pub(crate) fn ordinals_of(block: &IpamBlock, handle: &str) -> BTreeSet<usize> {
    let of_handle = |attribute: &AllocationAttribute| {
        (attribute.handle_id.as_deref()).is_some_and(|stored| same_handle(stored, handle))
            && attribute.released_at.is_none()
    };
    let matching: Vec<bool> = block.attributes.iter().map(of_handle).collect();
    let is_match = |index: &Option<usize>| index.is_some_and(|index| matching.get(index) == Some(&true));
    (block.allocations.iter().enumerate())
        .filter(|(_, index)| is_match(index))
        .map(|(ordinal, _)| ordinal)
        .collect()
}

/// The sequence number an ordinal was assigned at; 0 where the block does not say.
pub(crate) fn sequence_of(block: &IpamBlock, ordinal: usize) -> u64 {
    block
        .sequence_number_for_allocation
        .get(&ordinal)
        .copied()
        .unwrap_or(0)
}

/// What every write of a block does last.
pub(crate) fn advance(block: &mut IpamBlock) {
    block.sequence_number = block.sequence_number.wrapping_add(1);
}

/// Removes attributes that no ordinal refers to, keeps the order of the rest and renumbers the references.
fn drop_unused_attributes(block: &mut IpamBlock) {
    let mut used = vec![false; block.attributes.len()];
    for &index in block.allocations.iter().flatten() {
        if let Some(used) = used.get_mut(index) {
            *used = true;
        }
    }
    if !used.contains(&false) {
        return;
    }
    let mut renumbered = BTreeMap::new();
    let attributes = std::mem::take(&mut block.attributes);
    for (old, attribute) in attributes.into_iter().enumerate() {
        if used[old] {
            renumbered.insert(old, block.attributes.len());
            block.attributes.push(attribute);
        }
    }
    for index in block.allocations.iter_mut().flatten() {
        *index = renumbered.get(index).copied().unwrap_or(*index);
    }
}
