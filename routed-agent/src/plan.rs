// SPDX-License-Identifier: Apache-2.0
//! What there should be in the kernel, each item with the reason why: plain values that the planner makes and the
//! dataplane carries out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use kernel::MacAddress;
use serde::Serialize;

use crate::{encapsulation::Encapsulation, facts::Hop, nftables::Firewall};

/// A route as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRoute {
    /// What happens to packets.
    pub way: Way,
    /// Metric; 0 counts as 1024 for IPv6.
    pub metric: u32,
    /// Source address for packets of this host.
    pub source: Option<IpAddr>,
    /// How packets travel.
    pub encapsulation: Encapsulation,
    /// Where it comes from.
    pub origin: RouteOrigin,
    /// Why it is there and why so.
    pub reason: Arc<str>,
}

/// What happens to packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Dropped.
    Blackhole,
    /// Sent to one of these; gateways are taken to be on the link where `onlink` is set.
    Via {
        /// At least one.
        hops: Arc<[Hop]>,
        /// The addresses do not say so.
        onlink: bool,
    },
    /// Delivered on a link, to a container.
    Container(Arc<str>),
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteOrigin {
    /// A block of this node.
    OwnBlock,
    /// A container of this node.
    Container,
    /// A BGP peer.
    Bgp,
    /// Blocks and nodes in the store.
    Store,
    /// A router on the way to a peer, as its BGPPeer says.
    ReachableBy,
}

/// A route that is wanted and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// A tunnel device as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub kind: TunnelKind,
    /// Largest packet that goes in, in bytes.
    pub mtu: u32,
    /// Its own address; `None` until the store has one.
    pub address: Option<IpAddr>,
    /// This node's address: source of what comes out.
    pub local: IpAddr,
    /// Why it is there.
    pub reason: String,
}

/// What a tunnel device does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan {
        /// Network identifier.
        id: u32,
        /// UDP port.
        port: u16,
        /// Device that it goes out by.
        parent: Arc<str>,
        /// Its own hardware address.
        mac: MacAddress,
    },
}

/// The far end of a VXLAN tunnel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VxlanPeer {
    /// Name of the device here.
    pub device: Arc<str>,
    /// Hardware address of the device there.
    pub mac: [u8; 6],
    /// Address of the device there.
    pub tunnel_address: IpAddr,
    /// Address of the node.
    pub node_address: IpAddr,
}

/// All that is not a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixtures {
    /// Tunnel devices.
    pub tunnels: Vec<Tunnel>,
    /// Far ends of VXLAN.
    pub vxlan_peers: BTreeSet<VxlanPeer>,
    /// Packets are to be forwarded.
    pub forwarding: bool,
    /// IPv6 ones too.
    pub ipv6: bool,
    /// Source NAT and protection.
    pub firewall: Firewall,
}

/// All routes.
pub type Routes = BTreeMap<IpNet, PlannedRoute>;

/// The hardware address of a node's VXLAN device, as Calico makes it where the Node object has none: 0x66 and the first
/// five bytes of the SHA-1 of the node's name, followed by `-v6` for the IPv6 device.
pub fn vxlan_mac(node: &str, v6: bool) -> MacAddress {
    use sha1::{Digest as _, Sha1};
    let mut hash = Sha1::new();
    hash.update(node.as_bytes());
    if v6 {
        hash.update(b"-v6");
    }
    let digest = hash.finalize();
    let mut mac = [0x66; 6];
    mac[1..].copy_from_slice(&digest[..5]);
    MacAddress(mac)
}

/// An IPv4 address of an address.
pub const fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
