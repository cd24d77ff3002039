// SPDX-License-Identifier: Apache-2.0
//! What an operation came across that an operator should know although the operation goes on. Programs log them.

use std::net::IpAddr;

use ipnet::IpNet;
use model::Key;

/// Something noteworthy that did not stop an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// A stored object was left out because it is damaged.
    #[error("{key} is not used because it is damaged: {defect}; repair or delete it")]
    Damaged {
        /// Which object.
        key: Key,
        /// What is wrong with it.
        defect: String,
    },
    /// An address was passed over.
    #[error(
        "{address} is free in the store but in use on this host ({what}); it is not assigned. \
         Release whatever holds it, or let recovery adopt it"
    )]
    InUseLocally {
        /// Which.
        address: IpAddr,
        /// By what.
        what: String,
    },
    /// A block was not claimed.
    #[error("block {block} is not claimed because it overlaps {prefix} ({what})")]
    Collision {
        /// Which block.
        block: IpNet,
        /// What it overlaps.
        prefix: IpNet,
        /// Whose prefix that is.
        what: String,
    },
    /// An own affinity was dropped because the block is not ours.
    #[error("the affinity for block {block} is dropped: {reason}")]
    AffinityDropped {
        /// Which block.
        block: IpNet,
        /// Why.
        reason: String,
    },
    /// A step after the operation proper failed; it is tried again with the next one.
    #[error("{step} of {object} is left for later: {reason}")]
    Postponed {
        /// What was to be done.
        step: &'static str,
        /// To what.
        object: String,
        /// Why it failed.
        reason: String,
    },
}
