// SPDX-License-Identifier: Apache-2.0
//! What the configuration makes of the agent.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bgp::policy::Glob;
use ipam::Family;
use model::bgp_configuration::BindMode;

use super::Core;
use crate::{
    configuration::{
        Configuration, Origin, Resolution, Row, Sources, resolve,
        sources::{bgp_for_node, felix_for_node},
        words::{Backend, CrossSubnetTest, RouteSource, Severity},
    },
    dataplane::{Habits, Ownership},
    journal::Limits,
    nftables::Firewall,
    planner::Choices,
    snapshot::Snapshot,
    start::Start,
    upkeep::Orders,
};

impl Core {
    /// What of the kernel's is ours.
    pub(in crate::agent) fn ownership(&self) -> Ownership {
        let devices = [
            &self.choices.ipip_device,
            &self.choices.vxlan_device,
            &self.choices.vxlan6_device,
        ];
        Ownership {
            protocol: *self.configuration.route_protocol,
            predecessors: [12, 80].into(),
            interface_prefix: self
                .configuration
                .interface_prefixes
                .first()
                .cloned()
                .unwrap_or_else(|| "cali".into()),
            devices: devices.into_iter().map(ToString::to_string).collect(),
            run_dir: self.start.run_dir.clone(),
        }
    }

    /// How the dataplane looks at things.
    pub(in crate::agent) fn habits(&self) -> Habits {
        let fixed = ["kube-ipvs*".to_owned()];
        let ignored = self.configuration.ignored_interfaces.iter().cloned().chain(fixed);
        Habits {
            refresh: *self.configuration.route_refresh_interval,
            ignored: ignored.map(Glob).collect(),
            removes_strangers: *self.configuration.remove_external_routes,
        }
    }

    /// What upkeep has to do: nothing while this node is not registered, or the store is away.
    pub(in crate::agent) fn upkeep_orders(&self) -> Orders {
        let has_address = |v6| self.snapshot.node_address(&self.start.node, v6).is_some();
        let families = [(Family::V4, false), (Family::V6, true)];
        let families = families.into_iter().filter(|(_, v6)| has_address(*v6));
        let pause = |every: Duration| Some(every).filter(|every| !every.is_zero());
        Orders {
            families: if self.store_problem.is_none() {
                families.map(|(family, _)| family).collect()
            } else {
                Vec::new()
            },
            blocks: pause(*self.configuration.claim_ahead_interval),
            collection: pause(*self.configuration.collection_interval),
            runtimes: self.configuration.container_runtimes.to_vec(),
        }
    }

    /// The addresses to listen on.
    pub(in crate::agent) fn listen_addresses(&self) -> Vec<SocketAddr> {
        let port = self.listen_port();
        if *self.configuration.bind_mode == BindMode::NodeIp {
            let own = [false, true]
                .into_iter()
                .filter_map(|v6| self.snapshot.node_address(&self.start.node, v6));
            let present = |address: &IpAddr| {
                self.facts
                    .as_ref()
                    .is_some_and(|facts| facts.own_addresses().contains(address))
            };
            let own = own.map(|own| own.addr()).filter(present);
            return own.map(|address| SocketAddr::new(address, port)).collect();
        }
        let mut everywhere = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
        if kernel::host::has_ipv6() {
            everywhere.push(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)));
        }
        everywhere
    }

    /// The TCP port to listen on.
    pub(in crate::agent) fn listen_port(&self) -> u16 {
        *self.configuration.listen_port
    }

    /// Where health and metrics are answered.
    pub(in crate::agent) fn tcp_listeners(&self) -> Vec<(String, u16)> {
        let configuration = &self.configuration;
        let mut listeners = Vec::new();
        if *configuration.health_enabled {
            listeners.push((
                configuration.health_host.value.clone(),
                *configuration.health_port,
            ));
        }
        if *configuration.prometheus_enabled {
            let host = configuration.prometheus_host.as_deref().unwrap_or("0.0.0.0");
            listeners.push((host.to_owned(), *configuration.prometheus_port));
        }
        listeners
    }

    /// The logs hold what the settings say.
    pub(in crate::agent) fn set_log_levels(&self) {
        let configuration = &self.configuration;
        crate::log::set_levels(crate::log::Levels {
            screen: level(*configuration.log_severity_screen),
            felix: level(*configuration.log_severity_file),
            bird: level(*configuration.bgp_log_severity),
        });
        self.recording.set_limits(limits(configuration));
    }
}

pub(super) fn resolution(start: &Start, snapshot: &Snapshot) -> Resolution {
    let node = start.node.as_str();
    let labels = snapshot
        .nodes
        .get(node)
        .map(|node| node.metadata.labels.clone())
        .unwrap_or_default();
    let felix: Vec<_> = snapshot
        .felix_configurations
        .values()
        .map(|found| (**found).clone())
        .collect();
    let bgp: Vec<_> = snapshot
        .bgp_configurations
        .values()
        .map(|found| (**found).clone())
        .collect();
    resolve(&Sources {
        environment: start.variables.clone(),
        file: start.file.clone(),
        felix: felix_for_node(&felix, node, &labels),
        bgp: bgp_for_node(&bgp, node),
    })
}

/// Settings that this version reads and does not act on yet.
const IDLE: [&str; 2] = ["local_workload_peering_ipv4", "local_workload_peering_ipv6"];

/// What is to be said of a setting that somebody has set in vain.
pub(super) fn idle(row: &Row) -> Option<String> {
    let is_set = row.origin != Origin::Default && IDLE.contains(&row.setting.name);
    is_set.then(|| {
        format!(
            "{}: {} is not acted on by this version yet",
            row.origin, row.setting.name
        )
    })
}

/// What settings make of the firewall.
pub(super) fn firewall(configuration: &Configuration) -> Firewall {
    let services = [
        &configuration.service_cluster_ips,
        &configuration.service_external_ips,
        &configuration.service_load_balancer_ips,
    ];
    Firewall {
        nodes: configuration.external_nodes.iter().copied().collect(),
        spare_nodes: *configuration.nat_outgoing_exclusions
            == model::felix_configuration::NatOutgoingExclusions::IpPoolsAndHostIps,
        nat_address: *configuration.nat_outgoing_address,
        nat_ports: configuration.nat_port_range.map(|range| (range.min, range.max)),
        interface_prefixes: configuration.interface_prefixes.value.clone(),
        services: services
            .into_iter()
            .flat_map(|list| list.iter().copied())
            .collect(),
        service_loops: *configuration.service_loop_prevention,
        ..Firewall::default()
    }
}

/// A severity as a level; `None`: nothing.
pub(super) fn level(severity: Severity) -> Option<tracing::Level> {
    match severity {
        Severity::None => None,
        Severity::Fatal | Severity::Error => Some(tracing::Level::ERROR),
        Severity::Warning => Some(tracing::Level::WARN),
        Severity::Info => Some(tracing::Level::INFO),
        Severity::Debug => Some(tracing::Level::DEBUG),
        Severity::Trace => Some(tracing::Level::TRACE),
    }
}

/// How much of the journal is kept in memory.
pub(super) fn limits(configuration: &Configuration) -> Limits {
    let limit = |entries: u32| usize::try_from(entries).unwrap_or(usize::MAX);
    Limits {
        sessions: limit(*configuration.session_journal_entries),
        routes: limit(*configuration.route_journal_entries),
        addresses: limit(*configuration.address_journal_entries),
    }
}

pub(super) fn choices(node: &str, configuration: &Configuration) -> Choices {
    let fixed = |mtu: u32| (mtu != 0).then_some(mtu);
    Choices {
        node: node.to_owned(),
        ipip_device: configuration.ipip_device.as_str().into(),
        vxlan_device: "vxlan.calico".into(),
        vxlan6_device: "vxlan-v6.calico".into(),
        ipip_mtu: fixed(*configuration.ipip_mtu),
        vxlan_mtu: fixed(*configuration.vxlan_mtu),
        vxlan6_mtu: fixed(*configuration.vxlan_mtu_v6),
        vxlan_id: *configuration.vxlan_vni,
        vxlan_port: *configuration.vxlan_port,
        metric_v4: configuration.ipv4_metric(),
        metric_v6: configuration.ipv6_metric(),
        without_bgp: *configuration.networking_backend == Backend::Vxlan,
        by_workload: *configuration.route_source == RouteSource::WorkloadIps,
        ipip_enabled: configuration.ipip_enabled.unwrap_or(true),
        vxlan_enabled: configuration.vxlan_enabled.unwrap_or(true),
        programs_ipip: configuration.programs_ipip(),
        programs_unencapsulated: configuration.programs_unencapsulated(),
        onlink_is_near: *configuration.cross_subnet_test == CrossSubnetTest::Onlink,
        source_v4: configuration.route_source_address.map(IpAddr::V4),
        source_v6: configuration.route_source_address_ipv6.map(IpAddr::V6),
        forwarding: *configuration.ip_forwarding == model::Switch::Enabled,
        ipv6: *configuration.ipv6_support,
        firewall: firewall(configuration),
        mtu_pattern: configuration.mtu_iface_pattern.value.clone(),
    }
}
