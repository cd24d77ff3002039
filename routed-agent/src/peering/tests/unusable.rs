// SPDX-License-Identifier: Apache-2.0
//! Objects that cannot be used: a warning that names object and field, and nothing else is lost.

use serde_json::{Value, json};

use super::{Password, World};

fn pair(world: World) -> World {
    world
        .node("a", json!({"ipv4Address": "10.9.0.1/16"}))
        .node("b", json!({"ipv4Address": "10.9.0.2/16"}))
}

fn names(world: &World, node: &str) -> Vec<String> {
    world
        .peering(node)
        .peers
        .into_iter()
        .map(|peer| peer.name)
        .collect()
}

#[test]
fn bgp_peers() {
    let cases: [(Value, &str); 9] = [
        (
            json!({"nodeSelector": "rack =", "peerIP": "192.0.2.1", "asNumber": 1}),
            r#"BGPPeer bad: nodeSelector: "rack =" is not a selector: expected == (at character 6); write"#,
        ),
        (
            json!({"peerSelector": "has("}),
            r#"BGPPeer bad: peerSelector: "has(" is not a selector"#,
        ),
        (
            json!({"localWorkloadSelector": "&", "asNumber": 1}),
            r#"BGPPeer bad: localWorkloadSelector: "&" is not a selector"#,
        ),
        (json!({"asNumber": 1}), r#"BGPPeer bad: peerIP: "" is missing"#),
        (
            json!({"peerIP": "0.0.0.0", "asNumber": 1}),
            r#"BGPPeer bad: peerIP: "0.0.0.0" is not an address of a host"#,
        ),
        (
            json!({"peerIP": "[ff02::1]:5", "asNumber": 1}),
            r#"BGPPeer bad: peerIP: "[ff02::1]:5" is not an address"#,
        ),
        (
            json!({"peerIP": "192.0.2.1", "reachableBy": "fd00::1", "asNumber": 1}),
            r#"BGPPeer bad: reachableBy: "fd00::1" is not of peerIP's IP version"#,
        ),
        (
            json!({"peerIP": "192.0.2.1"}),
            r#"BGPPeer bad: asNumber: "0" is missing, and 192.0.2.1 is not a node of the global AS"#,
        ),
        (
            json!({"localWorkloadSelector": "all()"}),
            r#"BGPPeer bad: asNumber: "0" is missing, and localWorkloadSelector needs it"#,
        ),
    ];
    for (spec, warning) in cases {
        let world = pair(World::default())
            .workload("w", ("app", "x"), &["192.168.0.1/32"])
            .peer("bad", spec)
            .peer("good", json!({"peerIP": "192.0.2.9", "asNumber": 65000}));
        assert_eq!(
            names(&world, "a"),
            ["Mesh_10_9_0_2", "Global_192_0_2_9"],
            "{warning}"
        );
        let warnings = world.peering("a").warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(warning), "{}", warnings[0]);
    }
}

/// A BGPPeer for others is theirs to complain about, unless nobody can tell whom it is for.
#[test]
fn peers_of_other_nodes() {
    let world = pair(World::default()).peer("bad", json!({"node": "b", "peerIP": "192.0.2.1"}));
    assert_eq!(world.peering("a").warnings, [""; 0]);
    assert_eq!(world.peering("b").warnings.len(), 1);
}

#[test]
fn nodes() {
    let cases = [
        (
            json!({"ipv4Address": "10.9.0.3/16", "asNumber": 0}),
            r#"Node bad: bgp.asNumber: "0" is not the AS number of anything"#,
        ),
        (
            json!({"ipv4Address": "fd00::3/64"}),
            r#"Node bad: bgp.ipv4Address: "fd00::3" is of the other IP version"#,
        ),
        (
            json!({"ipv4Address": "0.0.0.0/0"}),
            r#"Node bad: bgp.ipv4Address: "0.0.0.0" is not an address of a host"#,
        ),
        (
            json!({"ipv4Address": "10.9.0.3/16", "routeReflectorClusterID": "7"}),
            r#"Node bad: bgp.routeReflectorClusterID: "7" is not written as an IPv4 address"#,
        ),
        (
            json!({"ipv4Address": "10.9.0.2/16"}),
            r#"Node bad: bgp.ipv4Address: "10.9.0.2" is Node b's, too; give each"#,
        ),
        (
            json!({"ipv4Address": "10.9.0.1/16"}),
            r#"Node bad: bgp.ipv4Address: "10.9.0.1" is Node a's, too; give each"#,
        ),
    ];
    for (bgp, warning) in cases {
        let world = pair(World::default()).node("bad", bgp.clone());
        assert_eq!(names(&world, "a"), ["Mesh_10_9_0_2"], "{bgp}");
        let warnings = world.peering("a").warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(warning), "{}", warnings[0]);
    }
}

#[test]
fn an_unreadable_cluster_id_still_makes_a_reflector() {
    let world = pair(World::without_mesh())
        .node(
            "r",
            json!({"ipv4Address": "10.9.0.3/16", "routeReflectorClusterID": "7"}),
        )
        .peer("1", json!({"node": "r", "peerSelector": "all()"}));
    let peers = world.peering("r").peers;
    assert_eq!(peers.len(), 2);
    assert!(
        peers
            .iter()
            .all(|peer| peer.reflection.client && peer.reflection.cluster_id.is_none())
    );
}

#[test]
fn this_node() {
    let without_as = World::default()
        .node("a", json!({"ipv4Address": "10.9.0.1/16", "asNumber": 0}))
        .node("b", json!({"ipv4Address": "10.9.0.2/16"}));
    let global = pair(World::default()).configuration("default", json!({"asNumber": 0}));
    for (world, node, warning) in [
        (
            pair(World::default()),
            "c",
            r#"Node c: name: "c" is this host, but there is no such Node"#,
        ),
        (without_as, "a", r#"Node a: bgp.asNumber: "0""#),
        (global, "a", r#"BGPConfiguration default: asNumber: "0""#),
    ] {
        let peering = world.peering(node);
        assert_eq!(peering.peers, []);
        assert_eq!(peering.warnings.len(), 1);
        assert!(
            peering.warnings[0].starts_with(warning),
            "{}",
            peering.warnings[0]
        );
    }
}

#[test]
fn passwords() {
    let too_long = "x".repeat(81);
    for (value, problem) in [
        (None, "cannot be read"),
        (Some(""), "is empty"),
        (Some(too_long.as_str()), "is longer than TCP MD5 allows"),
    ] {
        let spec = json!({"peerSelector": "all()", "password": {"secretKeyRef": {"name": "s", "key": "k"}}});
        let mut world = pair(World::without_mesh())
            .node("c", json!({"ipv4Address": "10.9.0.3/16"}))
            .peer("1", spec);
        if let Some(value) = value {
            world = world.secret("s", "k", value);
        }
        let peering = world.peering("a");
        // Two peers, one complaint, and neither runs without its password.
        assert_eq!(peering.peers.len(), 2);
        assert_eq!(peering.warnings.len(), 1);
        let warning = format!(r#"BGPPeer 1: password.secretKeyRef: "routing/s, key k" {problem}; "#);
        assert!(
            peering.warnings[0].starts_with(&warning),
            "{}",
            peering.warnings[0]
        );
        for peer in peering.peers {
            assert!(matches!(&peer.password, Password::Missing(reason) if reason.contains(problem)));
        }
    }
}

#[test]
fn a_password_that_refers_to_nothing_is_none() {
    let spec = json!({"peerIP": "192.0.2.1", "asNumber": 65000, "password": {}});
    assert_eq!(
        pair(World::without_mesh()).peer("1", spec).only("a").password,
        Password::None
    );
}

#[test]
fn restart_times_that_do_not_fit() {
    let world = pair(World::default())
        .configuration("default", json!({"nodeMeshMaxRestartTime": "2h"}))
        .peer(
            "1",
            json!({"peerIP": "192.0.2.1", "asNumber": 65000, "maxRestartTime": "4095.5s"}),
        );
    let peering = world.peering("a");
    assert!(peering.peers.iter().all(|peer| peer.restart.as_secs() == 4095));
    assert_eq!(
        peering
            .warnings
            .iter()
            .map(|text| text.split(" does not").next().unwrap())
            .collect::<Vec<_>>(),
        [
            r#"BGPPeer 1: maxRestartTime: "1h8m15.5s""#,
            r#"BGPConfiguration default: nodeMeshMaxRestartTime: "2h0m0s""#,
        ]
    );
}
