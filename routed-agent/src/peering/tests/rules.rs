// SPDX-License-Identifier: Apache-2.0
//! Calico's rules one by one, where the golden situations do not tell them apart.

use std::time::Duration;

use serde_json::json;

use super::{DEFAULT_HOLD, DEFAULT_PORT, MAX_PASSWORD_LENGTH, Password, PeerKind, World, ip};

fn pair(world: World) -> World {
    world
        .node("a", json!({"ipv4Address": "10.9.0.9/16"}))
        .node("b", json!({"ipv4Address": "10.9.0.10/16"}))
}

#[test]
fn who_connects_is_decided_by_the_text() {
    // As numbers 9 is less than 10; as text it is greater, and the greater connects.
    let world = pair(World::default());
    assert!(!world.only("a").passive);
    assert!(world.only("b").passive);
    for (own, other, passive) in [
        ("10.0.0.1", "10.0.0.2", true),
        ("10.0.0.2", "10.0.0.1", false),
        ("9.0.0.1", "10.0.0.1", false),
        ("fd00::a", "fd00::9", false),
        ("fd00::9", "fd00::10", false),
        ("fd00::1", "fd00:0:0:1::1", false),
        ("fd00:0:0:1::1", "fd00::1", true),
    ] {
        let field = if own.contains(':') {
            "ipv6Address"
        } else {
            "ipv4Address"
        };
        let world = World::default()
            .node("own", json!({field: own}))
            .node("other", json!({field: other}));
        assert_eq!(world.only("own").passive, passive, "{own} {other}");
    }
}

#[test]
fn only_global_peers_by_address_wait_like_the_mesh() {
    let cases = [
        (json!({"peerIP": "10.9.0.9", "asNumber": 64512}), true),
        // The AS number is not b's, but the address is a node's.
        (json!({"peerIP": "10.9.0.9", "asNumber": 65000}), true),
        (json!({"peerIP": "10.9.0.99", "asNumber": 64512}), false),
        (json!({"peerSelector": "all()"}), false),
        (
            json!({"node": "b", "peerIP": "10.9.0.9", "asNumber": 64512}),
            false,
        ),
        (json!({"nodeSelector": "all()", "peerSelector": "all()"}), false),
    ];
    for (spec, passive) in cases {
        let peer = pair(World::without_mesh()).peer("1", spec.clone()).only("b");
        assert_eq!(peer.passive, passive, "{spec}");
    }
}

#[test]
fn kinds_in_all_their_words() {
    for (kind, prefix, words, status) in [
        (PeerKind::Mesh, "Mesh", "node-to-node mesh", Some("NodeMesh")),
        (PeerKind::Global, "Global", "global", Some("GlobalPeer")),
        (PeerKind::Node, "Node", "node specific", Some("NodePeer")),
        (PeerKind::LocalWorkload, "Local_Workload", "local workload", None),
    ] {
        assert_eq!(kind.prefix(), prefix);
        assert_eq!(kind.to_string(), words);
        assert_eq!(kind.status_type(), status);
    }
}

#[test]
fn as_numbers_of_nodes() {
    let world = World::default()
        .configuration("default", json!({"asNumber": 64600}))
        .node("a", json!({"ipv4Address": "10.9.0.1/16", "asNumber": "1.10"}))
        .node("b", json!({"ipv4Address": "10.9.0.2/16"}));
    // b's is the global one, not a's.
    world.check("a", &["Mesh_10_9_0_2 65546>64600 from 10.9.0.1 passive"]);
    world.check("b", &["Mesh_10_9_0_1 64600>65546 from 10.9.0.2"]);
}

#[test]
fn ports_of_mesh_peers_are_their_own() {
    let world = pair(World::default())
        .node("c", json!({"ipv4Address": "10.9.0.11/16"}))
        .configuration("default", json!({"listenPort": 1790}))
        .configuration("node.b", json!({"listenPort": 500}))
        .configuration("node.c", json!({"listenPort": 0}));
    let ports: Vec<_> = world
        .peers("a")
        .into_iter()
        .map(|peer| (peer.name, peer.port))
        .collect();
    assert_eq!(
        ports,
        [
            ("Mesh_10_9_0_10".to_owned(), 500),
            ("Mesh_10_9_0_11".to_owned(), 1790)
        ]
    );
}

#[test]
fn ports_of_peers_given_by_address() {
    for (default, own, spec, name) in [
        (
            0,
            0,
            json!({"peerIP": "10.9.0.10", "asNumber": 64512}),
            "Node_10_9_0_10",
        ),
        (
            150,
            0,
            json!({"peerIP": "10.9.0.10", "asNumber": 64512}),
            "Node_10_9_0_10_port_150",
        ),
        (
            150,
            500,
            json!({"peerIP": "10.9.0.10", "asNumber": 64512}),
            "Node_10_9_0_10_port_500",
        ),
        (
            150,
            500,
            json!({"peerIP": "10.9.0.10:7", "asNumber": 64512}),
            "Node_10_9_0_10_port_7",
        ),
        (
            179,
            0,
            json!({"peerIP": "10.9.0.10", "asNumber": 64512}),
            "Node_10_9_0_10_port_179",
        ),
        // Not the node, whatever is there.
        (
            150,
            500,
            json!({"peerIP": "10.9.0.10", "asNumber": 65000}),
            "Node_10_9_0_10",
        ),
        (
            150,
            500,
            json!({"peerIP": "10.9.0.11", "asNumber": 64512}),
            "Node_10_9_0_11",
        ),
    ] {
        let mut spec = spec;
        spec["node"] = json!("a");
        let world = pair(World::default())
            .configuration(
                "default",
                json!({"nodeToNodeMeshEnabled": false, "listenPort": default}),
            )
            .configuration("node.b", json!({"listenPort": own}))
            .peer("1", spec);
        let peer = world.only("a");
        assert_eq!(peer.name, name);
        let port = name
            .rsplit_once("_port_")
            .map_or(DEFAULT_PORT, |(_, port)| port.parse().unwrap());
        assert_eq!(peer.port, port);
    }
}

#[test]
fn mirrors_of_addresses_need_address_as_number_and_port() {
    for (default, own, peer_ip, as_number, mirrored) in [
        (0, 0, "10.9.0.10", 64512, true),
        (0, 0, "10.9.0.10", 0, true),
        (0, 0, "10.9.0.10", 65000, false),
        (0, 0, "10.9.0.11", 64512, false),
        (0, 0, "10.9.0.10:166", 64512, true),
        (150, 0, "10.9.0.10:166", 64512, false),
        (150, 0, "10.9.0.10:150", 64512, true),
        (150, 166, "10.9.0.10:166", 64512, true),
        (150, 166, "10.9.0.10:150", 64512, false),
    ] {
        for node in ["a", ""] {
            let world = pair(World::default())
                .configuration(
                    "default",
                    json!({"nodeToNodeMeshEnabled": false, "listenPort": default}),
                )
                .configuration("node.b", json!({"listenPort": own}))
                .peer(
                    "1",
                    json!({"node": node, "peerIP": peer_ip, "asNumber": as_number}),
                );
            let found = world
                .peering("b")
                .peers
                .into_iter()
                .find(|peer| peer.address == ip("10.9.0.9"));
            assert_eq!(found.is_some(), mirrored, "{default} {own} {peer_ip} {as_number}");
            assert!(found.is_none_or(|peer| peer.kind == PeerKind::Node && !peer.passive));
        }
    }
}

#[test]
fn mirrors_have_what_travels_along() {
    let spec = json!({
        "node": "a", "peerIP": "10.9.0.10", "asNumber": 64512,
        "localASNumber": 65001, "numAllowedLocalASNumbers": 3,
        "filters": ["f"], "ttlSecurity": 2, "reachableBy": "10.9.0.1", "sourceAddress": "None",
        "password": {"secretKeyRef": {"name": "s", "key": "k"}},
        "keepaliveTime": "20s", "maxRestartTime": "77s", "nextHopMode": "Keep",
    });
    let world = pair(World::without_mesh()).secret("s", "k", "p").peer("1", spec);
    let rest = "from any Keep ttl>=254 hops=2";
    world.check(
        "a",
        &[&format!(
            "Node_10_9_0_10 65001>64512 {rest} own-as*3 restart=77 filters=f via=10.9.0.1 password=p"
        )],
    );
    world.check(
        "b",
        &[&format!(
            "Node_10_9_0_9 64512>64512 {rest} restart=77 filters=f via=10.9.0.1 password=p"
        )],
    );
    assert_eq!(world.only("b").keepalive, Some(Duration::from_secs(20)));
}

#[test]
fn selected_peers_are_without_the_local_as_number() {
    let spec =
        json!({"node": "a", "peerSelector": "all()", "localASNumber": 65001, "numAllowedLocalASNumbers": 3});
    let world = pair(World::without_mesh()).peer("1", spec);
    world.check("a", &["Node_10_9_0_10 64512>64512 from 10.9.0.9"]);
}

#[test]
fn own_settings_win_over_mirrored_ones() {
    let world = pair(World::without_mesh())
        .peer(
            "1",
            json!({"node": "a", "peerSelector": "all()", "filters": ["of-a"]}),
        )
        .peer(
            "2",
            json!({"node": "b", "peerSelector": "all()", "filters": ["of-b"]}),
        );
    world.check("a", &["Node_10_9_0_10 64512>64512 from 10.9.0.9 filters=of-a"]);
    world.check("b", &["Node_10_9_0_9 64512>64512 from 10.9.0.10 filters=of-b"]);
    assert_eq!(
        world.only("a").reason,
        "BGPPeer 1, which is for node a, and whose peerSelector \"all()\" selects node b; \
         also asked for by BGPPeer 2"
    );
}

#[test]
fn global_wins_over_node_and_the_first_name_over_the_second() {
    let peer = |filter: &str, node: &str| json!({"node": node, "peerIP": "192.0.2.1", "asNumber": 65000, "filters": [filter]});
    let world = pair(World::without_mesh())
        .peer("c", peer("c", ""))
        .peer("b", peer("b", ""))
        .peer("a", peer("a", "a"));
    world.check("a", &["Global_192_0_2_1 64512>65000 from 10.9.0.9 filters=b"]);
    // Another port is another peer; the usual port is the usual one, also if written down.
    let world = world
        .peer(
            "d",
            json!({"node": "a", "peerIP": "192.0.2.1:1790", "asNumber": 65000}),
        )
        .peer(
            "e",
            json!({"node": "a", "peerIP": "192.0.2.1:179", "asNumber": 65000}),
        );
    assert_eq!(world.names("a"), ["Global_192_0_2_1", "Node_192_0_2_1_port_1790"]);
}

#[test]
fn a_peer_that_is_asked_for_replaces_the_mesh() {
    let world = pair(World::default()).peer(
        "1",
        json!({"node": "a", "peerSelector": "all()", "filters": ["f"]}),
    );
    world.check("a", &["Node_10_9_0_10 64512>64512 from 10.9.0.9 filters=f"]);
    world.check("b", &["Node_10_9_0_9 64512>64512 from 10.9.0.10 filters=f"]);
    assert!(
        world
            .only("b")
            .reason
            .ends_with("; also asked for by the node-to-node mesh")
    );
}

#[test]
fn reflectors_and_their_clients() {
    let bgp =
        |address: &str, id: Option<&str>| json!({"ipv4Address": address, "routeReflectorClusterID": id});
    for (own, peer_id, peer_as, by_address, client) in [
        (None, None, 64512, false, false),
        (None, Some("1.1.1.1"), 64512, false, false),
        (Some("1.1.1.1"), None, 64512, false, true),
        (Some("1.1.1.1"), Some("1.1.1.1"), 64512, false, false),
        (Some("1.1.1.1"), Some("2.2.2.2"), 64512, false, true),
        (Some("1.1.1.1"), None, 65000, false, false),
        // By address nothing is known of the peer's cluster.
        (Some("1.1.1.1"), Some("1.1.1.1"), 64512, true, true),
    ] {
        let mut other = bgp("10.9.0.2", peer_id);
        other["asNumber"] = json!(peer_as);
        let spec = if by_address {
            json!({"peerIP": "10.9.0.2", "asNumber": peer_as, "node": "a"})
        } else {
            json!({"peerSelector": "all()", "node": "a"})
        };
        let world = World::without_mesh()
            .node("a", bgp("10.9.0.1", own))
            .node("b", other)
            .peer("1", spec);
        let reflection = world.only("a").reflection;
        assert_eq!(
            reflection.client, client,
            "{own:?} {peer_id:?} {peer_as} {by_address}"
        );
        assert_eq!(reflection.cluster_id, own.map(|id| id.parse().unwrap()));
        assert_eq!(
            reflection.peer_cluster_id,
            peer_id.filter(|_| !by_address).map(|id| id.parse().unwrap())
        );
    }
}

#[test]
fn reflectors_leave_the_mesh() {
    let world = pair(World::default()).node(
        "r",
        json!({"ipv4Address": "10.9.0.1/16", "routeReflectorClusterID": "1.1.1.1"}),
    );
    assert_eq!(world.names("r"), [""; 0]);
    assert_eq!(world.names("a"), ["Mesh_10_9_0_10"]);
    assert_eq!(world.names("b"), ["Mesh_10_9_0_9"]);
}

#[test]
fn versions_of_selected_peers_are_those_both_have() {
    let world = World::default()
        .node(
            "both",
            json!({"ipv4Address": "10.9.0.1/16", "ipv6Address": "fd00::1/64"}),
        )
        .node("v4", json!({"ipv4Address": "10.9.0.2/16"}))
        .node("v6", json!({"ipv6Address": "fd00::2/64"}));
    for mesh in [true, false] {
        let world = World {
            configurations: vec![super::object(
                "default",
                json!({}),
                json!({"nodeToNodeMeshEnabled": mesh}),
            )],
            peers: if mesh {
                vec![]
            } else {
                vec![super::object("1", json!({}), json!({"peerSelector": "all()"}))]
            },
            nodes: world.nodes.clone(),
            ..World::default()
        };
        let nodes = |node: &str| -> Vec<String> {
            world
                .peers(node)
                .into_iter()
                .map(|peer| peer.peer_node.unwrap())
                .collect()
        };
        assert_eq!(nodes("both"), ["v4", "v6"]);
        assert_eq!(nodes("v4"), ["both"]);
        assert_eq!(nodes("v6"), ["both"]);
    }
}

/// Calico leaves the source address to the kernel there, and so the peer may still be reached.
#[test]
fn address_of_a_version_that_the_node_has_none_of() {
    pair(World::without_mesh())
        .peer("1", json!({"peerIP": "fd00::1", "asNumber": 65000}))
        .check("a", &["Global_fd00__1 64512>65000 from any"]);
}

#[test]
fn times() {
    for (keepalive, restart, expected) in [
        (json!(null), json!(null), (None, 90, 120)),
        (json!("1s"), json!("0s"), (Some(1), 90, 0)),
        (json!("29.5s"), json!("1m30.5s"), (Some(30), 90, 91)),
        (json!("60s"), json!("30.4s"), (Some(60), 180, 30)),
        (json!("5m"), json!("4095s"), (Some(300), 240, 4095)),
        (json!("100ms"), json!(null), (None, 90, 120)),
    ] {
        let spec = json!({"peerIP": "192.0.2.1", "asNumber": 65000, "keepaliveTime": keepalive, "maxRestartTime": restart});
        let peer = pair(World::without_mesh()).peer("1", spec).only("a");
        let found = (
            peer.keepalive.map(|time| time.as_secs()),
            peer.hold.as_secs(),
            peer.restart.as_secs(),
        );
        assert_eq!(found, expected, "{keepalive} {restart}");
    }
    let mesh = pair(World::default()).only("a");
    assert_eq!((mesh.keepalive, mesh.hold), (None, DEFAULT_HOLD));
}

#[test]
fn fields_that_exclude_each_other_count_in_calicos_order() {
    let world = World::without_mesh()
        .labelled("a", json!({"rack": "1"}), json!({"ipv4Address": "10.9.0.1/16"}))
        .node("b", json!({"ipv4Address": "10.9.0.2/16"}))
        .peer(
            "1",
            json!({"node": "b", "nodeSelector": "has(rack)", "peerIP": "192.0.2.1", "peerSelector": "!has(rack)",
                "reversePeering": "Manual"}),
        )
        .peer(
            "2",
            json!({"node": "a", "peerIP": "192.0.2.2", "asNumber": 65000, "keepOriginalNextHop": true, "nextHopMode": "Self"}),
        );
    world.check(
        "a",
        &[
            "Node_10_9_0_2 64512>64512 from 10.9.0.1",
            "Node_192_0_2_2 64512>65000 from 10.9.0.1 Self",
        ],
    );
    world.check("b", &[]);
}

#[test]
fn workloads_belong_to_the_first_name_that_selects_them_here() {
    let world = |first: &str| {
        pair(World::without_mesh())
            .workload("w", ("app", "x"), &["192.168.0.1/32", "192.168.0.2/32"])
            .peer(
                "1",
                json!({"node": first, "localWorkloadSelector": "all()", "asNumber": 65001}),
            )
            .peer(
                "2",
                json!({"localWorkloadSelector": "app == 'x'", "asNumber": 65002, "peerIP": ""}),
            )
    };
    world("a").check("a", &["Local_Workload_192_168_0_1 64512>65001 from any passive"]);
    world("b").check("a", &["Local_Workload_192_168_0_1 64512>65002 from any passive"]);
    let peer = world("a").only("a");
    assert_eq!(
        peer.reason,
        "BGPPeer 1, which is for node a, and whose localWorkloadSelector \"all()\" selects workload w"
    );
    assert_eq!(peer.peer_node, None);
}

#[test]
fn passwords_do_not_show() {
    let spec = json!({"peerIP": "192.0.2.1", "asNumber": 65000, "password": {"secretKeyRef": {"name": "s", "key": "k"}}});
    let longest = "x".repeat(MAX_PASSWORD_LENGTH);
    let peering = pair(World::without_mesh())
        .secret("s", "k", &longest)
        .peer("1", spec)
        .peering("a");
    assert!(matches!(&peering.peers[0].password, Password::Md5(secret) if secret.reveal() == longest));
    assert!(!format!("{peering:?}").contains("xxx"));
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let forward = pair(World::default())
        .configuration("node.b", json!({"listenPort": 500}))
        .configuration("default", json!({"asNumber": 64600}))
        .peer("1", json!({"peerSelector": "all()"}))
        .peer(
            "2",
            json!({"node": "a", "peerIP": "10.9.0.10", "asNumber": 64600}),
        )
        .peer("3", json!({"peerIP": "192.0.2.1"}));
    let backward = World {
        nodes: forward.nodes.iter().rev().cloned().collect(),
        peers: forward.peers.iter().rev().cloned().collect(),
        configurations: forward.configurations.iter().rev().cloned().collect(),
        ..World::default()
    };
    assert_eq!(forward.peering("a"), backward.peering("a"));
}

#[test]
fn mapped_addresses_are_the_addresses_they_map() {
    let world = pair(World::without_mesh()).peer(
        "1",
        json!({"node": "a", "peerIP": "::ffff:10.9.0.10", "asNumber": 64512}),
    );
    world.check("a", &["Node_10_9_0_10 64512>64512 from 10.9.0.9"]);
    world.check("b", &["Node_10_9_0_9 64512>64512 from 10.9.0.10"]);
}

#[test]
fn reasons_name_each_object_once() {
    let world = pair(World::default()).peer("1", json!({"nodeSelector": "all()", "peerSelector": "all()"}));
    assert_eq!(
        world.only("a").reason,
        "BGPPeer 1, whose nodeSelector \"all()\" selects this node, and whose peerSelector \"all()\" selects \
         node b; also asked for by the node-to-node mesh"
    );
    let world = pair(World::without_mesh()).peer("1", json!({"node": "a", "peerSelector": "all()"}));
    assert_eq!(
        world.only("b").reason,
        "mirror of BGPPeer 1, by which node a has a session with this node"
    );
}

/// Admission wants `reachableBy` together with `peerIP`; what was stored in spite of it works as far as it can.
#[test]
fn a_gateway_is_for_its_own_ip_version() {
    World::without_mesh()
        .node(
            "a",
            json!({"ipv4Address": "10.9.0.1/16", "ipv6Address": "fd00::1/64"}),
        )
        .node(
            "b",
            json!({"ipv4Address": "10.9.0.2/16", "ipv6Address": "fd00::2/64"}),
        )
        .peer("1", json!({"peerSelector": "all()", "reachableBy": "10.9.0.254"}))
        .check(
            "a",
            &[
                "Global_10_9_0_2 64512>64512 from 10.9.0.1 via=10.9.0.254",
                "Global_fd00__2 64512>64512 from fd00::1",
            ],
        );
}
