// SPDX-License-Identifier: Apache-2.0
//! What this node announces as its own.

use std::collections::BTreeMap;

use bgp::speaker::Origination;
use ipnet::IpNet;
use model::AffinityState;

use super::Core;
use crate::{export_policy::class, planner::Planner};

impl Core {
    /// What is announced.
    pub(in crate::agent) fn originate(&mut self) {
        let mut wanted: BTreeMap<IpNet, Origination> = BTreeMap::new();
        let metric = |prefix: &IpNet| self.configuration.bgp_priority(prefix.addr().is_ipv6());
        let mut add = |prefix: IpNet, class: u32| {
            let route = Origination {
                attributes: Planner::attributes(metric(&prefix)),
                class,
                device: None,
            };
            wanted.insert(prefix, route);
        };
        for (block, state) in self.snapshot.blocks_of(&self.start.node) {
            add(block, class::BLOCK);
            if state == AffinityState::PendingDeletion
                && let Some(block) = self.snapshot.blocks.get(&block)
            {
                let used = block
                    .allocations
                    .iter()
                    .enumerate()
                    .filter(|(_, index)| index.is_some());
                for address in used.filter_map(|(ordinal, _)| block.address(ordinal)) {
                    add(IpNet::from(address), class::DRAINING);
                }
            }
        }
        for prefix in self.service_prefixes() {
            add(prefix, class::SERVICE);
        }
        for address in self.borrowed.values().flatten() {
            add(IpNet::from(*address), class::BORROWED);
        }
        let gone: Vec<IpNet> = self
            .own_routes
            .keys()
            .filter(|prefix| !wanted.contains_key(prefix))
            .copied()
            .collect();
        for prefix in gone {
            self.speaker.set_own_route(prefix, None);
        }
        for (prefix, route) in &wanted {
            if self.own_routes.get(prefix) != Some(route) {
                self.speaker.set_own_route(*prefix, Some(route.clone()));
            }
        }
        self.own_routes = wanted;
    }

    /// Prefixes of services that this node announces as a whole. Those of a single address belong to one service.
    pub(in crate::agent) fn service_prefixes(&self) -> Vec<IpNet> {
        const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
        let configuration = &self.configuration;
        let node = self.snapshot.nodes.get(&self.start.node);
        if node.is_some_and(|node| {
            node.metadata
                .labels
                .get(EXCLUDED)
                .is_some_and(|value| value == "true")
        }) {
            return Vec::new();
        }
        let aggregated = *configuration.service_load_balancer_aggregation == model::Switch::Enabled;
        let balancers = configuration
            .service_load_balancer_ips
            .iter()
            .filter(|_| aggregated);
        let all = configuration
            .service_cluster_ips
            .iter()
            .chain(configuration.service_external_ips.iter());
        all.chain(balancers)
            .copied()
            .filter(|prefix| prefix.prefix_len() < prefix.max_prefix_len())
            .collect()
    }
}
