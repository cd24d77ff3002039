// SPDX-License-Identifier: Apache-2.0
//! BGPConfiguration: settings of all nodes (`default`) or of one (`node.<name>`). Members that are absent have the
//! defaults that the methods give.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    as_number::AsNumber,
    cluster_routes::ProgramClusterRoutes,
    community::Community,
    duration::GoDuration,
    field::FieldError,
    key::Kind,
    object::{EmptyIsNone, Extra},
    resource::{Resource, Spec},
    secret::PasswordSource,
    switch::Switch,
};

/// A BGP configuration.
pub type BgpConfiguration = Resource<BgpConfigurationSpec>;

/// `spec` of a BGPConfiguration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BgpConfigurationSpec {
    /// Every node peers with every other; on `default` only.
    pub node_to_node_mesh_enabled: Option<bool>,
    /// AS number of nodes that have none of their own; on `default` only.
    pub as_number: Option<AsNumber>,
    /// Cluster addresses of Services to announce.
    pub service_cluster_ips: Vec<CidrEntry>,
    /// External addresses of Services to announce.
    pub service_external_ips: Vec<CidrEntry>,
    /// Load balancer addresses of Services to announce.
    pub service_load_balancer_ips: Vec<CidrEntry>,
    /// Whether load balancer addresses are announced as their whole prefix.
    pub service_load_balancer_aggregation: Option<Switch>,
    /// Names for community values.
    pub communities: Vec<NamedCommunity>,
    /// Communities for announced prefixes.
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// TCP port to listen on.
    pub listen_port: Option<u16>,
    /// Password of the mesh's sessions; on `default` only.
    pub node_mesh_password: Option<PasswordSource>,
    /// How long mesh peers keep routes of a node that restarts.
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// Which addresses to listen on.
    pub bind_mode: Option<BindMode>,
    /// Interfaces whose routes are not looked at; globs, but not `*` alone.
    pub ignored_interfaces: Vec<String>,
    /// Address that local workloads peer with.
    pub local_workload_peering_ipv4: Option<IpAddr>,
    /// IPv6 address that local workloads peer with.
    pub local_workload_peering_ipv6: Option<IpAddr>,
    /// Which cluster routes the BGP side programs.
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Metric of IPv4 routes.
    pub ipv4_normal_route_priority: Option<u32>,
    /// Metric of IPv6 routes.
    pub ipv6_normal_route_priority: Option<u32>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(BgpConfigurationSpec {
    "nodeToNodeMeshEnabled" => node_to_node_mesh_enabled: unless_default,
    "asNumber" => as_number: unless_default,
    "serviceClusterIPs" => service_cluster_ips: unless_default,
    "serviceExternalIPs" => service_external_ips: unless_default,
    "serviceLoadBalancerIPs" => service_load_balancer_ips: unless_default,
    "serviceLoadBalancerAggregation" => service_load_balancer_aggregation: unless_default as EmptyIsNone<Switch>,
    "communities" => communities: unless_default,
    "prefixAdvertisements" => prefix_advertisements: unless_default,
    "listenPort" => listen_port: unless_default,
    "nodeMeshPassword" => node_mesh_password: unless_default,
    "nodeMeshMaxRestartTime" => node_mesh_max_restart_time: unless_default,
    "bindMode" => bind_mode: unless_default as EmptyIsNone<BindMode>,
    "ignoredInterfaces" => ignored_interfaces: unless_default,
    "localWorkloadPeeringIPV4" => local_workload_peering_ipv4: unless_default as EmptyIsNone<IpAddr>,
    "localWorkloadPeeringIPV6" => local_workload_peering_ipv6: unless_default as EmptyIsNone<IpAddr>,
    "programClusterRoutes" => program_cluster_routes: unless_default as EmptyIsNone<ProgramClusterRoutes>,
    "ipv4NormalRoutePriority" => ipv4_normal_route_priority: unless_default,
    "ipv6NormalRoutePriority" => ipv6_normal_route_priority: unless_default,
});

/// Which addresses BGP listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindMode {
    /// All.
    None,
    /// The node's own.
    NodeIp,
}

json_words!(BindMode { "None" => None, "NodeIP" => NodeIp });

/// A prefix in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct CidrEntry {
    /// The prefix.
    pub cidr: IpNet,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(CidrEntry { "cidr" => cidr: required });

/// A name for a community value.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedCommunity {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Community,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(NamedCommunity { "name" => name: required, "value" => value: required });

/// Communities of an announced prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixAdvertisement {
    /// The prefix, and what is more specific.
    pub cidr: IpNet,
    /// Names of communities, or values.
    pub communities: Vec<String>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(PrefixAdvertisement { "cidr" => cidr: required, "communities" => communities: unless_default });

/// Most entries of `communities` and of `prefixAdvertisements`.
const MAX_ENTRIES: usize = 500;
/// Most communities of one prefix.
const MAX_COMMUNITIES: usize = 50;
/// Largest route priority.
const MAX_PRIORITY: u32 = 2_147_483_646;

impl BgpConfigurationSpec {
    /// Whether every node peers with every other.
    pub fn mesh_enabled(&self) -> bool {
        self.node_to_node_mesh_enabled.unwrap_or(true)
    }

    /// The AS number of nodes that have none of their own.
    pub fn effective_as_number(&self) -> AsNumber {
        self.as_number.unwrap_or(AsNumber(64512))
    }

    /// The TCP port to listen on.
    pub fn effective_listen_port(&self) -> u16 {
        self.listen_port.unwrap_or(179)
    }

    /// Whether load balancer addresses are announced as their whole prefix.
    pub fn aggregates_load_balancers(&self) -> bool {
        self.service_load_balancer_aggregation != Some(Switch::Disabled)
    }

    /// Which cluster routes the BGP side programs.
    pub fn effective_program_cluster_routes(&self) -> ProgramClusterRoutes {
        self.program_cluster_routes
            .unwrap_or(ProgramClusterRoutes::EnabledNoEncapOnly)
    }

    /// The values of a prefix's communities, names resolved; an error names the entry that is neither.
    pub fn communities_of(&self, advertisement: &PrefixAdvertisement) -> Result<Vec<Community>, FieldError> {
        let resolve = |text: &String| {
            let named = self.communities.iter().find(|community| community.name == *text);
            named
                .map(|community| community.value)
                .or_else(|| text.parse().ok())
                .ok_or_else(|| {
                    FieldError::new(
                        "prefixAdvertisements.communities",
                        text,
                        "is neither a name in communities nor a value",
                        "add it to communities, or write for example 64512:100",
                    )
                })
        };
        advertisement.communities.iter().map(resolve).collect()
    }
}

impl Spec for BgpConfigurationSpec {
    const KIND: Kind = Kind::BgpConfiguration;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        at_most("communities", self.communities.len(), MAX_ENTRIES)?;
        at_most(
            "prefixAdvertisements",
            self.prefix_advertisements.len(),
            MAX_ENTRIES,
        )?;
        for advertisement in &self.prefix_advertisements {
            at_most(
                "prefixAdvertisements.communities",
                advertisement.communities.len(),
                MAX_COMMUNITIES,
            )?;
            self.communities_of(advertisement)?;
        }
        for community in &self.communities {
            if !self
                .prefix_advertisements
                .iter()
                .any(|used| used.communities.contains(&community.name))
            {
                return Err(FieldError::new(
                    "communities",
                    &community.name,
                    "is not used by any entry of prefixAdvertisements",
                    "use it or remove it",
                ));
            }
        }
        if self.listen_port == Some(0) {
            return Err(FieldError::new(
                "listenPort",
                "0",
                "is not a port",
                "use 1 to 65535",
            ));
        }
        if self.ignored_interfaces.iter().any(|glob| glob == "*") {
            return Err(FieldError::new(
                "ignoredInterfaces",
                "*",
                "would ignore every interface",
                "name some",
            ));
        }
        if self.node_mesh_password.is_some() && !self.mesh_enabled() {
            return Err(FieldError::new(
                "nodeMeshPassword",
                "(set)",
                "has no use while the mesh is off",
                "remove it, or set nodeToNodeMeshEnabled to true",
            ));
        }
        route_priority("ipv4NormalRoutePriority", self.ipv4_normal_route_priority)?;
        route_priority("ipv6NormalRoutePriority", self.ipv6_normal_route_priority)
    }
}

impl BgpConfiguration {
    /// [`Spec::validate`], and the rules that depend on the name: some fields belong to `default` only.
    pub fn validate_named(&self) -> Result<(), FieldError> {
        self.spec.validate()?;
        let name = &self.metadata.name;
        if name == "default" {
            return Ok(());
        }
        let spec = &self.spec;
        let global = [
            ("nodeToNodeMeshEnabled", spec.node_to_node_mesh_enabled.is_some()),
            ("asNumber", spec.as_number.is_some()),
            ("serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
            ("serviceExternalIPs", !spec.service_external_ips.is_empty()),
            (
                "serviceLoadBalancerIPs",
                !spec.service_load_balancer_ips.is_empty(),
            ),
            ("nodeMeshPassword", spec.node_mesh_password.is_some()),
        ];
        match global.iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(FieldError::new(
                *field,
                "(set)",
                format!("belongs to the whole cluster, but this object is {name:?}"),
                "move it to the object default",
            )),
            None => Ok(()),
        }
    }
}

fn at_most(field: &str, found: usize, limit: usize) -> Result<(), FieldError> {
    if found <= limit {
        return Ok(());
    }
    let problem = format!("entries are more than {limit}");
    Err(FieldError::new(field, found.to_string(), problem, "remove some"))
}

fn route_priority(field: &str, priority: Option<u32>) -> Result<(), FieldError> {
    match priority {
        Some(value) if !(1..=MAX_PRIORITY).contains(&value) => Err(FieldError::new(
            field,
            value.to_string(),
            "is out of range",
            format!("use 1 to {MAX_PRIORITY}"),
        )),
        _ => Ok(()),
    }
}
