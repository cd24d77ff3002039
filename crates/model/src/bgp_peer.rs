// SPDX-License-Identifier: Apache-2.0
//! BGPPeer: sessions beyond the mesh, of one node, of nodes by selector, or of all.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use crate::{
    as_number::AsNumber,
    duration::GoDuration,
    field::{FieldError, parse_selector},
    key::Kind,
    object::{EmptyIsDefault, EmptyIsNone, Extra},
    resource::{Resource, Spec},
    secret::PasswordSource,
};

/// A BGP peer.
pub type BgpPeer = Resource<BgpPeerSpec>;

/// `spec` of a BGPPeer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BgpPeerSpec {
    /// The one node that has this session.
    pub node: String,
    /// Which nodes have this session; excludes `node`; neither means all.
    pub node_selector: String,
    /// The peer's address.
    pub peer_ip: Option<PeerAddress>,
    /// The peer's AS number.
    pub as_number: Option<AsNumber>,
    /// Our AS number towards this peer.
    pub local_as_number: Option<AsNumber>,
    /// The peers, as nodes of this cluster; excludes `peerIP`.
    pub peer_selector: String,
    /// The peers, as workloads of the node itself; excludes `peerIP` and `peerSelector`.
    pub local_workload_selector: String,
    /// Deprecated form of `nextHopMode: Keep`.
    pub keep_original_next_hop: bool,
    /// Which next hop is announced.
    pub next_hop_mode: Option<NextHopMode>,
    /// Password of the session.
    pub password: Option<PasswordSource>,
    /// Which address sessions start from.
    pub source_address: SourceAddress,
    /// How long the peer keeps our routes while we restart.
    pub max_restart_time: Option<GoDuration>,
    /// Keepalive interval.
    pub keepalive_time: Option<GoDuration>,
    /// How often our own AS number may occur in a received path.
    pub num_allowed_local_as_numbers: Option<u32>,
    /// Hops for the TTL check of RFC 5082; 0 turns it off.
    pub ttl_security: Option<u8>,
    /// Gateway through which the peer is reached.
    pub reachable_by: Option<IpAddr>,
    /// Names of BGPFilters, in order.
    pub filters: Vec<String>,
    /// Whether nodes that this selects as peers get the session too.
    pub reverse_peering: Option<ReversePeering>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(BgpPeerSpec {
    "node" => node: unless_default,
    "nodeSelector" => node_selector: unless_default,
    "peerIP" => peer_ip: unless_default as EmptyIsNone<PeerAddress>,
    "asNumber" => as_number: unless_default,
    "localASNumber" => local_as_number: unless_default,
    "peerSelector" => peer_selector: unless_default,
    "localWorkloadSelector" => local_workload_selector: unless_default,
    "keepOriginalNextHop" => keep_original_next_hop: unless_default,
    "nextHopMode" => next_hop_mode: unless_default as EmptyIsNone<NextHopMode>,
    "password" => password: unless_default,
    "sourceAddress" => source_address: unless_default as EmptyIsDefault<SourceAddress>,
    "maxRestartTime" => max_restart_time: unless_default,
    "keepaliveTime" => keepalive_time: unless_default,
    "numAllowedLocalASNumbers" => num_allowed_local_as_numbers: unless_default,
    "ttlSecurity" => ttl_security: unless_default,
    "reachableBy" => reachable_by: unless_default as EmptyIsNone<IpAddr>,
    "filters" => filters: unless_default,
    "reversePeering" => reverse_peering: unless_default as EmptyIsNone<ReversePeering>,
});

/// A peer's address, with a port where it is not the usual one: `IP`, `IP:port` or `[IPv6]:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// The address.
    pub address: IpAddr,
    /// The TCP port; `None` means 179.
    pub port: Option<u16>,
}

/// A text that is not a peer's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a peer address: write for example 192.0.2.1, 192.0.2.1:1790 or [2001:db8::1]:1790")]
pub struct PeerAddressError(String);

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        if let Ok(address) = text.parse() {
            return Ok(Self { address, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() != 0 => Ok(Self {
                address: socket.ip(),
                port: Some(socket.port()),
            }),
            _ => Err(PeerAddressError(text.to_owned())),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

json_text!(PeerAddress);

/// Which next hop is announced to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextHopMode {
    /// As BGP has it: ours to eBGP peers, unchanged to iBGP peers.
    Auto,
    /// Always ours.
    SelfAddress,
    /// Always unchanged.
    Keep,
}

json_words!(NextHopMode { "Auto" => Auto, "Self" => SelfAddress, "Keep" => Keep });

/// Which address sessions start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceAddress {
    /// The node's own.
    #[default]
    UseNodeIp,
    /// Whichever the kernel chooses.
    None,
}

json_words!(SourceAddress { "UseNodeIP" => UseNodeIp, "None" => None });

/// Whether selected peers get the session from their side too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReversePeering {
    /// They do.
    Auto,
    /// They need a BGPPeer of their own.
    Manual,
}

json_words!(ReversePeering { "Auto" => Auto, "Manual" => Manual });

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BgpPeer;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        for (field, selector) in [
            ("nodeSelector", &self.node_selector),
            ("peerSelector", &self.peer_selector),
            ("localWorkloadSelector", &self.local_workload_selector),
        ] {
            parse_selector(field, selector)?;
        }
        self.validate_peers()?;
        if self.keep_original_next_hop && self.next_hop_mode.is_some() {
            return Err(excludes("keepOriginalNextHop", "true", "nextHopMode"));
        }
        if self.keepalive_time.is_some_and(|time| time.0.as_secs() == 0) {
            return Err(FieldError::new(
                "keepaliveTime",
                "0",
                "is less than a second",
                "use 1s or more",
            ));
        }
        self.validate_gateway()
    }
}

impl BgpPeerSpec {
    fn validate_peers(&self) -> Result<(), FieldError> {
        if !self.node.is_empty() && !self.node_selector.is_empty() {
            return Err(excludes("node", &self.node, "nodeSelector"));
        }
        if let Some(peer) = self.peer_ip {
            if !self.peer_selector.is_empty() {
                return Err(excludes("peerIP", &peer.to_string(), "peerSelector"));
            }
            if !self.local_workload_selector.is_empty() {
                return Err(excludes("peerIP", &peer.to_string(), "localWorkloadSelector"));
            }
        }
        let as_number = self.as_number.unwrap_or_default();
        if !self.peer_selector.is_empty() {
            if !self.local_workload_selector.is_empty() {
                return Err(excludes(
                    "peerSelector",
                    &self.peer_selector,
                    "localWorkloadSelector",
                ));
            }
            if as_number != AsNumber(0) {
                return Err(excludes("asNumber", &as_number.to_string(), "peerSelector"));
            }
        }
        if !self.local_workload_selector.is_empty() && as_number == AsNumber(0) {
            return Err(FieldError::new(
                "asNumber",
                "0",
                "is missing, and localWorkloadSelector needs it",
                "set the AS number of the workloads",
            ));
        }
        Ok(())
    }

    fn validate_gateway(&self) -> Result<(), FieldError> {
        let Some(gateway) = self.reachable_by else {
            return Ok(());
        };
        let problem = match self.peer_ip {
            Some(peer) if peer.address.is_ipv4() == gateway.is_ipv4() => return Ok(()),
            Some(_) => "is not of peerIP's IP version",
            None => "needs peerIP",
        };
        let remedy = "set peerIP and reachableBy of one IP version, or remove reachableBy";
        Err(FieldError::new(
            "reachableBy",
            gateway.to_string(),
            problem,
            remedy,
        ))
    }
}

fn excludes(field: &str, value: &str, other: &str) -> FieldError {
    FieldError::new(
        field,
        value,
        format!("excludes {other}"),
        format!("remove one of {field} and {other}"),
    )
}
