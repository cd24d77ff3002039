// SPDX-License-Identifier: Apache-2.0
//! Errors: one enum per operation over [`AccessError`], which all share. Plain values only. Where Calico has a
//! well-known text it is kept, and the remedy follows it.

use std::net::IpAddr;

use datastore::StoreError;
use ipnet::IpNet;
use model::{AffinityOwner, FieldError, Key};

use crate::{
    family::Family,
    host_network::HostNetworkError,
    request::{PoolReference, Shortfall},
};

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The same call may work later as it is (CNI code 11).
    TryAgain,
    /// Somebody has to change the configuration first.
    Configuration,
    /// Nothing is left to give.
    Exhausted,
    /// The request itself cannot be granted.
    Refused,
}

/// Stored objects, or the host's network, could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host's network could not be read.
    #[error(transparent)]
    HostNetwork(#[from] HostNetworkError),
    /// Others kept changing the same objects.
    #[error("{object} was changed by others {attempts} times in a row; try again")]
    Contention {
        /// The object of the last conflict.
        object: String,
        /// How often.
        attempts: u32,
    },
    /// An object that the operation cannot do without is damaged.
    #[error("{key} is damaged: {defect}; repair or delete it")]
    Damaged {
        /// Which.
        key: Key,
        /// What is wrong with it.
        defect: String,
    },
    /// A write that the caller wanted committed together with the operation met a changed object. With transactions
    /// nothing was done. Without, an assignment has been undone, a release may be done, and the caller's writes
    /// before this one are.
    #[error("{key} was changed by someone else meanwhile; read it again and repeat the call")]
    Companion {
        /// Which object.
        key: Key,
    },
}

impl AccessError {
    /// What a caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store(
                StoreError::Refused { .. } | StoreError::Corrupt { .. } | StoreError::ReadOnly { .. },
            )
            | Self::Damaged { .. } => ErrorClass::Configuration,
            Self::Store(_) | Self::HostNetwork(_) | Self::Contention { .. } | Self::Companion { .. } => {
                ErrorClass::TryAgain
            }
        }
    }
}

/// Why addresses of the engine's choice were not assigned. Nothing is left assigned.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The node is not registered, so pools cannot be matched to it.
    #[error(
        "node {node} is not registered: no Node resource of that name; create it, or set the node name right"
    )]
    NodeUnknown {
        /// Its name.
        node: String,
    },
    /// A pool that was asked for cannot be used.
    #[error("the given pool ({pool}) does not exist, or is not enabled; name an enabled {family} IPPool")]
    RequestedPool {
        /// As it was named.
        pool: PoolReference,
        /// For which version.
        family: Family,
    },
    /// No pool selects the node and the namespace.
    #[error(
        "no configured Calico pools for node {node} ({family}): create an enabled IPPool with assignmentMode \
         Automatic whose nodeSelector and namespaceSelector match"
    )]
    NoPools {
        /// The node.
        node: String,
        /// Which version.
        family: Family,
    },
    /// No pool allows the use.
    #[error(
        "cannot find a qualified ippool ({family}): none of {pools} has {intended_use} in its allowedUses"
    )]
    NoQualifiedPool {
        /// What the addresses are for.
        intended_use: &'static str,
        /// Which version.
        family: Family,
        /// The pools that would do otherwise.
        pools: String,
    },
    /// A pool has a selector that cannot be read. Never taken for "does not match".
    #[error("IPPool {pool}: {defect}")]
    Selector {
        /// Which pool.
        pool: String,
        /// What is wrong with which selector.
        defect: FieldError,
    },
    /// `all_or_nothing` was set, and not everything could be had.
    #[error("{}", join(.0))]
    Short(Vec<Shortfall>),
}

fn join(shortfalls: &[Shortfall]) -> String {
    let texts: Vec<String> = shortfalls.iter().map(ToString::to_string).collect();
    texts.join(". ")
}

impl AssignError {
    /// What a caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Access(error) => error.class(),
            Self::Short(_) => ErrorClass::Exhausted,
            Self::NodeUnknown { .. }
            | Self::RequestedPool { .. }
            | Self::NoPools { .. }
            | Self::NoQualifiedPool { .. }
            | Self::Selector { .. } => ErrorClass::Configuration,
        }
    }
}

/// Why given addresses were not assigned. None of them is.
#[derive(Debug, thiserror::Error)]
pub enum AssignSpecificError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No enabled pool contains the address.
    #[error(
        "The provided IP address is not in a configured pool: {address}; choose one inside an enabled IPPool"
    )]
    NotInPool {
        /// Which.
        address: IpAddr,
    },
    /// The pool does not allow the use.
    #[error(
        "{address}: IPPool {pool} does not have {intended_use} in its allowedUses; choose another address"
    )]
    Use {
        /// Which.
        address: IpAddr,
        /// Its pool.
        pool: String,
        /// What it was wanted for.
        intended_use: &'static str,
    },
    /// The address is allocated, or cools down.
    #[error("{address} is already assigned to {}; release it first or choose another",
        .handle.as_deref().unwrap_or("an owner without handle"))]
    Taken {
        /// Which.
        address: IpAddr,
        /// To whom; may be the handle of the request itself.
        handle: Option<String>,
    },
    /// The address was released a short time ago.
    #[error("{address} was released less than ipCooldownSeconds ago; wait, or choose another")]
    Cooling {
        /// Which.
        address: IpAddr,
    },
    /// Strict affinity is on and the block is somebody else's, or nobody's.
    #[error(
        "Block host affinity does not match: {block} of {address} belongs to {}, and strict affinity is on",
        .owner.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
    )]
    StrictAffinity {
        /// Which address.
        address: IpAddr,
        /// Its block.
        block: IpNet,
        /// Whose it is.
        owner: Option<AffinityOwner>,
    },
    /// The block would have to be claimed but overlaps a network of this host, or a node.
    #[error(
        "{address}: its block {block} is not claimed because it overlaps {prefix} ({what}); choose an address of \
         a pool that no network here uses"
    )]
    Collision {
        /// Which address.
        address: IpAddr,
        /// Its block.
        block: IpNet,
        /// What that overlaps.
        prefix: IpNet,
        /// Whose prefix it is.
        what: String,
    },
    /// The block would have to be created but overlaps one of another size.
    #[error(
        "{address}: its block {block} cannot be created because block {existing}, of another size, overlaps it; \
         release that block, or give the pool its old block size back"
    )]
    BlockOverlap {
        /// Which address.
        address: IpAddr,
        /// Its block.
        block: IpNet,
        /// What is there.
        existing: IpNet,
    },
    /// The store says free, this host says otherwise.
    #[error("{address} is free in the store but in use on this host ({what}); release whatever holds it")]
    InUseLocally {
        /// Which.
        address: IpAddr,
        /// By what.
        what: String,
    },
}

impl AssignSpecificError {
    /// What a caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Access(error) => error.class(),
            Self::Cooling { .. } => ErrorClass::TryAgain,
            Self::NotInPool { .. }
            | Self::Use { .. }
            | Self::Collision { .. }
            | Self::BlockOverlap { .. } => ErrorClass::Configuration,
            Self::Taken { .. } | Self::StrictAffinity { .. } | Self::InUseLocally { .. } => {
                ErrorClass::Refused
            }
        }
    }
}

/// Why the store could not be made to agree with a live container. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Neither a block nor a pool contains the address.
    #[error("{address} is in no block and in no IPPool; recreate the pool it came from, then adopt it again")]
    NotInPool {
        /// Which.
        address: IpAddr,
    },
    /// The block would have to be created but overlaps one of another size.
    #[error(
        "{address}: its block {block} cannot be created because block {existing}, of another size, overlaps it"
    )]
    BlockOverlap {
        /// Which address.
        address: IpAddr,
        /// Its block.
        block: IpNet,
        /// What is there.
        existing: IpNet,
    },
    /// Another handle has the address, and the caller did not say to take it.
    #[error("{address} is assigned to {}", .handle.as_deref().unwrap_or("an owner without handle"))]
    Taken {
        /// Which.
        address: IpAddr,
        /// To whom.
        handle: Option<String>,
    },
}

/// Why a range of affinities could not be claimed or released.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Blocks are cut from pools only.
    #[error("{prefix} is not inside an enabled IPPool; claim blocks of a pool only")]
    NotInPool {
        /// What was asked for.
        prefix: IpNet,
    },
    /// The prefix is smaller than one block.
    #[error("{prefix} is smaller than a block (/{block_length}) of IPPool {pool}; claim whole blocks")]
    SmallerThanBlock {
        /// What was asked for.
        prefix: IpNet,
        /// The pool it is in.
        pool: String,
        /// The length of that pool's blocks.
        block_length: u8,
    },
    /// More blocks than anybody means to claim.
    #[error("{prefix} has more than {limit} blocks; claim a smaller prefix")]
    TooManyBlocks {
        /// What was asked for.
        prefix: IpNet,
        /// How many are accepted.
        limit: u32,
    },
}
