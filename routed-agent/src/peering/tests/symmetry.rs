// SPDX-License-Identifier: Apache-2.0
//! Both ends of a session agree, whatever cluster they are part of.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Peer, PeerKind, World};

/// Selectors over the labels that generated nodes may have.
const SELECTORS: [&str; 6] = [
    "all()",
    "has(x)",
    "!has(x)",
    "has(y)",
    "x == '1' && !has(y)",
    "has(z)",
];

#[derive(Clone, Debug)]
struct GeneratedNode {
    /// Last bytes of the addresses; of differing lengths as text.
    address: u8,
    ipv4: bool,
    ipv6: bool,
    labels: BTreeMap<&'static str, &'static str>,
    as_number: Option<u32>,
    cluster_id: Option<&'static str>,
    port: Option<u16>,
}

fn node() -> impl Strategy<Value = GeneratedNode> {
    let labels = prop::collection::btree_map(
        prop::sample::select(vec!["x", "y"]),
        prop::sample::select(vec!["1", "2"]),
        0..3,
    );
    (
        any::<u8>(),
        prop::bool::weighted(0.8),
        any::<bool>(),
        labels,
        prop::option::of(64_512_u32..64_515),
        prop::option::weighted(0.3, prop::sample::select(vec!["1.1.1.1", "2.2.2.2"])),
        prop::option::of(prop::sample::select(vec![179_u16, 1790])),
    )
        .prop_map(
            |(address, ipv4, ipv6, labels, as_number, cluster_id, port)| GeneratedNode {
                address,
                ipv4,
                ipv6,
                labels,
                as_number,
                cluster_id,
                port,
            },
        )
}

/// A BGPPeer that makes both ends of each of its sessions: by selectors, or by the address of the node of an index.
#[derive(Clone, Debug)]
enum GeneratedPeer {
    Selected {
        side: usize,
        target: usize,
    },
    Address {
        side: usize,
        target: prop::sample::Index,
        ipv6: bool,
        port: bool,
    },
}

fn peer() -> impl Strategy<Value = GeneratedPeer> {
    // One more side than selectors: no selector, which means all nodes.
    let side = 0..=SELECTORS.len();
    prop_oneof![
        (side.clone(), 0..SELECTORS.len())
            .prop_map(|(side, target)| GeneratedPeer::Selected { side, target }),
        (side, any::<prop::sample::Index>(), any::<bool>(), any::<bool>()).prop_map(
            |(side, target, ipv6, port)| GeneratedPeer::Address {
                side,
                target,
                ipv6,
                port
            }
        ),
    ]
}

fn world(mesh: bool, port: Option<u16>, nodes: &[GeneratedNode], peers: &[GeneratedPeer]) -> World {
    let default = json!({"nodeToNodeMeshEnabled": mesh, "listenPort": port, "asNumber": 64_513});
    let mut world = World::default().configuration("default", default);
    for (index, node) in nodes.iter().enumerate() {
        let ipv4 = format!("10.0.0.{}/24", node.address);
        let ipv6 = format!("fd00::{:x}/64", node.address);
        let bgp = json!({
            "ipv4Address": if node.ipv4 { &ipv4 } else { "" },
            "ipv6Address": if node.ipv6 { &ipv6 } else { "" },
            "asNumber": node.as_number,
            "routeReflectorClusterID": node.cluster_id,
        });
        let name = name(index);
        if let Some(port) = node.port {
            world = world.configuration(&format!("node.{name}"), json!({"listenPort": port}));
        }
        world = world.labelled(&name, json!(node.labels), bgp);
    }
    for (index, peer) in peers.iter().enumerate() {
        if let Some(spec) = spec(peer, port, nodes) {
            world = world.peer(&format!("peer-{index}"), spec);
        }
    }
    world
}

fn name(index: usize) -> String {
    format!("node-{index}")
}

/// `None` for an address that the node does not have.
fn spec(peer: &GeneratedPeer, global_port: Option<u16>, nodes: &[GeneratedNode]) -> Option<Value> {
    let side = |side: usize| SELECTORS.get(side).copied().unwrap_or_default();
    match peer {
        GeneratedPeer::Selected { side: index, target } => {
            Some(json!({"nodeSelector": side(*index), "peerSelector": SELECTORS[*target]}))
        }
        GeneratedPeer::Address {
            side: index,
            target,
            ipv6,
            port,
        } => {
            let node = target.get(nodes);
            let has = if *ipv6 { node.ipv6 } else { node.ipv4 };
            let address = if *ipv6 {
                format!("fd00::{:x}", node.address)
            } else {
                format!("10.0.0.{}", node.address)
            };
            let listening = node.port.or(global_port).filter(|_| *port);
            let peer_ip = match listening {
                Some(port) if *ipv6 => format!("[{address}]:{port}"),
                Some(port) => format!("{address}:{port}"),
                None => address,
            };
            let as_number = node.as_number.unwrap_or(64_513);
            has.then(|| json!({"nodeSelector": side(*index), "peerIP": peer_ip, "asNumber": as_number}))
        }
    }
}

fn distinct(nodes: Vec<GeneratedNode>) -> Vec<GeneratedNode> {
    let mut seen = BTreeSet::from([0, 255]);
    nodes
        .into_iter()
        .filter(|node| seen.insert(node.address))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn both_ends_agree(
        mesh: bool,
        port in prop::option::of(prop::sample::select(vec![179_u16, 500])),
        nodes in prop::collection::vec(node(), 2..7).prop_map(distinct),
        peers in prop::collection::vec(peer(), 0..4),
    ) {
        let world = world(mesh, port, &nodes, &peers);
        let all: Vec<Vec<Peer>> = (0..nodes.len()).map(|index| world.peers(&name(index))).collect();
        for (index, node) in nodes.iter().enumerate() {
            for there in &all[index] {
                let other_name = there.peer_node.as_deref().unwrap();
                let other = (0..nodes.len()).find(|other| name(*other) == other_name).unwrap();
                prop_assert_ne!(other, index, "a node peers with itself");
                let ipv4 = there.address.is_ipv4();
                // By an address of a version that this node lacks, the other cannot know it.
                if !(if ipv4 { node.ipv4 } else { node.ipv6 }) {
                    prop_assert!(there.kind != PeerKind::Mesh && there.source.is_none());
                    continue;
                }
                let back: Vec<&Peer> = all[other]
                    .iter()
                    .filter(|peer| peer.peer_node.as_deref() == Some(&name(index)) && peer.address.is_ipv4() == ipv4)
                    .collect();
                prop_assert_eq!(back.len(), 1, "{:?} has no single way back: {:?}", there, back);
                let back = back[0];
                prop_assert_eq!(there.peer_as, back.local_as);
                prop_assert_eq!(there.local_as, back.peer_as);
                prop_assert_eq!(there.port, nodes[other].port.or(port).unwrap_or(179));
                prop_assert_eq!(there.kind == PeerKind::Mesh, back.kind == PeerKind::Mesh);
                prop_assert!(!(there.passive && back.passive), "nobody connects: {:?} {:?}", there, back);
                if there.kind == PeerKind::Mesh {
                    prop_assert!(there.passive != back.passive);
                    prop_assert!(node.cluster_id.is_none() && nodes[other].cluster_id.is_none());
                }
                if there.kind == PeerKind::Node {
                    prop_assert!(!there.passive);
                }
            }
            // A full mesh is full.
            if mesh && node.cluster_id.is_none() {
                for (other, remote) in nodes.iter().enumerate() {
                    if other != index && remote.cluster_id.is_none() && node.ipv4 && remote.ipv4 {
                        let found = all[index]
                            .iter()
                            .any(|peer| peer.peer_node.as_deref() == Some(&name(other)) && peer.address.is_ipv4());
                        prop_assert!(found);
                    }
                }
            }
        }
    }
}
