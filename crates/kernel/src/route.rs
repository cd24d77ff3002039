// SPDX-License-Identifier: Apache-2.0
//! Routes of both families: adding, replacing, deleting, listing with the kernel's own filter, and looking up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{
    Attributes, INET, INET6, Message, Received, aligned, family, read_address, read_u16, read_u32,
};

/// Bytes of `struct rtmsg`.
const INFO: usize = 12;
/// Bytes of `struct rtnexthop`.
const NEXT_HOP: usize = 8;
/// `RTNH_F_ONLINK`.
const ONLINK: u8 = 4;
/// `RTAX_MTU` and `RTAX_ADVMSS`, inside `RTA_METRICS`.
const METRIC_MTU: u16 = 2;
const METRIC_ADVMSS: u16 = 8;
/// The table ordinary routes are in.
const MAIN_TABLE: u32 = libc::RT_TABLE_MAIN as u32;

/// What happens to packets (`RTN_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteKind {
    /// Sent on, by a gateway or directly.
    #[default]
    Unicast,
    /// Delivered here.
    Local,
    /// Dropped without a word.
    Blackhole,
    /// Dropped with ICMP "unreachable".
    Unreachable,
    /// Dropped with ICMP "prohibited".
    Prohibit,
    /// The lookup goes on in the next table.
    Throw,
    /// Broadcast, anycast, multicast and whatever else exists.
    Other(u8),
}

/// Distance of the destination (`RT_SCOPE_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteScope {
    /// Behind a gateway, or IPv6.
    #[default]
    Universe,
    /// Directly on the link.
    Link,
    /// On this host.
    Host,
    /// Any other.
    Other(u8),
}

/// Who made a route (`RTPROT_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteProtocol(pub u8);

impl RouteProtocol {
    /// The kernel itself, with an address.
    pub const KERNEL: Self = Self(2);
    /// `ip route` without a protocol, and the CNI plugins.
    pub const BOOT: Self = Self(3);
    /// The administrator.
    pub const STATIC: Self = Self(4);
    /// A router advertisement.
    pub const ROUTER_ADVERTISEMENT: Self = Self(9);
}

impl Default for RouteProtocol {
    fn default() -> Self {
        Self::BOOT
    }
}

/// One of several ways of a multipath route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Router; absent where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link.
    pub interface: u32,
    /// The gateway is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    /// Share of the traffic, from 1.
    pub weight: u16,
}

/// A route, to be written or as the kernel reports it. `Route::to(prefix)` fills in the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: IpNet,
    /// What happens to its packets.
    pub kind: RouteKind,
    /// Router; may be of the other family (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Index of the link.
    pub interface: Option<u32>,
    /// The gateway is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    /// Several ways instead of `gateway` and `interface`.
    pub multipath: Vec<NextHop>,
    /// Source address for packets of this host.
    pub source: Option<IpAddr>,
    /// Distance of the destination.
    pub scope: RouteScope,
    /// Who made it.
    pub protocol: RouteProtocol,
    /// Routing table; 254 is main.
    pub table: u32,
    /// Metric: the smaller wins. The kernel takes 0 as 1024 for IPv6.
    pub priority: Option<u32>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Segment size announced by TCP in bytes.
    pub advertised_mss: Option<u32>,
    /// Reported only: it goes by itself (learned from router advertisements).
    pub expires: bool,
}

impl Route {
    /// A unicast route in the main table, protocol boot, with neither gateway nor link yet.
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination,
            kind: RouteKind::Unicast,
            gateway: None,
            interface: None,
            onlink: false,
            multipath: Vec::new(),
            source: None,
            scope: RouteScope::Universe,
            protocol: RouteProtocol::BOOT,
            table: MAIN_TABLE,
            priority: None,
            mtu: None,
            advertised_mss: None,
            expires: false,
        }
    }

    /// A route to what is directly on a link: scope link for IPv4, universe for IPv6, which knows no other.
    pub fn on_link(destination: IpNet, interface: u32) -> Self {
        let scope = match destination {
            IpNet::V4(_) => RouteScope::Link,
            IpNet::V6(_) => RouteScope::Universe,
        };
        Self {
            interface: Some(interface),
            scope,
            ..Self::to(destination)
        }
    }

    /// A route through a gateway on a link.
    pub fn through(destination: IpNet, gateway: IpAddr, interface: u32) -> Self {
        Self {
            gateway: Some(gateway),
            interface: Some(interface),
            ..Self::to(destination)
        }
    }

    /// Whether it leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    /// Every gateway it names.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.gateway
            .into_iter()
            .chain(self.multipath.iter().filter_map(|hop| hop.gateway))
    }

    /// Every link it names, by index.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> + '_ {
        self.interface
            .into_iter()
            .chain(self.multipath.iter().map(|hop| hop.interface))
    }
}

/// As `ip route` writes it.
impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Local => formatter.write_str("local ")?,
            RouteKind::Blackhole => formatter.write_str("blackhole ")?,
            RouteKind::Unreachable => formatter.write_str("unreachable ")?,
            RouteKind::Prohibit => formatter.write_str("prohibit ")?,
            RouteKind::Throw => formatter.write_str("throw ")?,
            RouteKind::Other(kind) => write!(formatter, "type {kind} ")?,
        }
        write!(formatter, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(formatter, " via {gateway}")?;
        }
        if let Some(interface) = self.interface {
            write!(formatter, " dev index {interface}")?;
        }
        for hop in &self.multipath {
            formatter.write_str(" nexthop")?;
            if let Some(gateway) = hop.gateway {
                write!(formatter, " via {gateway}")?;
            }
            write!(formatter, " dev index {}", hop.interface)?;
        }
        if self.table != MAIN_TABLE {
            write!(formatter, " table {}", self.table)?;
        }
        if let Some(priority) = self.priority {
            write!(formatter, " metric {priority}")?;
        }
        Ok(())
    }
}

/// Which routes to list; absent means any. The kernel filters, where it can (5.0 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteFilter {
    /// One family, by any of its addresses' kind; both if absent.
    pub family: Option<Family>,
    /// Routes over this link, by index.
    pub interface: Option<u32>,
    /// Routes of this table.
    pub table: Option<u32>,
    /// Routes of this origin.
    pub protocol: Option<RouteProtocol>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The prefix of length 0.
    pub fn default_prefix(self) -> IpNet {
        match self {
            Self::Ipv4 => Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::Ipv6 => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }
}

impl Request {
    /// Adds a route; EEXIST if there is one of the same destination, table and metric.
    pub fn add_route(route: &Route) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        Self::new(
            route_message(libc::RTM_NEWROUTE, flags, route),
            format!("add route {route}"),
        )
    }

    /// Adds a route in place of one of the same destination, table and metric, if there is one.
    pub fn replace_route(route: &Route) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        Self::new(
            route_message(libc::RTM_NEWROUTE, flags, route),
            format!("replace route {route}"),
        )
    }

    /// Deletes a route; ESRCH if there is none. What is left out of `route` matches anything.
    pub fn delete_route(route: &Route) -> Self {
        Self::new(
            route_message(libc::RTM_DELROUTE, 0, route),
            format!("delete route {route}"),
        )
    }
}

impl Netlink {
    /// See [`Request::add_route`].
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.execute(Request::add_route(route))
    }

    /// See [`Request::replace_route`].
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        self.execute(Request::replace_route(route))
    }

    /// Deletes a route. Whether it was there.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool> {
        match self.execute(Request::delete_route(route)) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The routes that pass the filter. A table or link that does not exist has none.
    pub fn routes(&mut self, filter: RouteFilter) -> Result<Vec<Route>> {
        let families = match filter.family {
            Some(Family::Ipv4) => &[INET][..],
            Some(Family::Ipv6) => &[INET6],
            None => &[INET, INET6],
        };
        let mut routes = Vec::new();
        for family in families {
            let mut info = [0; INFO];
            info[0] = *family;
            info[5] = filter.protocol.map_or(0, |protocol| protocol.0);
            let mut message = Message::new(libc::RTM_GETROUTE, 0).fixed(&info);
            if let Some(table) = filter.table {
                message.number(libc::RTA_TABLE, table);
            }
            if let Some(interface) = filter.interface {
                message.number(libc::RTA_OIF, interface);
            }
            let listing = self.dump(message, "list routes", |routes: &mut Vec<Route>, received| {
                routes.extend(parse_route(received).filter(|route| filter.admits(route)));
            });
            match listing {
                Ok(listed) => routes.extend(listed),
                // No such table, no such link, no such family.
                Err(error) if error.is_not_found() || error.is_unsupported() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// The route a packet of this host to `address` would take, exactly as it is in the table (prefix, metric,
    /// protocol); `None` if there is no way.
    pub fn route_lookup(&mut self, address: IpAddr) -> Result<Option<Route>> {
        let operation = format!("look up the route to {address}");
        let mut info = [0; INFO];
        info[0] = family(address);
        info[1] = if address.is_ipv4() { 32 } else { 128 };
        info[8..12].copy_from_slice(&libc::RTM_F_FIB_MATCH.to_ne_bytes());
        let mut message = Message::new(libc::RTM_GETROUTE, libc::NLM_F_ACK).fixed(&info);
        message.address(libc::RTA_DST, address);
        let mut found = None;
        match self.ask(&mut message, &operation, |received| found = parse_route(received)) {
            Ok(()) if found.is_none() => {
                Err(Error::unusable(operation, "the kernel answered without a route"))
            }
            Ok(()) => Ok(found),
            Err(error) if error.is_not_found() || error.is_unreachable() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl RouteFilter {
    fn admits(&self, route: &Route) -> bool {
        self.interface
            .is_none_or(|index| route.interfaces().any(|interface| interface == index))
            && self.table.is_none_or(|table| route.table == table)
            && self.protocol.is_none_or(|protocol| route.protocol == protocol)
    }
}

fn route_message(kind: u16, flags: i32, route: &Route) -> Message {
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

/// The route of an `RTM_NEWROUTE` message; copies the kernel keeps per packet (`RTM_F_CLONED`) are none.
fn parse_route(received: &Received<'_>) -> Option<Route> {
    if received.kind != libc::RTM_NEWROUTE {
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
