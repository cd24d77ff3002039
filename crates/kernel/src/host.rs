// SPDX-License-Identifier: Apache-2.0
//! Facts of the host that decide what a container gets: its way out, its networks, its IPv6.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::Result;
use crate::route::{Family, Route, RouteFilter, RouteProtocol};
use crate::socket::Netlink;
use crate::sysctl;

/// Addresses nobody routes specifically, so a lookup of them meets the default route: reserved for future use (RFC
/// 1112, 4) and outside 2000::/3 (RFC 4291, 2.4).
const NOWHERE_IPV4: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
const NOWHERE_IPV6: Ipv6Addr = Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 1);

/// Whether the calling thread's namespace has IPv6 at all.
pub fn has_ipv6() -> bool {
    // Present but empty where IPv6 is there and no link has an address yet.
    fs::metadata("/proc/thread-self/net/if_inet6").is_ok()
}

impl Netlink {
    /// The default route in use; `None` if there is none. One lookup; reads the main table only where that says nothing.
    pub fn default_route(&mut self, family: Family) -> Result<Option<Route>> {
        let nowhere: IpAddr = match family {
            Family::Ipv4 => NOWHERE_IPV4.into(),
            Family::Ipv6 => NOWHERE_IPV6.into(),
        };
        if let Some(route) = self
            .route_lookup(nowhere)?
            .filter(|route| route.is_default() && leads_out(route))
        {
            return Ok(Some(route));
        }
        let filter = RouteFilter {
            family: Some(family),
            table: Some(254),
            ..RouteFilter::default()
        };
        let routes = self
            .routes(filter)?
            .into_iter()
            .filter(|route| route.is_default() && leads_out(route));
        Ok(routes.min_by_key(|route| route.priority.unwrap_or(0)))
    }

    /// Index of the link of the default route.
    pub fn default_route_device(&mut self, family: Family) -> Result<Option<u32>> {
        Ok(self
            .default_route(family)?
            .and_then(|route| route.interfaces().next()))
    }

    /// Largest packet in bytes that the default route takes: the route's own MTU, else its link's. `None` if there is
    /// no default route.
    pub fn default_route_mtu(&mut self, family: Family) -> Result<Option<u32>> {
        let Some(route) = self.default_route(family)? else {
            return Ok(None);
        };
        match (route.mtu, route.interfaces().next()) {
            (None, Some(index)) => Ok(self.link_by_index(index)?.map(|link| link.mtu)),
            (mtu, _) => Ok(mtu),
        }
    }

    /// Every address of every link, loopback included, with the length of its on-link prefix and the link's name. The
    /// caller leaves out the links that are not the host's own.
    pub fn own_networks(&mut self) -> Result<Vec<(IpNet, String)>> {
        let names: BTreeMap<u32, String> = self
            .links()?
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect();
        let addresses = self.addresses(None)?.into_iter();
        // A link that came or went between the two listings is left out.
        Ok(addresses
            .filter_map(|address| Some((address.prefix, names.get(&address.interface)?.clone())))
            .collect())
    }

    /// The gateways of all routes of all tables.
    pub fn gateways(&mut self) -> Result<BTreeSet<IpAddr>> {
        let routes = self.routes(RouteFilter::default())?;
        Ok(routes.iter().flat_map(Route::gateways).collect())
    }

    /// The links, by index, that learned an IPv6 default route from router advertisements. With IPv6 forwarding on and
    /// `accept_ra` 1 such a link loses it (`net/ipv6/conf/LINK/accept_ra`).
    pub fn router_advertisement_devices(&mut self) -> Result<BTreeSet<u32>> {
        let filter = RouteFilter {
            family: Some(Family::Ipv6),
            ..RouteFilter::default()
        };
        let routes = self.routes(filter)?;
        let learned = routes.iter().filter(|route| {
            // The kernel marks them as its own kind of origin and lets them expire.
            route.is_default() && (route.protocol == RouteProtocol::ROUTER_ADVERTISEMENT || route.expires)
        });
        Ok(learned.flat_map(Route::interfaces).collect())
    }
}

/// What `accept_ra` of a link says: 0 off, 1 unless forwarding, 2 always.
pub fn accept_ra(interface: &str) -> Result<u32> {
    let path = format!("net/ipv6/conf/{interface}/accept_ra");
    let text = sysctl::read(&path)?;
    text.parse()
        .map_err(|_| crate::error::Error::unusable(format!("read sysctl {path}"), "not a number"))
}

fn leads_out(route: &Route) -> bool {
    route.interfaces().next().is_some()
}
