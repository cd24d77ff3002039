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
    encapsulation::Encapsulation,
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
        if claims.is_some()
            && self
                .snapshot
                .owner_of(block)
                .is_some_and(|owner| owner.node != here)
        {
            self.add_remote(*block, &mut routes, &mut refused);
        }
        if let Some(stored) = self.snapshot.blocks.get(block) {
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

    /// A route to another node's block or address, as far as that is the store's business.
    fn add_remote(&self, prefix: IpNet, routes: &mut Routes, refused: &mut BTreeMap<IpNet, Refusal>) {
        let (decision, node) = self.decide(&prefix, None);
        let Some(node) = node else { return };
        let is_ours = decision.encapsulation == Encapsulation::Vxlan || self.choices.without_bgp;
        let v6 = prefix.addr().is_ipv6();
        let Some(address) = self
            .snapshot
            .node_address(node, v6)
            .filter(|_| is_ours || self.in_vxlan_pool(&prefix))
        else {
            return;
        };
        if let Some(refusal) = self.refuse(&prefix) {
            refused.insert(prefix, refusal);
            return;
        }
        let reason: Arc<str> = format!("block of node {node} by the store; {}", decision.reason).into();
        let route = match decision.encapsulation {
            Encapsulation::Ipip => Ok(self.tunnelled(&prefix, address.addr(), RouteOrigin::Store, reason)),
            Encapsulation::Vxlan => self.vxlan_route(&prefix, node, reason),
            Encapsulation::Direct => self.direct_route(&prefix, address.addr(), reason),
        };
        match route {
            Ok(route) => drop(routes.insert(prefix, route)),
            Err(refusal) => drop(refused.insert(prefix, refusal)),
        }
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
