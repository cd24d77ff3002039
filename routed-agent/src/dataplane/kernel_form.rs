// SPDX-License-Identifier: Apache-2.0
//! Planned routes as the kernel is told them, and whether what it has is that.

use std::collections::HashMap;

use ipnet::IpNet;
use kernel::{NextHop, Route, RouteKind, RouteProtocol};

use crate::plan::{PlannedRoute, Way};

/// A planned route in the kernel's terms; `None` while a device is missing.
pub(super) fn of(
    prefix: &IpNet,
    planned: &PlannedRoute,
    links: &HashMap<String, u32>,
    protocol: u8,
) -> Option<Route> {
    let index = |name: &str| links.get(name).copied();
    let mut route = match &planned.way {
        Way::Blackhole => Route {
            kind: RouteKind::Blackhole,
            ..Route::to(*prefix)
        },
        Way::Container(device) => return Some(Route::on_link(*prefix, index(device)?)),
        Way::Via { hops, onlink } => match &**hops {
            [hop] => {
                let interface = index(&hop.device)?;
                match hop.gateway {
                    Some(gateway) => Route {
                        onlink: *onlink,
                        ..Route::through(*prefix, gateway, interface)
                    },
                    None => Route::on_link(*prefix, interface),
                }
            }
            hops => {
                let each = hops.iter().map(|hop| {
                    Some(NextHop {
                        gateway: hop.gateway,
                        interface: index(&hop.device)?,
                        onlink: *onlink,
                        weight: 1,
                    })
                });
                Route {
                    multipath: each.collect::<Option<Vec<_>>>()?,
                    ..Route::to(*prefix)
                }
            }
        },
    };
    route.protocol = RouteProtocol(protocol);
    let metric = metric_of(prefix, planned.metric);
    route.priority = (metric != 0).then_some(metric);
    route.source = planned.source;
    Some(route)
}

/// The metric that the kernel shows.
pub(super) fn metric_of(prefix: &IpNet, metric: u32) -> u32 {
    match prefix {
        IpNet::V6(_) if metric == 0 => 1024,
        _ => metric,
    }
}

/// Whether a route of the kernel's is as wanted. What the kernel adds of its own does not count.
pub(super) fn matches(wanted: &Route, found: &Route) -> bool {
    let hops = |route: &Route| {
        let mut hops: Vec<_> = route
            .multipath
            .iter()
            .map(|hop| (hop.gateway, hop.interface, hop.onlink))
            .collect();
        hops.sort_unstable();
        hops
    };
    // The kernel shows blackholes of IPv6 on the loopback device.
    let has_device = !matches!(wanted.kind, RouteKind::Blackhole);
    let same_source = wanted.source.is_none() || wanted.source == found.source;
    wanted.kind == found.kind
        && wanted.protocol == found.protocol
        && (!has_device
            || (wanted.gateway, wanted.interface, wanted.onlink)
                == (found.gateway, found.interface, found.onlink))
        && hops(wanted) == hops(found)
        && same_source
}
