// SPDX-License-Identifier: Apache-2.0
//! With whom this node has BGP sessions, and how each is run: Nodes, BGPPeers and BGPConfigurations in, a list of
//! peers out. No I/O and no state: the same objects give the same list, in the same order, whoever asks.
//!
//! Calico's rules (its `confd`), in the order in which they claim an address:
//!
//! 1. BGPPeers for all nodes (neither `node` nor `nodeSelector`): kind [`PeerKind::Global`].
//! 2. BGPPeers for some nodes, and local workloads.
//! 3. Mirrors: whoever another node's BGPPeer selects, by `peerSelector` or by its address, AS number and port, gets
//!    the same session from its side, unless `reversePeering: Manual`.
//! 4. The node-to-node mesh, which route reflectors are not part of.
//!
//! An address and port that is claimed stays with the first claim; within a step, with the BGPPeer whose name sorts
//! first (Calico leaves that to chance, and runs a mesh session beside any other).
//!
//! Where this differs from Calico, on purpose:
//! - a session whose password cannot be read waits for it, instead of being tried without;
//! - a BGPPeer with the address of a node of the global AS needs no `asNumber` (Calico mirrors it, but renders AS 0);
//! - a mesh peer without an AS number has the global one (Calico: that of the node that looks);
//! - a `peerIP` with a port is compared with the node's own `listenPort` where it has one (Calico: with the global
//!   one, too);
//! - peers that selectors find are used in the IP versions that both nodes have (Calico: that the peer has).
//!
//! An object that cannot be used costs its own peers and gives a warning; everything else goes on.

use std::collections::{BTreeMap, HashSet};

use model::{BgpConfiguration, BgpPeer, Node};

mod claims;
mod cluster;
mod explicit;
mod local_workload;
mod mesh;
mod mirror;
mod password;
mod peer;
mod request;
mod settings;
#[cfg(test)]
mod tests;

use claims::Claims;
use cluster::Cluster;
pub use local_workload::LocalWorkload;
pub use password::{MAX_PASSWORD_LENGTH, Password, Secret};
pub use peer::{
    DEFAULT_HOLD, DEFAULT_PORT, DEFAULT_RESTART, LONGEST_RESTART, MULTIHOP, Peer, PeerKind, Reflection,
};
use request::Request;

/// What decides about peers.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Name of this host's Node.
    pub node_name: &'a str,
    /// All Nodes, in any order.
    pub nodes: &'a [&'a Node],
    /// All BGPPeers, in any order.
    pub peers: &'a [&'a BgpPeer],
    /// All BGPConfigurations: `default`, and every `node.<name>`, as peers' ports are looked up there.
    pub configurations: &'a [&'a BgpConfiguration],
    /// Workloads of this host, for BGPPeers with `localWorkloadSelector`.
    pub workloads: &'a [LocalWorkload<'a>],
    /// Namespace of the Secrets that hold passwords: the one this daemon runs in.
    pub secret_namespace: &'a str,
    /// Value of a key of a Secret; the Secret is given as `namespace/name`.
    pub secrets: &'a dyn Fn(&str, &str) -> Option<String>,
}

/// The sessions of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peering {
    /// One for each address and port, by kind, address and port.
    pub peers: Vec<Peer>,
    /// What could not be used: object, field, value, problem and remedy.
    pub warnings: Vec<String>,
}

/// The sessions of the node that `input` names.
pub fn peers(input: &Input<'_>) -> Peering {
    let mut warnings = Warnings::default();
    let cluster = Cluster::new(input, &mut warnings);
    let requests = Request::all(input, &mut warnings);
    let mut claims = Claims::default();
    if let Some(own) = cluster.own(input.node_name, &mut warnings) {
        let mut view = View {
            input,
            cluster: &cluster,
            own,
            warnings: &mut warnings,
            passwords: BTreeMap::new(),
        };
        explicit::claim(&mut view, &requests, &mut claims);
        local_workload::claim(&mut view, &requests, &mut claims);
        mirror::claim(&mut view, &requests, &mut claims);
        mesh::claim(&mut view, &mut claims);
    }
    Peering {
        peers: claims.into_peers(),
        warnings: warnings.into_list(),
    }
}

/// What each step looks at.
struct View<'v, 'a> {
    input: &'v Input<'a>,
    cluster: &'v Cluster<'a>,
    own: cluster::Own<'v, 'a>,
    warnings: &'v mut Warnings,
    /// By the object that refers to them, so that each is looked up, and complained about, once.
    passwords: BTreeMap<String, Password>,
}

/// What could not be used. One thing may be met many times; the list has it once.
#[derive(Debug, Default)]
struct Warnings(Vec<String>);

impl Warnings {
    /// About a field of an object, for example `Node a`.
    fn add(&mut self, object: &str, problem: &model::FieldError) {
        self.0.push(format!("{object}: {problem}"));
    }

    fn into_list(self) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut list = self.0;
        list.retain(|text| seen.insert(text.clone()));
        list
    }
}
