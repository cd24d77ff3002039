// SPDX-License-Identifier: Apache-2.0
//! Routes: what is wanted, what is there, and the requests that lie between.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use kernel::{Link, Netlink, Route, RouteChange, RouteFilter, RouteProtocol, RouteWriter as Wire};

use super::{
    Ownership,
    kernel_form::{self, matches, metric_of},
    strangers::{Strangers, is_stranger},
};
use crate::plan::{PlannedRoute, Routes, Way};

/// Table main.
pub(super) const MAIN: u32 = 254;
/// Repairs of one route within [`RIVAL_WINDOW`] after which it is left alone for [`RIVAL_PAUSE`].
pub(super) const RIVAL_REPAIRS: usize = 5;
pub(super) const RIVAL_WINDOW: Duration = Duration::from_secs(10);
pub(super) const RIVAL_PAUSE: Duration = Duration::from_secs(30);
/// How long the plugin may take to write a container's route.
const CONTAINER_PATIENCE: Duration = Duration::from_secs(15);

/// What tells routes apart for the kernel, in one table.
pub(super) type RouteKey = (IpNet, u32);

/// See the file's comment.
#[derive(Debug)]
pub(super) struct OwnRoutes {
    ownership: Ownership,
    wire: Wire,
    store: Routes,
    bgp: Routes,
    /// Since when containers' routes are wanted. The plugin writes them; they are only repaired here, so that it does not
    /// find them there before it.
    containers: HashMap<IpNet, Instant>,
    /// Own routes as the kernel has them, by our knowledge.
    actual: BTreeMap<RouteKey, Route>,
    /// Routes that were ours at some time: whatever is in their place is damage.
    owned: BTreeSet<RouteKey>,
    /// What is not in the plan may go.
    complete: bool,
    links: HashMap<String, u32>,
    /// Routes that could not be written, and why.
    pub(super) failed: BTreeMap<IpNet, String>,
    repairs: HashMap<IpNet, VecDeque<Instant>>,
    resting: BTreeMap<IpNet, Instant>,
    /// Others' routes on containers' interfaces.
    pub(super) strangers: Strangers,
}

/// One request.
#[derive(Debug)]
struct Step {
    what: What,
    replaces: bool,
    key: RouteKey,
    route: Route,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write,
    Delete,
}

/// What a look at the kernel has found.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub(super) repaired: Vec<String>,
    pub(super) rivals: Vec<String>,
}

impl OwnRoutes {
    pub(super) fn open(ownership: Ownership) -> kernel::Result<Self> {
        Ok(Self {
            ownership,
            wire: Wire::open()?,
            store: Routes::new(),
            bgp: Routes::new(),
            containers: HashMap::new(),
            actual: BTreeMap::new(),
            owned: BTreeSet::new(),
            complete: false,
            links: HashMap::new(),
            failed: BTreeMap::new(),
            repairs: HashMap::new(),
            resting: BTreeMap::new(),
            strangers: Strangers::default(),
        })
    }

    /// By which own changes are told from others'.
    pub(super) fn port(&mut self) -> kernel::Result<u32> {
        self.wire.port()
    }

    fn wanted(&self, prefix: &IpNet) -> Option<&PlannedRoute> {
        self.store.get(prefix).or_else(|| self.bgp.get(prefix))
    }

    /// How many routes are as they should be.
    pub(super) fn in_place(&self) -> usize {
        let extra = self
            .store
            .keys()
            .filter(|prefix| self.bgp.contains_key(prefix))
            .count();
        self.store.len() + self.bgp.len() - extra - self.failed.len()
    }

    pub(super) fn set_store(&mut self, changes: Vec<(IpNet, Option<PlannedRoute>)>) -> Vec<IpNet> {
        let now = Instant::now();
        let mut concerned = Vec::new();
        for (prefix, route) in changes {
            let Some(route) = route else {
                self.store.remove(&prefix);
                self.containers.remove(&prefix);
                concerned.push(prefix);
                continue;
            };
            if matches!(route.way, Way::Container(_)) {
                // The plugin writes it; it is looked for a little later.
                self.containers.entry(prefix).or_insert(now);
                self.store.insert(prefix, route);
                continue;
            }
            self.containers.remove(&prefix);
            let is_same = self.store.get(&prefix).is_some_and(|known| same(known, &route));
            self.store.insert(prefix, route);
            if !is_same {
                concerned.push(prefix);
            }
        }
        concerned
    }

    pub(super) fn set_bgp(&mut self, changes: Vec<(IpNet, Option<PlannedRoute>)>) -> Vec<IpNet> {
        let mut concerned = Vec::with_capacity(changes.len());
        for (prefix, route) in changes {
            match route {
                Some(route) => drop(self.bgp.insert(prefix, route)),
                None => drop(self.bgp.remove(&prefix)),
            }
            concerned.push(prefix);
        }
        concerned
    }

    /// Whether a route of the kernel's is ours to change.
    pub(super) fn is_ours(&self, route: &Route) -> bool {
        let protocol = route.protocol.0;
        route.table == MAIN
            && (protocol == self.ownership.protocol || self.ownership.predecessors.contains(&protocol))
    }

    /// A container's own route, as the plugin writes it.
    fn is_containers(&self, route: &Route) -> bool {
        route.table == MAIN
            && route.protocol == RouteProtocol::BOOT
            && route.destination.prefix_len() == route.destination.max_prefix_len()
            && self
                .wanted(&route.destination)
                .is_some_and(|planned| matches!(planned.way, Way::Container(_)))
    }

    /// Reads what is there; afterwards everything that differs is known.
    pub(super) fn list(&mut self, netlink: &mut Netlink) -> kernel::Result<()> {
        self.links = netlink
            .links()?
            .into_iter()
            .map(|link| (link.name, link.index))
            .collect();
        let main = RouteFilter {
            table: Some(MAIN),
            ..RouteFilter::default()
        };
        let all = netlink.routes(main)?;
        self.see_strangers(&all);
        let ours = all
            .into_iter()
            .filter(|route| self.is_ours(route) || self.is_containers(route));
        self.actual = ours.map(|route| (key(&route), route)).collect();
        self.owned.extend(
            self.actual
                .keys()
                .filter(|key| self.containers.contains_key(&key.0)),
        );
        Ok(())
    }

    /// The links that own IPv4 routes lead to, by index.
    pub(super) fn links_used(&self) -> HashSet<u32> {
        let routes = self.actual.values();
        let ipv4 = routes.filter(|route| matches!(route.destination, IpNet::V4(_)));
        let links = ipv4.flat_map(|route| {
            route
                .multipath
                .iter()
                .map(|hop| hop.interface)
                .chain(route.interface)
        });
        links.collect()
    }

    fn see_strangers(&mut self, all: &[Route]) {
        // Before everything is known, whose a route is is not known either.
        if !self.strangers.are_wanted() || !self.complete {
            return;
        }
        let prefix = &self.ownership.interface_prefix;
        let workloads = self.links.iter().filter(|(name, _)| name.starts_with(prefix));
        let workloads = workloads.map(|(_, index)| *index).collect();
        let is_planned = |route: &Route| {
            let planned = self.wanted(&route.destination);
            let planned = planned.and_then(|planned| self.to_kernel(&route.destination, planned));
            planned.is_some_and(|planned| key(&planned) == key(route))
        };
        let found = all
            .iter()
            .filter(|route| is_stranger(route, &workloads) && !self.is_ours(route) && !is_planned(route));
        let found: Vec<&Route> = found.collect();
        self.strangers.see(found.into_iter(), Instant::now());
    }

    /// Removes others' routes on containers' interfaces that have been there long enough. A list of what is there comes
    /// first.
    pub(super) fn remove_strangers(&mut self, now: Instant) -> kernel::Result<Vec<String>> {
        let due = self.strangers.due(now);
        let failures = self.wire.apply(due.iter().map(RouteChange::Delete))?;
        for failure in &failures {
            if !failure.error.is_not_found() {
                tracing::warn!(target: "agent", "{}", failure.error);
            }
        }
        let is_gone = |position: &usize| failures.iter().all(|failure| failure.position != *position);
        let removed = due.iter().enumerate().filter(|(position, _)| is_gone(position));
        let text = |route: &Route| {
            format!("route {route} on a container's interface, which is not ours and is removed")
        };
        Ok(removed.map(|(_, route)| text(route)).collect())
    }

    /// The index of a link.
    pub(super) fn link(&self, name: &str) -> Option<u32> {
        self.links.get(name).copied()
    }

    pub(super) fn set_link(&mut self, link: &Link, deleted: bool) {
        self.links.retain(|_, index| *index != link.index);
        if !deleted {
            self.links.insert(link.name.clone(), link.index);
        }
    }

    /// A notification of somebody else's: whether it concerns an own route.
    pub(super) fn notice(&mut self, route: &Route, deleted: bool) -> bool {
        let key = key(route);
        let Some(known) = self.actual.get(&key) else {
            // A route that was not there, of ours: an earlier life's program is still at it, or somebody uses our number.
            return !deleted && self.is_ours(route);
        };
        let is_damage = if deleted {
            route.protocol == known.protocol
        } else {
            !matches(known, route)
        };
        if is_damage {
            self.actual.remove(&key);
        }
        is_damage
    }

    /// Counts a repair; `false` while the route is left to its rival.
    fn may_repair(&mut self, prefix: IpNet, now: Instant) -> bool {
        if self.resting.get(&prefix).is_some_and(|until| *until > now) {
            return false;
        }
        self.resting.remove(&prefix);
        let times = self.repairs.entry(prefix).or_default();
        times.retain(|time| now.duration_since(*time) < RIVAL_WINDOW);
        if times.len() >= RIVAL_REPAIRS {
            times.clear();
            self.resting.insert(prefix, now + RIVAL_PAUSE);
            return false;
        }
        times.push_back(now);
        true
    }

    /// When a route that was left to a rival is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    /// Repairs what differs from the plan after somebody else was at it. A list of what is there comes first.
    pub(super) fn repair(&mut self, now: Instant) -> kernel::Result<Damage> {
        let mut damage = Damage::default();
        let planned: Vec<IpNet> = self.store.keys().chain(self.bgp.keys()).copied().collect();
        let mut concerned = Vec::new();
        for prefix in planned {
            let Some(planned) = self.wanted(&prefix) else {
                continue;
            };
            let Some(route) = self.to_kernel(&prefix, planned) else {
                continue;
            };
            let found = self.actual.get(&key(&route));
            if found.is_some_and(|found| matches(&route, found)) {
                continue;
            }
            let is_young = |since: &Instant| now.duration_since(*since) < CONTAINER_PATIENCE;
            if self.containers.get(&prefix).is_some_and(is_young) && !self.owned.contains(&key(&route)) {
                continue;
            }
            if self.failed.contains_key(&prefix) {
                concerned.push(prefix);
            } else if self.may_repair(prefix, now) {
                damage.repaired.push(format!("route {route}"));
                concerned.push(prefix);
            } else if !self.resting.contains_key(&prefix)
                || self.resting.get(&prefix) == Some(&(now + RIVAL_PAUSE))
            {
                damage.rivals.push(format!("route {route}"));
            }
        }
        self.write(concerned)?;
        self.sweep()?;
        Ok(damage)
    }

    /// Writes routes as planned, in one go.
    pub(super) fn write(&mut self, prefixes: Vec<IpNet>) -> kernel::Result<()> {
        let mut steps: Vec<Step> = Vec::new();
        for prefix in prefixes {
            let wanted = match self.wanted(&prefix) {
                None => None,
                Some(planned) => {
                    let Some(route) = self.to_kernel(&prefix, planned) else {
                        self.failed.insert(prefix, "its device is not there".to_owned());
                        continue;
                    };
                    Some(route)
                }
            };
            self.add_steps(prefix, wanted, &mut steps);
        }
        if steps.is_empty() {
            return Ok(());
        }
        let changes = steps.iter().map(|step| match (&step.what, step.replaces) {
            (What::Write, true) => RouteChange::Replace(&step.route),
            (What::Write, false) => RouteChange::Add(&step.route),
            (What::Delete, _) => RouteChange::Delete(&step.route),
        });
        let mut failures = self.wire.apply(changes)?.into_iter().peekable();
        for (position, step) in steps.into_iter().enumerate() {
            let failure = failures.next_if(|failure| failure.position == position);
            self.take_result(step, failure.map(|failure| failure.error));
        }
        Ok(())
    }

    /// What lies between a prefix's routes and the wanted one.
    fn add_steps(&mut self, prefix: IpNet, wanted: Option<Route>, steps: &mut Vec<Step>) {
        let key_now = wanted.as_ref().map(key);
        // All of ours for this prefix that is not the wanted one goes, after the wanted one is there.
        let others: Vec<RouteKey> = self
            .actual
            .range((prefix, 0)..=(prefix, u32::MAX))
            .map(|(key, _)| *key)
            .filter(|key| Some(*key) != key_now)
            .collect();
        let is_removable = self.complete || key_now.is_none();
        if let Some(route) = wanted {
            let key = key(&route);
            if self.actual.get(&key).is_some_and(|found| matches(&route, found)) {
                self.failed.remove(&prefix);
            } else {
                steps.push(Step {
                    what: What::Write,
                    // An own route is replaced in place; a foreign one must not be.
                    replaces: self.actual.contains_key(&key) || self.owned.contains(&key),
                    key,
                    route,
                });
            }
        } else {
            self.failed.remove(&prefix);
            let vanished: Vec<RouteKey> = self
                .owned
                .range((prefix, 0)..=(prefix, u32::MAX))
                .filter(|key| !self.actual.contains_key(key))
                .copied()
                .collect();
            for key in vanished {
                self.owned.remove(&key);
            }
        }
        for other in others.into_iter().filter(|_| is_removable) {
            if let Some(found) = self.actual.get(&other) {
                steps.push(Step {
                    what: What::Delete,
                    replaces: false,
                    key: other,
                    route: found.clone(),
                });
            }
        }
    }

    fn take_result(&mut self, step: Step, failure: Option<kernel::Error>) {
        let prefix = step.key.0;
        match (step.what, failure) {
            (What::Write, None) => {
                self.failed.remove(&prefix);
                self.actual.insert(step.key, step.route);
                self.owned.insert(step.key);
            }
            (What::Delete, None) => self.forget(&step.key),
            (What::Delete, Some(problem)) if problem.is_not_found() => self.forget(&step.key),
            (_, Some(problem)) => drop(self.failed.insert(prefix, problem.to_string())),
        }
    }

    fn forget(&mut self, key: &RouteKey) {
        self.actual.remove(key);
        self.owned.remove(key);
    }

    /// Everything is known: what is not in the plan goes.
    pub(super) fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Removes what is ours and not in the plan. A container's route goes with its link.
    pub(super) fn sweep(&mut self) -> kernel::Result<()> {
        if !self.complete {
            return Ok(());
        }
        let stale: Vec<IpNet> = self
            .actual
            .keys()
            .filter(|(prefix, metric)| {
                let is_own = self
                    .actual
                    .get(&(*prefix, *metric))
                    .is_some_and(|route| self.is_ours(route));
                let wanted = self
                    .wanted(prefix)
                    .map(|planned| metric_of(prefix, planned.metric));
                is_own && wanted != Some(*metric)
            })
            .map(|(prefix, _)| *prefix)
            .collect();
        self.write(stale)
    }

    /// Removes everything of ours but containers' own routes.
    pub(super) fn remove_all(&mut self, netlink: &mut Netlink) -> kernel::Result<()> {
        self.store.clear();
        self.bgp.clear();
        self.list(netlink)?;
        self.complete = true;
        self.sweep()
    }

    /// The routes that failed, to be tried again.
    pub(super) fn to_retry(&self) -> Vec<IpNet> {
        self.failed.keys().copied().collect()
    }

    /// `None` while a device is missing.
    fn to_kernel(&self, prefix: &IpNet, planned: &PlannedRoute) -> Option<Route> {
        kernel_form::of(prefix, planned, &self.links, self.ownership.protocol)
    }
}

fn key(route: &Route) -> RouteKey {
    (
        route.destination,
        metric_of(&route.destination, route.priority.unwrap_or_default()),
    )
}

/// Whether two plans mean the same route.
fn same(one: &PlannedRoute, other: &PlannedRoute) -> bool {
    (&one.way, one.metric, one.source) == (&other.way, other.metric, other.source)
}
