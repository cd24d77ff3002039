// SPDX-License-Identifier: Apache-2.0
//! Routes that follow from the store alone, block by block and container by container.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use calico_ipam::attachment::AttachmentId;
use ipnet::IpNet;
use model::AffinityOwner;

use super::{Planner, code};
use crate::{
    encapsulation::{Decision, Encapsulation},
    plan::{PlannedRoute, Refusal, RouteOrigin, Routes, Way},
};

impl Planner<'_> {
    /// Routes that the store alone decides: own blocks, own containers, VXLAN, and everything where BGP is off.
    pub fn store_routes(&self) -> (Routes, BTreeMap<IpNet, Refusal>) {
        let mut routes = Routes::new();
        let mut refused = BTreeMap::new();
        let all: BTreeSet<&IpNet> = self
            .snapshot
            .affinities
            .keys()
            .chain(self.snapshot.blocks.keys())
            .collect();
        for block in all {
            let (of_block, refusals) = self.block_routes(block);
            routes.extend(of_block);
            refused.extend(refusals);
        }
        if self.choices.by_workload {
            for (address, (node, what)) in self.workloads() {
                let prefix = IpNet::from(address);
                let decision = self.decide_for(&prefix, Some(node));
                let is_ours = decision.encapsulation == Encapsulation::Ipip && self.choices.programs_ipip;
                let route = self.remote_route(&prefix, node, what, &decision, is_ours);
                sort(prefix, route, &mut routes, &mut refused);
            }
        }
        // What lives here is here, whatever a block says of it.
        routes.extend(self.container_routes());
        (routes, refused)
    }

    /// What of them a block is the reason for; all are inside it.
    pub fn block_routes(&self, block: &IpNet) -> (Routes, BTreeMap<IpNet, Refusal>) {
        let mut routes = Routes::new();
        let mut refused = BTreeMap::new();
        let here = &self.choices.node;
        let claims = self.snapshot.affinities.get(block);
        let by_block = !self.choices.by_workload;
        if by_block
            && claims.is_some()
            && self
                .snapshot
                .owner_of(block)
                .is_some_and(|owner| owner.node != here)
        {
            self.add_remote(*block, &mut routes, &mut refused);
        }
        if let Some(stored) = self.snapshot.blocks.get(block).filter(|_| by_block) {
            let owner = stored.affinity.as_ref().map(AffinityOwner::name);
            let is_elsewhere = |node: &str| Some(node) != owner && node != here;
            let attributes = stored.attributes.iter().enumerate();
            let elsewhere: BTreeSet<usize> = attributes
                .filter(|(_, attribute)| {
                    let node = attribute.secondary.get("node");
                    node.is_some_and(|node| is_elsewhere(node))
                })
                .map(|(index, _)| index)
                .collect();
            let allocated = stored.allocations.iter().enumerate();
            for (ordinal, _) in
                allocated.filter(|(_, index)| index.is_some_and(|index| elsewhere.contains(&index)))
            {
                if let Some(address) = stored.address(ordinal) {
                    self.add_remote(IpNet::from(address), &mut routes, &mut refused);
                }
            }
        }
        // A block of a single address has no room for anything but its container.
        if block.prefix_len() < block.max_prefix_len() && self.snapshot.block_of(here, block) == Some(*block)
        {
            routes.insert(*block, self.blackhole(block));
        }
        (routes, refused)
    }

    /// Routes to the containers of this node.
    pub fn container_routes(&self) -> Routes {
        let mut routes = Routes::new();
        let first = AttachmentId {
            node: self.choices.node.clone(),
            network: String::new(),
            container_id: String::new(),
            interface: String::new(),
        };
        let own = self.snapshot.attachments.range(first..);
        for (id, attachment) in own.take_while(|(id, _)| id.node == self.choices.node) {
            let Some(device) = attachment.host_interface.as_deref() else {
                continue;
            };
            for attached in &attachment.addresses {
                let prefix = IpNet::from(attached.address);
                let route = PlannedRoute {
                    way: Way::Container(device.into()),
                    metric: if prefix.addr().is_ipv6() { 1024 } else { 0 },
                    source: None,
                    encapsulation: Encapsulation::Direct,
                    origin: RouteOrigin::Container,
                    reason: format!("container {} on network {}", id.container_id, id.network).into(),
                };
                routes.insert(prefix, route);
            }
        }
        routes
    }

    fn blackhole(&self, block: &IpNet) -> PlannedRoute {
        PlannedRoute {
            way: Way::Blackhole,
            metric: self.metric(block),
            source: None,
            encapsulation: Encapsulation::Direct,
            origin: RouteOrigin::OwnBlock,
            reason: "block of this node: what no container has ends here".into(),
        }
    }

    /// Addresses on other nodes: of containers, whatever IPAM has given them out, and of tunnels.
    fn workloads(&self) -> BTreeMap<IpAddr, (&str, &'static str)> {
        let here = &self.choices.node;
        let mut found = BTreeMap::new();
        for (name, node) in self.snapshot.nodes.iter().filter(|(name, _)| *name != here) {
            let spec = &node.spec;
            let of_bgp = spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr);
            let tunnels = [spec.ipv4_vxlan_tunnel_addr, spec.ipv6_vxlan_tunnel_addr, of_bgp];
            found.extend(
                tunnels
                    .into_iter()
                    .flatten()
                    .map(|address| (address, (name.as_str(), "tunnel"))),
            );
        }
        for (id, attachment) in self
            .snapshot
            .attachments
            .iter()
            .filter(|(id, _)| id.node != *here)
        {
            let addresses = attachment.addresses.iter();
            found.extend(addresses.map(|attached| (attached.address, (id.node.as_str(), "container"))));
        }
        found
    }

    /// A route to another node's block or address, as far as that is the store's business.
    fn add_remote(&self, prefix: IpNet, routes: &mut Routes, refused: &mut BTreeMap<IpNet, Refusal>) {
        let (decision, node) = self.decide(&prefix, None);
        let route = node.and_then(|node| self.remote_route(&prefix, node, "block", &decision, false));
        sort(prefix, route, routes, refused);
    }

    /// A route to what is on another node; `is_ours`: also where BGP would do it.
    fn remote_route(
        &self,
        prefix: &IpNet,
        node: &str,
        what: &str,
        decision: &Decision,
        is_ours: bool,
    ) -> Option<Result<PlannedRoute, Refusal>> {
        let is_ours = is_ours
            || decision.encapsulation == Encapsulation::Vxlan
            || self.choices.without_bgp
            || self.in_vxlan_pool(prefix);
        let v6 = prefix.addr().is_ipv6();
        let address = self.snapshot.node_address(node, v6).filter(|_| is_ours)?;
        if let Some(refusal) = self.refuse(prefix) {
            return Some(Err(refusal));
        }
        let reason: Arc<str> = format!("{what} of node {node} by the store; {}", decision.reason).into();
        Some(match decision.encapsulation {
            Encapsulation::Ipip => Ok(self.tunnelled(prefix, address.addr(), RouteOrigin::Store, reason)),
            Encapsulation::Vxlan => self.vxlan_route(prefix, node, reason),
            Encapsulation::Direct => self.direct_route(prefix, address.addr(), reason),
        })
    }

    fn direct_route(
        &self,
        prefix: &IpNet,
        address: IpAddr,
        reason: Arc<str>,
    ) -> Result<PlannedRoute, Refusal> {
        let hops = self.facts.resolve(address).ok_or_else(|| Refusal {
            code: code::UNREACHABLE,
            text: format!("no route leads to {address}"),
        })?;
        Ok(PlannedRoute {
            way: Way::Via {
                hops: hops.into(),
                onlink: false,
            },
            metric: self.metric(prefix),
            source: self.source(prefix),
            encapsulation: Encapsulation::Direct,
            origin: RouteOrigin::Store,
            reason,
        })
    }
}

/// Where a route goes: to those that there should be, or to those that cannot be.
fn sort(
    prefix: IpNet,
    route: Option<Result<PlannedRoute, Refusal>>,
    routes: &mut Routes,
    refused: &mut BTreeMap<IpNet, Refusal>,
) {
    match route {
        None => {}
        Some(Ok(route)) => drop(routes.insert(prefix, route)),
        Some(Err(refusal)) => drop(refused.insert(prefix, refusal)),
    }
}
