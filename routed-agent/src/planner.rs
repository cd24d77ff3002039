// SPDX-License-Identifier: Apache-2.0
//! From what is known (store, kernel, BGP) to what should be: pure functions.

mod fixtures;
mod from_store;
mod learned;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use bgp::Attributes;
use ipnet::IpNet;
use model::ip_pool::EncapsulationMode;

use crate::{
    encapsulation::{self, Decision, Encapsulation, Remote},
    facts::{Facts, Hop, Underlay},
    nftables::Firewall,
    plan::{PlannedRoute, Refusal, RouteOrigin, Way},
    snapshot::Snapshot,
};

/// What planning depends on besides store and kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Choices {
    /// This node.
    pub node: String,
    /// Name of the IPIP device.
    pub ipip_device: Arc<str>,
    /// Name of the VXLAN device.
    pub vxlan_device: Arc<str>,
    /// Name of the VXLAN device for IPv6.
    pub vxlan6_device: Arc<str>,
    /// MTU of the IPIP device; `None`: what fits.
    pub ipip_mtu: Option<u32>,
    /// MTU of the VXLAN device; `None`: what fits.
    pub vxlan_mtu: Option<u32>,
    /// MTU of the VXLAN device for IPv6; `None`: what fits.
    pub vxlan6_mtu: Option<u32>,
    /// VXLAN network identifier.
    pub vxlan_id: u32,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Metric of IPv4 routes.
    pub metric_v4: u32,
    /// Metric of IPv6 routes.
    pub metric_v6: u32,
    /// Routes to other hosts come from the store alone: BGP is off.
    pub without_bgp: bool,
    /// Routes to containers of other nodes follow from each container's address, not from blocks.
    pub by_workload: bool,
    /// Whether IP in IP may be used at all.
    pub ipip_enabled: bool,
    /// Whether VXLAN may be used at all.
    pub vxlan_enabled: bool,
    /// Whether routes that go through IP in IP are programmed.
    pub programs_ipip: bool,
    /// Whether routes without encapsulation are programmed.
    pub programs_unencapsulated: bool,
    /// Every prefix that is on a link counts as near for `CrossSubnet`.
    pub onlink_is_near: bool,
    /// Source address of the host's own packets, IPv4.
    pub source_v4: Option<IpAddr>,
    /// Source address of the host's own packets, IPv6.
    pub source_v6: Option<IpAddr>,
    /// The host's forwarding is switched on.
    pub forwarding: bool,
    /// IPv6 is looked after.
    pub ipv6: bool,
    /// What settings make of the firewall; pools, nodes and tunnels come to it.
    pub firewall: Firewall,
    /// Interfaces whose MTU counts where the device of the node's address is not known.
    pub mtu_pattern: String,
}

pub use learned::LearnedRoutes;

/// Everything that planning needs.
#[derive(Clone, Copy, Debug)]
pub struct Planner<'a> {
    /// The store.
    pub snapshot: &'a Snapshot,
    /// The kernel.
    pub facts: &'a Facts,
    /// Settings.
    pub choices: &'a Choices,
}

/// Reason codes of routes that are not programmed.
pub mod code {
    /// The prefix is in a block of this node.
    pub const OWN_BLOCK: &str = "overlaps-own-block";
    /// The route would take traffic to an address that this host depends on.
    pub const COVERS: &str = "covers-needed-address";
    /// Somebody else on this host has the same route.
    pub const FOREIGN: &str = "foreign-route";
    /// There is no way to the next hop.
    pub const UNREACHABLE: &str = "next-hop-unreachable";
    /// The tunnel cannot be used yet.
    pub const TUNNEL: &str = "tunnel-not-ready";
}

impl<'a> Planner<'a> {
    fn local(&self, v6: bool) -> Option<IpNet> {
        self.snapshot.node_address(&self.choices.node, v6)
    }

    /// This node's address first, then whatever else is near.
    fn near(&self, v6: bool) -> Vec<IpNet> {
        let own = self.local(v6).into_iter();
        let links = self.facts.addresses.iter().map(|(prefix, _)| *prefix);
        let links = links.filter(|prefix| self.choices.onlink_is_near && prefix.addr().is_ipv6() == v6);
        own.chain(links).collect()
    }

    /// Whether an encapsulation may be used at all.
    fn is_enabled(&self, encapsulation: Encapsulation) -> bool {
        match encapsulation {
            Encapsulation::Ipip => self.choices.ipip_enabled,
            Encapsulation::Vxlan => self.choices.vxlan_enabled,
            Encapsulation::Direct => true,
        }
    }

    fn source(&self, prefix: &IpNet) -> Option<IpAddr> {
        match prefix {
            IpNet::V4(_) => self.choices.source_v4,
            IpNet::V6(_) => self.choices.source_v6,
        }
    }

    fn metric(&self, prefix: &IpNet) -> u32 {
        match prefix {
            IpNet::V4(_) => self.choices.metric_v4,
            IpNet::V6(_) => self.choices.metric_v6,
        }
    }

    /// How traffic to a prefix travels, whatever leads to it. `next_hop` is what BGP says.
    pub fn decide(&self, prefix: &IpNet, next_hop: Option<IpAddr>) -> (Decision, Option<&'a str>) {
        let owner = self.snapshot.owner_of(prefix).map(|owner| owner.node);
        let node = owner.or_else(|| self.snapshot.node_by_address(next_hop?));
        (self.decide_for(prefix, node), node)
    }

    /// The same where it is known which node the prefix belongs to, or that it belongs to none.
    fn decide_for(&self, prefix: &IpNet, node: Option<&str>) -> Decision {
        let v6 = prefix.addr().is_ipv6();
        let pool = self.snapshot.pool_of(prefix);
        let pool = pool.map(|pool| (pool.metadata.name.as_str(), &pool.spec));
        let remote = node.map_or(Remote::Router, |name| Remote::Node {
            name,
            address: self.snapshot.node_address(name, v6),
        });
        let mut decision = encapsulation::decide(pool, &self.near(v6), remote);
        if !self.is_enabled(decision.encapsulation) {
            decision.reason = format!(
                "{}, but {} is switched off",
                decision.reason, decision.encapsulation
            );
            decision.encapsulation = Encapsulation::Direct;
        }
        decision
    }

    fn tunnelled(&self, prefix: &IpNet, peer: IpAddr, origin: RouteOrigin, reason: Arc<str>) -> PlannedRoute {
        PlannedRoute {
            way: Way::Via {
                hops: [Hop {
                    gateway: Some(peer),
                    device: Arc::clone(&self.choices.ipip_device),
                }]
                .into(),
                onlink: true,
            },
            metric: self.metric(prefix),
            source: self.source(prefix),
            encapsulation: Encapsulation::Ipip,
            origin,
            reason,
        }
    }

    /// Why a learned route must not be programmed.
    fn refuse(&self, prefix: &IpNet) -> Option<Refusal> {
        if let Some(block) = self.snapshot.block_of(&self.choices.node, prefix) {
            let elsewhere = self
                .snapshot
                .owner_of(prefix)
                .filter(|owner| owner.node != self.choices.node);
            if elsewhere.is_none() {
                return Some(Refusal {
                    code: code::OWN_BLOCK,
                    text: format!(
                        "{prefix} is inside block {block}, which is this node's: somebody else announces it"
                    ),
                });
            }
        }
        if let Some(address) = self
            .needed(prefix)
            .find(|address| self.would_take(prefix, *address))
        {
            return Some(Refusal {
                code: code::COVERS,
                text: format!("{prefix} would take the traffic to {address}, which this host depends on"),
            });
        }
        let metric = self.metric(prefix);
        let same = |route: &&Underlay| {
            let its = if prefix.addr().is_ipv6() {
                route.metric.max(1)
            } else {
                route.metric
            };
            route.destination == *prefix && its == metric
        };
        self.facts.underlay.iter().find(same).map(|found| Refusal {
            code: code::FOREIGN,
            text: format!(
                "a route to {prefix} with metric {metric} is there already, of protocol {}",
                found.protocol
            ),
        })
    }

    /// Addresses that must stay where they are: own ones, gateways, and inside a prefix those of other nodes and of BGP
    /// peers on a link. Peers farther away may be reached by what BGP says.
    fn needed(&self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> + use<'a> {
        let prefix = *prefix;
        let facts = self.facts;
        let own = facts.addresses.iter().map(|(prefix, _)| prefix.addr());
        let gateways = facts.underlay.iter().flat_map(|route| &route.hops);
        let gateways = gateways.filter_map(|hop| hop.gateway);
        let peers = self.snapshot.bgp_peers.values();
        let peers = peers.filter_map(|peer| Some(peer.spec.peer_ip.as_ref()?.address));
        let is_on_link = |address: &IpAddr| facts.lookup(*address).is_some_and(Underlay::is_connected);
        let peers = peers
            .filter(move |address| prefix.contains(address))
            .filter(is_on_link);
        own.chain(gateways)
            .chain(self.snapshot.node_addresses_in(&prefix))
            .chain(peers)
    }

    /// Whether a route would be preferred to what leads to an address now.
    fn would_take(&self, prefix: &IpNet, address: IpAddr) -> bool {
        if !prefix.contains(&address) {
            return false;
        }
        let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let now = self
            .facts
            .lookup(address)
            .map(|route| route.destination.prefix_len());
        !is_link_local && now.is_some_and(|length| prefix.prefix_len() >= length)
    }

    /// Whether a prefix is one of the services', or inside one.
    fn is_service(&self, prefix: &IpNet) -> bool {
        let mut services = self.choices.firewall.services.iter();
        services.any(|service| service.contains(prefix))
    }

    fn in_vxlan_pool(&self, prefix: &IpNet) -> bool {
        let pool = self.snapshot.pool_of(prefix);
        pool.is_some_and(|pool| pool.spec.vxlan_mode != EncapsulationMode::Never)
    }

    fn vxlan_route(&self, prefix: &IpNet, node: &str, reason: Arc<str>) -> Result<PlannedRoute, Refusal> {
        let v6 = prefix.addr().is_ipv6();
        let there = self.tunnel_address(node, v6).ok_or_else(|| Refusal {
            code: code::TUNNEL,
            text: format!("node {node} has no VXLAN tunnel address in the store yet"),
        })?;
        let device = if v6 {
            &self.choices.vxlan6_device
        } else {
            &self.choices.vxlan_device
        };
        Ok(PlannedRoute {
            way: Way::Via {
                hops: [Hop {
                    gateway: Some(there),
                    device: Arc::clone(device),
                }]
                .into(),
                onlink: true,
            },
            metric: self.metric(prefix),
            source: self.source(prefix),
            encapsulation: Encapsulation::Vxlan,
            origin: RouteOrigin::Store,
            reason,
        })
    }

    fn tunnel_address(&self, node: &str, v6: bool) -> Option<IpAddr> {
        let spec = &self.snapshot.nodes.get(node)?.spec;
        if v6 {
            spec.ipv6_vxlan_tunnel_addr
        } else {
            spec.ipv4_vxlan_tunnel_addr
        }
    }

    /// The LOCAL_PREF of a route of a metric, by Calico's formula.
    pub fn attributes(metric: u32) -> Attributes {
        Attributes {
            local_pref: Some(i32::MAX.cast_unsigned().saturating_sub(metric)),
            ..Attributes::default()
        }
    }
}
