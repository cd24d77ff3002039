// SPDX-License-Identifier: Apache-2.0
//! What the kernel of a place has, as lines a person knows from `ip`.

use std::collections::BTreeMap;

use anyhow::Result;
use kernel::{Family, Link, Route, RouteFilter, RouteKind, RouteProtocol, RouteScope};

use crate::place::Place;

/// Table main.
const MAIN: u32 = 254;

/// The routes of the main table, as `ip route` and `ip -6 route` print them.
pub fn routes(place: &Place, family: Family) -> Result<Vec<String>> {
    let mut netlink = place.netlink()?;
    let names: BTreeMap<u32, String> = netlink
        .links()?
        .into_iter()
        .map(|link| (link.index, link.name))
        .collect();
    let filter = RouteFilter {
        family: Some(family),
        table: Some(MAIN),
        ..RouteFilter::default()
    };
    let routes = netlink.routes(filter)?;
    // Multicast and the like; `ip` leaves them out too.
    let routes = routes
        .iter()
        .filter(|route| !matches!(route.kind, RouteKind::Other(_)));
    Ok(routes.map(|route| line(route, &names)).collect())
}

/// The links, without the loopback.
pub fn links(place: &Place) -> Result<Vec<Link>> {
    let links = place.netlink()?.links()?;
    Ok(links.into_iter().filter(|link| !link.is_loopback()).collect())
}

/// The addresses of a link, without IPv6 link-local ones.
pub fn addresses(place: &Place, link: &str) -> Result<Vec<ipnet::IpNet>> {
    let mut netlink = place.netlink()?;
    let Some(link) = netlink.link_by_name(link)? else {
        return Ok(Vec::new());
    };
    let addresses = netlink.addresses(Some(link.index))?;
    let global = addresses
        .into_iter()
        .filter(|address| address.scope != libc_scope_link());
    Ok(global.map(|address| address.prefix).collect())
}

/// `RT_SCOPE_LINK`.
const fn libc_scope_link() -> u8 {
    253
}

fn line(route: &Route, names: &BTreeMap<u32, String>) -> String {
    let mut words = Vec::new();
    let mut say = |text: String| words.push(text);
    match route.kind {
        RouteKind::Local => say("local".into()),
        RouteKind::Blackhole => say("blackhole".into()),
        RouteKind::Unreachable => say("unreachable".into()),
        RouteKind::Prohibit => say("prohibit".into()),
        RouteKind::Throw => say("throw".into()),
        RouteKind::Unicast | RouteKind::Other(_) => {}
    }
    let destination = route.destination;
    say(if route.is_default() {
        "default".into()
    } else if destination.prefix_len() == destination.max_prefix_len() {
        destination.addr().to_string()
    } else {
        destination.to_string()
    });
    if let Some(gateway) = route.gateway {
        say(format!("via {gateway}"));
    }
    if let Some(index) = route.interface {
        say(format!("dev {}", names.get(&index).map_or("?", String::as_str)));
    }
    match route.protocol {
        RouteProtocol::BOOT => {}
        RouteProtocol::KERNEL => say("proto kernel".into()),
        RouteProtocol::STATIC => say("proto static".into()),
        RouteProtocol(number) => say(format!("proto {number}")),
    }
    match route.scope {
        RouteScope::Link => say("scope link".into()),
        RouteScope::Host => say("scope host".into()),
        RouteScope::Universe | RouteScope::Other(_) => {}
    }
    if let Some(source) = route.source {
        say(format!("src {source}"));
    }
    if let Some(priority) = route.priority {
        say(format!("metric {priority}"));
    }
    words.join(" ")
}
