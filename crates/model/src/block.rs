// SPDX-License-Identifier: Apache-2.0
//! Allocation blocks in Calico's etcd JSON: which ordinal of a block is whose. Plain data and its invariants; the
//! arithmetic of assigning and releasing is in `crates/ipam`.
//!
//! Tolerant where Calico's own data differs: absent or `null` arrays and maps, no claim time (a block from before
//! the field existed), `deleted` as a string, any case of names. `hostAffinity`, long dead, is kept as unknown.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    key::{AffinityOwner, Key},
    object::{EmptyIsNone, Extra, LenientBool},
    prefix,
    time::Timestamp,
};

mod defect;
#[cfg(test)]
mod tests;
mod validation;

pub use defect::BlockDefect;

/// The addresses of one block and what each is used for.
#[derive(Clone, Debug, PartialEq)]
pub struct IpamBlock {
    /// Which addresses; canonical, `/20`..`/32` or `/116`..`/128`.
    pub cidr: IpNet,
    /// Whose block it is. `None`: released while it still had addresses in use.
    pub affinity: Option<AffinityOwner>,
    /// When it was claimed, in whole seconds; `None` means long ago.
    pub affinity_claim_time: Option<Timestamp>,
    /// By ordinal: the index into `attributes` of what it is allocated for. As long as the block is large.
    pub allocations: Vec<Option<usize>>,
    /// Free ordinals. The head is assigned next, released ordinals go to the tail.
    pub unallocated: Vec<usize>,
    /// What ordinals are allocated for; each is referenced by at least one of them.
    pub attributes: Vec<AllocationAttribute>,
    /// Nanoseconds since the epoch at creation, one more with each write.
    pub sequence_number: u64,
    /// By ordinal: `sequence_number` at the time of the ordinal's last assignment.
    pub sequence_number_for_allocation: BTreeMap<usize, u64>,
    /// Marked for deletion: the first half of deleting it in Kubernetes. Always false elsewhere.
    pub deleted: bool,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpamBlock {
    "cidr" => cidr: required,
    "affinity" => affinity: always as EmptyIsNone<AffinityOwner>,
    "affinity_claim_time" => affinity_claim_time: unless_default,
    "allocations" => allocations: always,
    "unallocated" => unallocated: always,
    "attributes" => attributes: always,
    "sequenceNumber" => sequence_number: always,
    "sequenceNumberForAllocation" => sequence_number_for_allocation: always,
    "deleted" => deleted: always as LenientBool,
});

/// What one or more ordinals of a block are allocated for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllocationAttribute {
    /// The handle they can be released by.
    pub handle_id: Option<String>,
    /// Facts about the owner: `pod`, `namespace`, `node`, `timestamp`, `type`, and keys unknown to us.
    pub secondary: BTreeMap<String, String>,
    /// The owner to be during a KubeVirt live migration.
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// Set while the addresses cool down after their release, in whole seconds.
    pub released_at: Option<Timestamp>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(AllocationAttribute {
    "handle_id" => handle_id: unless_default,
    "secondary" => secondary: unless_default,
    "alternateOwnerAttrs" => alternate_owner_attrs: unless_default,
    "releasedAt" => released_at: unless_default,
});

impl IpamBlock {
    /// A block with every address free, `unallocated` in ascending order; `None` if the prefix is no block.
    pub fn new(
        cidr: IpNet,
        affinity: Option<AffinityOwner>,
        claim_time: Option<Timestamp>,
        sequence_number: u64,
    ) -> Option<Self> {
        let size = prefix::block_size(&cidr)?;
        Some(Self {
            cidr: cidr.trunc(),
            affinity,
            affinity_claim_time: claim_time.map(Timestamp::whole_seconds),
            allocations: vec![None; size],
            unallocated: (0..size).collect(),
            attributes: Vec::new(),
            sequence_number,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: false,
            extra: Extra::new(),
        })
    }

    /// The name it is stored under.
    pub fn key(&self) -> Key {
        Key::Block(self.cidr)
    }

    /// The address with this ordinal; `None` beyond the block's end.
    pub fn address(&self, ordinal: usize) -> Option<IpAddr> {
        prefix::ordinal_to_address(&self.cidr, ordinal)
    }

    /// The ordinal of an address; `None` if it is outside the block.
    pub fn ordinal(&self, address: IpAddr) -> Option<usize> {
        prefix::address_to_ordinal(&self.cidr, address)
    }

    /// What an ordinal is allocated for; `None` if it is free or out of range.
    pub fn attribute(&self, ordinal: usize) -> Option<&AllocationAttribute> {
        self.attributes.get((*self.allocations.get(ordinal)?)?)
    }
}
