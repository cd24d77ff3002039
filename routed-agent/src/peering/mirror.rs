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
        let Some(versions) = mirrored(view, request) else {
            continue;
        };
        for member in cluster.members().filter(|member| request.has(member)) {
            for peer in mirrors(view, request, member, versions) {
                claims.add(&request.object, peer);
            }
        }
    }
}

/// The IP versions of a mirrored session.
#[derive(Clone, Copy)]
struct Versions {
    ipv4: bool,
    ipv6: bool,
}

/// Whether a BGPPeer means this node, and then in which IP versions: an address has one, selected nodes use both.
fn mirrored(view: &View<'_, '_>, request: &Request<'_>) -> Option<Versions> {
    let own = view.own.member;
    let (meant, versions) = match &request.target {
        Target::Nodes(selector) => {
            let both = Versions {
                ipv4: true,
                ipv6: true,
            };
            (own.matches(selector), both)
        }
        Target::Address(address, port) => {
            let of_address = Versions {
                ipv4: address.is_ipv4(),
                ipv6: address.is_ipv6(),
            };
            (request.means(view.cluster, own, *address, *port), of_address)
        }
        Target::LocalWorkloads(_) => return None,
    };
    (meant && request.is_mirrored()).then_some(versions)
}

fn mirrors(
    view: &mut View<'_, '_>,
    request: &Request<'_>,
    member: &Member<'_>,
    versions: Versions,
) -> Vec<Peer> {
    let reason = format!(
        "mirror of {}, by which node {} has a session with this node",
        request.object, member.name
    );
    let local_as = view.own.as_number;
    shared_addresses(view, member)
        .into_iter()
        .filter(|address| {
            if address.is_ipv4() {
                versions.ipv4
            } else {
                versions.ipv6
            }
        })
        .filter_map(|address| Remote::node(member, address))
        .map(|remote| view.configured(request, PeerKind::Node, &remote, local_as, reason.clone()))
        .collect()
}
