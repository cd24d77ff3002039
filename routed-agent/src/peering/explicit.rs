// SPDX-License-Identifier: Apache-2.0
//! Peers that BGPPeers give this node: by address, or by selecting nodes.

use std::net::IpAddr;

use model::FieldError;

use super::{
    View,
    claims::Claims,
    cluster::Member,
    peer::{Peer, PeerKind},
    request::{Request, Side, Target},
    settings::Remote,
};

/// Claims what BGPPeers for all nodes ask for, then what those for some ask for.
pub(super) fn claim(view: &mut View<'_, '_>, requests: &[Request<'_>], claims: &mut Claims) {
    for global in [true, false] {
        for request in requests {
            if matches!(request.side, Side::All) == global && request.has(view.own.member) {
                claim_one(view, request, claims);
            }
        }
    }
}

fn claim_one(view: &mut View<'_, '_>, request: &Request<'_>, claims: &mut Claims) {
    match &request.target {
        Target::Address(address, port) => {
            if !view.own.member.has_address(*address) {
                match by_address(view, request, *address, *port) {
                    Ok(peer) => claims.add(&request.object, peer),
                    Err(problem) => view.warnings.add(&request.object, &problem),
                }
            }
        }
        Target::Nodes(selector) => {
            let cluster = view.cluster;
            for member in cluster.members().filter(|member| member.matches(selector)) {
                for peer in by_node(view, request, member) {
                    claims.add(&request.object, peer);
                }
            }
        }
        Target::LocalWorkloads(_) => {}
    }
}

/// The kind that a BGPPeer's own sessions are of. Calico looks only at who has them, not at whom they are with.
pub(super) fn kind(request: &Request<'_>) -> PeerKind {
    match request.side {
        Side::All => PeerKind::Global,
        Side::Node(_) | Side::Selected(_) => PeerKind::Node,
    }
}

/// Which BGPPeer it is, and why it applies here.
pub(super) fn origin(request: &Request<'_>) -> String {
    let object = &request.object;
    match &request.side {
        Side::All => format!("{object}, which is for all nodes"),
        Side::Node(name) => format!("{object}, which is for node {name}"),
        Side::Selected(_) => {
            let selector = &request.peer.spec.node_selector;
            format!("{object}, whose nodeSelector {selector:?} selects this node")
        }
    }
}

fn by_address(
    view: &mut View<'_, '_>,
    request: &Request<'_>,
    address: IpAddr,
    port: Option<u16>,
) -> Result<Peer, FieldError> {
    let cluster = view.cluster;
    let meant = cluster
        .members()
        .find(|member| request.means(cluster, member, address, port));
    // Without asNumber, Calico finds nodes of the global AS, and mirrors to them, but cannot peer with them itself.
    let Some(as_number) = request.as_number().or(meant.and_then(|member| member.as_number)) else {
        return Err(FieldError::new(
            "asNumber",
            "0",
            format!("is missing, and {address} is not a node of the global AS"),
            "set the peer's AS number",
        ));
    };
    let remote = Remote {
        address,
        port: port.or(meant.and_then(|member| member.listen_port)),
        as_number,
        cluster_id: None,
    };
    let local_as = request.local_as_number().unwrap_or(view.own.as_number);
    let kind = kind(request);
    let mut peer = view.configured(request, kind, &remote, local_as, origin(request));
    peer.allowed_own_as = request.peer.spec.num_allowed_local_as_numbers.unwrap_or(0);
    peer.passive = kind == PeerKind::Global && peer.peer_node.is_some() && view.waits_for(address);
    Ok(peer)
}

/// One peer for each IP version that both nodes have. `localASNumber` and `numAllowedLocalASNumbers` do not apply.
fn by_node(view: &mut View<'_, '_>, request: &Request<'_>, member: &Member<'_>) -> Vec<Peer> {
    let reason = format!(
        "{}, and whose peerSelector {:?} selects node {}",
        origin(request),
        request.peer.spec.peer_selector,
        member.name
    );
    let local_as = view.own.as_number;
    shared_addresses(view, member)
        .into_iter()
        .filter_map(|address| Remote::node(member, address))
        .map(|remote| view.configured(request, kind(request), &remote, local_as, reason.clone()))
        .collect()
}

/// A node's addresses of the IP versions that this node has an address of, too; none if they are this node's own.
pub(super) fn shared_addresses(view: &View<'_, '_>, member: &Member<'_>) -> Vec<IpAddr> {
    let own = view.own.member;
    member
        .addresses()
        .filter(|address| own.address_beside(*address).is_some() && !own.has_address(*address))
        .collect()
}
