// SPDX-License-Identifier: Apache-2.0
//! FelixConfiguration: settings of the node daemon, for all nodes (`default`), for some by selector, or for one
//! (`node.<name>`). Declared here are the fields that this project acts on or will; the many others, which steer
//! Felix's own ways of working, survive as unknown members. Absent members have the defaults that the methods give.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::{
    cluster_routes::ProgramClusterRoutes,
    field::{FieldError, parse_selector},
    key::Kind,
    names::InterfacePrefix,
    object::{EmptyIsNone, Extra},
    prefix,
    resource::{Resource, Spec},
    switch::Switch,
};

/// A Felix configuration.
pub type FelixConfiguration = Resource<FelixConfigurationSpec>;

/// `spec` of a FelixConfiguration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FelixConfigurationSpec {
    /// Which nodes it is for, where the object is neither `default` nor `node.<name>`.
    pub node_selector: String,
    /// Prefixes of host interfaces of workloads, comma-separated; the first one names new ones.
    pub interface_prefix: String,
    /// Whether there is IP in IP; `None`: if a pool asks for it.
    pub ipip_enabled: Option<bool>,
    /// Whether there is VXLAN; `None`: if a pool asks for it.
    pub vxlan_enabled: Option<bool>,
    /// MTU of the IP in IP device, in bytes; 0 or absent: from the underlay.
    pub ipip_mtu: Option<u32>,
    /// MTU of the IPv4 VXLAN device, in bytes; 0 or absent: from the underlay.
    pub vxlan_mtu: Option<u32>,
    /// MTU of the IPv6 VXLAN device, in bytes; 0 or absent: from the underlay.
    pub vxlan_mtu_v6: Option<u32>,
    /// UDP port of VXLAN.
    pub vxlan_port: Option<u16>,
    /// VXLAN network identifier, 24 bits.
    pub vxlan_vni: Option<u32>,
    /// Regular expression for the interfaces whose MTU counts.
    pub mtu_iface_pattern: String,
    /// Further sources from which encapsulated packets are accepted.
    pub external_nodes_list: Vec<String>,
    /// Ports that source NAT uses, `min:max`.
    pub nat_port_range: Option<PortRange>,
    /// Address that source NAT uses; absent: that of the outgoing interface.
    pub nat_outgoing_address: Option<IpAddr>,
    /// Destinations that are not translated.
    pub nat_outgoing_exclusions: Option<NatOutgoingExclusions>,
    /// Source address of routes to workloads.
    pub device_route_source_address: Option<IpAddr>,
    /// IPv6 source address of routes to workloads.
    pub device_route_source_address_ipv6: Option<IpAddr>,
    /// Protocol number of routes to workloads.
    pub device_route_protocol: Option<u8>,
    /// Whether unknown routes on workload interfaces are removed.
    pub remove_external_routes: Option<bool>,
    /// Which cluster routes the node daemon programs.
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Metric of IPv4 routes.
    pub ipv4_normal_route_priority: Option<u32>,
    /// Metric of IPv6 routes.
    pub ipv6_normal_route_priority: Option<u32>,
    /// Whether the node forwards.
    pub ip_forwarding: Option<Switch>,
    /// Whether IPv6 is looked after.
    pub ipv6_support: Option<bool>,
    /// Whether floating addresses are translated.
    pub floating_ips: Option<Switch>,
    /// Folder below which endpoint status files are written.
    pub endpoint_status_path_prefix: String,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(FelixConfigurationSpec {
    "nodeSelector" => node_selector: unless_default,
    "interfacePrefix" => interface_prefix: unless_default,
    "ipipEnabled" => ipip_enabled: unless_default,
    "vxlanEnabled" => vxlan_enabled: unless_default,
    "ipipMTU" => ipip_mtu: unless_default,
    "vxlanMTU" => vxlan_mtu: unless_default,
    "vxlanMTUV6" => vxlan_mtu_v6: unless_default,
    "vxlanPort" => vxlan_port: unless_default,
    "vxlanVNI" => vxlan_vni: unless_default,
    "mtuIfacePattern" => mtu_iface_pattern: unless_default,
    "externalNodesList" => external_nodes_list: unless_default,
    "natPortRange" => nat_port_range: unless_default as EmptyIsNone<PortRange>,
    "natOutgoingAddress" => nat_outgoing_address: unless_default as EmptyIsNone<IpAddr>,
    "natOutgoingExclusions" => nat_outgoing_exclusions: unless_default as EmptyIsNone<NatOutgoingExclusions>,
    "deviceRouteSourceAddress" => device_route_source_address: unless_default as EmptyIsNone<IpAddr>,
    "deviceRouteSourceAddressIPv6" => device_route_source_address_ipv6: unless_default as EmptyIsNone<IpAddr>,
    "deviceRouteProtocol" => device_route_protocol: unless_default,
    "removeExternalRoutes" => remove_external_routes: unless_default,
    "programClusterRoutes" => program_cluster_routes: unless_default as EmptyIsNone<ProgramClusterRoutes>,
    "ipv4NormalRoutePriority" => ipv4_normal_route_priority: unless_default,
    "ipv6NormalRoutePriority" => ipv6_normal_route_priority: unless_default,
    "ipForwarding" => ip_forwarding: unless_default as EmptyIsNone<Switch>,
    "ipv6Support" => ipv6_support: unless_default,
    "floatingIPs" => floating_ips: unless_default as EmptyIsNone<Switch>,
    "endpointStatusPathPrefix" => endpoint_status_path_prefix: unless_default,
});

/// Which destinations source NAT leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatOutgoingExclusions {
    /// Those in pools.
    IpPoolsOnly,
    /// Those in pools, and the addresses of nodes.
    IpPoolsAndHostIps,
}

json_words!(NatOutgoingExclusions {
    "IPPoolsOnly" => IpPoolsOnly,
    "IPPoolsAndHostIPs" => IpPoolsAndHostIps,
});

/// A range of ports, both ends inclusive, `min:max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// Lowest.
    pub min: u16,
    /// Highest.
    pub max: u16,
}

/// A text that is not a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of ports: write for example 32768:65535")]
pub struct PortRangeError(String);

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        // A single port is a range of one.
        let (min, max) = text.split_once(':').unwrap_or((text, text));
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if min <= max => Ok(Self { min, max }),
            _ => Err(PortRangeError(text.to_owned())),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.min, self.max)
    }
}

json_text!(PortRange);

/// Largest VXLAN network identifier.
const MAX_VNI: u32 = (1 << 24) - 1;

impl FelixConfigurationSpec {
    /// What names of new host interfaces start with.
    pub fn effective_interface_prefix(&self) -> Result<InterfacePrefix, FieldError> {
        if self.interface_prefix.is_empty() {
            return Ok(InterfacePrefix::default());
        }
        self.interface_prefix.parse().map_err(|_| {
            FieldError::new(
                "interfacePrefix",
                &self.interface_prefix,
                "cannot start interface names",
                "use 1 to 4 characters other than blanks, ':' and '/', as in \"cali\"",
            )
        })
    }

    /// UDP port of VXLAN.
    pub fn effective_vxlan_port(&self) -> u16 {
        self.vxlan_port.unwrap_or(4789)
    }

    /// VXLAN network identifier.
    pub fn effective_vxlan_vni(&self) -> u32 {
        self.vxlan_vni.unwrap_or(4096)
    }

    /// Protocol number of routes to workloads: 3, `boot`.
    pub fn effective_device_route_protocol(&self) -> u8 {
        self.device_route_protocol.unwrap_or(3)
    }

    /// Which cluster routes the node daemon programs.
    pub fn effective_program_cluster_routes(&self) -> ProgramClusterRoutes {
        self.program_cluster_routes
            .unwrap_or(ProgramClusterRoutes::EnabledIpipOnly)
    }

    /// Whether the node forwards.
    pub fn forwards(&self) -> bool {
        self.ip_forwarding != Some(Switch::Disabled)
    }

    /// The well-formed entries of `externalNodesList`.
    pub fn external_nodes(&self) -> impl Iterator<Item = IpNet> {
        self.external_nodes_list
            .iter()
            .filter_map(|text| prefix::parse_prefix_or_address(text))
    }
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        self.effective_interface_prefix()?;
        parse_selector("nodeSelector", &self.node_selector)?;
        if let Some(vni) = self.vxlan_vni.filter(|vni| !(1..=MAX_VNI).contains(vni)) {
            let remedy = format!("use 1 to {MAX_VNI}");
            return Err(FieldError::new(
                "vxlanVNI",
                vni.to_string(),
                "is not a network identifier",
                remedy,
            ));
        }
        if self.vxlan_port == Some(0) {
            return Err(FieldError::new(
                "vxlanPort",
                "0",
                "is not a port",
                "use 1 to 65535",
            ));
        }
        for (field, mtu) in [
            ("ipipMTU", self.ipip_mtu),
            ("vxlanMTU", self.vxlan_mtu),
            ("vxlanMTUV6", self.vxlan_mtu_v6),
        ] {
            if let Some(mtu) = mtu.filter(|mtu| *mtu != 0 && !(68..=65_535).contains(mtu)) {
                return Err(FieldError::new(
                    field,
                    mtu.to_string(),
                    "is no possible MTU",
                    "use 0 or 68 to 65535",
                ));
            }
        }
        for (index, text) in self.external_nodes_list.iter().enumerate() {
            if prefix::parse_prefix_or_address(text).is_none() {
                let field = format!("externalNodesList[{index}]");
                let problem = "is neither a prefix nor an address";
                return Err(FieldError::new(
                    field,
                    text,
                    problem,
                    "write for example 192.0.2.0/24",
                ));
            }
        }
        Ok(())
    }
}
