// SPDX-License-Identifier: Apache-2.0
//! What an interface is to be: names, addresses, routes, settings on both sides. ADD carries a plan out, CHECK compares
//! with it. Values follow Calico.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kernel::{Ipv4Conf, MacAddress, PairKind, Route};
use model::prefix;

/// MAC address of every host side: containers of all hosts see the same next hop.
pub const HOST_MAC: MacAddress = MacAddress([0xee; 6]);
/// The IPv4 next hop of every container; no interface has it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The IPv6 next hop: the link-local address that `HOST_MAC` makes.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
/// Metric of IPv6 routes in containers, the kernel's default.
const V6_METRIC: u32 = 1024;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Name of the host side.
    pub host_interface: &'a str,
    /// Name inside the container.
    pub interface: &'a str,
    /// Alias of the host side.
    pub alias: Option<String>,
    /// MAC address of the container side.
    pub mac: MacAddress,
    /// MTU of both sides; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// Queues of both sides.
    pub queues: u32,
    /// Driver.
    pub device: PairKind,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// Where the container's routes lead; all go through the next hop.
    pub destinations: Vec<IpNet>,
    /// Whether the container may forward packets.
    pub allow_ip_forwarding: bool,
    /// Whether the container may send from addresses that are not its own.
    pub allow_other_sources: bool,
    /// Whether an interface that has the host side's name is a leftover, whatever its alias says.
    pub replaces_any: bool,
}

impl Plan<'_> {
    /// Whether an interface with the host side's name and this alias is a leftover.
    pub fn may_replace(&self, alias: Option<&str>) -> bool {
        self.replaces_any || alias.is_some() && alias == self.alias.as_deref()
    }

    /// Whether an IPv4 address is among the container's.
    pub fn has_v4(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }

    /// Whether an IPv6 address is among the container's.
    pub fn has_v6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    /// The next hop of a family, if the container has an address of it.
    pub fn gateway(&self, destination: &IpNet) -> Option<IpAddr> {
        match destination {
            IpNet::V4(_) => self.has_v4().then_some(IpAddr::V4(GATEWAY_V4)),
            IpNet::V6(_) => self.has_v6().then_some(IpAddr::V6(GATEWAY_V6)),
        }
    }

    /// Sysctls of the host side that netlink sets: (name, value).
    pub fn host_ipv4_conf(&self) -> Vec<(Ipv4Conf, u32)> {
        if !self.has_v4() {
            return Vec::new();
        }
        vec![
            (Ipv4Conf::RpFilter, u32::from(!self.allow_other_sources)),
            (Ipv4Conf::RouteLocalnet, 1),
            (Ipv4Conf::ProxyArp, 1),
            (Ipv4Conf::Forwarding, 1),
        ]
    }

    /// The host's route to each address.
    pub fn host_routes(&self, interface: u32) -> Vec<Route> {
        self.addresses
            .iter()
            .map(|address| Route::on_link(prefix::host_prefix(*address), interface))
            .collect()
    }

    /// The container's routes.
    pub fn container_routes(&self, interface: u32) -> Vec<Route> {
        let mut routes = Vec::new();
        if self.has_v4() {
            routes.push(Route::on_link(prefix::host_prefix(GATEWAY_V4.into()), interface));
        }
        for destination in &self.destinations {
            if let Some(gateway) = self.gateway(destination) {
                let mut route = Route::through(*destination, gateway, interface);
                route.priority = gateway.is_ipv6().then_some(V6_METRIC);
                routes.push(route);
            }
        }
        routes
    }

    /// The container's permanent neighbours: the next hops.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let v4 = self.has_v4().then_some(IpAddr::V4(GATEWAY_V4));
        v4.into_iter()
            .chain(self.has_v6().then_some(IpAddr::V6(GATEWAY_V6)))
            .collect()
    }
}
