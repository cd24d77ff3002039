// SPDX-License-Identifier: Apache-2.0
//! Routes that BGP has selected. A peer may have sent a million that all go the same way: what is planned for one holds for
//! all others of the same pool, owner and next hops, but for the question whether it would do harm.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use ipnet::IpNet;
use model::IpPool;

use super::{Planner, code};
use crate::{
    encapsulation::{Decision, Encapsulation},
    plan::{PlannedRoute, Refusal, RouteOrigin, Way},
};

/// What a plan depends on, besides what a [`Planner`] has.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Case<'a> {
    v6: bool,
    /// Name of the pool.
    pool: Option<&'a str>,
    /// The node that has it by the store.
    owner: Option<&'a str>,
    next_hops: Vec<IpAddr>,
}

/// What becomes of all prefixes of a case that do no harm; `None`: nothing is programmed for them.
type Plan = Option<Result<PlannedRoute, Refusal>>;

/// Plans for learned routes, for as long as store, kernel and settings are the same.
#[derive(Debug)]
pub struct LearnedRoutes<'a> {
    planner: Planner<'a>,
    /// The case that came last: nearly always it is the next one, too.
    latest: Option<(Case<'a>, Plan)>,
    earlier: HashMap<Case<'a>, Plan>,
}

impl<'a> LearnedRoutes<'a> {
    /// None yet.
    pub fn new(planner: Planner<'a>) -> Self {
        Self {
            planner,
            latest: None,
            earlier: HashMap::new(),
        }
    }

    /// The route for a prefix by these next hops, the best first; `None` if nothing is to be programmed for it.
    pub fn route(&mut self, prefix: &IpNet, next_hops: &[IpAddr]) -> Plan {
        let planner = self.planner;
        // Services are where traffic to them comes in, whoever announces them; Calico leaves them out of the kernel, too.
        if planner.is_service(prefix) {
            return None;
        }
        let plan = self.plan(prefix, next_hops)?;
        if let Some(refusal) = planner.refuse(prefix) {
            return Some(Err(refusal));
        }
        Some(plan.clone())
    }

    fn plan(&mut self, prefix: &IpNet, next_hops: &[IpAddr]) -> Option<&Result<PlannedRoute, Refusal>> {
        let snapshot = self.planner.snapshot;
        let v6 = prefix.addr().is_ipv6();
        let pool = snapshot.pool_of(prefix);
        let name = pool.map(|pool| pool.metadata.name.as_str());
        let owner = snapshot.owner_of(prefix).map(|owner| owner.node);
        let is_it = |(case, _): &(Case<'_>, Plan)| {
            (case.v6, case.pool, case.owner) == (v6, name, owner) && case.next_hops == next_hops
        };
        if !self.latest.as_ref().is_some_and(is_it) {
            let case = Case {
                v6,
                pool: name,
                owner,
                next_hops: next_hops.to_vec(),
            };
            let plan = match self.earlier.remove(&case) {
                Some(known) => known,
                None => self.planner.learned(prefix, pool, owner, next_hops),
            };
            if let Some((case, plan)) = self.latest.replace((case, plan)) {
                self.earlier.insert(case, plan);
            }
        }
        self.latest.as_ref()?.1.as_ref()
    }
}

impl Planner<'_> {
    /// What becomes of any prefix of the family, pool and owner that has these next hops.
    fn learned(
        &self,
        prefix: &IpNet,
        pool: Option<&Arc<IpPool>>,
        owner: Option<&str>,
        next_hops: &[IpAddr],
    ) -> Plan {
        if self.in_vxlan_pool(prefix) && owner.is_some() {
            // The store says where these are, with all that VXLAN needs to know besides.
            return None;
        }
        let (decision, node) = self.decide(prefix, next_hops.first().copied());
        let is_left_out = match decision.encapsulation {
            Encapsulation::Ipip => !self.choices.programs_ipip,
            Encapsulation::Direct => !self.choices.programs_unencapsulated && pool.is_some(),
            Encapsulation::Vxlan => false,
        };
        if is_left_out {
            return None;
        }
        let text = |what: String| -> Arc<str> { format!("{what}; {}", decision.reason).into() };
        match decision.encapsulation {
            Encapsulation::Ipip => {
                let peer = node.and_then(|node| self.snapshot.node_address(node, false))?;
                let reason = text(format!("of node {} by BGP", node.unwrap_or_default()));
                Some(Ok(self.tunnelled(prefix, peer.addr(), RouteOrigin::Bgp, reason)))
            }
            Encapsulation::Vxlan => {
                // Another store's block: the next hop is a node that is known here.
                let node = node?;
                let reason = text(format!("next hop of BGP is node {node}"));
                let route = self.vxlan_route(prefix, node, reason);
                Some(route.map(|route| PlannedRoute {
                    origin: RouteOrigin::Bgp,
                    ..route
                }))
            }
            Encapsulation::Direct => Some(self.learned_direct(prefix, next_hops, &decision)),
        }
    }

    fn learned_direct(
        &self,
        prefix: &IpNet,
        next_hops: &[IpAddr],
        decision: &Decision,
    ) -> Result<PlannedRoute, Refusal> {
        let mut hops = BTreeSet::new();
        let mut unreachable = Vec::new();
        for next_hop in next_hops {
            match self.facts.resolve(*next_hop) {
                Some(found) => hops.extend(found),
                None => unreachable.push(next_hop.to_string()),
            }
        }
        if hops.is_empty() {
            return Err(Refusal {
                code: code::UNREACHABLE,
                text: format!("no route leads to next hop {}", unreachable.join(", ")),
            });
        }
        let through: Vec<String> = next_hops.iter().map(ToString::to_string).collect();
        Ok(PlannedRoute {
            way: Way::Via {
                hops: hops.into_iter().collect(),
                onlink: false,
            },
            metric: self.metric(prefix),
            source: self.source(prefix),
            encapsulation: Encapsulation::Direct,
            origin: RouteOrigin::Bgp,
            reason: format!("BGP next hop {}; {}", through.join(", "), decision.reason).into(),
        })
    }
}
