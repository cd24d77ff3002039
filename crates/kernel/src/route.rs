// SPDX-License-Identifier: Apache-2.0
//! Routes of both families: adding, replacing, deleting, listing with the kernel's own filter, and looking up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Result;
use crate::request::Request;
use crate::socket::Netlink;
use crate::wire::{INET, INET6, Message, family};

mod message;
mod writer;

use message::INFO;
pub(crate) use message::parse_route;
pub use writer::{RouteChange, RouteFailure, RouteWriter};

/// Flags of a request that must not find a route of the same destination, table and metric, and of one that may.
const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

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
        RouteChange::Add(route).into()
    }

    /// Adds a route in place of one of the same destination, table and metric, if there is one.
    pub fn replace_route(route: &Route) -> Self {
        RouteChange::Replace(route).into()
    }

    /// Deletes a route; ESRCH if there is none. What is left out of `route` matches anything.
    pub fn delete_route(route: &Route) -> Self {
        RouteChange::Delete(route).into()
    }
}

impl From<RouteChange<'_>> for Request {
    fn from(change: RouteChange<'_>) -> Self {
        Self::new(change.message(), change.to_string())
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
        // IPv6 answers with the table anyway and refuses to be asked for it.
        let flags = match address {
            IpAddr::V4(_) => libc::RTM_F_FIB_MATCH | libc::RTM_F_LOOKUP_TABLE,
            IpAddr::V6(_) => libc::RTM_F_FIB_MATCH,
        };
        info[8..12].copy_from_slice(&flags.to_ne_bytes());
        let mut message = Message::new(libc::RTM_GETROUTE, 0).fixed(&info);
        message.address(libc::RTA_DST, address);
        match self.query(&mut message, &operation, parse_route) {
            Ok(route) => Ok(Some(route)),
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
