// SPDX-License-Identifier: Apache-2.0
//! Where the addresses of one IP version come from: Calico's search, in its order.
//!
//! 1. The owner's affine blocks in eligible pools, in the order of their keys; each is repaired first if need be.
//!    Affinities for pools that no longer select the node are given back if their block is empty.
//! 2. Unless the owner has as many blocks as it may have, new blocks: one of its own that has turned up meanwhile,
//!    then the first free one from the owner's place in each pool, then an empty one of somebody else that was
//!    claimed at least 60 s ago.
//! 3. Unless affinity is strict, free addresses in anybody's blocks, in the same order.
//!
//! An explicit limit, and `autoAllocateBlocks: false`, end the search as they do in Calico. The implicit limit of 20
//! blocks only ends claiming: the search goes on with borrowing, where Calico fails although addresses are free.
//!
//! In a store with an index, step 1 reads the first blocks with room instead of all: the same blocks in the same
//! order. (While addresses cool down there is one difference: a block whose room has yet to be gained from cooled
//! addresses comes after those with room, not in its place.) An affinity that needs repair is then found when it
//! is needed, or when no block has room.
//!
//! `new_block` has step 2 and 3.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::IpAddr,
};

use datastore::Hint;
use ipnet::IpNet;
use model::{
    AffinityOwner, AffinityState, AllocationAttribute, BlockAffinity, IpPool, IpamBlock, Key, Node, prefix,
};

use crate::{
    affinity::ReleaseRules,
    allocation::BlockPlan,
    block,
    error::AccessError,
    exclusion::Exclusions,
    family::Family,
    locate::overlapping,
    notice::Notice,
    operation::{Operation, Stored},
    pool_selection::selects_node,
    request::{AssignRequest, ShortReason},
};

mod new_block;

/// Calico's limit where none is configured.
const IMPLICIT_MAX_BLOCKS: u32 = 20;

/// How many blocks with room are read at once: the first serves unless its free addresses may not be used.
const INDEX_PAGE: usize = 4;

/// The search for one request in one version; used again for each of its attempts.
pub(crate) struct Search<'s, 'a> {
    pub(crate) operation: &'s Operation<'a>,
    pub(crate) request: &'s AssignRequest,
    pub(crate) family: Family,
    pub(crate) owner: AffinityOwner,
    /// `None` for addresses that belong to no node.
    pub(crate) node: Option<&'s Node>,
    /// In order of preference; not empty.
    pub(crate) eligible: Vec<&'s IpPool>,
    pub(crate) attribute: &'s AllocationAttribute,
    pub(crate) exclusions: &'s Exclusions<'s, 'a>,
    /// Addresses that are free in the store but in use on this host.
    pub(crate) passed_over: &'s RefCell<BTreeSet<IpAddr>>,
    /// Whether affinities that the node should not have any more have been looked for.
    pub(crate) tidied: Cell<bool>,
}

/// What a search has found so far.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) plans: Vec<BlockPlan>,
    /// What kept it from finding more; empty unless addresses are missing.
    pub(crate) reasons: Vec<ShortReason>,
    pub(crate) missing: usize,
    /// Blocks that need not be looked at again.
    tried: BTreeSet<IpNet>,
}

impl Found {
    fn nothing(missing: usize) -> Self {
        Self {
            missing,
            ..Self::default()
        }
    }
}

impl Search<'_, '_> {
    /// Plans `wanted` addresses, or as many as there are. Claims blocks on the way; assigns nothing yet.
    pub(crate) fn plan(&self, wanted: usize) -> Result<Found, AccessError> {
        let mut found = Found::nothing(wanted);
        if wanted == 0 || self.take_by_index(&mut found)? {
            return Ok(found);
        }
        let mut found = Found::nothing(wanted);
        let blocks = self.take_from_affine_blocks(&mut found)?;
        if found.missing > 0 && self.take_from_new_blocks(blocks, &mut found)? {
            if self.operation.config()?.strict_affinity {
                found.reasons.push(ShortReason::StrictAffinity);
            } else {
                self.borrow(&mut found)?;
            }
        }
        let passed_over = self
            .passed_over
            .borrow()
            .iter()
            .filter(|ip| Family::of_address(**ip) == self.family)
            .count();
        if found.missing == 0 {
            found.reasons.clear();
        } else if passed_over > 0 {
            found
                .reasons
                .push(ShortReason::InUseLocally { count: passed_over });
        }
        Ok(found)
    }

    /// Takes what is missing, or as much as there is, from a block.
    fn take(&self, mut stored: Stored<IpamBlock>, found: &mut Found) -> Result<(), AccessError> {
        let operation = self.operation;
        found.tried.insert(stored.value.cidr);
        let reserved = operation.reserved()?;
        let usable = |address: IpAddr| {
            if reserved.contains(address) {
                return Ok(false);
            }
            let user = operation.engine.host.in_use(address)?;
            let is_free = user.is_none();
            if let Some(what) = user {
                operation.notice(&Notice::InUseLocally { address, what });
                self.passed_over.borrow_mut().insert(address);
            }
            Ok::<bool, AccessError>(is_free)
        };
        let taken = block::assign_next(&mut stored.value, found.missing, self.attribute, usable)?;
        if !taken.is_empty() {
            found.missing -= taken.len();
            found.plans.push(BlockPlan { stored, taken });
        }
        Ok(())
    }

    /// Step 1 by the store's index; `false` if that does not do, whatever is in `found` then.
    fn take_by_index(&self, found: &mut Found) -> Result<bool, AccessError> {
        let store = self.operation.engine.store;
        if !store.applies_hints() || !self.nothing_to_tidy()? {
            return Ok(false);
        }
        let hint = Hint {
            affinity: Some(self.owner.to_string()),
            with_room: true,
            limit: Some(INDEX_PAGE),
            ..Hint::default()
        };
        for entry in store.list_hinted(&self.family.blocks(), &hint)?.entries {
            let Key::Block(cidr) = entry.key else { continue };
            if !self.is_eligible(&cidr) {
                continue;
            }
            let Some(stored) = self
                .operation
                .unless_damaged(self.operation.decode_block(&entry))?
            else {
                continue;
            };
            if stored.value.affinity.as_ref() != Some(&self.owner) {
                continue;
            }
            let affinity = self
                .operation
                .unless_damaged(self.operation.affinity(&self.owner, cidr))?
                .flatten();
            if affinity.is_none_or(|affinity| affinity.value.state != AffinityState::Confirmed) {
                return Ok(false);
            }
            self.take(stored, found)?;
            if found.missing == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether no block of the owner is in a pool that does not select its node.
    fn nothing_to_tidy(&self) -> Result<bool, AccessError> {
        let Some(node) = self.node else { return Ok(true) };
        if self.tidied.get() {
            return Ok(true);
        }
        let of_family = |pool: &&IpPool| Family::of(&pool.spec.cidr) == self.family;
        let pools = self.operation.pools()?;
        // A selector that cannot be read is no reason to take a block away.
        if pools
            .iter()
            .filter(of_family)
            .all(|pool| selects_node(pool, node).unwrap_or(true))
        {
            return Ok(true);
        }
        let own = self.own_blocks(false)?;
        for block in &own {
            if self.is_misplaced(block)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a block's pool does not select the node (any more).
    fn is_misplaced(&self, block: &IpNet) -> Result<bool, AccessError> {
        let (Some(node), Some(pool)) = (self.node, self.operation.pool_containing(block)?) else {
            return Ok(false);
        };
        Ok(!selects_node(pool, node).unwrap_or(true))
    }

    fn is_eligible(&self, block: &IpNet) -> bool {
        self.eligible.iter().any(|pool| pool.spec.cidr.contains(block))
    }

    /// The prefixes of the owner's blocks, by the index; only those with room if `with_room`.
    fn own_blocks(&self, with_room: bool) -> Result<BTreeSet<IpNet>, AccessError> {
        let hint = Hint {
            affinity: Some(self.owner.to_string()),
            with_room,
            keys_only: true,
            ..Hint::default()
        };
        let listing = self
            .operation
            .engine
            .store
            .list_hinted(&self.family.blocks(), &hint)?;
        let block = |key: &Key| match key {
            Key::Block(cidr) => Some(*cidr),
            _ => None,
        };
        Ok(listing
            .entries
            .iter()
            .filter_map(|entry| block(&entry.key))
            .collect())
    }

    /// Step 1 in full. Returns how many affine blocks count towards the limit.
    fn take_from_affine_blocks(&self, found: &mut Found) -> Result<usize, AccessError> {
        let operation = self.operation;
        let full = self.known_full()?;
        let tidy = !self.tidied.replace(true);
        let mut count = 0;
        for entry in operation
            .engine
            .store
            .list(&self.family.affinities(&self.owner))?
            .entries
        {
            let Key::Affinity { block: cidr, .. } = entry.key else {
                continue;
            };
            if !self.is_eligible(&cidr) {
                if tidy && self.is_misplaced(&cidr)? {
                    self.give_back(cidr);
                }
                continue;
            }
            count += 1;
            if found.missing == 0
                || found.tried.contains(&cidr)
                || operation.reserved()?.covering(&cidr).is_some()
            {
                continue;
            }
            let state = BlockAffinity::from_stored(&entry.value).map(|affinity| affinity.state);
            if full.contains(&cidr) && matches!(state, Ok(AffinityState::Confirmed)) {
                continue;
            }
            let claim = operation.claim(&self.owner, cidr, &mut |cidr| self.may_create(cidr));
            match operation.unless_damaged(claim)? {
                Some(Some(stored)) => self.take(stored, found)?,
                Some(None) => count -= 1,
                None => {}
            }
        }
        Ok(count)
    }

    /// The owner's blocks that certainly have no room, where an index can tell.
    fn known_full(&self) -> Result<BTreeSet<IpNet>, AccessError> {
        if !self.operation.engine.store.applies_hints() || !self.operation.cooldown()?.is_zero() {
            return Ok(BTreeSet::new());
        }
        let with_room = self.own_blocks(true)?;
        let mut all = self.own_blocks(false)?;
        all.retain(|block| !with_room.contains(block));
        Ok(all)
    }

    fn give_back(&self, cidr: IpNet) {
        if let Err(error) = self
            .operation
            .release_affinity(&self.owner, cidr, ReleaseRules::EMPTY)
        {
            self.operation.notice(&Notice::Postponed {
                step: "giving back a block whose pool does not select the node",
                object: cidr.to_string(),
                reason: error.to_string(),
            });
        }
    }

    /// Whether a block that does not exist may be created.
    fn may_create(&self, cidr: &IpNet) -> Result<bool, AccessError> {
        if let Some(occupied) = self.exclusions.collision(cidr)? {
            self.operation.notice(&Notice::Collision {
                block: *cidr,
                prefix: occupied.prefix,
                what: occupied.what.clone(),
            });
            return Ok(false);
        }
        Ok(overlapping(&self.operation.block_prefixes(self.family)?, cidr).is_none())
    }

    /// The effective limit, and whether somebody has set it.
    fn limit(&self) -> Result<(u32, bool), AccessError> {
        let configured = [
            self.request.max_blocks,
            self.operation.config()?.max_blocks_per_host,
        ];
        let explicit = configured.into_iter().filter(|limit| *limit > 0).min();
        Ok((explicit.unwrap_or(IMPLICIT_MAX_BLOCKS), explicit.is_some()))
    }

    /// The blocks of a pool, of its block size, that are stored: in the order of the owner's walk.
    fn in_walk_order<'e>(
        &self,
        pool: &IpPool,
        entries: &'e [datastore::Entry],
    ) -> Vec<(IpNet, &'e datastore::Entry)> {
        let walk = self.walk(pool);
        let length = pool.spec.effective_block_size();
        let mut blocks: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry.key {
                Key::Block(cidr)
                    if cidr.prefix_len() == length && prefix::overlaps(&pool.spec.cidr, &cidr) =>
                {
                    Some((walk.distance(&cidr)?, cidr, entry))
                }
                _ => None,
            })
            .collect();
        blocks.sort_by_key(|(distance, ..)| *distance);
        blocks.into_iter().map(|(_, cidr, entry)| (cidr, entry)).collect()
    }
}
