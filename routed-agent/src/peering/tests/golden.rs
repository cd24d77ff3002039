// SPDX-License-Identifier: Apache-2.0
//! The situations of Calico's golden files for `confd` that are about peers, each with what Calico renders there:
//! name, AS numbers, source address, passive, and options. Seen from node `a` unless another is named.

use serde_json::json;

use super::World;

/// Three nodes whose addresses sort a < b < c in IPv4, and b < a < c in IPv6.
fn three(world: World) -> World {
    world
        .node(
            "a",
            json!({"ipv4Address": "10.9.0.2/16", "ipv6Address": "fd00::13/64"}),
        )
        .node(
            "b",
            json!({"ipv4Address": "10.9.0.3/16", "ipv6Address": "fd00::12/64"}),
        )
        .node(
            "c",
            json!({"ipv4Address": "10.9.0.4/16", "ipv6Address": "fd00::14/64"}),
        )
}

fn reflector(world: World, global_as: u32, mesh: bool) -> World {
    let cluster = json!({"asNumber": global_as, "nodeToNodeMeshEnabled": mesh});
    world
        .configuration("default", cluster)
        .labelled(
            "a",
            json!({"rr": "true"}),
            json!({"ipv4Address": "10.9.0.2/16", "ipv6Address": "fd0a::2/96", "routeReflectorClusterID": "10.0.0.7"}),
        )
        .node("b", json!({"ipv4Address": "10.9.0.3/16", "ipv6Address": "fd0a::3/96"}))
        .node("c", json!({"ipv4Address": "10.9.0.4/16", "ipv6Address": "fd0a::4/96"}))
}

#[test]
fn mesh() {
    let world = three(World::default());
    world.check(
        "a",
        &[
            "Mesh_10_9_0_3 64512>64512 from 10.9.0.2 passive",
            "Mesh_10_9_0_4 64512>64512 from 10.9.0.2 passive",
            "Mesh_fd00__12 64512>64512 from fd00::13",
            "Mesh_fd00__14 64512>64512 from fd00::13 passive",
        ],
    );
    let ports: Vec<u16> = world.peers("a").iter().map(|peer| peer.port).collect();
    assert_eq!(ports, [179; 4]);
}

#[test]
fn mesh_restart_time() {
    let world = three(World::default())
        .configuration("default", json!({"nodeMeshMaxRestartTime": "10s"}))
        .peer("tor", json!({"peerIP": "192.0.2.1", "asNumber": 65000}));
    world.check(
        "a",
        &[
            "Mesh_10_9_0_3 64512>64512 from 10.9.0.2 passive restart=10",
            "Mesh_10_9_0_4 64512>64512 from 10.9.0.2 passive restart=10",
            "Mesh_fd00__12 64512>64512 from fd00::13 restart=10",
            "Mesh_fd00__14 64512>64512 from fd00::13 passive restart=10",
            "Global_192_0_2_1 64512>65000 from 10.9.0.2",
        ],
    );
}

#[test]
fn mesh_password_in_three_steps() {
    let reference = json!({"secretKeyRef": {"name": "bgp", "key": "mesh"}});
    let world = || {
        World::default()
            .configuration("default", json!({"nodeMeshPassword": reference}))
            .node("a", json!({"ipv4Address": "10.9.0.2/16"}))
            .node("b", json!({"ipv4Address": "10.9.0.3/16"}))
    };
    let absent = world().peering("a");
    assert_eq!(
        super::line(&absent.peers[0]),
        "Mesh_10_9_0_3 64512>64512 from 10.9.0.2 passive password missing"
    );
    assert_eq!(absent.warnings.len(), 1);
    for password in ["first", "second"] {
        let line = format!("Mesh_10_9_0_3 64512>64512 from 10.9.0.2 passive password={password}");
        world().secret("bgp", "mesh", password).check("a", &[&line]);
    }
}

#[test]
fn mesh_with_a_reflector() {
    let peers = json!({"nodeSelector": "has(rr)", "peerSelector": "!has(rr)"});
    let world = reflector(World::default(), 64532, true)
        .peer(
            "tor",
            json!({"nodeSelector": "has(rr)", "peerIP": "172.19.4.87", "asNumber": 64533}),
        )
        .peer(
            "tor6",
            json!({"nodeSelector": "has(rr)", "peerIP": "[ac13::57]:50", "asNumber": 64533}),
        )
        .peer("others", peers);
    world.check(
        "b",
        &[
            "Mesh_10_9_0_4 64532>64532 from 10.9.0.3 passive",
            "Mesh_fd0a__4 64532>64532 from fd0a::3 passive",
            "Node_10_9_0_2 64532>64532 from 10.9.0.3",
            "Node_fd0a__2 64532>64532 from fd0a::3",
        ],
    );
    world.check(
        "a",
        &[
            "Node_10_9_0_3 64532>64532 from 10.9.0.2 client(10.0.0.7)",
            "Node_10_9_0_4 64532>64532 from 10.9.0.2 client(10.0.0.7)",
            "Node_172_19_4_87 64532>64533 from 10.9.0.2",
            "Node_ac13__57_port_50 64532>64533 from fd0a::2",
            "Node_fd0a__3 64532>64532 from fd0a::2 client(10.0.0.7)",
            "Node_fd0a__4 64532>64532 from fd0a::2 client(10.0.0.7)",
        ],
    );
}

#[test]
fn node_without_an_address() {
    World::default().node("a", json!(null)).check("a", &[]);
}

#[test]
fn global() {
    let world = World::default()
        .configuration(
            "default",
            json!({"nodeToNodeMeshEnabled": false, "asNumber": 64567, "listenPort": 150}),
        )
        .node("a", json!({"ipv4Address": "10.9.0.2/16"}))
        .node("b", json!({"ipv4Address": "10.9.0.3/16"}))
        .node("c", json!({"ipv4Address": "10.9.0.1/16"}))
        .peer(
            "1",
            json!({"peerIP": "10.9.0.3", "asNumber": 64567, "sourceAddress": "None"}),
        )
        .peer("2", json!({"peerIP": "10.9.0.1:166", "asNumber": 64567}))
        .peer("3", json!({"peerIP": "10.9.0.1", "asNumber": 64567}));
    world.check(
        "a",
        &[
            "Global_10_9_0_1_port_150 64567>64567 from 10.9.0.2",
            "Global_10_9_0_1_port_166 64567>64567 from 10.9.0.2",
            "Global_10_9_0_3_port_150 64567>64567 from any passive",
        ],
    );
    // The other sides: mirrors, except where both are reached globally; port 166 is not c's.
    world.check(
        "c",
        &[
            "Global_10_9_0_3_port_150 64567>64567 from any passive",
            "Node_10_9_0_2_port_150 64567>64567 from 10.9.0.1",
        ],
    );
}

#[test]
fn global_to_what_is_no_node() {
    let world = World::default()
        .configuration(
            "default",
            json!({"nodeToNodeMeshEnabled": false, "asNumber": 64567, "listenPort": 150}),
        )
        .node("a", json!({"ipv4Address": "10.9.0.2/16"}))
        .peer("2", json!({"peerIP": "10.9.0.4:166", "asNumber": 64567}))
        .peer("3", json!({"peerIP": "10.9.0.4", "asNumber": 64567}));
    // Without a port it is 179, and not `listenPort`, as the address is no node's.
    world.check(
        "a",
        &[
            "Global_10_9_0_4_port_166 64567>64567 from 10.9.0.2",
            "Global_10_9_0_4 64567>64567 from 10.9.0.2",
        ],
    );
}

#[test]
fn global_ipv6() {
    three(World::without_mesh())
        .peer(
            "1",
            json!({"peerIP": "fd00::12", "asNumber": 64512, "sourceAddress": "None"}),
        )
        .peer("2", json!({"peerIP": "fd00::14", "asNumber": 64512}))
        .check(
            "a",
            &[
                "Global_fd00__12 64512>64512 from any",
                "Global_fd00__14 64512>64512 from fd00::13 passive",
            ],
        );
}

#[test]
fn specific_node() {
    let world = three(World::without_mesh())
        .peer("1", json!({"node": "a", "peerIP": "10.9.0.3", "asNumber": 64512}))
        .peer("2", json!({"node": "a", "peerIP": "10.9.0.4", "asNumber": 64566}));
    world.check(
        "a",
        &[
            "Node_10_9_0_3 64512>64512 from 10.9.0.2",
            "Node_10_9_0_4 64512>64566 from 10.9.0.2",
        ],
    );
    world.check("b", &["Node_10_9_0_2 64512>64512 from 10.9.0.3"]);
    world.check("c", &[]);
}

#[test]
fn selectors_and_the_port_of_one_node() {
    let world = || {
        World::without_mesh()
            .labelled(
                "a",
                json!({"group": "one"}),
                json!({"ipv4Address": "10.9.0.2/16", "ipv6Address": "fd5f::2/96"}),
            )
            .labelled(
                "b",
                json!({"group": "two"}),
                json!({"ipv4Address": "10.9.0.3/16", "ipv6Address": "fd5f::3/96"}),
            )
            .labelled(
                "c",
                json!({"group": "two"}),
                json!({"ipv4Address": "10.9.0.4/16", "ipv6Address": "fd5f::4/96"}),
            )
            .peer(
                "1",
                json!({"nodeSelector": "group == 'one'", "peerSelector": "group == 'two'"}),
            )
    };
    let first = world().configuration("node.b", json!({"listenPort": 500}));
    first.check(
        "a",
        &[
            "Node_10_9_0_3_port_500 64512>64512 from 10.9.0.2",
            "Node_10_9_0_4 64512>64512 from 10.9.0.2",
            "Node_fd5f__3_port_500 64512>64512 from fd5f::2",
            "Node_fd5f__4 64512>64512 from fd5f::2",
        ],
    );
    world().configuration("node.b", json!({})).check(
        "a",
        &[
            "Node_10_9_0_3 64512>64512 from 10.9.0.2",
            "Node_10_9_0_4 64512>64512 from 10.9.0.2",
            "Node_fd5f__3 64512>64512 from fd5f::2",
            "Node_fd5f__4 64512>64512 from fd5f::2",
        ],
    );
}

#[test]
fn route_reflector_by_address_of_one_version() {
    let world = reflector(World::default(), 64532, false).peer("others", json!({"peerIP": "fd0a::2"}));
    world.check(
        "a",
        &[
            "Node_fd0a__3 64532>64532 from fd0a::2 client(10.0.0.7)",
            "Node_fd0a__4 64532>64532 from fd0a::2 client(10.0.0.7)",
        ],
    );
    // Calico renders these with AS 0, which cannot come up; the AS number is known all the same.
    world.check("b", &["Global_fd0a__2 64532>64532 from fd0a::3"]);
}

#[test]
fn keep_next_hop() {
    for (selector, kind) in [(json!("has(rr)"), "Node"), (json!(""), "Global")] {
        let world = reflector(World::default(), 64532, false)
            .peer(
                "1",
                json!({"nodeSelector": selector, "peerIP": "172.19.4.87", "asNumber": 64533, "keepOriginalNextHop": true}),
            )
            .peer(
                "2",
                json!({"nodeSelector": selector, "peerIP": "[ac13::57]:50", "asNumber": 64533, "keepOriginalNextHop": true}),
            )
            .peer(
                "internal",
                json!({"nodeSelector": selector, "peerIP": "172.19.4.99", "asNumber": 64532, "keepOriginalNextHop": true}),
            );
        world.check(
            "a",
            &[
                &format!("{kind}_172_19_4_87 64532>64533 from 10.9.0.2 Keep"),
                &format!("{kind}_172_19_4_99 64532>64532 from 10.9.0.2 client(10.0.0.7)"),
                &format!("{kind}_ac13__57_port_50 64532>64533 from fd0a::2 Keep"),
            ],
        );
    }
}

#[test]
fn next_hop_mode() {
    for (node, kind) in [(json!(""), "Global"), (json!("a"), "Node")] {
        three(World::without_mesh())
            .peer(
                "1",
                json!({"node": node, "peerIP": "10.225.0.4", "asNumber": 65515, "nextHopMode": "Keep"}),
            )
            .peer(
                "2",
                json!({"node": node, "peerIP": "10.225.0.5", "asNumber": 64512, "nextHopMode": "Self"}),
            )
            .peer(
                "3",
                json!({"node": node, "peerIP": "fe01::10", "asNumber": 64512, "nextHopMode": "Keep"}),
            )
            .peer(
                "4",
                json!({"node": node, "peerIP": "fe01::11", "asNumber": 65515, "nextHopMode": "Auto"}),
            )
            .check(
                "a",
                &[
                    &format!("{kind}_10_225_0_4 64512>65515 from 10.9.0.2 Keep"),
                    &format!("{kind}_10_225_0_5 64512>64512 from 10.9.0.2 Self"),
                    &format!("{kind}_fe01__10 64512>64512 from fd00::13 Keep"),
                    &format!("{kind}_fe01__11 64512>65515 from fd00::13"),
                ],
            );
    }
}

#[test]
fn local_as() {
    for (b, c, source) in [
        ("10.9.0.3", "10.9.0.4", "10.9.0.2"),
        ("fd00::12", "fd00::14", "fd00::13"),
    ] {
        for (node, kind) in [(json!("a"), "Node"), (json!(""), "Global")] {
            let passive = |peer: &str| {
                if kind == "Global" && peer > source {
                    " passive"
                } else {
                    ""
                }
            };
            let name = |peer: &str| format!("{kind}_{}", peer.replace(['.', ':'], "_"));
            let world = three(World::without_mesh())
                .peer(
                    "1",
                    json!({"node": node, "peerIP": b, "asNumber": 64512, "localASNumber": 64512, "numAllowedLocalASNumbers": 1}),
                )
                .peer("2", json!({"node": node, "peerIP": c, "asNumber": 64566, "localASNumber": 65001}));
            world.check(
                "a",
                &[
                    &format!("{} 64512>64512 from {source}{} own-as*1", name(b), passive(b)),
                    &format!("{} 65001>64566 from {source}{}", name(c), passive(c)),
                ],
            );
            assert!(!world.peers("a")[1].is_internal());
        }
    }
}

#[test]
fn local_as_decides_what_is_internal() {
    let peer = json!({"peerIP": "192.0.2.1", "asNumber": 64512, "localASNumber": 64515, "keepOriginalNextHop": true});
    three(World::without_mesh())
        .peer("1", peer)
        .check("a", &["Global_192_0_2_1 64515>64512 from 10.9.0.2 Keep"]);
}

#[test]
fn ttl_security() {
    for (spec, kind) in [(json!({}), "Global"), (json!({"node": "a"}), "Node")] {
        let with = |address: &str, hops: u8| {
            let mut spec = spec.clone();
            spec["peerIP"] = json!(address);
            spec["asNumber"] = json!(64517);
            spec["ttlSecurity"] = json!(hops);
            spec
        };
        let world = three(World::without_mesh())
            .peer("1", with("192.0.2.1", 1))
            .peer("2", with("192.0.2.2", 2))
            .peer("3", with("192.0.2.3", 0))
            .peer("4", with("192.0.2.4", 255));
        world.check(
            "a",
            &[
                &format!("{kind}_192_0_2_1 64512>64517 from 10.9.0.2 ttl>=255 hops=1"),
                &format!("{kind}_192_0_2_2 64512>64517 from 10.9.0.2 ttl>=254 hops=2"),
                &format!("{kind}_192_0_2_3 64512>64517 from 10.9.0.2"),
                &format!("{kind}_192_0_2_4 64512>64517 from 10.9.0.2 ttl>=1 hops=255"),
            ],
        );
        let ttls: Vec<u8> = world.peers("a").iter().map(super::Peer::ttl).collect();
        assert_eq!(ttls, [255, 255, 64, 255]);
    }
    three(World::without_mesh())
        .peer(
            "1",
            json!({"node": "a", "peerSelector": "all()", "ttlSecurity": 1}),
        )
        .check(
            "b",
            &[
                "Node_10_9_0_2 64512>64512 from 10.9.0.3 ttl>=255 hops=1",
                "Node_fd00__13 64512>64512 from fd00::12 ttl>=255 hops=1",
            ],
        );
}

#[test]
fn reachable_by() {
    for (node, kind) in [(json!(""), "Global"), (json!("a"), "Node")] {
        three(World::without_mesh())
            .peer(
                "1",
                json!({"node": node, "peerIP": "10.225.0.4", "asNumber": 65515, "reachableBy": "10.224.0.1"}),
            )
            .peer(
                "2",
                json!({"node": node, "peerIP": "fe01::10", "asNumber": 65515, "reachableBy": "fe01::1:1"}),
            )
            .check(
                "a",
                &[
                    &format!("{kind}_10_225_0_4 64512>65515 from 10.9.0.2 via=10.224.0.1"),
                    &format!("{kind}_fe01__10 64512>65515 from fd00::13 via=fe01::1:1"),
                ],
            );
    }
}

#[test]
fn source_address_and_restart_time_in_three_steps() {
    for (changed, line) in [
        (json!({}), "Node_10_9_0_3 64512>64512 from 10.9.0.2"),
        (
            json!({"sourceAddress": "None"}),
            "Node_10_9_0_3 64512>64512 from any",
        ),
        (
            json!({"sourceAddress": "None", "maxRestartTime": "10s"}),
            "Node_10_9_0_3 64512>64512 from any restart=10",
        ),
    ] {
        let mut spec = json!({"node": "a", "peerIP": "10.9.0.3", "asNumber": 64512});
        spec.as_object_mut()
            .unwrap()
            .extend(changed.as_object().unwrap().clone());
        three(World::without_mesh()).peer("1", spec).check("a", &[line]);
    }
}

#[test]
fn reverse_peering() {
    for (mode, both) in [
        (json!("Auto"), true),
        (json!(null), true),
        (json!("Manual"), false),
    ] {
        let world = World::without_mesh()
            .labelled("a", json!({"rr": "true"}), json!({"ipv4Address": "10.9.0.2/16"}))
            .node("b", json!({"ipv4Address": "10.9.0.3/16"}))
            .node("c", json!({"ipv4Address": "10.9.0.4/16"}))
            .peer(
                "1",
                json!({"nodeSelector": "all()", "peerSelector": "has(rr)", "reversePeering": mode}),
            );
        let mirrors = [
            "Node_10_9_0_3 64512>64512 from 10.9.0.2",
            "Node_10_9_0_4 64512>64512 from 10.9.0.2",
        ];
        world.check("a", if both { &mirrors } else { &[] });
        world.check("b", &["Node_10_9_0_2 64512>64512 from 10.9.0.3"]);
    }
}

#[test]
fn node_deletion() {
    let mut world =
        three(World::without_mesh()).peer("1", json!({"nodeSelector": "all()", "peerSelector": "all()"}));
    let others = |world: &World| -> Vec<Option<String>> {
        let v4 = world.peers("a").into_iter().filter(|peer| peer.address.is_ipv4());
        v4.map(|peer| peer.peer_node).collect()
    };
    assert_eq!(others(&world), [Some("b".to_owned()), Some("c".to_owned())]);
    world.nodes.retain(|node| node.metadata.name != "b");
    assert_eq!(others(&world), [Some("c".to_owned())]);
}

/// Of a global and a node-specific BGPPeer the global one counts; without it, the other does.
#[test]
fn idle_peers() {
    let mut world = World::without_mesh()
        .node("a", json!({"ipv4Address": "10.9.0.2/16"}))
        .node("b", json!({"ipv4Address": "10.9.0.3/16"}))
        .peer("node-specific", json!({"node": "a", "peerSelector": "all()"}))
        .peer("to-all", json!({"peerSelector": "all()"}));
    world.check("a", &["Global_10_9_0_3 64512>64512 from 10.9.0.2"]);
    world.check("b", &["Global_10_9_0_2 64512>64512 from 10.9.0.3"]);
    world.peers.pop();
    world.check("a", &["Node_10_9_0_3 64512>64512 from 10.9.0.2"]);
    world.check("b", &["Node_10_9_0_2 64512>64512 from 10.9.0.3"]);
    world.peers.pop();
    world.check("a", &[]);
}

#[test]
fn filters_are_attached_in_order() {
    let world = three(World::default())
        .peer(
            "1",
            json!({"peerIP": "192.0.2.1", "asNumber": 65000, "filters": ["one", "two"]}),
        )
        .peer(
            "2",
            json!({"node": "a", "peerSelector": "all()", "filters": ["two", "not-there", "one"]}),
        );
    world.check(
        "a",
        &[
            "Global_192_0_2_1 64512>65000 from 10.9.0.2 filters=one,two",
            "Node_10_9_0_3 64512>64512 from 10.9.0.2 filters=two,not-there,one",
            "Node_10_9_0_4 64512>64512 from 10.9.0.2 filters=two,not-there,one",
            "Node_fd00__12 64512>64512 from fd00::13 filters=two,not-there,one",
            "Node_fd00__14 64512>64512 from fd00::13 filters=two,not-there,one",
        ],
    );
    let mesh: Vec<_> = world
        .peers("b")
        .into_iter()
        .filter(|peer| peer.name.starts_with("Mesh"))
        .collect();
    assert_eq!(mesh.len(), 2);
    assert!(mesh.iter().all(|peer| peer.filters.is_empty()));
}

#[test]
fn passwords_in_steps() {
    let with = |key: &str, mut spec: serde_json::Value| {
        spec["password"] = json!({"secretKeyRef": {"name": "bgp", "key": key}});
        spec
    };
    let world = || {
        World::without_mesh()
            .node("a", json!({"ipv4Address": "10.9.0.2/16"}))
            .node("b", json!({"ipv4Address": "10.9.0.3/16"}))
            .peer(
                "1",
                with("x", json!({"node": "a", "peerIP": "10.9.0.3", "asNumber": 64512})),
            )
            .peer(
                "2",
                with(
                    "y",
                    json!({"node": "a", "peerIP": "192.0.2.1", "asNumber": 65000}),
                ),
            )
    };
    for (secrets, x, y) in [
        (&[][..], None, None),
        (&[("x", "first")][..], Some("first"), None),
        (&[("x", "first"), ("y", "tor")][..], Some("first"), Some("tor")),
        (&[("x", "second"), ("y", "tor")][..], Some("second"), Some("tor")),
        (&[("y", "tor")][..], None, Some("tor")),
    ] {
        let world = secrets
            .iter()
            .fold(world(), |world, (key, value)| world.secret("bgp", key, value));
        let state = |password: Option<&str>| {
            password.map_or("password missing".to_owned(), |text| format!("password={text}"))
        };
        let peering = world.peering("a");
        assert_eq!(
            peering.peers.iter().map(super::line).collect::<Vec<_>>(),
            [
                format!("Node_10_9_0_3 64512>64512 from 10.9.0.2 {}", state(x)),
                format!("Node_192_0_2_1 64512>65000 from 10.9.0.2 {}", state(y)),
            ]
        );
        let missing = [x, y].iter().filter(|password| password.is_none()).count();
        assert_eq!(peering.warnings.len(), missing, "{:?}", peering.warnings);
        // The mirror has the same password.
        assert_eq!(
            super::line(&world.peering("b").peers[0]),
            format!("Node_10_9_0_2 64512>64512 from 10.9.0.3 {}", state(x))
        );
    }
}

#[test]
fn local_workloads() {
    three(World::without_mesh())
        .workload("pod-0", ("app", "global"), &["192.168.162.134/32", "fd00:10:244::86/128"])
        .workload("pod-1", ("app", "node"), &["192.168.162.136/32"])
        .workload("pod-2", ("app", "other"), &["192.168.162.137/32"])
        .peer(
            "1",
            json!({"localWorkloadSelector": "app == 'global'", "asNumber": 64516, "localASNumber": 65002, "filters": ["tenant"]}),
        )
        .peer(
            "2",
            json!({"node": "a", "localWorkloadSelector": "app == 'node'", "asNumber": 64517, "localASNumber": 65001}),
        )
        .check(
            "a",
            &[
                "Local_Workload_192_168_162_134 65002>64516 from any passive filters=tenant",
                "Local_Workload_192_168_162_136 65001>64517 from any passive",
                "Local_Workload_fd00_10_244__86 65002>64516 from any passive filters=tenant",
            ],
        );
}
