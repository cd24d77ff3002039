// SPDX-License-Identifier: Apache-2.0
//! The rules of a block: the invariants that `calicoctl ipam check` tests, and the structure they rest on.

use super::{IpamBlock, defect::BlockDefect};
use crate::{prefix, time::Timestamp};

impl IpamBlock {
    /// Every way in which this block breaks the rules that all writers keep, worst first; empty for a sound block.
    /// Without `now` releases in the future go unnoticed.
    pub fn validate(&self, now: Option<Timestamp>) -> Vec<BlockDefect> {
        defects(self, now)
    }
}

fn defects(block: &IpamBlock, now: Option<Timestamp>) -> Vec<BlockDefect> {
    let Some(size) = prefix::block_size(&block.cidr) else {
        return vec![BlockDefect::PrefixLength {
            length: block.cidr.prefix_len(),
        }];
    };
    let mut found = Vec::new();
    if !prefix::is_canonical(&block.cidr) {
        found.push(BlockDefect::NotCanonical);
    }
    if block.allocations.len() != size {
        found.push(BlockDefect::AllocationsLength {
            found: block.allocations.len(),
            expected: size,
        });
    }
    attributes(block, now, &mut found);
    free_list(block, size, &mut found);
    let beyond = block.sequence_number_for_allocation.range(size..);
    found.extend(beyond.map(|(&ordinal, _)| BlockDefect::SequenceOutOfRange { ordinal }));
    found
}

fn attributes(block: &IpamBlock, now: Option<Timestamp>, found: &mut Vec<BlockDefect>) {
    let mut used = vec![false; block.attributes.len()];
    for (ordinal, attribute) in block.allocations.iter().enumerate() {
        let Some(attribute) = *attribute else { continue };
        match used.get_mut(attribute) {
            Some(used) => *used = true,
            None => found.push(BlockDefect::AttributeMissing { ordinal, attribute }),
        }
    }
    for (attribute, (value, used)) in block.attributes.iter().zip(used).enumerate() {
        if !used {
            found.push(BlockDefect::AttributeUnused { attribute });
        }
        if let (Some(released_at), Some(now)) = (value.released_at, now)
            && released_at > now
        {
            found.push(BlockDefect::ReleasedInFuture {
                attribute,
                released_at,
            });
        }
    }
}

fn free_list(block: &IpamBlock, size: usize, found: &mut Vec<BlockDefect>) {
    let mut listed = vec![false; size];
    for &ordinal in &block.unallocated {
        let Some(seen) = listed.get_mut(ordinal) else {
            found.push(BlockDefect::FreeOutOfRange { ordinal });
            continue;
        };
        if std::mem::replace(seen, true) {
            found.push(BlockDefect::FreeTwice { ordinal });
        } else if matches!(block.allocations.get(ordinal), Some(Some(_))) {
            found.push(BlockDefect::FreeAndAllocated { ordinal });
        }
    }
    for (ordinal, allocation) in block.allocations.iter().enumerate().take(size) {
        if allocation.is_none() && !listed[ordinal] {
            found.push(BlockDefect::Lost { ordinal });
        }
    }
}
