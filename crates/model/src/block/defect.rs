// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with a stored block, in plain values.

use crate::time::Timestamp;

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
