// SPDX-License-Identifier: Apache-2.0
//! Peers as they are wanted, turned into sessions and sockets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bgp::{
    Family, FamilySet,
    policy::Policy,
    session::{RestartOffer, SessionConfig, Waits},
    speaker::{NextHopMode, OwnAddresses, PeerConfig, Policies},
};

use crate::{
    peering::{DEFAULT_HOLD, Password, Peer, PeerKind},
    session_io::PeerSocket,
};

/// How long after a peer's return its routes of before may stay without being sent again.
const STALE_LIMIT: Duration = Duration::from_secs(360);
/// After which time a session that was ended because of too many prefixes is begun again.
const LIMIT_PAUSE: Duration = Duration::from_secs(300);

/// What all sessions have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// BGP identifier.
    pub(super) identifier: Ipv4Addr,
    /// Offered hold time, where the peer has none of its own.
    pub(super) hold_time: Duration,
    /// This agent has restarted.
    pub(super) restarted: bool,
    /// Most prefixes from external peers.
    pub(super) prefix_limit: u32,
    /// Own addresses.
    pub(super) own_addresses: OwnAddresses,
}

/// Import and export policies, IPv4 first in each.
pub(super) type PolicyPair = ([Arc<Policy>; 2], [Arc<Policy>; 2]);

/// A peer for the speaker.
pub(super) fn config(peer: &Peer, common: &Common, (import, export): PolicyPair) -> PeerConfig {
    // As in Calico: each family has a session of its own.
    let families: FamilySet = [Family::of_address(peer.address)].into_iter().collect();
    let policies = |[ipv4, ipv6]: [Arc<Policy>; 2]| Policies {
        ipv4: Some(ipv4),
        ipv6: Some(ipv6),
    };
    let hold_time = if peer.hold == DEFAULT_HOLD {
        common.hold_time
    } else {
        peer.hold
    };
    PeerConfig {
        session: SessionConfig {
            local_as: peer.local_as,
            peer_as: peer.peer_as,
            identifier: common.identifier,
            hold_time,
            keepalive_time: peer.keepalive,
            families,
            // Calico's BIRDs wait for each other by a rule. An agent dials even where it might wait: of two connections
            // one is given up, and nobody has to wait for the other's retry.
            passive: peer.passive && peer.kind != PeerKind::Mesh,
            graceful_restart: Some(RestartOffer {
                time: peer.restart,
                forwarding: families,
                restarted: common.restarted,
                notification: true,
            }),
            add_path_receive: families,
            // Offered inside the AS, whoever reflects at the moment: that a node becomes a reflector, or a peer its client, then
            // ends no session. Several paths go to clients only.
            add_path_send: if peer.is_internal() {
                families
            } else {
                FamilySet::EMPTY
            },
            extended_message: true,
            ipv4_over_ipv6: false,
            waits: Waits::default(),
        },
        address: peer.address,
        import: policies(import),
        export: policies(export),
        client: peer.reflection.client,
        next_hop: match peer.next_hop {
            model::bgp_peer::NextHopMode::Auto => NextHopMode::Auto,
            model::bgp_peer::NextHopMode::SelfAddress => NextHopMode::Own,
            model::bgp_peer::NextHopMode::Keep => NextHopMode::Keep,
        },
        own_addresses: common.own_addresses,
        own_as_allowed: usize::try_from(peer.allowed_own_as).unwrap_or(usize::MAX),
        prefix_limit: (!peer.is_internal()).then_some(common.prefix_limit),
        limit_pause: LIMIT_PAUSE,
        stale_limit: STALE_LIMIT,
    }
}

/// A peer for the sockets.
pub(super) fn socket(peer: &Peer) -> PeerSocket {
    PeerSocket {
        remote: Some(SocketAddr::new(peer.address, peer.port)),
        source: peer.source,
        password: match &peer.password {
            Password::Md5(secret) => Some(secret.reveal().to_owned()),
            Password::None | Password::Missing(_) => None,
        },
        ttl_hops: peer.ttl_security,
    }
}

/// A password, from where Kubernetes would mount its Secret: a file `NAME/KEY` in the folder of secrets.
pub(super) fn secret(folder: &Path, name: &str, key: &str) -> Option<String> {
    // The Secret comes with its namespace, of which there is one.
    let name = name.rsplit('/').next()?;
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('/');
    if !is_plain(name) || !is_plain(key) {
        return None;
    }
    let text = std::fs::read_to_string(folder.join(name).join(key)).ok()?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}
