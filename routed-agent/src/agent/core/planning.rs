// SPDX-License-Identifier: Apache-2.0
//! From what is known to what should be, and what of it has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use bgp::speaker::{NextHopState, SelectionChange};
use ipnet::IpNet;
use model::{AffinityState, prefix};

use super::{Core, recording::Why};
use crate::{
    dataplane::Command,
    encapsulation::Encapsulation,
    facts::Facts,
    plan::{PlannedRoute, RouteOrigin, Routes, Way},
    planner::{Choices, LearnedRoutes, Planner},
    snapshot::Snapshot,
};

/// What of a map is inside a prefix, or is it.
fn within<'m, V>(
    map: &'m BTreeMap<IpNet, V>,
    prefix: &IpNet,
) -> impl Iterator<Item = (&'m IpNet, &'m V)> + use<'m, V> {
    let last = IpNet::from(prefix.broadcast());
    map.range(*prefix..=last)
}

/// Replaces what of a map is inside a prefix, or is it; what it had and has there.
fn replace_within<V>(
    map: &mut BTreeMap<IpNet, V>,
    prefix: &IpNet,
    values: BTreeMap<IpNet, V>,
) -> BTreeSet<IpNet> {
    let mut concerned: BTreeSet<IpNet> = within(map, prefix).map(|(inside, _)| *inside).collect();
    for inside in &concerned {
        map.remove(inside);
    }
    concerned.extend(values.keys());
    map.extend(values);
    concerned
}

/// A pass over learned routes.
struct Learned<'a> {
    /// `None`: nothing is known of the ground yet.
    plans: Option<LearnedRoutes<'a>>,
    /// Of the prefix that it is the turn of.
    next_hops: Vec<IpAddr>,
    changes: Vec<(IpNet, Option<PlannedRoute>)>,
}

/// The blocks of this node, as policies know them.
pub(super) fn own_blocks(snapshot: &Snapshot, node: &str) -> Vec<(IpNet, AffinityState)> {
    snapshot.blocks_of(node).collect()
}

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
            let before = std::mem::replace(&mut self.fixtures, Arc::new(fixtures));
            self.note_fixtures(&before, &Arc::clone(&self.fixtures));
            self.commands.push(Command::Fixtures(Arc::clone(&self.fixtures)));
        }
        self.set_peers();
        self.plan_probes(&planner);
        self.write_mtu(planner.container_mtu(&self.fixtures));
        let (mut routes, refused) = planner.store_routes();
        routes.extend(self.gateway_routes(&planner));
        let mut changes: BTreeMap<_, _> = self.store_routes.keys().map(|prefix| (*prefix, None)).collect();
        changes.extend(routes.into_iter().map(|(prefix, route)| (prefix, Some(route))));
        self.change_store_routes(changes);
        self.store_refused = refused;
        self.borrowed = snapshot.borrowed_by(&self.start.node).collect();
        self.speaker.set_own_addresses(facts.own_addresses());
        let next_hops: Vec<IpAddr> = self.speaker.next_hops().map(|(address, _)| *address).collect();
        for address in next_hops {
            self.resolve(address, &facts);
        }
        self.originate();
        let used = self.speaker.routes().filter(|route| route.used);
        let mut all: Vec<IpNet> = used.map(|route| route.prefix).collect();
        all.extend(self.bgp_routes.keys().chain(self.bgp_refused.keys()));
        all.sort_unstable();
        all.dedup();
        self.plan_bgp(&all);
        self.note_refusals();
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

    /// What follows from other owners or addresses of these blocks, and from other containers.
    pub(in crate::agent) fn plan_blocks(&mut self, changed: BTreeSet<IpNet>) {
        let Some(facts) = self.facts.clone() else { return };
        let snapshot = Arc::clone(&self.snapshot);
        let choices = self.choices.clone();
        let planner = Self::planner(&snapshot, &facts, &choices);
        let node = self.start.node.clone();
        let containers = planner.container_routes();
        let is_gone = |prefix: &IpNet, route: &PlannedRoute| {
            route.origin == RouteOrigin::Container && !containers.contains_key(prefix)
        };
        let gone = self
            .store_routes
            .iter()
            .filter(|(prefix, route)| is_gone(prefix, route));
        let mut changes: BTreeMap<IpNet, Option<PlannedRoute>> =
            gone.map(|(prefix, _)| (*prefix, None)).collect();
        // Where a container was, its block may say something else.
        let mut blocks = changed;
        blocks.extend(changes.keys().filter_map(|prefix| snapshot.block_around(prefix)));
        let mut learned = BTreeSet::new();
        let of_block = |origin: RouteOrigin| matches!(origin, RouteOrigin::OwnBlock | RouteOrigin::Store);
        for block in &blocks {
            let (routes, refused) = planner.block_routes(block);
            let before = within(&self.store_routes, block).filter(|(_, route)| of_block(route.origin));
            changes.extend(before.map(|(prefix, _)| (*prefix, None)));
            changes.extend(routes.into_iter().map(|(prefix, route)| (prefix, Some(route))));
            let told = replace_within(&mut self.store_refused, block, refused);
            for prefix in &told {
                self.note_refusal(prefix);
            }
            match snapshot.borrowed_in(block, &node) {
                none if none.is_empty() => drop(self.borrowed.remove(block)),
                addresses => drop(self.borrowed.insert(*block, addresses)),
            }
            // What peers say of the block and of addresses in it may now be judged in another way.
            learned.insert(*block);
            learned.extend(within(&self.bgp_routes, block).map(|(prefix, _)| *prefix));
            learned.extend(within(&self.bgp_refused, block).map(|(prefix, _)| *prefix));
            let addresses = (0..prefix::block_size(block).unwrap_or(0))
                .map_while(|ordinal| prefix::ordinal_to_address(block, ordinal));
            learned.extend(addresses.map(IpNet::from));
        }
        changes.extend(
            containers
                .into_iter()
                .map(|(prefix, route)| (prefix, Some(route))),
        );
        self.change_store_routes(changes);
        if self.told_blocks != own_blocks(&snapshot, &node) {
            // What is announced of own blocks, and of addresses in them, is each peer's policy.
            self.set_peers();
        }
        self.originate();
        let learned: Vec<IpNet> = learned.into_iter().collect();
        self.plan_bgp(&learned);
    }

    /// Takes in routes of the store that may be others than before.
    fn change_store_routes(&mut self, changes: BTreeMap<IpNet, Option<PlannedRoute>>) {
        let is_new =
            |(prefix, route): &(IpNet, Option<PlannedRoute>)| self.store_routes.get(prefix) != route.as_ref();
        let changes: Vec<_> = changes.into_iter().filter(is_new).collect();
        for (prefix, route) in &changes {
            let before = match route {
                Some(route) => self.store_routes.insert(*prefix, route.clone()),
                None => self.store_routes.remove(prefix),
            };
            self.note_route(prefix, before.as_ref(), route.as_ref(), (None, None));
        }
        if !changes.is_empty() || !self.begun {
            self.commands.push(Command::StoreRoutes(changes));
        }
    }

    /// Routes to peers that are reached by a certain gateway.
    pub(in crate::agent) fn gateway_routes(&self, planner: &Planner<'_>) -> Routes {
        let peers = self.peers.values();
        let wanted = peers.filter_map(|peer| Some((peer, peer.reachable_by?)));
        let routes = wanted.filter_map(|(peer, gateway)| {
            let route = PlannedRoute {
                way: Way::Via {
                    hops: planner.facts.resolve(gateway)?.into(),
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

    /// What follows from other selections of BGP.
    pub(in crate::agent) fn take_selections(&mut self, changes: &[SelectionChange]) {
        if changes.is_empty() {
            return;
        }
        let mut told = None;
        self.plan_learned(|core, learned| {
            for change in changes {
                let why = core.note_selection(change, &mut told);
                learned.next_hops.clear();
                learned.next_hops.extend(core.speaker.next_hops_of(change));
                core.plan_prefix(learned, change.prefix, &why);
            }
        });
    }

    /// What follows for these prefixes from other circumstances.
    pub(in crate::agent) fn plan_bgp(&mut self, prefixes: &[IpNet]) {
        self.plan_learned(|core, learned| {
            for prefix in prefixes {
                let why = Why::of(core.speaker.selection(prefix));
                learned.next_hops.clear();
                learned.next_hops.extend(core.speaker.next_hops_to(prefix));
                core.plan_prefix(learned, *prefix, &why);
            }
        });
    }

    fn plan_learned(&mut self, pass: impl FnOnce(&mut Self, &mut Learned<'_>)) {
        let (facts, snapshot, choices) = (
            self.facts.clone(),
            Arc::clone(&self.snapshot),
            self.choices.clone(),
        );
        let planner = facts
            .as_ref()
            .map(|facts| Self::planner(&snapshot, facts, &choices));
        let mut learned = Learned {
            plans: planner.map(LearnedRoutes::new),
            next_hops: Vec::new(),
            changes: Vec::new(),
        };
        pass(self, &mut learned);
        if !learned.changes.is_empty() {
            self.commands.push(Command::BgpRoutes(learned.changes));
        }
    }

    /// Plans the route of a prefix that has these next hops anew.
    fn plan_prefix(&mut self, learned: &mut Learned<'_>, prefix: IpNet, why: &Why<'_>) {
        // As long as nothing is known of the ground, there is nothing to build on.
        let Some(plans) = &mut learned.plans else { return };
        // Own routes are for announcing only.
        let planned = why
            .is_learned()
            .then(|| plans.route(&prefix, &learned.next_hops))
            .flatten();
        match planned {
            Some(Ok(route)) => {
                self.clear_refusal(&prefix);
                if self.bgp_routes.get(&prefix) != Some(&route) {
                    let before = self.bgp_routes.insert(prefix, route.clone());
                    self.note_route(&prefix, before.as_ref(), Some(&route), (why.peer, None));
                    learned.changes.push((prefix, Some(route)));
                }
                return;
            }
            Some(Err(refusal)) => self.refuse(&prefix, refusal),
            None => self.clear_refusal(&prefix),
        }
        if let Some(before) = self.bgp_routes.remove(&prefix) {
            self.note_route(&prefix, Some(&before), None, (why.peer, why.cause));
            learned.changes.push((prefix, None));
        }
    }

    /// What planning is done with, for explanations.
    pub(in crate::agent) fn with_planner<T>(&self, action: impl FnOnce(&Planner<'_>) -> T) -> Option<T> {
        let facts = self.facts.as_ref()?;
        Some(action(&Self::planner(&self.snapshot, facts, &self.choices)))
    }
}
