// SPDX-License-Identifier: Apache-2.0
//! Nodes: a host's addresses towards other nodes, its AS number and the addresses of its tunnel devices.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::{
    as_number::AsNumber,
    field::FieldError,
    key::Kind,
    object::{EmptyIsNone, Extra, PrefixOrAddress},
    resource::{Resource, Spec},
};

/// A node.
pub type Node = Resource<NodeSpec>;

/// `spec` of a Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSpec {
    /// Addresses and AS number for routing; Calico refuses an empty object here.
    pub bgp: Option<NodeBgp>,
    /// What other orchestrators call this node.
    pub orch_refs: Vec<OrchRef>,
    /// Address of the IPv4 VXLAN device.
    pub ipv4_vxlan_tunnel_addr: Option<IpAddr>,
    /// MAC address of the IPv4 VXLAN device.
    pub vxlan_tunnel_mac_addr: Option<String>,
    /// Address of the IPv6 VXLAN device.
    pub ipv6_vxlan_tunnel_addr: Option<IpAddr>,
    /// MAC address of the IPv6 VXLAN device.
    pub vxlan_tunnel_mac_addr_v6: Option<String>,
    /// Addresses of the WireGuard devices.
    pub wireguard: Option<NodeWireguard>,
    /// Every address of the node.
    pub addresses: Vec<NodeAddress>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(NodeSpec {
    "bgp" => bgp: unless_default,
    "ipv4VXLANTunnelAddr" => ipv4_vxlan_tunnel_addr: unless_default as EmptyIsNone<IpAddr>,
    "vxlanTunnelMACAddr" => vxlan_tunnel_mac_addr: unless_default,
    "ipv6VXLANTunnelAddr" => ipv6_vxlan_tunnel_addr: unless_default as EmptyIsNone<IpAddr>,
    "vxlanTunnelMACAddrV6" => vxlan_tunnel_mac_addr_v6: unless_default,
    "orchRefs" => orch_refs: unless_default,
    "wireguard" => wireguard: unless_default,
    "addresses" => addresses: unless_default,
});

/// What routing needs to know of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeBgp {
    /// `None`: the global one of BGPConfiguration.
    pub as_number: Option<AsNumber>,
    /// The node's address with the mask of its subnet (a bare address is read as /32).
    pub ipv4_address: Option<IpNet>,
    /// The node's IPv6 address with the mask of its subnet.
    pub ipv6_address: Option<IpNet>,
    /// Address of the IP in IP device.
    pub ipv4_ipip_tunnel_addr: Option<IpAddr>,
    /// Set on route reflectors: their cluster ID, written as an IPv4 address.
    pub route_reflector_cluster_id: Option<String>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(NodeBgp {
    "asNumber" => as_number: unless_default,
    "ipv4Address" => ipv4_address: unless_default as PrefixOrAddress,
    "ipv6Address" => ipv6_address: unless_default as PrefixOrAddress,
    "ipv4IPIPTunnelAddr" => ipv4_ipip_tunnel_addr: unless_default as EmptyIsNone<IpAddr>,
    "routeReflectorClusterID" => route_reflector_cluster_id: unless_default as EmptyIsNone<String>,
});

/// A node's name in another system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrchRef {
    /// The name there.
    pub node_name: String,
    /// For example `k8s`.
    pub orchestrator: String,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(OrchRef {
    "nodeName" => node_name: unless_default,
    "orchestrator" => orchestrator: always,
});

/// Addresses of a node's WireGuard devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeWireguard {
    /// IPv4.
    pub interface_ipv4_address: Option<IpAddr>,
    /// IPv6.
    pub interface_ipv6_address: Option<IpAddr>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(NodeWireguard {
    "interfaceIPv4Address" => interface_ipv4_address: unless_default as EmptyIsNone<IpAddr>,
    "interfaceIPv6Address" => interface_ipv6_address: unless_default as EmptyIsNone<IpAddr>,
});

/// One address of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAddress {
    /// An address, or one with a mask.
    pub address: Option<IpNet>,
    /// `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
    pub kind: String,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(NodeAddress {
    "address" => address: always as PrefixOrAddress,
    "type" => kind: unless_default,
});

impl NodeSpec {
    /// Every address this node is known by, tunnel addresses excepted.
    pub fn host_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let bgp = self
            .bgp
            .iter()
            .flat_map(|bgp| [bgp.ipv4_address, bgp.ipv6_address]);
        let listed = self.addresses.iter().map(|listed| listed.address);
        bgp.chain(listed).flatten().map(|prefix| prefix.addr())
    }
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        let Some(bgp) = &self.bgp else { return Ok(()) };
        if *bgp == NodeBgp::default() {
            return Err(FieldError::new(
                "bgp",
                "{}",
                "is empty",
                "remove the field or set an address in it",
            ));
        }
        for (field, address, v6) in [
            ("bgp.ipv4Address", bgp.ipv4_address, false),
            ("bgp.ipv6Address", bgp.ipv6_address, true),
        ] {
            if let Some(address) = address
                && matches!(address, IpNet::V6(_)) != v6
            {
                let remedy = if v6 {
                    "write for example 2001:db8::5/64"
                } else {
                    "write for example 10.0.0.5/24"
                };
                return Err(FieldError::new(
                    field,
                    address.to_string(),
                    "is of the other IP version",
                    remedy,
                ));
            }
        }
        if let Some(id) = &bgp.route_reflector_cluster_id
            && id.parse::<Ipv4Addr>().is_err()
        {
            return Err(FieldError::new(
                "bgp.routeReflectorClusterID",
                id,
                "is not written as an IPv4 address",
                "write for example 244.0.0.1",
            ));
        }
        Ok(())
    }
}
