// SPDX-License-Identifier: Apache-2.0
//! What tests of peers share: a cluster written as JSON, and peers written as one line each.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use model::{BgpConfiguration, BgpPeer, Node, bgp_peer::NextHopMode};
use serde_json::{Value, json};

use super::*;

mod golden;
mod rules;
mod symmetry;
mod unusable;

/// A cluster.
#[derive(Default)]
struct World {
    nodes: Vec<Node>,
    peers: Vec<BgpPeer>,
    configurations: Vec<BgpConfiguration>,
    secrets: HashMap<(String, String), String>,
    workloads: Vec<(String, BTreeMap<String, String>, Vec<ipnet::IpNet>)>,
}

impl World {
    /// The mesh is off, as in most cases.
    fn without_mesh() -> Self {
        Self::default().configuration("default", json!({"nodeToNodeMeshEnabled": false}))
    }

    fn node(self, name: &str, bgp: Value) -> Self {
        self.labelled(name, json!({}), bgp)
    }

    fn labelled(mut self, name: &str, labels: Value, bgp: Value) -> Self {
        let mut spec = json!({});
        spec["bgp"] = bgp;
        self.nodes.push(object(name, labels, spec));
        self
    }

    fn peer(mut self, name: &str, spec: Value) -> Self {
        self.peers.push(object(name, json!({}), spec));
        self
    }

    /// Replaces an object of the same name.
    fn configuration(mut self, name: &str, spec: Value) -> Self {
        self.configurations.retain(|old| old.metadata.name != name);
        self.configurations.push(object(name, json!({}), spec));
        self
    }

    /// In the namespace `routing`.
    fn secret(mut self, name: &str, key: &str, value: &str) -> Self {
        let secret = (format!("routing/{name}"), key.to_owned());
        self.secrets.insert(secret, value.to_owned());
        self
    }

    fn workload(mut self, name: &str, label: (&str, &str), addresses: &[&str]) -> Self {
        let labels = BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]);
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.workloads.push((name.to_owned(), labels, addresses));
        self
    }

    fn peering(&self, node: &str) -> Peering {
        let lookup =
            |secret: &str, key: &str| self.secrets.get(&(secret.to_owned(), key.to_owned())).cloned();
        let workloads: Vec<LocalWorkload<'_>> = self
            .workloads
            .iter()
            .map(|(name, labels, addresses)| LocalWorkload {
                name,
                labels,
                addresses,
            })
            .collect();
        peers(&Input {
            node_name: node,
            nodes: &self.nodes.iter().collect::<Vec<_>>(),
            peers: &self.peers.iter().collect::<Vec<_>>(),
            configurations: &self.configurations.iter().collect::<Vec<_>>(),
            workloads: &workloads,
            secret_namespace: "routing",
            secrets: &lookup,
        })
    }

    /// The peers of a node where nothing is to be complained about.
    fn peers(&self, node: &str) -> Vec<Peer> {
        let peering = self.peering(node);
        assert_eq!(peering.warnings, [""; 0], "at {node}");
        peering.peers
    }

    /// The one peer of a node.
    fn only(&self, node: &str) -> Peer {
        let mut peers = self.peers(node);
        assert_eq!(peers.len(), 1, "{peers:?}");
        peers.remove(0)
    }

    fn names(&self, node: &str) -> Vec<String> {
        self.peers(node).into_iter().map(|peer| peer.name).collect()
    }

    #[track_caller]
    fn check(&self, node: &str, expected: &[&str]) {
        let lines: Vec<String> = self.peers(node).iter().map(line).collect();
        assert_eq!(lines, expected, "at {node}");
    }
}

fn object<T: serde::de::DeserializeOwned>(name: &str, labels: Value, spec: Value) -> T {
    let mut value = json!({"metadata": {"name": name}});
    value["metadata"]["labels"] = labels;
    value["spec"] = spec;
    serde_json::from_str(&value.to_string()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

/// A peer: name, AS numbers, source, and whatever is not as usual.
fn line(peer: &Peer) -> String {
    let source = peer.source.map_or("any".to_owned(), |source| source.to_string());
    let mut line = format!("{} {}>{} from {source}", peer.name, peer.local_as, peer.peer_as);
    let mut add = |shown: bool, text: String| {
        if shown {
            line.push(' ');
            line.push_str(&text);
        }
    };
    add(peer.passive, "passive".into());
    let cluster = peer.reflection.cluster_id;
    add(
        peer.reflection.client,
        format!("client({})", cluster.map_or("-".to_owned(), |id| id.to_string())),
    );
    add(peer.next_hop != NextHopMode::Auto, peer.next_hop.to_string());
    add(peer.ttl_security.is_some(), format!("ttl>={}", peer.lowest_ttl()));
    add(peer.multihop != MULTIHOP, format!("hops={}", peer.multihop));
    add(
        peer.allowed_own_as != 0,
        format!("own-as*{}", peer.allowed_own_as),
    );
    add(
        peer.restart != DEFAULT_RESTART,
        format!("restart={}", peer.restart.as_secs()),
    );
    add(
        !peer.filters.is_empty(),
        format!("filters={}", peer.filters.join(",")),
    );
    if let Some(gateway) = peer.reachable_by {
        add(true, format!("via={gateway}"));
    }
    match &peer.password {
        Password::None => {}
        Password::Md5(secret) => add(true, format!("password={}", secret.reveal())),
        Password::Missing(_) => add(true, "password missing".into()),
    }
    line
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
