// SPDX-License-Identifier: Apache-2.0
//! The node-to-node mesh: every node that is not a reflector with every other that is not.

use super::{
    View,
    claims::Claims,
    explicit::shared_addresses,
    peer::PeerKind,
    settings::{Remote, restart},
};

/// Claims every other node of the mesh, if there is one and this node is part of it.
pub(super) fn claim(view: &mut View<'_, '_>, claims: &mut Claims) {
    let cluster = view.cluster;
    let configuration = &cluster.configuration;
    if !configuration.mesh_enabled() || view.own.member.reflector {
        return;
    }
    let object = "BGPConfiguration default";
    let restart = restart(
        object,
        "nodeMeshMaxRestartTime",
        configuration.node_mesh_max_restart_time,
        view.warnings,
    );
    let password = view.password(
        object,
        "nodeMeshPassword",
        configuration.node_mesh_password.as_ref(),
    );
    for member in cluster.members().filter(|member| !member.reflector) {
        for address in shared_addresses(view, member) {
            let Some(remote) = Remote::node(member, address) else {
                continue;
            };
            let reason = format!("node-to-node mesh with node {}", member.name);
            let mut peer = view.plain(PeerKind::Mesh, &remote, view.own.as_number, reason);
            peer.source = view.own.member.address_beside(address);
            peer.passive = view.waits_for(address);
            peer.restart = restart;
            peer.password = password.clone();
            claims.add("the node-to-node mesh", peer);
        }
    }
}
