// SPDX-License-Identifier: Apache-2.0
//! A peer: everything that running one session takes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use model::bgp_peer::NextHopMode;

use super::password::Password;

/// TCP port of BGP (RFC 4271).
pub const DEFAULT_PORT: u16 = 179;
/// IP TTL of sessions without TTL security, and so how many hops away a peer may be: Calico configures every peer
/// as multihop, on one subnet too.
pub const MULTIHOP: u8 = 64;
/// Hold time offered if `keepaliveTime` does not ask for a longer one. Calico offers 240 s; the shorter of two holds.
pub const DEFAULT_HOLD: Duration = Duration::from_secs(90);
/// Graceful restart time offered where nothing else is configured, as Calico.
pub const DEFAULT_RESTART: Duration = Duration::from_secs(120);
/// Longest graceful restart time that fits its 12 bits (RFC 4724 3).
pub const LONGEST_RESTART: Duration = Duration::from_secs(4095);

/// Why a peer exists; the first part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// By the node-to-node mesh.
    Mesh,
    /// By a BGPPeer for all nodes.
    Global,
    /// By a BGPPeer for this node or some nodes, or as a mirror of another node's.
    Node,
    /// By a BGPPeer with `localWorkloadSelector`.
    LocalWorkload,
}

impl PeerKind {
    /// The first part of names: `Mesh`, `Global`, `Node`, `Local_Workload`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::Global => "Global",
            Self::Node => "Node",
            Self::LocalWorkload => "Local_Workload",
        }
    }

    /// The word of CalicoNodeStatus; `None` for what does not appear there.
    pub fn status_type(self) -> Option<&'static str> {
        match self {
            Self::Mesh => Some("NodeMesh"),
            Self::Global => Some("GlobalPeer"),
            Self::Node => Some("NodePeer"),
            Self::LocalWorkload => None,
        }
    }
}

/// The words of `calicoctl node status`.
impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mesh => "node-to-node mesh",
            Self::Global => "global",
            Self::Node => "node specific",
            Self::LocalWorkload => "local workload",
        })
    }
}

/// Route reflection (RFC 4456) on one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reflection {
    /// The peer is our client: routes of other iBGP peers are passed on to it, and its routes to them. Only ever set
    /// on a reflector.
    pub client: bool,
    /// Our cluster ID. `None` on a client's session: the own BGP identifier stands in (RFC 4456 7).
    pub cluster_id: Option<Ipv4Addr>,
    /// The peer's cluster ID, as far as known: a peer given by address has none that is, even if it is a Node.
    pub peer_cluster_id: Option<Ipv4Addr>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// As Calico names BIRD's protocols: kind, address with `_` for dots and colons, and `_port_N` if the port was
    /// asked for or comes from a `listenPort`; mesh peers never have the port.
    pub name: String,
    /// Why it exists.
    pub kind: PeerKind,
    /// Where it is.
    pub address: IpAddr,
    /// TCP port it listens on.
    pub port: u16,
    /// Name of the Node whose address it is, if it is one's.
    pub peer_node: Option<String>,
    /// Its AS number.
    pub peer_as: u32,
    /// Our AS number towards it: `localASNumber`, or the node's.
    pub local_as: u32,
    /// How often our own AS number may occur in a path from it.
    pub allowed_own_as: u32,
    /// We wait for it to connect.
    pub passive: bool,
    /// Address to connect from; `None`: whichever the kernel chooses.
    pub source: Option<IpAddr>,
    /// How many hops away it may be.
    pub multihop: u8,
    /// Hops for the TTL check of RFC 5082, if it is on.
    pub ttl_security: Option<u8>,
    /// Which next hop it is told.
    pub next_hop: NextHopMode,
    /// Route reflection.
    pub reflection: Reflection,
    /// Time between KEEPALIVEs; `None`: a third of the hold time agreed on.
    pub keepalive: Option<Duration>,
    /// Hold time offered.
    pub hold: Duration,
    /// Graceful restart time offered, in whole seconds.
    pub restart: Duration,
    /// TCP MD5 password (RFC 2385).
    pub password: Password,
    /// Names of BGPFilters, in order; those that do not exist count as without rules.
    pub filters: Vec<String>,
    /// Gateway through which it is reached: a host route to `address` through this is wanted.
    pub reachable_by: Option<IpAddr>,
    /// Why it exists, for humans.
    pub reason: String,
}

impl Peer {
    /// Both sides are of one AS, `localASNumber` included.
    pub fn is_internal(&self) -> bool {
        self.peer_as == self.local_as
    }

    /// TTL of packets to it: 255 under TTL security (RFC 5082).
    pub fn ttl(&self) -> u8 {
        if self.ttl_security.is_some() {
            u8::MAX
        } else {
            self.multihop
        }
    }

    /// Lowest TTL accepted from it; 0 accepts all.
    pub fn lowest_ttl(&self) -> u8 {
        // 256 - hops, without leaving a byte.
        self.ttl_security
            .map_or(0, |hops| (u8::MAX - hops).saturating_add(1))
    }

    /// The name of a peer.
    pub(super) fn name(kind: PeerKind, address: IpAddr, port: Option<u16>) -> String {
        let address = address.to_string().replace(['.', ':'], "_");
        let prefix = kind.prefix();
        match port {
            Some(port) => format!("{prefix}_{address}_port_{port}"),
            None => format!("{prefix}_{address}"),
        }
    }
}
