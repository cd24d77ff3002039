// SPDX-License-Identifier: Apache-2.0
//! The world outside the hosts: a namespace that forwards, with one link to each host. A host's address is
//! `10.0.<n>.10/24` and `fd00:0:0:<n>::10/64`, its gateway ends in `.1` and `::1`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use kernel::{AddressFlags, Family, PairKind, PairSpec, PeerSpec, Route, host, sysctl};

use crate::namespace::OwnNamespace;
use crate::place::Place;

/// A router between hosts; also the place to stand when something is to be reached from outside.
#[derive(Debug)]
pub struct Router {
    namespace: OwnNamespace,
    links: AtomicU8,
}

/// A host's way out.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// Name of the host's interface.
    pub interface: &'static str,
    /// The host's addresses with their on-link prefixes, IPv4 first; no IPv6 where the kernel has none.
    pub addresses: Vec<IpNet>,
    /// The router's addresses on the same link, in the same order.
    pub gateways: Vec<IpAddr>,
}

impl Router {
    /// A router without links.
    pub fn new() -> Result<Self> {
        let namespace = OwnNamespace::create("router")?;
        namespace.place().run(|| -> Result<()> {
            sysctl::write("net/ipv4/ip_forward", "1")?;
            if host::has_ipv6() {
                sysctl::write("net/ipv6/conf/all/forwarding", "1")?;
            }
            Ok(())
        })??;
        Ok(Self {
            namespace,
            links: AtomicU8::new(0),
        })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        self.namespace.place()
    }

    /// Links a host to it: addresses on both ends, default routes in the host.
    pub(crate) fn attach(&self, host: &Place) -> Result<Uplink> {
        let number = self.links.fetch_add(1, Ordering::Relaxed) + 1;
        let outside = format!("host{number}");
        let uplink = Uplink::new(number, host.run(host::has_ipv6)?);
        let mut inner = host.netlink()?;
        let mut outer = self.place().netlink()?;
        outer
            .create_pair(&PairSpec {
                kind: PairKind::Veth,
                name: &outside,
                mac: None,
                mtu: None,
                queues: None,
                peer: PeerSpec {
                    name: uplink.interface,
                    namespace: Some(host.network().as_fd()),
                    mac: None,
                },
            })
            .context("link a host to the router")?;
        let near = inner
            .link_by_name(uplink.interface)?
            .context("the uplink is gone")?;
        let far = outer
            .link_by_name(&outside)?
            .context("the router's link is gone")?;
        for (address, gateway) in uplink.addresses.iter().zip(&uplink.gateways) {
            inner.add_address(&near, *address, AddressFlags::NO_DAD)?;
            let on_link = IpNet::new(*gateway, address.prefix_len())?;
            outer.add_address(&far, on_link, AddressFlags::NO_DAD)?;
        }
        inner.set_link_up(&near)?;
        outer.set_link_up(&far)?;
        for gateway in &uplink.gateways {
            let everything = Family::of(*gateway).default_prefix();
            inner.add_route(&Route::through(everything, *gateway, near.index))?;
        }
        Ok(uplink)
    }

    /// Sends packets for `destination` to a host: what BGP will do one day.
    pub fn route_to(&self, destination: IpNet, uplink: &Uplink) -> Result<()> {
        let via = uplink.addresses.iter().map(IpNet::addr);
        let family = Family::of(destination.addr());
        let via = via.into_iter().find(|address| Family::of(*address) == family);
        let via = via.with_context(|| format!("the host has no address of the family of {destination}"))?;
        let mut netlink = self.place().netlink()?;
        let towards = netlink.route_lookup(via)?.and_then(|route| route.interface);
        let towards = towards.with_context(|| format!("the router has no way to {via}"))?;
        Ok(netlink.replace_route(&Route::through(destination, via, towards))?)
    }
}

impl Uplink {
    fn new(number: u8, has_ipv6: bool) -> Self {
        let v4 = |last| IpAddr::V4(Ipv4Addr::new(10, 0, number, last));
        let v6 = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, u16::from(number), 0, 0, 0, last));
        let net = |address: IpAddr| {
            let length = if address.is_ipv4() { 24 } else { 64 };
            IpNet::new(address, length).expect("24 and 64 are lengths of the two families")
        };
        let mut uplink = Self {
            interface: "eth0",
            addresses: vec![net(v4(10))],
            gateways: vec![v4(1)],
        };
        if has_ipv6 {
            // 0x10: addresses are read as text.
            uplink.addresses.push(net(v6(0x10)));
            uplink.gateways.push(v6(1));
        }
        uplink
    }
}
