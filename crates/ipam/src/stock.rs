// SPDX-License-Identifier: Apache-2.0
//! A node's stock of free addresses: what is left in its blocks, a further block claimed before it is needed, and an
//! empty one given back. The agent keeps a stock, so that a container start needs no new block, and the routers know
//! the block before its first address answers.
//!
//! Claiming ahead must never take from a node what that node needs: it stops while a pool has fewer than two free
//! blocks for each node that it selects, it takes nothing over and borrows nothing, and its blocks count towards the
//! limit of the node as any other.

use std::cell::{Cell, RefCell};

use ipnet::IpNet;
use model::{AffinityOwner, IpPool, Key, KeyRange, Kind, Node, Timestamp, node::NodeSpec, prefix};

use crate::{
    affinity::{AffinityRelease, ReleaseRules},
    allocation::attribute,
    block,
    engine::Engine,
    error::{AccessError, AssignError},
    exclusion::Exclusions,
    family::Family,
    operation::Operation,
    pool_selection::{eligible_pools, selects_node},
    request::{AssignRequest, ShortReason},
    search::Search,
};

/// A pool is not taken from ahead of need unless it has so many free blocks for each node.
const FREE_BLOCKS_PER_NODE: u128 = 2;

/// What a node has left of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Its blocks, ascending.
    pub blocks: Vec<StockBlock>,
}

/// A block of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockBlock {
    /// The block.
    pub cidr: IpNet,
    /// How many of its addresses are free and not reserved.
    pub free: usize,
    /// Whether no address of it is in use or cools down.
    pub empty: bool,
    /// It changes with every write of the block.
    pub sequence: u64,
    /// When it was claimed, where that is recorded.
    pub claimed: Option<Timestamp>,
    /// Whether a container of this node without wishes of its own may get its addresses: the pool is enabled, selects
    /// the node, and is of mode Automatic.
    pub usable: bool,
}

impl Stock {
    /// Free addresses for containers without wishes of their own.
    pub fn free(&self) -> usize {
        self.blocks
            .iter()
            .filter(|block| block.usable)
            .map(|block| block.free)
            .sum()
    }
}

/// What claiming ahead came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAhead {
    /// This block is the node's now.
    Claimed(IpNet),
    /// No pool that the node may use has blocks to spare.
    NothingToSpare,
    /// A rule of the cluster forbids it: its block limit, or that blocks are not claimed automatically.
    Refused(ShortReason),
}

impl Engine<'_> {
    /// What a node has left of a family. Damaged blocks are left out, with a notice.
    pub fn stock(&self, node: &str, family: Family) -> Result<Stock, AssignError> {
        let operation = Operation::new(*self, "stock");
        let request = AssignRequest::new(node, "", "stock");
        let registered = operation.node(node)?;
        let pools = usable_pools(&operation, &request, registered.as_ref(), family)?;
        let owner = request.owner();
        let mut stock = Stock::default();
        let reserved = operation.reserved()?;
        for cidr in own_blocks(&operation, &owner, family)? {
            let Some(Some(stored)) = operation.unless_damaged(operation.block(cidr))? else {
                continue;
            };
            if stored.value.affinity.as_ref() != Some(&owner) {
                continue;
            }
            let is_free = |ordinal: &&usize| {
                stored
                    .value
                    .address(**ordinal)
                    .is_some_and(|address| !reserved.contains(address))
            };
            stock.blocks.push(StockBlock {
                cidr,
                free: stored.value.unallocated.iter().filter(is_free).count(),
                empty: block::is_empty(&stored.value),
                sequence: stored.value.sequence_number,
                claimed: stored.value.affinity_claim_time,
                usable: pools.iter().any(|pool| pool.spec.cidr.contains(&cidr)),
            });
        }
        Ok(stock)
    }

    /// Claims the next block that a container of the node would have claimed, where a pool has blocks to spare.
    pub fn claim_ahead(&self, node: &str, family: Family, cause: &str) -> Result<ClaimAhead, AssignError> {
        let operation = Operation::new(*self, cause);
        let request = AssignRequest::new(node, "", cause);
        let registered = operation.node(node)?.ok_or_else(|| AssignError::NodeUnknown {
            node: node.to_owned(),
        })?;
        let usable = usable_pools(&operation, &request, Some(&registered), family)?;
        let existing = operation.block_prefixes(family)?;
        let nodes = nodes(&operation)?;
        let has_to_spare = |pool: &&IpPool| {
            let length = pool.spec.effective_block_size();
            let all = prefix::block_count(&pool.spec.cidr, length);
            let taken = existing
                .iter()
                .filter(|block| pool.spec.cidr.contains(*block))
                .count();
            let selected = nodes
                .iter()
                .filter(|node| selects_node(pool, node).unwrap_or(true))
                .count();
            let free = all.saturating_sub(u128::try_from(taken).unwrap_or(u128::MAX));
            free >= FREE_BLOCKS_PER_NODE.saturating_mul(u128::try_from(selected).unwrap_or(u128::MAX))
        };
        let owner = request.owner();
        let own = own_blocks(&operation, &owner, family)?;
        let in_use = |block: &&IpNet| usable.iter().any(|pool| pool.spec.cidr.contains(*block));
        let count = own.iter().filter(in_use).count();
        let eligible: Vec<&IpPool> = usable.iter().copied().filter(has_to_spare).collect();
        if eligible.is_empty() {
            return Ok(ClaimAhead::NothingToSpare);
        }
        let attribute = attribute("", &request.attributes);
        let exclusions = Exclusions::new(&operation, node);
        let passed_over = RefCell::default();
        let search = Search {
            operation: &operation,
            request: &request,
            family,
            owner,
            node: Some(&registered),
            eligible,
            attribute: &attribute,
            exclusions: &exclusions,
            passed_over: &passed_over,
            tidied: Cell::new(true),
        };
        Ok(match search.claim_free_block(count)? {
            Ok(Some(block)) => ClaimAhead::Claimed(block),
            Ok(None) => ClaimAhead::NothingToSpare,
            Err(reason) => ClaimAhead::Refused(reason),
        })
    }

    /// Gives a block of a node back if it is still empty and as it was.
    pub fn give_back(
        &self,
        node: &str,
        block: IpNet,
        sequence: u64,
        cause: &str,
    ) -> Result<AffinityRelease, AccessError> {
        let rules = ReleaseRules {
            require_empty: true,
            sequence: Some(sequence),
        };
        let owner = AffinityOwner::Host(node.to_owned());
        Operation::new(*self, cause).release_affinity(&owner, block, rules)
    }
}

/// The pools of containers without wishes of their own; none is no error here.
fn usable_pools<'o>(
    operation: &'o Operation<'_>,
    request: &AssignRequest,
    node: Option<&Node>,
    family: Family,
) -> Result<Vec<&'o IpPool>, AssignError> {
    match eligible_pools(operation, request, node, family) {
        Err(AssignError::NoPools { .. } | AssignError::NoQualifiedPool { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn own_blocks(
    operation: &Operation<'_>,
    owner: &AffinityOwner,
    family: Family,
) -> Result<Vec<IpNet>, AccessError> {
    let entries = operation.engine.store.list(&family.affinities(owner))?.entries;
    let block = |key| match key {
        Key::Affinity { block, .. } => Some(block),
        _ => None,
    };
    Ok(entries.into_iter().filter_map(|entry| block(entry.key)).collect())
}

fn nodes(operation: &Operation<'_>) -> Result<Vec<Node>, AccessError> {
    let entries = operation.engine.store.list(&KeyRange::Kind(Kind::Node))?.entries;
    // One that cannot be read is a node all the same, without labels.
    let node = |entry: datastore::Entry| {
        entry
            .decode()
            .unwrap_or_else(|_| Node::new("", NodeSpec::default()))
    };
    Ok(entries.into_iter().map(node).collect())
}
