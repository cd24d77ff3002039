// SPDX-License-Identifier: Apache-2.0
//! Sessions with workloads of this host, which announce routes of their own.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use model::FieldError;

use super::{
    View,
    claims::Claims,
    cluster::is_peerable,
    explicit::origin,
    peer::{Peer, PeerKind},
    request::{Request, Target},
    settings::Remote,
};

/// A workload of this host.
#[derive(Clone, Copy, Debug)]
pub struct LocalWorkload<'a> {
    /// What it is called, for humans.
    pub name: &'a str,
    /// Its labels, with those it inherits from its profiles.
    pub labels: &'a BTreeMap<String, String>,
    /// Its addresses; the first of each IP version is the peer's.
    pub addresses: &'a [IpNet],
}

impl LocalWorkload<'_> {
    fn peer_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = || self.addresses.iter().map(|prefix| prefix.addr().to_canonical());
        let first =
            move |ipv4: bool| addresses().find(|address| address.is_ipv4() == ipv4 && is_peerable(*address));
        first(true).into_iter().chain(first(false))
    }
}

/// Claims this host's workloads, each for the BGPPeer whose name sorts first of those that select it.
pub(super) fn claim(view: &mut View<'_, '_>, requests: &[Request<'_>], claims: &mut Claims) {
    let workloads = view.input.workloads;
    for workload in workloads {
        let chosen = requests.iter().find(|request| {
            matches!(&request.target, Target::LocalWorkloads(selector) if selector.matches(workload.labels))
                && request.has(view.own.member)
        });
        let Some(request) = chosen else { continue };
        let Some(as_number) = request.as_number() else {
            let problem = FieldError::new(
                "asNumber",
                "0",
                "is missing, and localWorkloadSelector needs it",
                "set the AS number of the workloads",
            );
            view.warnings.add(&request.object, &problem);
            continue;
        };
        for address in workload.peer_addresses() {
            claims.add(&request.object, peer(view, request, workload, address, as_number));
        }
    }
}

/// Of a BGPPeer's fields only AS numbers and filters apply. The workload connects: it may not even be there yet.
fn peer(
    view: &View<'_, '_>,
    request: &Request<'_>,
    workload: &LocalWorkload<'_>,
    address: IpAddr,
    as_number: u32,
) -> Peer {
    let remote = Remote {
        address,
        port: None,
        as_number,
        cluster_id: None,
    };
    let reason = format!(
        "{}, and whose localWorkloadSelector {:?} selects workload {}",
        origin(request),
        request.peer.spec.local_workload_selector,
        workload.name
    );
    let local_as = request.local_as_number().unwrap_or(view.own.as_number);
    let mut peer = view.plain(PeerKind::LocalWorkload, &remote, local_as, reason);
    peer.passive = true;
    peer.filters.clone_from(&request.peer.spec.filters);
    peer
}
