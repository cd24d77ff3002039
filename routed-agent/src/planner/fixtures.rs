// SPDX-License-Identifier: Apache-2.0
//! Devices, far ends of tunnels, the firewall: what there should be besides routes.

use std::sync::Arc;

use ipnet::IpNet;
use kernel::MacAddress;
use model::ip_pool::{AllowedUse, IpPoolSpec};

use super::Planner;
use crate::{
    encapsulation::{self, Encapsulation},
    nftables::{Firewall, Guarded},
    plan::{Fixtures, Tunnel, TunnelKind, VxlanPeer, vxlan_mac},
};

/// What the MTU of the device below loses to a header, in bytes.
const IPIP_OVERHEAD: u32 = 20;
const VXLAN_OVERHEAD: u32 = 50;
const VXLAN6_OVERHEAD: u32 = 70;
/// Of a host whose device is not known.
const UNKNOWN_MTU: u32 = 1460;

impl Planner<'_> {
    /// Devices, far ends, firewall.
    pub fn fixtures(&self) -> Fixtures {
        let mut fixtures = Fixtures {
            forwarding: self.choices.forwarding,
            ipv6: self.choices.ipv6
                && (self.local(true).is_some()
                    || self
                        .snapshot
                        .pools
                        .values()
                        .any(|pool| pool.spec.cidr.addr().is_ipv6())),
            ..Fixtures::default()
        };
        let node = self.snapshot.nodes.get(&self.choices.node);
        if let (Some(pool), Some(local)) = (self.has_pool(Encapsulation::Ipip, false), self.local(false)) {
            let bgp = node.and_then(|node| node.spec.bgp.as_ref());
            fixtures.tunnels.push(Tunnel {
                name: Arc::clone(&self.choices.ipip_device),
                kind: TunnelKind::Ipip,
                mtu: self
                    .choices
                    .ipip_mtu
                    .unwrap_or_else(|| self.host_mtu(local).saturating_sub(IPIP_OVERHEAD)),
                address: bgp.and_then(|bgp| bgp.ipv4_ipip_tunnel_addr),
                local: local.addr(),
                reason: format!("pool {pool} uses IPIP"),
            });
        }
        for v6 in [false, true] {
            self.add_vxlan(v6, &mut fixtures);
        }
        fixtures.firewall = self.firewall(&fixtures.tunnels);
        fixtures
    }

    /// Pools that some encapsulation is asked for in.
    fn has_pool(&self, wanted: Encapsulation, v6: bool) -> Option<&str> {
        if !self.is_enabled(wanted) {
            return None;
        }
        let asks =
            |spec: &IpPoolSpec| spec.cidr.addr().is_ipv6() == v6 && encapsulation::of_pool(spec).0 == wanted;
        let found = self.snapshot.pools.values().find(|pool| asks(&pool.spec));
        found.map(|pool| pool.metadata.name.as_str())
    }

    fn mac_of(&self, node: &str, v6: bool) -> MacAddress {
        let spec = self.snapshot.nodes.get(node).map(|node| &node.spec);
        let recorded = spec.and_then(|spec| {
            if v6 {
                spec.vxlan_tunnel_mac_addr_v6.as_deref()
            } else {
                spec.vxlan_tunnel_mac_addr.as_deref()
            }
        });
        recorded
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| vxlan_mac(node, v6))
    }

    fn firewall(&self, tunnels: &[Tunnel]) -> Firewall {
        let mut firewall = self.choices.firewall.clone();
        for pool in self.snapshot.pools.values() {
            // Addresses of load balancers are on no container.
            if pool.spec.allows(AllowedUse::Workload) || pool.spec.allows(AllowedUse::Tunnel) {
                firewall.all_pools.insert(pool.spec.cidr);
            }
            if pool.spec.nat_outgoing {
                firewall.nat_pools.insert(pool.spec.cidr);
            }
        }
        let nodes = self
            .snapshot
            .nodes
            .values()
            .filter_map(|node| node.spec.bgp.as_ref());
        let addresses = nodes
            .flat_map(|bgp| [bgp.ipv4_address, bgp.ipv6_address])
            .flatten();
        firewall
            .nodes
            .extend(addresses.map(|address| IpNet::from(address.addr())));
        firewall.tunnels = tunnels
            .iter()
            .map(|tunnel| Guarded {
                device: tunnel.name.to_string(),
                address: tunnel.address,
                local: tunnel.local,
                port: match tunnel.kind {
                    TunnelKind::Ipip => None,
                    TunnelKind::Vxlan { port, .. } => Some(port),
                },
            })
            .collect();
        firewall
    }

    fn add_vxlan(&self, v6: bool, fixtures: &mut Fixtures) {
        let (Some(pool), Some(local)) = (self.has_pool(Encapsulation::Vxlan, v6), self.local(v6)) else {
            return;
        };
        let Some(parent) = self.facts.device_of(local.addr()) else {
            return;
        };
        let (name, mtu, overhead) = if v6 {
            (
                &self.choices.vxlan6_device,
                self.choices.vxlan6_mtu,
                VXLAN6_OVERHEAD,
            )
        } else {
            (&self.choices.vxlan_device, self.choices.vxlan_mtu, VXLAN_OVERHEAD)
        };
        fixtures.tunnels.push(Tunnel {
            name: Arc::clone(name),
            kind: TunnelKind::Vxlan {
                id: self.choices.vxlan_id,
                port: self.choices.vxlan_port,
                parent: Arc::clone(&parent.name),
                mac: self.mac_of(&self.choices.node, v6),
            },
            mtu: mtu.unwrap_or_else(|| self.host_mtu(local).saturating_sub(overhead)),
            address: self.tunnel_address(&self.choices.node, v6),
            local: local.addr(),
            reason: format!("pool {pool} uses VXLAN"),
        });
        for other in self
            .snapshot
            .nodes
            .keys()
            .filter(|other| **other != self.choices.node)
        {
            let (Some(tunnel_address), Some(node)) = (
                self.tunnel_address(other, v6),
                self.snapshot.node_address(other, v6),
            ) else {
                continue;
            };
            fixtures.vxlan_peers.insert(VxlanPeer {
                device: Arc::clone(name),
                mac: self.mac_of(other, v6).0,
                tunnel_address,
                node_address: node.addr(),
            });
        }
    }

    fn host_mtu(&self, local: IpNet) -> u32 {
        if let Some(device) = self.facts.device_of(local.addr()) {
            return device.mtu;
        }
        let pattern = regex::Regex::new(&self.choices.mtu_pattern).ok();
        let links = self.facts.links.values().filter(|link| link.up);
        let fitting = links.filter(|link| {
            pattern
                .as_ref()
                .is_some_and(|pattern| pattern.is_match(&link.name))
        });
        fitting.map(|link| link.mtu).min().unwrap_or(UNKNOWN_MTU)
    }

    /// The MTU for new containers: what fits through every encapsulation in use.
    pub fn container_mtu(&self, fixtures: &Fixtures) -> Option<u32> {
        let local = self.local(false).or_else(|| self.local(true))?;
        let tunnels = fixtures.tunnels.iter().map(|tunnel| tunnel.mtu).min();
        Some(tunnels.unwrap_or_else(|| self.host_mtu(local)))
    }
}
