// SPDX-License-Identifier: Apache-2.0
//! The second and third step of the search: claiming a block, taking over an empty one, borrowing.

use std::time::Duration;

use datastore::{Hint, Write};
use ipnet::IpNet;
use model::{IpPool, IpamBlock};

use crate::{
    affinity::{AffinityRelease, ReleaseRules},
    block,
    candidates::BlockWalk,
    error::AccessError,
    locate::overlapping,
    notice::Notice,
    operation::{Committed, Event, Stored},
    pool_selection::names,
    request::ShortReason,
};

use super::{Found, Search};

/// An empty block is somebody else's to keep for this long after it was claimed: the claimant is about to use it.
const RECLAIM_AGE: Duration = Duration::from_secs(60);

impl Search<'_, '_> {
    /// Step 2. `blocks` is how many the owner has. Returns whether borrowing may follow.
    pub(super) fn take_from_new_blocks(
        &self,
        mut blocks: usize,
        found: &mut Found,
    ) -> Result<bool, AccessError> {
        let (limit, explicit) = self.limit()?;
        while found.missing > 0 {
            if let Some(reason) = self.forbidden(blocks, limit)? {
                let goes_on = matches!(reason, ShortReason::BlockLimit { .. }) && !explicit;
                found.reasons.push(reason);
                return Ok(goes_on);
            }
            let Some(stored) = self.new_block(found)? else {
                return Ok(true);
            };
            blocks += 1;
            self.take(stored, found)?;
        }
        Ok(true)
    }

    /// What forbids the owner, who has `blocks`, another one.
    fn forbidden(&self, blocks: usize, limit: u32) -> Result<Option<ShortReason>, AccessError> {
        let node = || self.owner.name().to_owned();
        if u32::try_from(blocks).is_ok_and(|blocks| blocks >= limit) || blocks > u32::MAX as usize {
            return Ok(Some(ShortReason::BlockLimit { node: node(), limit }));
        }
        let is_off = !self.operation.config()?.auto_allocate_blocks;
        Ok(is_off.then(|| ShortReason::AutoAllocateOff { node: node() }))
    }

    /// Claims the first free block and takes nothing from it. `Err`: what forbids it. `blocks` is how many the owner has.
    pub(crate) fn claim_free_block(
        &self,
        blocks: usize,
    ) -> Result<Result<Option<IpNet>, ShortReason>, AccessError> {
        if let Some(reason) = self.forbidden(blocks, self.limit()?.0)? {
            return Ok(Err(reason));
        }
        let claimed = self.free_block(&mut Found::nothing(0))?;
        Ok(Ok(claimed.map(|stored| stored.value.cidr)))
    }

    fn new_block(&self, found: &mut Found) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        if let Some(stored) = self.own_block_with_room(found)? {
            return Ok(Some(stored));
        }
        if let Some(stored) = self.free_block(found)? {
            return Ok(Some(stored));
        }
        self.reclaimed_block(found)
    }

    /// A block of the owner that step 1 did not see: its affinity was removed by hand, or another process of this
    /// host has claimed it since.
    fn own_block_with_room(&self, found: &mut Found) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        let operation = self.operation;
        let owner = self.owner.to_string();
        let hint = Hint {
            affinity: Some(owner.clone()),
            ..self.room_hint()?
        };
        for entry in operation
            .engine
            .store
            .list_hinted(&self.family.blocks(), &hint)?
            .entries
        {
            let model::Key::Block(cidr) = entry.key else {
                continue;
            };
            if found.tried.contains(&cidr) || !self.is_eligible(&cidr) || !entry.value.contains(&owner) {
                continue;
            }
            let Some(stored) = operation.unless_damaged(operation.decode_block(&entry))? else {
                continue;
            };
            if stored.value.affinity.as_ref() != Some(&self.owner) || !self.has_room(&stored.value)? {
                continue;
            }
            let claim = operation.claim(&self.owner, cidr, &mut |cidr| self.may_create(cidr));
            if let Some(Some(stored)) = operation.unless_damaged(claim)? {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// The first block, in the owner's order, that does not exist, is not reserved and collides with nothing.
    fn free_block(&self, found: &mut Found) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        let operation = self.operation;
        let mut existing = operation.block_prefixes(self.family)?;
        let mut collisions = Vec::new();
        for pool in &self.eligible {
            let mut walk = self.walk(pool);
            let mut collided = false;
            while let Some(cidr) = walk.next() {
                if existing.contains(&cidr) {
                    continue;
                }
                if let Some(reserved) = operation.reserved()?.covering(&cidr) {
                    walk.skip_past(reserved);
                } else if let Some(other) = overlapping(&existing, &cidr) {
                    walk.skip_past(&other);
                } else if let Some(occupied) = self.exclusions.collision(&cidr)? {
                    if !std::mem::replace(&mut collided, true) {
                        let (pool, prefix) = (pool.metadata.name.clone(), occupied.prefix);
                        let what = occupied.what.clone();
                        operation.notice(&Notice::Collision {
                            block: cidr,
                            prefix,
                            what: what.clone(),
                        });
                        collisions.push(ShortReason::Collision {
                            pool,
                            block: cidr,
                            prefix,
                            what,
                        });
                    }
                    walk.skip_past(&occupied.prefix);
                } else {
                    let claim = operation.claim(&self.owner, cidr, &mut |_| Ok(true));
                    if let Some(Some(stored)) = operation.unless_damaged(claim)? {
                        return Ok(Some(stored));
                    }
                    existing.insert(cidr);
                }
            }
        }
        found.reasons.push(ShortReason::NoFreeBlocks {
            pools: names(&self.eligible),
        });
        found.reasons.extend(collisions);
        Ok(None)
    }

    /// An empty block of somebody else, or of nobody, taken over.
    fn reclaimed_block(&self, found: &mut Found) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        let operation = self.operation;
        let listing = operation.engine.store.list(&self.family.blocks())?;
        for pool in &self.eligible {
            for (cidr, entry) in self.in_walk_order(pool, &listing.entries) {
                if found.tried.contains(&cidr) || self.is_excluded(&cidr)? {
                    continue;
                }
                let Some(stored) = operation.unless_damaged(operation.decode_block(entry))? else {
                    continue;
                };
                if !block::is_empty(&stored.value)
                    || !self.has_room(&stored.value)?
                    || !self.vacate(stored)?
                {
                    continue;
                }
                let claim = operation.claim(&self.owner, cidr, &mut |_| Ok(true));
                if let Some(Some(stored)) = operation.unless_damaged(claim)? {
                    found.reasons.clear();
                    return Ok(Some(stored));
                }
            }
        }
        Ok(None)
    }

    /// Makes an empty block's owner give it up; `false` if it is too young or no longer as it was.
    fn vacate(&self, stored: Stored<IpamBlock>) -> Result<bool, AccessError> {
        let operation = self.operation;
        let Stored { value, revision } = stored;
        let Some(owner) = value.affinity.clone() else {
            let key = value.key();
            let event = Event::new("unclaim", &value.cidr, "");
            let committed = operation.commit(vec![Write::Delete { key, revision }], &[event])?;
            return Ok(matches!(committed, Committed::Done(_)));
        };
        let young = |claimed| operation.clock().now().since(claimed) < RECLAIM_AGE;
        if value.affinity_claim_time.is_some_and(young) {
            return Ok(false);
        }
        let rules = ReleaseRules {
            require_empty: true,
            sequence: Some(value.sequence_number),
        };
        let outcome = operation.release_affinity(&owner, value.cidr, rules);
        match operation.unless_damaged(outcome)? {
            Some(AffinityRelease::Released) => Ok(true),
            // Its affinity was removed by hand, so nothing but the block is left of the claim.
            Some(AffinityRelease::NotClaimed) => {
                let key = value.key();
                let event = Event::new("unclaim", &value.cidr, owner.to_string());
                let committed = operation.commit(vec![Write::Delete { key, revision }], &[event])?;
                Ok(matches!(committed, Committed::Done(_)))
            }
            _ => Ok(false),
        }
    }

    /// Step 3.
    pub(super) fn borrow(&self, found: &mut Found) -> Result<(), AccessError> {
        let operation = self.operation;
        let listing = operation
            .engine
            .store
            .list_hinted(&self.family.blocks(), &self.room_hint()?)?;
        for pool in &self.eligible {
            for (cidr, entry) in self.in_walk_order(pool, &listing.entries) {
                if found.missing == 0 {
                    return Ok(());
                }
                if found.tried.contains(&cidr) || self.is_excluded(&cidr)? {
                    continue;
                }
                if let Some(stored) = operation.unless_damaged(operation.decode_block(entry))? {
                    self.take(stored, found)?;
                }
            }
        }
        Ok(())
    }

    /// Leaves full blocks out, unless cooled addresses may make room in them.
    fn room_hint(&self) -> Result<Hint, AccessError> {
        Ok(Hint {
            with_room: self.operation.cooldown()?.is_zero(),
            ..Hint::default()
        })
    }

    /// Whether a block is not to be used by this host: wholly reserved, or overlapping one of its networks.
    fn is_excluded(&self, cidr: &IpNet) -> Result<bool, AccessError> {
        Ok(self.operation.reserved()?.covering(cidr).is_some() || self.exclusions.collision(cidr)?.is_some())
    }

    fn has_room(&self, block: &IpamBlock) -> Result<bool, AccessError> {
        let reserved = self.operation.reserved()?;
        let usable = |ordinal: &usize| {
            block
                .address(*ordinal)
                .is_some_and(|address| !reserved.contains(address))
        };
        Ok(block.unallocated.iter().any(usable))
    }

    pub(super) fn walk(&self, pool: &IpPool) -> BlockWalk {
        let seed = self.operation.clock().now().unix_nanos();
        BlockWalk::new(
            pool.spec.cidr,
            pool.spec.effective_block_size(),
            self.owner.name(),
            seed,
        )
    }
}
