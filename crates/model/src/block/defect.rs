// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with a stored block: the invariants `calicoctl ipam check` tests, and the structure they rest on.

use crate::{block::IpamBlock, prefix, time::Timestamp};

/// One broken rule of a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockDefect {
    /// The prefix cannot be a block.
    #[error("cidr: the prefix length {length} is not 20..32 (IPv4) or 116..128 (IPv6)")]
    PrefixLength {
        /// Found.
        length: u8,
    },
    /// Bits behind the prefix length are set.
    #[error("cidr: bits behind the prefix length are set")]
    NotCanonical,
    /// `allocations` does not have one entry per address.
    #[error("allocations: {found} entries in a block of {expected} addresses")]
    AllocationsLength {
        /// Found.
        found: usize,
        /// Addresses in the block.
        expected: usize,
    },
    /// An allocation points to an attribute that does not exist.
    #[error("allocations[{ordinal}]: attribute {attribute} does not exist")]
    AttributeMissing {
        /// The allocated ordinal.
        ordinal: usize,
        /// The index it has.
        attribute: usize,
    },
    /// No allocation points to an attribute.
    #[error("attributes[{attribute}]: no address refers to it")]
    AttributeUnused {
        /// Its index.
        attribute: usize,
    },
    /// A release in the future: a clock was wrong.
    #[error("attributes[{attribute}]: released at {released_at}, which is in the future")]
    ReleasedInFuture {
        /// Its index.
        attribute: usize,
        /// Its release time.
        released_at: Timestamp,
    },
    /// An ordinal beyond the block's end is listed as free.
    #[error("unallocated: ordinal {ordinal} is beyond the end of the block")]
    FreeOutOfRange {
        /// Which.
        ordinal: usize,
    },
    /// An ordinal is listed as free more than once.
    #[error("unallocated: ordinal {ordinal} is listed twice")]
    FreeTwice {
        /// Which.
        ordinal: usize,
    },
    /// An ordinal is both free and allocated.
    #[error("unallocated: ordinal {ordinal} is allocated")]
    FreeAndAllocated {
        /// Which.
        ordinal: usize,
    },
    /// An ordinal is neither free nor allocated.
    #[error("allocations[{ordinal}]: neither allocated nor listed as unallocated")]
    Lost {
        /// Which.
        ordinal: usize,
    },
    /// A sequence number of an ordinal beyond the block's end.
    #[error("sequenceNumberForAllocation: ordinal {ordinal} is beyond the end of the block")]
    SequenceOutOfRange {
        /// Which.
        ordinal: usize,
    },
}

pub(super) fn defects(block: &IpamBlock, now: Option<Timestamp>) -> Vec<BlockDefect> {
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
