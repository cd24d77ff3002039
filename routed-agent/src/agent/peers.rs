// SPDX-License-Identifier: Apache-2.0
//! Peers as the plan names them, turned into sessions.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bgp::{
    Family, FamilySet,
    session::{RestartOffer, SessionConfig, Waits},
    speaker::{NextHopMode, OwnAddresses, PeerConfig, Policies},
};

use crate::{session_io::PeerSocket, snapshot::Snapshot};

/// A peer as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedPeer {
    /// As Calico names it in its configuration of BIRD.
    pub name: String,
    /// As `calicoctl node status` names its kind.
    pub kind: &'static str,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its AS number.
    pub peer_as: u32,
    /// This node's AS number towards it.
    pub local_as: u32,
    /// It dials.
    pub passive: bool,
    /// It is a client of this reflector.
    pub client: bool,
    /// What becomes of next hops.
    pub next_hop: NextHopMode,
    /// Own address for the session; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// Key for TCP MD5.
    pub password: Option<String>,
    /// TTL security.
    pub ttl_hops: Option<u8>,
    /// Filters, in order.
    pub filters: Vec<String>,
    /// How often the own AS may be in received paths.
    pub own_as_allowed: usize,
    /// Time between KEEPALIVEs.
    pub keepalive: Option<Duration>,
    /// Graceful restart time.
    pub restart_time: Duration,
    /// The node behind it.
    pub node: Option<String>,
    /// Why it is there.
    pub reason: String,
}

/// What all sessions have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// BGP identifier.
    pub identifier: Ipv4Addr,
    /// Offered hold time.
    pub hold_time: Duration,
    /// This agent has restarted.
    pub restarted: bool,
    /// Most prefixes from external peers.
    pub prefix_limit: u32,
    /// Own addresses.
    pub own_addresses: OwnAddresses,
}

impl WantedPeer {
    /// For the speaker.
    pub(super) fn config(
        &self,
        common: &Common,
        import: [Arc<bgp::policy::Policy>; 2],
        export: [Arc<bgp::policy::Policy>; 2],
    ) -> PeerConfig {
        // As in Calico: each family has a session of its own.
        let families: FamilySet = [Family::of_address(self.address)].into_iter().collect();
        let external = self.local_as != self.peer_as;
        let [import_v4, import_v6] = import;
        let [export_v4, export_v6] = export;
        PeerConfig {
            session: SessionConfig {
                local_as: self.local_as,
                peer_as: self.peer_as,
                identifier: common.identifier,
                hold_time: common.hold_time,
                keepalive_time: self.keepalive,
                families,
                passive: self.passive,
                graceful_restart: Some(RestartOffer {
                    time: self.restart_time,
                    forwarding: families,
                    restarted: common.restarted,
                    notification: true,
                }),
                add_path_receive: families,
                add_path_send: FamilySet::EMPTY,
                extended_message: true,
                ipv4_over_ipv6: false,
                waits: Waits::default(),
            },
            address: self.address,
            import: Policies {
                ipv4: Some(import_v4),
                ipv6: Some(import_v6),
            },
            export: Policies {
                ipv4: Some(export_v4),
                ipv6: Some(export_v6),
            },
            client: self.client,
            next_hop: self.next_hop,
            own_addresses: common.own_addresses,
            own_as_allowed: self.own_as_allowed,
            prefix_limit: external.then_some(common.prefix_limit),
            limit_pause: Duration::from_secs(300),
            stale_limit: Duration::from_secs(360),
        }
    }

    /// For the sockets.
    pub(super) fn socket(&self) -> PeerSocket {
        PeerSocket {
            remote: Some(SocketAddr::new(self.address, self.port)),
            source: self.source,
            password: self.password.clone(),
            ttl_hops: self.ttl_hops,
        }
    }
}

/// The peers of a node.
pub(super) fn wanted(snapshot: &Snapshot, node: &str, default_as: u32) -> Vec<WantedPeer> {
    let as_of = |name: &str| {
        let bgp = snapshot.nodes.get(name).and_then(|node| node.spec.bgp.as_ref());
        bgp.and_then(|bgp| bgp.as_number)
            .map_or(default_as, |number| number.0)
    };
    let mut peers = Vec::new();
    for v6 in [false, true] {
        let Some(own) = snapshot.node_address(node, v6).map(|own| own.addr()) else {
            continue;
        };
        for other in snapshot.nodes.keys().filter(|other| *other != node) {
            let Some(address) = snapshot.node_address(other, v6).map(|address| address.addr()) else {
                continue;
            };
            peers.push(WantedPeer {
                name: format!("Mesh_{}", address.to_string().replace(['.', ':'], "_")),
                kind: "node-to-node mesh",
                address,
                port: 179,
                peer_as: as_of(other),
                local_as: as_of(node),
                passive: address.to_string() > own.to_string(),
                client: false,
                next_hop: NextHopMode::Auto,
                source: Some(own),
                password: None,
                ttl_hops: None,
                filters: Vec::new(),
                own_as_allowed: 0,
                keepalive: None,
                restart_time: Duration::from_secs(120),
                node: Some(other.clone()),
                reason: "node-to-node mesh".into(),
            });
        }
    }
    peers
}
