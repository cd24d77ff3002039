// SPDX-License-Identifier: Apache-2.0
//! Routes of others on containers' interfaces, and which of them have been there long enough to go
//! (`removeExternalRoutes`).

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use kernel::{Route, RouteKind, RouteProtocol};

use super::routes::MAIN;

/// How long such a route may stay: the CNI plugin writes a container's route before the agent has heard of the container.
/// Felix waits as long.
const GRACE: Duration = Duration::from_secs(10);
/// `RTPROT_REDIRECT`.
const REDIRECT: RouteProtocol = RouteProtocol(1);

/// What tells such routes apart.
type Identity = (IpNet, u32, u8, Option<u32>, Option<IpAddr>);

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    wanted: bool,
    /// Those that are there, and when each was found first.
    found: BTreeMap<Identity, (Route, Instant)>,
}

impl Strangers {
    /// Whether such routes are to go at all.
    pub(super) fn set(&mut self, wanted: bool) {
        self.wanted = wanted;
        if !wanted {
            self.found.clear();
        }
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.wanted
    }

    /// Takes in what is there now; what is not any more is forgotten.
    pub(super) fn see<'r>(&mut self, there: impl Iterator<Item = &'r Route>, now: Instant) {
        let mut before = std::mem::take(&mut self.found);
        self.found = there
            .map(|route| {
                let identity = identity(route);
                let since = before.remove(&identity).map_or(now, |(_, since)| since);
                (identity, (route.clone(), since))
            })
            .collect();
    }

    /// Those that have been there for too long; each is named once, and again if it is still there after the same time.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Route> {
        let overdue = self
            .found
            .values_mut()
            .filter(|(_, since)| now.duration_since(*since) >= GRACE);
        overdue
            .map(|(route, since)| {
                *since = now;
                route.clone()
            })
            .collect()
    }

    /// When the next one has been there for too long.
    pub(super) fn next(&self) -> Option<Instant> {
        self.found.values().map(|(_, since)| *since + GRACE).min()
    }
}

fn identity(route: &Route) -> Identity {
    (
        route.destination,
        route.priority.unwrap_or_default(),
        route.protocol.0,
        route.interface,
        route.gateway,
    )
}

/// Whether a route that is not ours leads to containers' interfaces and nowhere else. What the kernel makes with addresses,
/// or learns, is not somebody's.
pub(super) fn is_stranger(route: &Route, workloads: &HashSet<u32>) -> bool {
    let of_kernel = [
        REDIRECT,
        RouteProtocol::KERNEL,
        RouteProtocol::ROUTER_ADVERTISEMENT,
    ];
    let leads_there = |interface: &u32| workloads.contains(interface);
    let ways = route.multipath.iter().map(|hop| &hop.interface);
    let mut ways = ways.chain(&route.interface).peekable();
    route.table == MAIN
        && route.kind == RouteKind::Unicast
        && !of_kernel.contains(&route.protocol)
        && ways.peek().is_some()
        && ways.all(leads_there)
}

#[cfg(test)]
mod tests {
    use kernel::NextHop;

    use super::*;

    fn route(text: &str, interface: u32) -> Route {
        Route::on_link(text.parse().unwrap(), interface)
    }

    #[test]
    fn only_routes_that_lead_to_containers_and_nowhere_else_are_meant() {
        let workloads = HashSet::from([7, 8]);
        let hop = |interface| NextHop {
            gateway: None,
            interface,
            onlink: false,
            weight: 1,
        };
        let several = |interfaces: [u32; 2]| Route {
            multipath: interfaces.map(hop).to_vec(),
            ..Route::to("10.9.0.0/24".parse().unwrap())
        };
        let of = |protocol| Route {
            protocol: RouteProtocol(protocol),
            ..route("10.9.0.0/24", 7)
        };
        for (route, expected) in [
            (route("10.9.0.9/32", 7), true),
            (route("10.9.0.9/32", 2), false),
            (route("fd99::9/128", 8), true),
            (several([7, 8]), true),
            (several([7, 2]), false),
            (of(4), true),
            // The kernel's own, and what it has learned.
            (of(1), false),
            (of(2), false),
            (of(9), false),
            // It leads nowhere, or is of another table.
            (Route::to("10.9.0.0/24".parse().unwrap()), false),
            (
                Route {
                    kind: RouteKind::Blackhole,
                    ..route("10.9.0.0/24", 7)
                },
                false,
            ),
            (
                Route {
                    table: 100,
                    ..route("10.9.0.0/24", 7)
                },
                false,
            ),
        ] {
            assert_eq!(is_stranger(&route, &workloads), expected, "{route}");
        }
    }

    #[test]
    fn each_has_its_time() {
        let mut strangers = Strangers::default();
        let begin = Instant::now();
        let (one, other) = (route("10.9.0.1/32", 7), route("10.9.0.2/32", 7));
        strangers.set(true);
        strangers.see([&one].into_iter(), begin);
        assert!(strangers.due(begin).is_empty());
        let later = begin + GRACE / 2;
        strangers.see([&one, &other].into_iter(), later);
        assert_eq!(strangers.next(), Some(begin + GRACE));
        assert_eq!(strangers.due(begin + GRACE), std::slice::from_ref(&one));
        // It is back, or could not be removed.
        assert!(strangers.due(begin + GRACE).is_empty());
        // One that went in between begins anew.
        strangers.see([&one].into_iter(), later);
        strangers.see([&one, &other].into_iter(), begin + GRACE);
        assert_eq!(strangers.next(), Some(begin + 2 * GRACE));
        strangers.set(false);
        assert_eq!(strangers.next(), None);
    }
}
