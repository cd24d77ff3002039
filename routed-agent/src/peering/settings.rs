// SPDX-License-Identifier: Apache-2.0
//! From a rule and an address to a peer: what the fields of a BGPPeer mean for the session.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use model::{
    FieldError,
    bgp_peer::{BgpPeerSpec, NextHopMode, SourceAddress},
    duration::GoDuration,
};

use super::{
    View, Warnings,
    cluster::Member,
    peer::{
        DEFAULT_HOLD, DEFAULT_PORT, DEFAULT_RESTART, LONGEST_RESTART, MULTIHOP, Peer, PeerKind, Reflection,
    },
    request::Request,
};

/// Hold time that Calico offers, and so the longest that a `keepaliveTime` was ever written for.
const LONGEST_HOLD: Duration = Duration::from_secs(240);

/// What is at the other end.
pub(super) struct Remote {
    /// Its address.
    pub(super) address: IpAddr,
    /// Its port, where one is asked for or configured.
    pub(super) port: Option<u16>,
    /// Its AS number.
    pub(super) as_number: u32,
    /// Its cluster ID, as far as known.
    pub(super) cluster_id: Option<Ipv4Addr>,
}

impl Remote {
    /// A node that a selector found; `None` if it has no usable AS number, which was complained about already.
    pub(super) fn node(member: &Member<'_>, address: IpAddr) -> Option<Self> {
        Some(Self {
            address,
            port: member.listen_port,
            as_number: member.as_number?,
            cluster_id: member.cluster_id,
        })
    }
}

impl View<'_, '_> {
    /// A peer with nothing configured but what every peer has.
    pub(super) fn plain(&self, kind: PeerKind, remote: &Remote, local_as: u32, reason: String) -> Peer {
        let named_port = if kind == PeerKind::Mesh { None } else { remote.port };
        Peer {
            name: Peer::name(kind, remote.address, named_port),
            kind,
            address: remote.address,
            port: remote.port.unwrap_or(DEFAULT_PORT),
            peer_node: self
                .cluster
                .holder(remote.address)
                .map(|node| node.name.to_owned()),
            peer_as: remote.as_number,
            local_as,
            allowed_own_as: 0,
            passive: false,
            source: None,
            multihop: MULTIHOP,
            ttl_security: None,
            next_hop: NextHopMode::Auto,
            reflection: self.reflection(remote, local_as),
            keepalive: None,
            hold: DEFAULT_HOLD,
            restart: DEFAULT_RESTART,
            password: super::Password::None,
            filters: Vec::new(),
            reachable_by: None,
            reason,
        }
    }

    /// A peer with the fields of a BGPPeer that go to mirrors, too.
    pub(super) fn configured(
        &mut self,
        request: &Request<'_>,
        kind: PeerKind,
        remote: &Remote,
        local_as: u32,
        reason: String,
    ) -> Peer {
        let spec = &request.peer.spec;
        let mut peer = self.plain(kind, remote, local_as, reason);
        peer.source = match spec.source_address {
            SourceAddress::UseNodeIp => self.own.member.address_beside(remote.address),
            SourceAddress::None => None,
        };
        if let Some(hops) = spec.ttl_security.filter(|hops| *hops > 0) {
            peer.ttl_security = Some(hops);
            peer.multihop = hops;
        }
        peer.next_hop = next_hop(spec, peer.is_internal());
        peer.keepalive = spec
            .keepalive_time
            .map(whole_seconds)
            .filter(|time| !time.is_zero());
        if let Some(keepalive) = peer.keepalive {
            // A Calico node sends them this far apart whatever hold time is agreed on; three must fit (RFC 4271 10).
            peer.hold = keepalive.saturating_mul(3).clamp(DEFAULT_HOLD, LONGEST_HOLD);
        }
        peer.restart = restart(
            &request.object,
            "maxRestartTime",
            spec.max_restart_time,
            self.warnings,
        );
        peer.password = self.password(&request.object, "password", spec.password.as_ref());
        peer.filters.clone_from(&spec.filters);
        peer.reachable_by = spec
            .reachable_by
            .map(|gateway| gateway.to_canonical())
            .filter(|gateway| gateway.is_ipv4() == remote.address.is_ipv4());
        peer
    }

    /// Calico's rule for who connects: the peer does if its address, as text, sorts behind ours.
    pub(super) fn waits_for(&self, address: IpAddr) -> bool {
        let own = self.own.member.address_beside(address);
        address.to_string() > own.map(|own| own.to_string()).unwrap_or_default()
    }

    /// On a reflector, iBGP peers are clients unless they are known to reflect for the same cluster.
    fn reflection(&self, remote: &Remote, local_as: u32) -> Reflection {
        let own = self.own.member;
        let same_cluster = remote.cluster_id.is_some() && remote.cluster_id == own.cluster_id;
        Reflection {
            client: own.reflector && remote.as_number == local_as && !same_cluster,
            cluster_id: own.cluster_id,
            peer_cluster_id: remote.cluster_id,
        }
    }
}

/// The deprecated `keepOriginalNextHop` counts only without `nextHopMode`, and only towards eBGP peers.
fn next_hop(spec: &BgpPeerSpec, internal: bool) -> NextHopMode {
    match spec.next_hop_mode {
        Some(mode) => mode,
        None if spec.keep_original_next_hop && !internal => NextHopMode::Keep,
        None => NextHopMode::Auto,
    }
}

/// Graceful restart time of a field.
pub(super) fn restart(
    object: &str,
    field: &str,
    configured: Option<GoDuration>,
    warnings: &mut Warnings,
) -> Duration {
    let Some(configured) = configured else {
        return DEFAULT_RESTART;
    };
    let time = whole_seconds(configured);
    if time > LONGEST_RESTART {
        let problem = FieldError::new(
            field,
            configured.to_string(),
            "does not fit the 12 bits that BGP has for it",
            format!(
                "use at most {}s, which is used meanwhile",
                LONGEST_RESTART.as_secs()
            ),
        );
        warnings.add(object, &problem);
        return LONGEST_RESTART;
    }
    time
}

/// To the nearest second, halves upwards, as Calico.
fn whole_seconds(time: GoDuration) -> Duration {
    Duration::from_secs(time.0.saturating_add(Duration::from_millis(500)).as_secs())
}
