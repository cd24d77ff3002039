// SPDX-License-Identifier: Apache-2.0
//! Reverse peering: sessions that this node has because another node's BGPPeer means this node.

use super::{
    View,
    claims::Claims,
    cluster::Member,
    explicit::shared_addresses,
    peer::{Peer, PeerKind},
    request::{Request, Target},
    settings::Remote,
};

/// Claims the other end of each session that other nodes have with this one.
pub(super) fn claim(view: &mut View<'_, '_>, requests: &[Request<'_>], claims: &mut Claims) {
    let cluster = view.cluster;
    for request in requests {
        if request.is_mirrored() && means_this_node(view, request) {
            for member in cluster.members().filter(|member| request.has(member)) {
                for peer in mirrors(view, request, member) {
                    claims.add(&request.object, peer);
                }
            }
        }
    }
}

fn means_this_node(view: &View<'_, '_>, request: &Request<'_>) -> bool {
    let own = view.own.member;
    match &request.target {
        Target::Nodes(selector) => own.matches(selector),
        Target::Address(address, port) => request.means(view.cluster, own, *address, *port),
        Target::LocalWorkloads(_) => false,
    }
}

/// The sessions of one other node: selected nodes use both IP versions, an address has one.
fn mirrors(view: &mut View<'_, '_>, request: &Request<'_>, member: &Member<'_>) -> Vec<Peer> {
    let reason = format!(
        "mirror of {}, by which node {} has a session with this node",
        request.object, member.name
    );
    let local_as = view.own.as_number;
    shared_addresses(view, member)
        .into_iter()
        .filter(|address| match &request.target {
            Target::Address(own, _) => own.is_ipv4() == address.is_ipv4(),
            Target::Nodes(_) | Target::LocalWorkloads(_) => true,
        })
        .filter_map(|address| Remote::node(member, address))
        .map(|remote| view.configured(request, PeerKind::Node, &remote, local_as, reason.clone()))
        .collect()
}
