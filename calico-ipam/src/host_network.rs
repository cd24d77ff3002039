// SPDX-License-Identifier: Apache-2.0
//! This host's own network, read from the kernel, for the two questions of the IPAM engine: which prefixes must no
//! block overlap, and is an address in use here although the store says it is free.

use std::{cell::RefCell, fs, net::IpAddr};

use ipam::{HostNetwork, HostNetworkError, Occupied};
use kernel::{Netlink, RouteFilter, RouteKind};
use model::prefix;

/// Reads from the kernel on demand; one socket for all questions.
#[derive(Default)]
pub(crate) struct KernelNetwork {
    socket: RefCell<Option<Netlink>>,
}

/// Devices whose addresses come from pools.
const POOL_DEVICES: [&str; 6] = [
    "cali",
    "tunl0",
    "ipip.calico",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
];

impl KernelNetwork {
    fn ask<T>(
        &self,
        question: impl FnOnce(&mut Netlink) -> kernel::Result<T>,
    ) -> Result<T, HostNetworkError> {
        let failed = |error: kernel::Error| HostNetworkError {
            reason: error.to_string(),
        };
        let mut socket = self.socket.borrow_mut();
        let socket = match &mut *socket {
            Some(socket) => socket,
            empty => empty.insert(Netlink::open().map_err(failed)?),
        };
        question(socket).map_err(failed)
    }
}

impl HostNetwork for KernelNetwork {
    fn occupied(&self) -> Result<Vec<Occupied>, HostNetworkError> {
        let mut occupied = Vec::new();
        let links = self.ask(Netlink::links)?;
        for address in self.ask(|socket| socket.addresses(None))? {
            let name = links
                .iter()
                .find(|link| link.index == address.interface)
                .map_or("", |link| &link.name);
            let from_pool = POOL_DEVICES.iter().any(|device| name.starts_with(device));
            let local = address.ip().is_loopback() || is_link_local(address.ip());
            if !from_pool && !local {
                occupied.push(Occupied {
                    prefix: address.prefix.trunc(),
                    what: format!("network of {name}"),
                });
            }
        }
        for route in self.ask(|socket| socket.routes(RouteFilter::default()))? {
            let name = links
                .iter()
                .find(|link| Some(link.index) == route.interface)
                .map_or("", |link| &link.name);
            let from_pool = POOL_DEVICES.iter().any(|device| name.starts_with(device));
            let on_link = route.kind == RouteKind::Unicast && route.gateway.is_none() && !name.is_empty();
            // A default route without a gateway is the way out, not a neighbourhood.
            let is_default = route.destination.prefix_len() == 0;
            if on_link && !from_pool && !is_default && !is_link_local(route.destination.addr()) {
                occupied.push(Occupied {
                    prefix: route.destination,
                    what: format!("on-link prefix of {name}"),
                });
            }
        }
        for gateway in self.ask(Netlink::gateways)? {
            if !is_link_local(gateway) {
                occupied.push(Occupied {
                    prefix: prefix::host_prefix(gateway),
                    what: "a gateway".to_owned(),
                });
            }
        }
        for server in nameservers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()) {
            occupied.push(Occupied {
                prefix: prefix::host_prefix(server),
                what: "a nameserver".to_owned(),
            });
        }
        Ok(occupied)
    }

    fn in_use(&self, address: IpAddr) -> Result<Option<String>, HostNetworkError> {
        let route = self.ask(|socket| socket.route_lookup(address))?;
        let Some(route) = route.filter(|route| {
            let exact = route.destination.prefix_len() == route.destination.max_prefix_len();
            exact && matches!(route.kind, RouteKind::Unicast | RouteKind::Local)
        }) else {
            return Ok(None);
        };
        let device = match route.interface {
            Some(index) => self.ask(|socket| socket.link_by_index(index))?,
            None => None,
        };
        let device = device.map_or_else(String::new, |link| format!(" on {}", link.name));
        let what = if route.kind == RouteKind::Local {
            "own address"
        } else {
            "route to it"
        };
        Ok(Some(format!("{what}{device}")))
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The servers of a resolv.conf, those on this host itself excepted.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        address.split('%').next()?.parse().ok()
    };
    let remote = |address: &IpAddr| !address.is_loopback() && !is_link_local(*address);
    text.lines().filter_map(server).filter(remote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_and_local_ones_left_out() {
        let text = "# comment\nnameserver 192.168.1.1\nnameserver 127.0.0.53\n nameserver fd00::53 \nnameserver fe80::1%eth0\n\
                    nameserver\nsearch 10.0.0.1\nnameserver bad";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.168.1.1", "fd00::53"]);
    }
}
