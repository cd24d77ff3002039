// SPDX-License-Identifier: Apache-2.0
//! Assigning addresses of the engine's choice, in one or both IP versions, as one batch: blocks, handle and the
//! caller's own writes. What is short in one version fails the whole request where the caller says so (CNI does).

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use model::{Node, ip_pool::AllowedUse};

use crate::{
    allocation::{AllocationRun, attribute},
    engine::Engine,
    error::AssignError,
    exclusion::Exclusions,
    family::Family,
    operation::Operation,
    pool_selection::eligible_pools,
    request::{AssignCompanions, AssignRequest, Assigned, Assignment, Shortfall},
    retry::{Step, retry},
    search::Search,
};

impl Engine<'_> {
    /// Assigns `request.v4` and `request.v6` addresses. After an error nothing is left assigned.
    pub fn auto_assign(
        &self,
        request: &AssignRequest,
        companions: &mut AssignCompanions<'_>,
    ) -> Result<Assignment, AssignError> {
        let operation = Operation::new(*self, &request.cause);
        let node = registered_node(&operation, request)?;
        let attribute = attribute(&request.handle, &request.attributes);
        let exclusions = Exclusions::new(&operation, &request.node);
        let passed_over = RefCell::default();
        let mut searches = Vec::new();
        for family in [Family::V4, Family::V6] {
            if request.wanted(family) > 0 {
                searches.push(Search {
                    operation: &operation,
                    request,
                    family,
                    owner: request.owner(),
                    node: node.as_ref(),
                    eligible: eligible_pools(&operation, request, node.as_ref(), family)?,
                    attribute: &attribute,
                    exclusions: &exclusions,
                    passed_over: &passed_over,
                    tidied: Cell::new(false),
                });
            }
        }
        let mut run = AllocationRun::new(&request.handle, &attribute, companions);
        let result = retry(self.clock, || {
            attempt(&operation, request, &searches, &passed_over, &mut run)
        });
        if result.is_err() {
            run.undo(&operation);
        }
        result
    }
}

/// The Node resource that pools are matched to; none for addresses that belong to no node.
fn registered_node(operation: &Operation<'_>, request: &AssignRequest) -> Result<Option<Node>, AssignError> {
    if request.intended_use == AllowedUse::LoadBalancer {
        return Ok(None);
    }
    let node = operation.node(&request.node)?;
    let unknown = || AssignError::NodeUnknown {
        node: request.node.clone(),
    };
    node.map(Some).ok_or_else(unknown)
}

fn attempt(
    operation: &Operation<'_>,
    request: &AssignRequest,
    searches: &[Search<'_, '_>],
    passed_over: &RefCell<BTreeSet<std::net::IpAddr>>,
    run: &mut AllocationRun<'_, '_>,
) -> Result<Step<Assignment>, AssignError> {
    if run.settle_doubt(operation)? {
        return Ok(Step::Done(complete(run.finish(), Vec::new())));
    }
    let mut plans = Vec::new();
    let mut shortfalls = Vec::new();
    for search in searches {
        let wanted = request.wanted(search.family);
        let is_of_family = |assigned: &&Assigned| Family::of_address(assigned.address) == search.family;
        let obtained = run.obtained().iter().filter(is_of_family).count();
        let found = search.plan(wanted.saturating_sub(obtained))?;
        if found.missing > 0 {
            shortfalls.push(Shortfall {
                family: search.family,
                wanted,
                assigned: wanted - found.missing,
                reasons: found.reasons,
            });
        }
        plans.extend(found.plans);
    }
    let nothing = plans.is_empty() && run.obtained().is_empty();
    if !shortfalls.is_empty() && (request.all_or_nothing || nothing) {
        return if request.all_or_nothing {
            Err(AssignError::Short(shortfalls))
        } else {
            Ok(Step::Done(complete(Vec::new(), shortfalls)))
        };
    }
    match run.carry_out(operation, plans, &passed_over.borrow())? {
        Step::Done(addresses) => Ok(Step::Done(complete(addresses, shortfalls))),
        Step::Again(object) => Ok(Step::Again(object)),
    }
}

fn complete(addresses: Vec<Assigned>, shortfalls: Vec<Shortfall>) -> Assignment {
    Assignment {
        addresses,
        shortfalls,
    }
}
