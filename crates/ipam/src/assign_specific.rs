// SPDX-License-Identifier: Apache-2.0
//! Assigning given addresses, all of them or none.
//!
//! As in Calico, an explicit request is checked against the pool (first enabled one that contains the address) and
//! its allowed uses, and against strict affinity; not against reservations, selectors, assignment mode, block limit
//! or autoAllocateBlocks. A missing block is claimed for the requester. Other than in Calico, a lost race for the
//! block is tried again, and a conflict leaves the handle's count right.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use model::{AffinityOwner, IpPool, IpamBlock, prefix};

use crate::{
    allocation::{AllocationRun, BlockPlan, attribute},
    block,
    engine::Engine,
    error::{AccessError, AssignSpecificError},
    exclusion::Exclusions,
    locate::Locator,
    operation::{Operation, Stored},
    pool_selection::use_name,
    request::{AssignCompanions, Assigned, SpecificRequest},
    retry::{Step, retry},
};

impl Engine<'_> {
    /// Assigns every address of the request. After an error none of them is.
    pub fn assign_specific(
        &self,
        request: &SpecificRequest,
        companions: &mut AssignCompanions<'_>,
    ) -> Result<Vec<Assigned>, AssignSpecificError> {
        let operation = Operation::new(*self, &request.cause);
        let specific = Specific {
            operation: &operation,
            request,
            owner: request.owner(),
            exclusions: Exclusions::new(&operation, &request.node),
        };
        let attribute = attribute(&request.handle, &request.attributes);
        let mut run = AllocationRun::new(&request.handle, &attribute, companions);
        let result = retry(self.clock, || {
            if run.settle_doubt(&operation)? {
                return Ok(Step::Done(run.finish()));
            }
            let mut plans: BTreeMap<IpNet, BlockPlan> = BTreeMap::new();
            let wanted: BTreeSet<IpAddr> = request.addresses.iter().copied().collect();
            for address in wanted {
                if run.obtained().iter().any(|assigned| assigned.address == address) {
                    continue;
                }
                let Some(mut plan) = specific.plan_for(address, &mut plans)? else {
                    return Ok(Step::Again(format!("the block of {address}")));
                };
                let block = &mut plan.stored.value;
                let ordinal = specific.check(block, address)?;
                plan.taken.push(block::assign_ordinal(block, ordinal, &attribute));
                plans.insert(block.cidr, plan);
            }
            Ok(run.carry_out(&operation, plans.into_values().collect(), &BTreeSet::new())?)
        });
        if result.is_err() {
            run.undo(&operation);
        }
        result
    }
}

struct Specific<'s, 'a> {
    operation: &'s Operation<'a>,
    request: &'s SpecificRequest,
    owner: AffinityOwner,
    exclusions: Exclusions<'s, 'a>,
}

impl Specific<'_, '_> {
    /// The plan for the address's block, taken out of `plans` or made anew; `None` if somebody else is just claiming
    /// the block.
    fn plan_for(
        &self,
        address: IpAddr,
        plans: &mut BTreeMap<IpNet, BlockPlan>,
    ) -> Result<Option<BlockPlan>, AssignSpecificError> {
        let pool = self.pool(address)?;
        let known = plans.keys().find(|cidr| cidr.contains(&address)).copied();
        if let Some(plan) = known.and_then(|cidr| plans.remove(&cidr)) {
            return Ok(Some(plan));
        }
        let cidr = prefix::block_containing(address, pool.spec.effective_block_size())
            .ok_or(AssignSpecificError::NotInPool { address })?;
        let stored = match self.operation.block(cidr)? {
            Some(stored) => Some(stored),
            None => self.existing_or_claimed(address, cidr)?,
        };
        let taken = Vec::new();
        Ok(stored.map(|stored| BlockPlan { stored, taken }))
    }

    fn pool(&self, address: IpAddr) -> Result<&IpPool, AssignSpecificError> {
        let contains = |pool: &&IpPool| pool.enabled() && pool.spec.cidr.contains(&address);
        let pool = self.operation.pools()?.iter().find(contains);
        let pool = pool.ok_or(AssignSpecificError::NotInPool { address })?;
        match self.request.intended_use {
            Some(wanted) if !pool.spec.allows(wanted) => Err(AssignSpecificError::Use {
                address,
                pool: pool.metadata.name.clone(),
                intended_use: use_name(wanted),
            }),
            _ => Ok(pool),
        }
    }

    /// A block of another size that has the address, or the missing block, claimed.
    fn existing_or_claimed(
        &self,
        address: IpAddr,
        cidr: IpNet,
    ) -> Result<Option<Stored<IpamBlock>>, AssignSpecificError> {
        let locator = Locator::new(self.operation);
        if let Some(stored) = locator.block_of(address)? {
            return Ok(Some(stored));
        }
        if let Some(existing) = locator.overlapping(&cidr)? {
            return Err(AssignSpecificError::BlockOverlap {
                address,
                block: cidr,
                existing,
            });
        }
        if let Some(occupied) = self.exclusions.collision(&cidr)? {
            return Err(AssignSpecificError::Collision {
                address,
                block: cidr,
                prefix: occupied.prefix,
                what: occupied.what.clone(),
            });
        }
        Ok(self.operation.claim(&self.owner, cidr, &mut |_| Ok(true))?)
    }

    /// Whether the block, as planned so far, may give the address.
    fn check(&self, block: &IpamBlock, address: IpAddr) -> Result<usize, AssignSpecificError> {
        if self.operation.config()?.strict_affinity && block.affinity.as_ref() != Some(&self.owner) {
            return Err(AssignSpecificError::StrictAffinity {
                address,
                block: block.cidr,
                owner: block.affinity.clone(),
            });
        }
        let ordinal = block
            .ordinal(address)
            .ok_or(AssignSpecificError::NotInPool { address })?;
        match block.attribute(ordinal) {
            Some(attribute) if attribute.released_at.is_some() => {
                Err(AssignSpecificError::Cooling { address })
            }
            Some(attribute) => Err(AssignSpecificError::Taken {
                address,
                handle: attribute.handle_id.clone(),
            }),
            None => {
                let host = self.operation.engine.host;
                match host.in_use(address).map_err(AccessError::from)? {
                    Some(what) => Err(AssignSpecificError::InUseLocally { address, what }),
                    None => Ok(ordinal),
                }
            }
        }
    }
}
