// SPDX-License-Identifier: Apache-2.0
//! Routes as messages: `struct rtmsg` and its attributes, both ways.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, NextHop, Route, RouteKind, RouteProtocol, RouteScope};
use crate::wire::{
    Attributes, INET, INET6, Message, Received, aligned, family, read_address, read_u16, read_u32,
};

/// Bytes of `struct rtmsg`.
pub(super) const INFO: usize = 12;
/// Bytes of `struct rtnexthop`.
const NEXT_HOP: usize = 8;
/// `RTNH_F_ONLINK`.
const ONLINK: u8 = 4;
/// `RTAX_MTU` and `RTAX_ADVMSS`, inside `RTA_METRICS`.
const METRIC_MTU: u16 = 2;
const METRIC_ADVMSS: u16 = 8;

pub(super) fn route_message(kind: u16, flags: i32, route: &Route) -> Message {
    let deletion = kind == libc::RTM_DELROUTE;
    let mut info = [0; INFO];
    info[0] = family(route.destination.addr());
    info[1] = route.destination.prefix_len();
    info[4] = u8::try_from(route.table).unwrap_or(libc::RT_TABLE_COMPAT);
    info[5] = route.protocol.0;
    info[6] = scope_number(route.scope);
    info[7] = kind_number(route.kind);
    info[8..12].copy_from_slice(&u32::from(if route.onlink { ONLINK } else { 0 }).to_ne_bytes());
    let mut message = Message::new(kind, flags).fixed(&info);
    message.address(libc::RTA_DST, route.destination.network());
    if let Some(gateway) = route.gateway {
        gateway_attribute(&mut message, route.destination.addr(), gateway);
    }
    if let Some(interface) = route.interface {
        message.number(libc::RTA_OIF, interface);
    }
    if !route.multipath.is_empty() {
        message.nested(libc::RTA_MULTIPATH, |message| {
            for hop in &route.multipath {
                next_hop(message, route.destination.addr(), hop);
            }
        });
    }
    if let Some(source) = route.source {
        message.address(libc::RTA_PREFSRC, source);
    }
    if route.table > u32::from(u8::MAX) {
        message.number(libc::RTA_TABLE, route.table);
    }
    if let Some(priority) = route.priority {
        message.number(libc::RTA_PRIORITY, priority);
    }
    if !deletion && (route.mtu.is_some() || route.advertised_mss.is_some()) {
        message.nested(libc::RTA_METRICS, |message| {
            if let Some(mtu) = route.mtu {
                message.number(METRIC_MTU, mtu);
            }
            if let Some(mss) = route.advertised_mss {
                message.number(METRIC_ADVMSS, mss);
            }
        });
    }
    message
}

fn gateway_attribute(message: &mut Message, destination: IpAddr, gateway: IpAddr) {
    if destination.is_ipv4() == gateway.is_ipv4() {
        return message.address(libc::RTA_GATEWAY, gateway);
    }
    let mut via = Vec::with_capacity(18);
    via.extend_from_slice(&u16::from(family(gateway)).to_ne_bytes());
    match gateway {
        IpAddr::V4(address) => via.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => via.extend_from_slice(&address.octets()),
    }
    message.attribute(libc::RTA_VIA, &via);
}

/// `struct rtnexthop` and its attributes: like an attribute, but with a header of its own.
fn next_hop(message: &mut Message, destination: IpAddr, hop: &NextHop) {
    let weight = u8::try_from(hop.weight.clamp(1, 256) - 1).expect("1 to 256, less one");
    message.sized(|message| {
        message.inner_fixed(&[if hop.onlink { ONLINK } else { 0 }, weight]);
        message.inner_fixed(&hop.interface.to_ne_bytes());
        if let Some(gateway) = hop.gateway {
            gateway_attribute(message, destination, gateway);
        }
    });
}

/// The route of an `RTM_NEWROUTE` or `RTM_DELROUTE` message; copies the kernel keeps per packet (`RTM_F_CLONED`) are none.
pub(crate) fn parse_route(received: &Received<'_>) -> Option<Route> {
    if !matches!(received.kind, libc::RTM_NEWROUTE | libc::RTM_DELROUTE) {
        return None;
    }
    let (info, attributes) = received.body.split_at_checked(INFO)?;
    let flags = read_u32(&info[8..])?;
    if flags & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let any = match info[0] {
        INET => Family::Ipv4,
        INET6 => Family::Ipv6,
        _ => return None,
    }
    .default_prefix()
    .addr();
    let mut route = Route {
        kind: kind_of(info[7]),
        scope: scope_of(info[6]),
        protocol: RouteProtocol(info[5]),
        table: u32::from(info[4]),
        onlink: flags & u32::from(ONLINK) != 0,
        ..Route::to(IpNet::new(any, info[1]).ok()?)
    };
    for (kind, payload) in Attributes(attributes) {
        match kind {
            libc::RTA_DST => route.destination = IpNet::new(read_address(payload)?, info[1]).ok()?,
            libc::RTA_GATEWAY => route.gateway = read_address(payload),
            libc::RTA_VIA => route.gateway = payload.get(2..).and_then(read_address),
            libc::RTA_OIF => route.interface = read_u32(payload),
            libc::RTA_PREFSRC => route.source = read_address(payload),
            libc::RTA_TABLE => route.table = read_u32(payload)?,
            libc::RTA_PRIORITY => route.priority = read_u32(payload),
            libc::RTA_MULTIPATH => route.multipath = parse_next_hops(payload),
            libc::RTA_METRICS => {
                for (metric, payload) in Attributes(payload) {
                    match metric {
                        METRIC_MTU => route.mtu = read_u32(payload),
                        METRIC_ADVMSS => route.advertised_mss = read_u32(payload),
                        _ => {}
                    }
                }
            }
            // `struct rta_cacheinfo`: the third number is the time to live, 0 for ever.
            libc::RTA_CACHEINFO => {
                route.expires = payload.get(8..).and_then(read_u32).is_some_and(|ttl| ttl != 0);
            }
            _ => {}
        }
    }
    Some(route)
}

fn parse_next_hops(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut hops = Vec::new();
    while let Some(length) = read_u16(bytes).map(usize::from) {
        let Some((info, attributes)) = bytes.get(..length).and_then(|hop| hop.split_at_checked(NEXT_HOP))
        else {
            break;
        };
        let Some(interface) = read_u32(&info[4..]) else {
            break;
        };
        let mut hop = NextHop {
            gateway: None,
            interface,
            onlink: info[2] & ONLINK != 0,
            weight: u16::from(info[3]) + 1,
        };
        for (kind, payload) in Attributes(attributes) {
            match kind {
                libc::RTA_GATEWAY => hop.gateway = read_address(payload),
                libc::RTA_VIA => hop.gateway = payload.get(2..).and_then(read_address),
                _ => {}
            }
        }
        hops.push(hop);
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    hops
}

fn kind_number(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => libc::RTN_UNICAST,
        RouteKind::Local => libc::RTN_LOCAL,
        RouteKind::Blackhole => libc::RTN_BLACKHOLE,
        RouteKind::Unreachable => libc::RTN_UNREACHABLE,
        RouteKind::Prohibit => libc::RTN_PROHIBIT,
        RouteKind::Throw => libc::RTN_THROW,
        RouteKind::Other(number) => number,
    }
}

fn kind_of(number: u8) -> RouteKind {
    match number {
        libc::RTN_UNICAST => RouteKind::Unicast,
        libc::RTN_LOCAL => RouteKind::Local,
        libc::RTN_BLACKHOLE => RouteKind::Blackhole,
        libc::RTN_UNREACHABLE => RouteKind::Unreachable,
        libc::RTN_PROHIBIT => RouteKind::Prohibit,
        libc::RTN_THROW => RouteKind::Throw,
        number => RouteKind::Other(number),
    }
}

fn scope_number(scope: RouteScope) -> u8 {
    match scope {
        RouteScope::Universe => libc::RT_SCOPE_UNIVERSE,
        RouteScope::Link => libc::RT_SCOPE_LINK,
        RouteScope::Host => libc::RT_SCOPE_HOST,
        RouteScope::Other(number) => number,
    }
}

fn scope_of(number: u8) -> RouteScope {
    match number {
        libc::RT_SCOPE_UNIVERSE => RouteScope::Universe,
        libc::RT_SCOPE_LINK => RouteScope::Link,
        libc::RT_SCOPE_HOST => RouteScope::Host,
        number => RouteScope::Other(number),
    }
}
