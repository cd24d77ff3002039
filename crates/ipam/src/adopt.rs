// SPDX-License-Identifier: Apache-2.0
//! Recovery: making the store agree with a container that lives and holds its addresses, after the store was lost,
//! restored from a copy or edited. Repeatable; changes only what does not agree.
//!
//! The container is the truth here: strict affinity, reservations and limits are not asked. A block that is missing
//! is claimed for the node, or, where it may not be claimed because it overlaps a network of this host, created as
//! nobody's block, so that the address is at least taken.

use std::collections::{BTreeMap, BTreeSet};

use datastore::Write;
use ipnet::IpNet;
use model::{AffinityOwner, AllocationAttribute, IpamBlock, Key, names::effective_handle};

use crate::{
    allocation::attribute,
    block,
    engine::Engine,
    error::{AccessError, AdoptError},
    exclusion::Exclusions,
    freeing::left_to_apply,
    handle,
    locate::Locator,
    operation::{Committed, Event, Operation, Stored},
    request::{AdoptOutcome, AdoptRequest, Adopted, AssignCompanions, Assigned},
    retry::{Step, retry},
};

impl Engine<'_> {
    /// Makes the store say that the request's handle has the request's addresses; all or nothing where the store
    /// has transactions.
    pub fn adopt(
        &self,
        request: &AdoptRequest,
        companions: &mut AssignCompanions<'_>,
    ) -> Result<Vec<Adopted>, AdoptError> {
        let operation = Operation::new(*self, &request.cause);
        let mut adoption = Adoption {
            operation: &operation,
            request,
            owner: AffinityOwner::Host(request.node.clone()),
            exclusions: Exclusions::new(&operation, &request.node),
            attribute: attribute(&request.handle, &request.attributes),
            partly: false,
            companion_conflict: None,
        };
        retry(self.clock, || adoption.attempt(companions))
    }
}

struct Adoption<'s, 'a> {
    operation: &'s Operation<'a>,
    request: &'s AdoptRequest,
    owner: AffinityOwner,
    exclusions: Exclusions<'s, 'a>,
    attribute: AllocationAttribute,
    /// Whether an earlier attempt may have been applied in part.
    partly: bool,
    companion_conflict: Option<Key>,
}

/// What an attempt is about to write.
#[derive(Default)]
struct Plan {
    blocks: BTreeMap<IpNet, (Stored<IpamBlock>, bool)>,
    adopted: Vec<Adopted>,
    /// By handle: addresses that it loses.
    lost: BTreeMap<String, Vec<IpNet>>,
}

impl Adoption<'_, '_> {
    fn attempt(&mut self, companions: &mut AssignCompanions<'_>) -> Result<Step<Vec<Adopted>>, AdoptError> {
        let mut plan = Plan::default();
        let addresses: BTreeSet<_> = self.request.addresses.iter().copied().collect();
        for address in addresses {
            let known = plan.blocks.keys().find(|cidr| cidr.contains(&address)).copied();
            let cidr = match known {
                Some(cidr) => cidr,
                None => match self.block_of(address)? {
                    Some(stored) => {
                        let cidr = stored.value.cidr;
                        plan.blocks.insert(cidr, (stored, false));
                        cidr
                    }
                    None => return Ok(Step::Again(format!("the block of {address}"))),
                },
            };
            self.adopt_one(&mut plan, cidr, address)?;
        }
        Ok(self.commit(plan, companions)?)
    }

    /// The block of an address, created if need be; `None` if somebody else is just creating it.
    fn block_of(&self, address: std::net::IpAddr) -> Result<Option<Stored<IpamBlock>>, AdoptError> {
        let operation = self.operation;
        let locator = Locator::new(operation);
        if let Some(stored) = locator.block_of(address)? {
            return Ok(Some(stored));
        }
        let cidr = locator
            .expected(address)?
            .ok_or(AdoptError::NotInPool { address })?;
        if let Some(existing) = locator.overlapping(&cidr)? {
            return Err(AdoptError::BlockOverlap {
                address,
                block: cidr,
                existing,
            });
        }
        if self.exclusions.collision(&cidr)?.is_some() {
            let now = operation.clock().now();
            let block = IpamBlock::new(cidr, None, None, now.unix_nanos());
            let block = block.ok_or(AdoptError::NotInPool { address })?;
            let write = Write::create(block.key(), &block);
            return Ok(match operation.commit(vec![write], &[])? {
                Committed::Done(revisions) => revisions.first().map(|revision| Stored {
                    value: block,
                    revision: *revision,
                }),
                _ => None,
            });
        }
        Ok(operation.claim(&self.owner, cidr, &mut |_| Ok(true))?)
    }

    fn adopt_one(&self, plan: &mut Plan, cidr: IpNet, address: std::net::IpAddr) -> Result<(), AdoptError> {
        let Some((stored, changed)) = plan.blocks.get_mut(&cidr) else {
            return Ok(());
        };
        let block = &mut stored.value;
        let ordinal = block.ordinal(address).ok_or(AdoptError::NotInPool { address })?;
        let outcome = match block.attribute(ordinal) {
            None => AdoptOutcome::Adopted,
            Some(found) if found.released_at.is_some() => AdoptOutcome::Adopted,
            Some(found) => match &found.handle_id {
                Some(id) if block::same_handle(id, &self.request.handle) => AdoptOutcome::AlreadyOurs,
                previous if self.request.replace => AdoptOutcome::Replaced {
                    previous: previous.clone(),
                },
                previous => {
                    return Err(AdoptError::Taken {
                        address,
                        handle: previous.clone(),
                    });
                }
            },
        };
        let sequence = if outcome == AdoptOutcome::AlreadyOurs {
            block::sequence_of(block, ordinal)
        } else {
            *changed = true;
            block::assign_ordinal(block, ordinal, &self.attribute).sequence
        };
        if let AdoptOutcome::Replaced { previous: Some(id) } = &outcome {
            plan.lost
                .entry(effective_handle(id).to_owned())
                .or_default()
                .push(cidr);
        }
        let assigned = Assigned {
            address,
            block: cidr,
            sequence,
        };
        plan.adopted.push(Adopted { assigned, outcome });
        Ok(())
    }

    /// Own handle, blocks, the handles that lost addresses, the caller's writes.
    fn commit(
        &mut self,
        plan: Plan,
        companions: &mut AssignCompanions<'_>,
    ) -> Result<Step<Vec<Adopted>>, AccessError> {
        let operation = self.operation;
        let id = effective_handle(&self.request.handle);
        let stored = operation.handle(id)?;
        let mut value = stored
            .as_ref()
            .map(|stored| stored.value.clone())
            .unwrap_or_default();
        for (cidr, (stored, _)) in &plan.blocks {
            let all = block::ordinals_of(&stored.value, id).len();
            let gained = plan.adopted.iter().filter(|adopted| {
                adopted.assigned.block == *cidr && adopted.outcome != AdoptOutcome::AlreadyOurs
            });
            let gained = gained.count();
            handle::raise(&mut value, *cidr, all.saturating_sub(gained));
            // What is counted already may be what somebody freed and is just about to subtract.
            handle::add(&mut value, *cidr, gained);
        }
        let mut writes: Vec<Write> = handle::write(id, stored, &value).into_iter().collect();
        for (stored, _) in plan.blocks.into_values().filter(|(_, changed)| *changed) {
            let Stored { mut value, revision } = stored;
            block::advance(&mut value);
            writes.push(Write::update(value.key(), &value, revision));
        }
        for (id, blocks) in plan.lost {
            let Some(Some(stored)) = operation.unless_damaged(operation.handle(&id))? else {
                continue;
            };
            let mut value = stored.value.clone();
            for block in blocks {
                handle::subtract(&mut value, block, 1);
            }
            writes.extend(handle::write(&id, Some(stored), &value));
        }
        let assigned: Vec<Assigned> = plan.adopted.iter().map(|adopted| adopted.assigned).collect();
        let companions = left_to_apply(operation, companions(&assigned), self.partly)?;
        let companion_keys: Vec<Key> = companions.iter().map(|write| write.key().clone()).collect();
        writes.extend(companions);
        if writes.is_empty() {
            return Ok(Step::Done(plan.adopted));
        }
        let changed = plan
            .adopted
            .iter()
            .filter(|adopted| adopted.outcome != AdoptOutcome::AlreadyOurs);
        let events: Vec<Event> = changed
            .map(|adopted| Event::new("adopt", &adopted.assigned.address, id))
            .collect();
        match operation.commit(writes, &events)? {
            Committed::Done(_) => Ok(Step::Done(plan.adopted)),
            Committed::Unknown(reason) => {
                self.partly = true;
                Ok(Step::Again(format!("handle {id} (reply lost: {reason})")))
            }
            Committed::Conflict { key, .. } => {
                let repeated = self.companion_conflict.as_ref() == Some(&key);
                if companion_keys.contains(&key) && (operation.engine.store.atomic() || repeated) {
                    return Err(AccessError::Companion { key });
                }
                self.partly |= !operation.engine.store.atomic();
                let object = key.to_string();
                self.companion_conflict = Some(key).filter(|key| companion_keys.contains(key));
                Ok(Step::Again(object))
            }
        }
    }
}
