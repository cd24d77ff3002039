// SPDX-License-Identifier: Apache-2.0
//! What callers ask for and what they get, apart from errors.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use datastore::Write;
use ipnet::IpNet;
use model::{AffinityOwner, ip_pool::AllowedUse};

use crate::family::Family;

/// Writes that are to be committed together with an assignment: called with all its addresses, IPv4 first, each
/// time the engine tries to commit; not called when nothing can be assigned. They come last in the batch. None may
/// name a block, an affinity or a handle. If one meets a changed object the call fails as a whole.
pub type AssignCompanions<'a> = dyn FnMut(&[Assigned]) -> Vec<Write> + 'a;

/// Writes that are to be committed together with a release: called with the addresses that it frees, maybe none,
/// each time the engine tries to commit. They come last in the batch; if one meets a changed object the call fails.
pub type ReleaseCompanions<'a> = dyn FnMut(&[IpAddr]) -> Vec<Write> + 'a;

/// A request for addresses of the engine's choice.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignRequest {
    /// The Calico node name of the host that the addresses are for.
    pub node: String,
    /// What they are released by.
    pub handle: String,
    /// `node`, `pod`, `namespace`, `timestamp`, `type`: stored with each address.
    pub attributes: BTreeMap<String, String>,
    /// How many IPv4 addresses.
    pub v4: u32,
    /// How many IPv6 addresses.
    pub v6: u32,
    /// Only these pools, in this order, whatever their selectors and mode; empty: every pool that qualifies.
    pub pools_v4: Vec<PoolReference>,
    /// As `pools_v4`, for IPv6.
    pub pools_v6: Vec<PoolReference>,
    /// What for. `LoadBalancer` addresses belong to the virtual owner `load-balancer` and to no node.
    pub intended_use: AllowedUse,
    /// Labels of the namespace, for pools that select by it; `None` is the same as no labels.
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// At most this many blocks per IP version for the node; 0 for no limit by this request.
    pub max_blocks: u32,
    /// Fail, with nothing assigned, unless every address asked for can be had. What CNI needs.
    pub all_or_nothing: bool,
    /// For the journal: `ADD`, `tunnel`, ...
    pub cause: String,
}

impl AssignRequest {
    /// A request of a workload for no address yet: set `v4` and `v6`, and whatever else differs.
    pub fn new(node: impl Into<String>, handle: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            handle: handle.into(),
            attributes: BTreeMap::new(),
            v4: 0,
            v6: 0,
            pools_v4: Vec::new(),
            pools_v6: Vec::new(),
            intended_use: AllowedUse::Workload,
            namespace_labels: None,
            max_blocks: 0,
            all_or_nothing: true,
            cause: cause.into(),
        }
    }

    /// Whose blocks the addresses come from.
    pub fn owner(&self) -> AffinityOwner {
        match self.intended_use {
            AllowedUse::LoadBalancer => AffinityOwner::Virtual(LOAD_BALANCER.to_owned()),
            AllowedUse::Workload | AllowedUse::Tunnel => AffinityOwner::Host(self.node.clone()),
        }
    }

    pub(crate) fn wanted(&self, family: Family) -> usize {
        let count = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    pub(crate) fn pools(&self, family: Family) -> &[PoolReference] {
        match family {
            Family::V4 => &self.pools_v4,
            Family::V6 => &self.pools_v6,
        }
    }
}

/// The virtual owner of the blocks that services of type LoadBalancer get their addresses from.
pub(crate) const LOAD_BALANCER: &str = "load-balancer";

/// A pool as users name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PoolReference {
    /// By the name of the resource.
    Name(String),
    /// By its prefix.
    Cidr(IpNet),
}

impl From<&str> for PoolReference {
    /// Whatever is not a prefix is a name.
    fn from(text: &str) -> Self {
        let text = text.trim();
        text.parse().map_or_else(
            |_| Self::Name(text.to_owned()),
            |cidr: IpNet| Self::Cidr(cidr.trunc()),
        )
    }
}

impl fmt::Display for PoolReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Cidr(cidr) => cidr.fmt(f),
        }
    }
}

/// A request for given addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecificRequest {
    /// The Calico node name of the host that the addresses are for.
    pub node: String,
    /// What they are released by.
    pub handle: String,
    /// Stored with each address.
    pub attributes: BTreeMap<String, String>,
    /// All of them or none.
    pub addresses: Vec<IpAddr>,
    /// If given, the pool of each address has to allow it.
    pub intended_use: Option<AllowedUse>,
    /// For the journal.
    pub cause: String,
}

impl SpecificRequest {
    pub(crate) fn owner(&self) -> AffinityOwner {
        match self.intended_use {
            Some(AllowedUse::LoadBalancer) => AffinityOwner::Virtual(LOAD_BALANCER.to_owned()),
            _ => AffinityOwner::Host(self.node.clone()),
        }
    }
}

/// A request of recovery: the store is to agree with a container that lives and holds these addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct AdoptRequest {
    /// The Calico node name of the host that the container runs on.
    pub node: String,
    /// The container's handle.
    pub handle: String,
    /// Stored with each address that has to be written.
    pub attributes: BTreeMap<String, String>,
    /// What the container holds.
    pub addresses: Vec<IpAddr>,
    /// Take an address away from another handle, because the caller has made sure that nothing live is behind it.
    pub replace: bool,
    /// For the journal: `recovery`, ...
    pub cause: String,
}

/// One address that was assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// Its block; Calico's IPAM results carry this prefix's length.
    pub block: IpNet,
    /// Tells this assignment of the address from every other one.
    pub sequence: u64,
}

/// What a request got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// IPv4 first; within a version in the order in which they were taken.
    pub addresses: Vec<Assigned>,
    /// Per IP version that got less than was asked for. Empty where `all_or_nothing` was set.
    pub shortfalls: Vec<Shortfall>,
}

/// What adopting an address came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The address as it now stands in the store.
    pub assigned: Assigned,
    /// What had to be done.
    pub outcome: AdoptOutcome,
}

/// What had to be done to adopt an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptOutcome {
    /// The store already agreed.
    AlreadyOurs,
    /// The address was free, or cooling down.
    Adopted,
    /// The address was taken from this handle, or from an entry without handle.
    Replaced {
        /// The handle that lost it.
        previous: Option<String>,
    },
}

/// Fewer addresses than asked for, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Assigned {assigned} out of {wanted} requested {family} addresses; {}",
    join(reasons)
)]
pub struct Shortfall {
    /// Which IP version.
    pub family: Family,
    /// Asked for.
    pub wanted: usize,
    /// Found.
    pub assigned: usize,
    /// In the order in which they stopped the search.
    pub reasons: Vec<ShortReason>,
}

fn join(reasons: &[ShortReason]) -> String {
    let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// What kept a request from getting more addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShortReason {
    /// The node has as many blocks as it may have.
    #[error(
        "cannot allocate new block due to per host block limit: {node} has {limit} blocks; raise maxBlocksPerHost \
         in the IPAM configuration, or use larger blocks"
    )]
    BlockLimit {
        /// Whose limit.
        node: String,
        /// How many blocks that is.
        limit: u32,
    },
    /// The cluster's configuration forbids claiming blocks.
    #[error(
        "no block of {node} has a free address, and autoAllocateBlocks is false; enable it in the IPAM \
         configuration, or claim a block for the node"
    )]
    AutoAllocateOff {
        /// Whose blocks.
        node: String,
    },
    /// Every block of the pools is in use.
    #[error("No Free Blocks in pools {pools}; add an IPPool, or release what is no longer used")]
    NoFreeBlocks {
        /// Names of the pools that were searched.
        pools: String,
    },
    /// Free blocks exist, but they collide with a network of this host or with a node.
    #[error(
        "block {block} of pool {pool} is free but overlaps {prefix} ({what}), so it is not claimed; create an \
         IPPool whose CIDR no network here uses, and disable {pool}"
    )]
    Collision {
        /// The pool.
        pool: String,
        /// The first block that collided.
        block: IpNet,
        /// With which prefix.
        prefix: IpNet,
        /// Whose prefix that is.
        what: String,
    },
    /// Other nodes have free addresses, but they are not to be borrowed.
    #[error("strict affinity is on, so no address is borrowed from blocks of other nodes")]
    StrictAffinity,
    /// Every free address of a block is in use on this host, though the store calls it free.
    #[error("{count} free addresses were passed over because they are in use on this host")]
    InUseLocally {
        /// How many.
        count: usize,
    },
}

/// One address to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseOption {
    /// Which.
    pub address: IpAddr,
    /// Only if it is allocated under this handle.
    pub handle: Option<String>,
    /// Only if it is still the assignment with this sequence number.
    pub sequence: Option<u64>,
}

impl ReleaseOption {
    /// Releases an address whoever holds it.
    pub fn unconditional(address: IpAddr) -> Self {
        Self {
            address,
            handle: None,
            sequence: None,
        }
    }
}

/// What a release did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseReport {
    /// Addresses that are free now (or cooling down) and were not before.
    pub released: Vec<IpAddr>,
    /// Addresses that were free, or cooling down, already.
    pub unallocated: Vec<IpAddr>,
    /// Addresses that were not released, and why.
    pub refused: Vec<(IpAddr, ReleaseRefusal)>,
    /// For a release by handle: whether the handle was known.
    pub handle_found: bool,
    /// Blocks, by key, that the release could not look into because they are damaged.
    pub damaged: Vec<(model::Key, String)>,
}

/// Why one address was not released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefusal {
    /// The address was released, and maybe assigned again, since the caller looked.
    #[error(
        "its sequence number is {found}, not {expected}: it was assigned anew; look again before releasing it"
    )]
    Sequence {
        /// In the store; 0 for none.
        found: u64,
        /// In the request.
        expected: u64,
    },
    /// The address is somebody else's.
    #[error("it is allocated under handle {found:?}, not {expected:?}")]
    Handle {
        /// In the store.
        found: Option<String>,
        /// In the request.
        expected: String,
    },
    /// Another address of the same block was refused, so nothing of that block was released.
    #[error("{address} of the same block {block} was refused, so nothing of the block is released")]
    Companion {
        /// The one that was refused.
        address: IpAddr,
        /// The block.
        block: IpNet,
    },
    /// Its block is damaged.
    #[error("{key} is damaged: {defect}; repair or delete it")]
    DamagedBlock {
        /// Which block.
        key: model::Key,
        /// What is wrong.
        defect: String,
    },
}

/// An address as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The address, its block and its sequence number (0 where the store has none).
    pub assigned: Assigned,
    /// What it can be released by.
    pub handle: Option<String>,
    /// What is stored with it.
    pub attributes: BTreeMap<String, String>,
    /// Whether it has been released and is only cooling down.
    pub cooling: bool,
    /// Whose block it is in.
    pub affinity: Option<AffinityOwner>,
}
