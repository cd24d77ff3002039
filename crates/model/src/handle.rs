// SPDX-License-Identifier: Apache-2.0
//! IPAM handles: an index from a handle ID to the blocks that hold its addresses, with a count for each. The
//! attributes in the blocks are the truth; a crash can leave a count too high, never too low.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::object::{Extra, LenientBool};

/// The value of a handle; its ID is in the key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpamHandle {
    /// By block: how many of its addresses are allocated under this handle.
    pub block: BTreeMap<IpNet, usize>,
    /// Marked for deletion: the first half of deleting it in Kubernetes. Always false elsewhere.
    pub deleted: bool,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpamHandle {
    "block" => block: always,
    "deleted" => deleted: always as LenientBool,
});

impl IpamHandle {
    /// Whether no address is left under it, so that the object goes.
    pub fn is_empty(&self) -> bool {
        self.block.values().all(|count| *count == 0)
    }
}
