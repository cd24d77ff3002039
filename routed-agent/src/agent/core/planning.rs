// SPDX-License-Identifier: Apache-2.0
//! From what is known to what should be, and what of it has changed.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use bgp::speaker::NextHopState;
use ipnet::IpNet;

use super::Core;
use crate::{
    dataplane::Command,
    encapsulation::Encapsulation,
    facts::Facts,
    plan::{PlannedRoute, RouteOrigin, Routes, Way},
    planner::{Choices, Planner},
    snapshot::Snapshot,
};

impl Core {
    pub(in crate::agent) fn planner<'a>(
        snapshot: &'a Snapshot,
        facts: &'a Facts,
        choices: &'a Choices,
    ) -> Planner<'a> {
        Planner {
            snapshot,
            facts,
            choices,
        }
    }

    /// Everything anew, after store or ground have changed.
    pub(in crate::agent) fn plan(&mut self) {
        let Some(facts) = self.facts.clone().filter(|_| self.has_snapshot) else {
            return;
        };
        let snapshot = Arc::clone(&self.snapshot);
        let choices = self.choices.clone();
        let planner = Self::planner(&snapshot, &facts, &choices);
        let fixtures = planner.fixtures();
        if *self.fixtures != fixtures || !self.begun {
            self.fixtures = Arc::new(fixtures);
            self.commands.push(Command::Fixtures(Arc::clone(&self.fixtures)));
        }
        self.set_peers();
        self.write_mtu(planner.container_mtu(&self.fixtures));
        let (mut routes, refused) = planner.store_routes();
        routes.extend(self.gateway_routes(&planner));
        if self.store_routes != routes || !self.begun {
            self.store_routes.clone_from(&routes);
            self.commands.push(Command::StoreRoutes(routes));
        }
        self.refused = refused;
        self.speaker.set_own_addresses(facts.own_addresses());
        let next_hops: Vec<IpAddr> = self.speaker.next_hops().map(|(address, _)| *address).collect();
        for address in next_hops {
            self.resolve(address, &facts);
        }
        self.originate();
        let all: BTreeSet<IpNet> = self
            .speaker
            .routes()
            .filter(|route| route.used)
            .map(|route| route.prefix)
            .collect();
        let all: Vec<IpNet> = all
            .into_iter()
            .chain(self.bgp_routes.keys().copied().collect::<Vec<_>>())
            .collect();
        self.plan_bgp(&all);
        if !self.begun
            && snapshot
                .nodes
                .get(&self.start.node)
                .is_some_and(|node| node.spec.bgp.is_some())
        {
            self.begun = true;
            let now = self.now();
            self.speaker.begin(now);
            if !self.restarted {
                self.set_complete();
            }
        }
    }

    /// Routes to peers that are reached by a certain gateway.
    pub(in crate::agent) fn gateway_routes(&self, planner: &Planner<'_>) -> Routes {
        let peers = self.peers.values();
        let wanted = peers.filter_map(|peer| Some((peer, peer.reachable_by?)));
        let routes = wanted.filter_map(|(peer, gateway)| {
            let route = PlannedRoute {
                way: Way::Via {
                    hops: planner.facts.resolve(gateway)?,
                    onlink: false,
                },
                metric: if peer.address.is_ipv6() { 1024 } else { 0 },
                source: None,
                encapsulation: Encapsulation::Direct,
                origin: RouteOrigin::ReachableBy,
                reason: format!("{} is reachable by {gateway}", peer.name).into(),
            };
            Some((IpNet::from(peer.address), route))
        });
        routes.collect()
    }

    pub(in crate::agent) fn set_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.commands.push(Command::Complete);
            self.note("agent", "routes of peers are complete");
        }
    }

    pub(in crate::agent) fn resolve(&mut self, address: IpAddr, facts: &Facts) {
        let hops = facts.resolve(address);
        let device = hops
            .as_ref()
            .and_then(|hops| hops.first())
            .map(|hop| Arc::clone(&hop.device));
        self.speaker.set_next_hop(
            address,
            NextHopState {
                cost: hops.map(|_| 0),
                device,
            },
        );
    }

    /// Routes of prefixes whose selection has changed.
    pub(in crate::agent) fn plan_bgp(&mut self, prefixes: &[IpNet]) {
        let Some(facts) = self.facts.clone() else { return };
        let snapshot = Arc::clone(&self.snapshot);
        let choices = self.choices.clone();
        let planner = Self::planner(&snapshot, &facts, &choices);
        let mut changes: Vec<(IpNet, Option<PlannedRoute>)> = Vec::new();
        for prefix in prefixes {
            let planned = planner.bgp_route(prefix, &self.speaker.selected(prefix));
            match planned {
                Some(Ok(route)) => {
                    self.bgp_refused.remove(prefix);
                    if self.bgp_routes.get(prefix) != Some(&route) {
                        self.bgp_routes.insert(*prefix, route.clone());
                        changes.push((*prefix, Some(route)));
                    }
                    continue;
                }
                Some(Err(refusal)) => {
                    if self.bgp_refused.get(prefix) != Some(&refusal) {
                        tracing::warn!(target: "agent", code = refusal.code, "{}", refusal.text);
                        self.bgp_refused.insert(*prefix, refusal);
                    }
                }
                None => drop(self.bgp_refused.remove(prefix)),
            }
            if self.bgp_routes.remove(prefix).is_some() {
                changes.push((*prefix, None));
            }
        }
        if !changes.is_empty() {
            self.commands.push(Command::BgpRoutes(changes));
        }
    }

    /// What planning is done with, for explanations.
    pub(in crate::agent) fn with_planner<T>(&self, action: impl FnOnce(&Planner<'_>) -> T) -> Option<T> {
        let facts = self.facts.as_ref()?;
        Some(action(&Self::planner(&self.snapshot, facts, &self.choices)))
    }
}
