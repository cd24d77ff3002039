// SPDX-License-Identifier: Apache-2.0
//! Subnets with a router between them: each subnet is a bridge, and several hosts share it.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use kernel::{AddressFlags, Family, PairKind, PairSpec, PeerSpec, Route, host, sysctl};

use crate::host::Host;
use crate::namespace::OwnNamespace;
use crate::peers;
use crate::place::Place;
use crate::process::{PATIENCE, Program};

/// Subnets and the router between them.
#[derive(Debug)]
pub struct Lan {
    namespace: OwnNamespace,
    ports: std::sync::atomic::AtomicU32,
}

/// Name of a host's interface in a subnet.
pub const INTERFACE: &str = "eth1";

impl Lan {
    /// Without subnets.
    pub fn new() -> Result<Self> {
        let namespace = OwnNamespace::create("lan")?;
        namespace.place().run(|| -> Result<()> {
            sysctl::write("net/ipv4/ip_forward", "1")?;
            if host::has_ipv6() {
                sysctl::write("net/ipv6/conf/all/forwarding", "1")?;
            }
            Ok(())
        })??;
        Ok(Self {
            namespace,
            ports: std::sync::atomic::AtomicU32::new(0),
        })
    }

    /// The router: the place to stand when something is to be reached from outside.
    pub fn place(&self) -> &Place {
        self.namespace.place()
    }

    /// Makes a subnet; `gateways` are the router's own addresses in it, if it is to have any.
    pub fn subnet(&self, name: &str, gateways: &[IpNet]) -> Result<()> {
        // Bridges are the machine's `ip`'s business: nothing of ours makes any.
        self.ip(&["link", "add", name, "type", "bridge"])?;
        let mut netlink = self.place().netlink()?;
        let bridge = netlink.link_by_name(name)?.context("the bridge is gone")?;
        for gateway in gateways {
            netlink.add_address(&bridge, *gateway, AddressFlags::NO_DAD)?;
        }
        netlink.set_link_up(&bridge)?;
        Ok(())
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        let program = peers::find_program("ip").context("no program ip")?;
        Program::new(self.place(), program)
            .args(arguments)
            .succeed(PATIENCE)
            .map(drop)
    }

    /// Links a host into a subnet, with addresses, and default routes through gateways.
    pub fn attach(
        &self,
        host: &Host,
        subnet: &str,
        addresses: &[IpNet],
        gateways: &[std::net::IpAddr],
    ) -> Result<()> {
        let number = self.ports.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let outside = format!("port{number}");
        let mut inner = host.netlink()?;
        let mut outer = self.place().netlink()?;
        outer.create_pair(&PairSpec {
            kind: PairKind::Veth,
            name: &outside,
            mac: None,
            mtu: None,
            queues: None,
            peer: PeerSpec {
                name: INTERFACE,
                namespace: Some(host.place().network().as_fd()),
                mac: None,
            },
        })?;
        self.ip(&["link", "set", &outside, "master", subnet])?;
        let near = inner
            .link_by_name(INTERFACE)?
            .context("the host's link is gone")?;
        let far = outer
            .link_by_name(&outside)?
            .context("the subnet's link is gone")?;
        for address in addresses {
            inner.add_address(&near, *address, AddressFlags::NO_DAD)?;
        }
        inner.set_link_up(&near)?;
        outer.set_link_up(&far)?;
        for gateway in gateways {
            let everything = Family::of(*gateway).default_prefix();
            inner.add_route(&Route::through(everything, *gateway, near.index))?;
        }
        Ok(())
    }
}
