// SPDX-License-Identifier: Apache-2.0
//! Numbers for Prometheus: Calico's names where it has them.

use std::{collections::BTreeMap, fmt::Write as _};

use bgp::Family;

use super::{core::Core, view::state};

/// Metrics as text.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Adds a gauge with its values by labels.
    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, usize)>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

impl Core {
    /// All of them.
    pub(super) fn metrics(&self) -> String {
        let mut page = Page::default();
        self.add_peers(&mut page);
        self.add_routing(&mut page);
        self.add_addresses(&mut page);
        page.0
    }

    fn add_peers(&self, page: &mut Page) {
        let mut states = BTreeMap::new();
        for id in self.peers.keys() {
            if let Some(status) = self.speaker.peer(*id) {
                let is_ipv4 = status.config.address.is_ipv4();
                let version = if is_ipv4 { "IPv4" } else { "IPv6" };
                *states.entry((version, state(status.state))).or_insert(0) += 1;
            }
        }
        let states = states.into_iter().map(|((version, state), count)| {
            (format!("{{ip_version=\"{version}\",status=\"{state}\"}}"), count)
        });
        page.gauge(
            "bgp_peers",
            "Number of BGP peers by IP version and session state.",
            states,
        );
        let imported = self.peers.iter().filter_map(|(id, peer)| {
            let status = self.speaker.peer(*id)?;
            let families = status.families.iter();
            let count = families
                .map(|family| family.received.saturating_sub(family.refused))
                .sum();
            Some((format!("{{peer=\"{}\"}}", peer.address), count))
        });
        page.gauge("bgp_routes_imported", "Routes accepted from a peer.", imported);
        let counts = [Family::Ipv4, Family::Ipv6]
            .map(|family| (format!("{{family=\"{family}\"}}"), self.speaker.prefixes(family)));
        page.gauge("bgp_prefixes", "Prefixes known to BGP.", counts);
    }

    fn add_routing(&self, page: &mut Page) {
        let nodes = [(String::new(), self.snapshot.nodes.len())];
        page.gauge("felix_cluster_num_hosts", "Nodes in the cluster.", nodes);
        page.gauge(
            "routed_agent_routes",
            "Routes in the plan by where they come from.",
            [
                ("{source=\"bgp\"}".into(), self.bgp_routes.len()),
                ("{source=\"store\"}".into(), self.store_routes.len()),
            ],
        );
        page.gauge(
            "routed_agent_tunnel_probes",
            "Tunnels to other nodes by what became of packets sent through them.",
            self.probe_counts()
                .map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count)),
        );
        let failures = [(String::new(), self.failures.len())];
        page.gauge(
            "routed_agent_failures",
            "Items that the kernel refuses.",
            failures,
        );
    }

    fn add_addresses(&self, page: &mut Page) {
        let node = &self.start.node;
        let own = |value: usize| [(format!("{{node=\"{node}\"}}"), value)];
        let blocks = self.snapshot.blocks_of(node).count();
        page.gauge("ipam_blocks", "Blocks of this node.", own(blocks));
        page.gauge(
            "routed_agent_free_addresses",
            "Free addresses in this node's blocks, for containers without wishes of their own.",
            self.upkeep.stock.iter().map(|line| {
                (
                    format!("{{node=\"{node}\",family=\"{}\"}}", line.family),
                    line.free,
                )
            }),
        );
        let suspects = self.upkeep.suspects.iter();
        page.gauge(
            "ipam_allocations_gc_candidates",
            "Addresses of this node that no container seems to hold.",
            own(suspects.map(|suspect| suspect.addresses.len()).sum()),
        );
        page.gauge(
            "ipam_allocations_gc_reclamations",
            "Addresses of this node released because no container held them, since the agent began.",
            own(self.upkeep.collected),
        );
    }
}
