// SPDX-License-Identifier: Apache-2.0
//! What admission refuses, kind by kind: each rule of the data model broken on its own, the message naming the field.
//! The objects are written as JSON, so that reading them is tested too.

use model::{
    BgpConfiguration, BgpFilter, BgpPeer, FelixConfiguration, IpPool, IpReservation, IpamConfig, Node,
    WorkloadEndpoint,
    ip_pool::AllowedUse,
    resource::{Resource, Spec},
};
use serde_json::{Value, json};

fn resource<S: Spec>(name: &str, spec: &Value) -> Resource<S> {
    let text = json!({"metadata": {"name": name}, "spec": spec}).to_string();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The complaint about a spec; empty if there is none.
fn complaint<S: Spec>(spec: &Value) -> String {
    resource::<S>("a", spec)
        .spec
        .validate()
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

/// Each case: a spec, and how the complaint begins (empty: there is none).
fn check<S: Spec>(cases: &[(Value, &str)]) {
    for (spec, expected) in cases {
        let found = complaint::<S>(spec);
        assert_eq!(found.is_empty(), expected.is_empty(), "{spec}: {found:?}");
        assert!(found.starts_with(expected), "{spec}: {found}");
    }
}

#[test]
fn pools() {
    let long = format!("has({})", "l".repeat(1020));
    check::<model::ip_pool::IpPoolSpec>(&[
        (json!({"cidr": "192.168.0.0/16"}), ""),
        (json!({"cidr": "fd00::/48", "vxlanMode": "Always"}), ""),
        (
            json!({"cidr": "10.0.0.1/16"}),
            r#"cidr: "10.0.0.1/16" has bits set behind its prefix length; write 10.0.0.0/16"#,
        ),
        (
            json!({"cidr": "169.254.1.0/24"}),
            r#"cidr: "169.254.1.0/24" overlaps the link-local range 169.254.0.0/16"#,
        ),
        (json!({"cidr": "0.0.0.0/0"}), "cidr: "),
        (json!({"cidr": "fe80::/64"}), "cidr: "),
        (json!({"cidr": "10.0.0.0/16", "blockSize": 20}), ""),
        (json!({"cidr": "10.0.0.0/16", "blockSize": 32}), ""),
        (json!({"cidr": "10.0.0.0/16", "blockSize": 0}), ""),
        (
            json!({"cidr": "10.0.0.0/16", "blockSize": 19}),
            r#"blockSize: "19" is out of range for 10.0.0.0/16; use 20 to 32"#,
        ),
        (json!({"cidr": "10.0.0.0/16", "blockSize": 33}), "blockSize: "),
        (
            json!({"cidr": "fd00::/64", "blockSize": 115}),
            r#"blockSize: "115" is out of range for fd00::/64; use 116 to 128"#,
        ),
        (
            json!({"cidr": "10.0.0.0/28"}),
            r#"blockSize: "26" makes blocks larger than the pool 10.0.0.0/28; use 28 to 32"#,
        ),
        (json!({"cidr": "10.0.0.0/28", "disabled": true}), ""),
        (json!({"cidr": "10.0.0.0/28", "blockSize": 28}), ""),
        (
            json!({"cidr": "fd00::/64", "ipipMode": "Always"}),
            r#"ipipMode: "Always" is not possible for an IPv6 pool"#,
        ),
        (
            json!({"cidr": "10.0.0.0/16", "ipipMode": "CrossSubnet", "vxlanMode": "Always"}),
            r#"ipipMode: "CrossSubnet" excludes vxlanMode"#,
        ),
        (json!({"cidr": "10.0.0.0/16", "nodeSelector": "rack == 'r1'"}), ""),
        (
            json!({"cidr": "10.0.0.0/16", "nodeSelector": "rack = 'r1'"}),
            r#"nodeSelector: "rack = 'r1'" is not a selector: expected == (at character 6)"#,
        ),
        (
            json!({"cidr": "10.0.0.0/16", "nodeSelector": "global()"}),
            "nodeSelector: ",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "nodeSelector": long}),
            "nodeSelector: ",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "namespaceSelector": "has(team)"}),
            r#"namespaceSelector: "has(team)" cannot choose who uses tunnel addresses"#,
        ),
        (
            json!({"cidr": "10.0.0.0/16", "namespaceSelector": "has(team)", "allowedUses": ["Workload"]}),
            "",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "namespaceSelector": "has(", "allowedUses": ["Workload"]}),
            "namespaceSelector: ",
        ),
        (
            json!({"cidr": "10.0.0.0/24", "allowedUses": ["LoadBalancer"], "nodeSelector": "all()"}),
            "",
        ),
        (
            json!({"cidr": "10.0.0.0/24", "allowedUses": ["LoadBalancer", "Tunnel"]}),
            r#"allowedUses: "Tunnel""#,
        ),
        (
            json!({"cidr": "10.0.0.0/24", "allowedUses": ["LoadBalancer"], "vxlanMode": "Always"}),
            "vxlanMode: ",
        ),
        (
            json!({"cidr": "10.0.0.0/24", "allowedUses": ["LoadBalancer"], "disableBGPExport": true}),
            "disableBGPExport: ",
        ),
        (
            json!({"cidr": "10.0.0.0/24", "allowedUses": ["LoadBalancer"], "nodeSelector": "has(a)"}),
            "nodeSelector: ",
        ),
    ]);
}

#[test]
fn what_pools_select_and_allow() {
    let pool: IpPool = resource(
        "a",
        &json!({"cidr": "10.0.0.0/16", "nodeSelector": "rack == 'r1'"}),
    );
    assert_eq!(pool.spec.selects_node(&[("rack", "r1")]), Ok(true));
    assert_eq!(pool.spec.selects_node(&[("rack", "r2")]), Ok(false));
    assert_eq!(
        pool.spec.selects_namespace(&[]),
        Ok(true),
        "no selector selects all"
    );
    let broken: IpPool = resource(
        "a",
        &json!({"cidr": "10.0.0.0/16", "namespaceSelector": "team ="}),
    );
    let error = broken
        .spec
        .selects_namespace(&[])
        .expect_err("malformed is an error, not a no")
        .to_string();
    assert!(
        error.starts_with(r#"namespaceSelector: "team =" is not a selector"#),
        "{error}"
    );

    assert!(pool.spec.allows(AllowedUse::Workload) && pool.spec.allows(AllowedUse::Tunnel));
    assert!(!pool.spec.allows(AllowedUse::LoadBalancer));
    let mut filled = pool.spec.clone();
    filled.fill_defaults();
    assert_eq!(
        serde_json::to_value(&filled).unwrap(),
        json!({"cidr": "10.0.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never",
               "nodeSelector": "rack == 'r1'", "allowedUses": ["Workload", "Tunnel"], "assignmentMode": "Automatic"})
    );
}

#[test]
fn pools_being_deleted_or_disabled_are_not_enabled() {
    let mut pool: IpPool = resource("a", &json!({"cidr": "10.0.0.0/16"}));
    assert!(pool.enabled());
    pool.metadata.deletion_timestamp = Some("2026-03-01T10:00:00Z".parse().unwrap());
    assert!(!pool.enabled());
    let disabled: IpPool = resource("a", &json!({"cidr": "10.0.0.0/16", "disabled": true}));
    assert!(!disabled.enabled());
}

#[test]
fn reservations() {
    assert_eq!(
        complaint::<model::ip_reservation::IpReservationSpec>(&json!({"reservedCIDRs": [" 10.0.0.1 "]})),
        ""
    );
    let reservation: IpReservation = resource("a", &json!({"reservedCIDRs": ["10.0.0.1", "10.0.0"]}));
    let error = reservation.spec.validate().expect_err("three octets").to_string();
    assert!(
        error.starts_with(r#"reservedCIDRs[1]: "10.0.0" is neither a prefix nor an address"#),
        "{error}"
    );
}

#[test]
fn nodes() {
    check::<model::node::NodeSpec>(&[
        (json!({}), ""),
        (json!({"bgp": {"ipv4Address": "10.0.0.5"}}), ""),
        (
            json!({"bgp": {"ipv4Address": "10.0.0.5/24", "asNumber": "1.10"}}),
            "",
        ),
        (json!({"bgp": {}}), "bgp: "),
        (
            json!({"bgp": {"ipv4Address": "2001:db8::5/64"}}),
            r#"bgp.ipv4Address: "2001:db8::5/64" is of the other IP version"#,
        ),
        (
            json!({"bgp": {"ipv6Address": "10.0.0.5/24"}}),
            "bgp.ipv6Address: ",
        ),
        (
            json!({"bgp": {"routeReflectorClusterID": "7"}}),
            r#"bgp.routeReflectorClusterID: "7""#,
        ),
    ]);
    let node: Node = resource(
        "a",
        &json!({"bgp": {"ipv4Address": "10.0.0.5", "asNumber": "1.10"}}),
    );
    let bgp = node.spec.bgp.unwrap();
    assert_eq!(bgp.ipv4_address, Some("10.0.0.5/32".parse().unwrap()));
    assert_eq!(bgp.as_number, Some(model::AsNumber(65_546)));
}

#[test]
fn workload_endpoints() {
    let spec = |change: (&str, Value)| {
        let mut spec = json!({"orchestrator": "cni", "node": "n", "containerID": "4f1c", "endpoint": "eth0",
                              "ipNetworks": ["10.0.0.1/32"]});
        spec[change.0] = change.1;
        spec
    };
    check::<model::workload_endpoint::WorkloadEndpointSpec>(&[
        (spec(("mac", json!("ee:ee:ee:ee:ee:ee"))), ""),
        (
            spec(("ipNetworks", json!(["10.0.0.0/24"]))),
            r#"ipNetworks[0]: "10.0.0.0/24" is more than one address"#,
        ),
        (spec(("containerID", json!(""))), "containerID: "),
        (
            spec(("node", json!("-n"))),
            r#"node: "-n" cannot be part of the endpoint's name"#,
        ),
    ]);
    let names = [
        (
            json!({"orchestrator": "k8s", "node": "node-1", "pod": "web-0", "endpoint": "eth0"}),
            "node--1-k8s-web--0-eth0",
        ),
        (
            json!({"orchestrator": "cni", "node": "n", "containerID": "4f1c", "endpoint": "eth0"}),
            "n-cni-4f1c-eth0",
        ),
        (
            json!({"orchestrator": "libnetwork", "node": "n", "endpoint": "e1"}),
            "n-libnetwork-libnetwork-e1",
        ),
        (
            json!({"orchestrator": "openstack", "node": "n", "workload": "vm-1", "endpoint": "e1"}),
            "n-openstack-vm--1-e1",
        ),
    ];
    for (spec, name) in names {
        let endpoint: WorkloadEndpoint = resource("a", &spec);
        assert_eq!(endpoint.spec.name().unwrap(), name);
    }
}

#[test]
fn cluster_information() {
    check::<model::cluster_information::ClusterInformationSpec>(&[
        (json!({}), ""),
        (json!({"clusterGUID": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}), ""),
        (json!({"clusterGUID": "0f1e"}), "clusterGUID: "),
    ]);
    for (spec, ready) in [
        (json!({}), true),
        (json!({"datastoreReady": true}), true),
        (json!({"datastoreReady": false}), false),
    ] {
        assert_eq!(
            resource::<model::cluster_information::ClusterInformationSpec>("default", &spec)
                .spec
                .ready(),
            ready
        );
    }
}

#[test]
fn ipam_configuration() {
    let cases = [
        ("{}", "auto_allocate_blocks: false needs strict_affinity: true"),
        (r#"{"auto_allocate_blocks":true}"#, ""),
        (r#"{"strict_affinity":true}"#, ""),
        (
            r#"{"auto_allocate_blocks":true,"maxBlocksPerHost":4}"#,
            "maxBlocksPerHost: 4 needs strict_affinity",
        ),
        (r#"{"strict_affinity":true,"maxBlocksPerHost":4}"#, ""),
        (
            r#"{"strict_affinity":true,"ipCooldownSeconds":1201}"#,
            "ipCooldownSeconds: 1201 is more than 1200",
        ),
    ];
    for (text, expected) in cases {
        let config: IpamConfig = serde_json::from_str(text).unwrap();
        let found = config
            .validate()
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert_eq!(found.is_empty(), expected.is_empty(), "{text}: {found}");
        assert!(found.starts_with(expected), "{text}: {found}");
    }
    assert_eq!(IpamConfig::default().validate(), Ok(()));
}

#[test]
fn bgp_configurations() {
    check::<model::bgp_configuration::BgpConfigurationSpec>(&[
        (json!({}), ""),
        (
            json!({"communities": [{"name": "blue", "value": "64512:100"}],
                   "prefixAdvertisements": [{"cidr": "10.0.0.0/16", "communities": ["blue", "64512:1:2"]}]}),
            "",
        ),
        (
            json!({"prefixAdvertisements": [{"cidr": "10.0.0.0/16", "communities": ["red"]}]}),
            r#"prefixAdvertisements.communities: "red""#,
        ),
        (
            json!({"communities": [{"name": "blue", "value": "64512:100"}]}),
            r#"communities: "blue" is not used"#,
        ),
        (
            json!({"prefixAdvertisements": [{"cidr": "10.0.0.0/16", "communities": vec!["1:1"; 51]}]}),
            "prefixAdvertisements.communities: ",
        ),
        (
            json!({"prefixAdvertisements": vec![json!({"cidr": "10.0.0.0/16"}); 501]}),
            r#"prefixAdvertisements: "501""#,
        ),
        (json!({"listenPort": 0}), "listenPort: "),
        (json!({"ignoredInterfaces": ["docker*"]}), ""),
        (json!({"ignoredInterfaces": ["*"]}), "ignoredInterfaces: "),
        (
            json!({"nodeToNodeMeshEnabled": false, "nodeMeshPassword": {"secretKeyRef": {"name": "a", "key": "b"}}}),
            "nodeMeshPassword: ",
        ),
        (json!({"ipv4NormalRoutePriority": 0}), "ipv4NormalRoutePriority: "),
        (
            json!({"ipv6NormalRoutePriority": 2_147_483_647_u32}),
            "ipv6NormalRoutePriority: ",
        ),
    ]);
    let defaults: BgpConfiguration = resource(
        "default",
        &json!({"asNumber": "1.10", "nodeMeshMaxRestartTime": "90s"}),
    );
    assert!(defaults.spec.mesh_enabled() && defaults.spec.aggregates_load_balancers());
    assert_eq!(defaults.spec.effective_as_number(), model::AsNumber(65_546));
    assert_eq!(defaults.spec.effective_listen_port(), 179);
    assert_eq!(defaults.spec.node_mesh_max_restart_time.unwrap().0.as_secs(), 90);
    assert_eq!(defaults.validate_named(), Ok(()));
    let of_a_node: BgpConfiguration = resource("node.n", &json!({"asNumber": 64513}));
    let error = of_a_node.validate_named().expect_err("global only").to_string();
    assert!(
        error.starts_with("asNumber: ") && error.contains("move it to the object default"),
        "{error}"
    );
}

#[test]
fn bgp_peers() {
    check::<model::bgp_peer::BgpPeerSpec>(&[
        (json!({"peerIP": "192.0.2.1", "asNumber": 64513}), ""),
        (
            json!({"peerIP": "[2001:db8::1]:1790", "asNumber": "64513", "reachableBy": "2001:db8::2"}),
            "",
        ),
        (
            json!({"node": "n", "nodeSelector": "all()"}),
            r#"node: "n" excludes nodeSelector"#,
        ),
        (
            json!({"peerIP": "192.0.2.1:1790", "peerSelector": "all()"}),
            r#"peerIP: "192.0.2.1:1790" excludes peerSelector"#,
        ),
        (
            json!({"peerIP": "192.0.2.1", "localWorkloadSelector": "all()"}),
            "peerIP: ",
        ),
        (
            json!({"peerSelector": "all()", "localWorkloadSelector": "all()"}),
            "peerSelector: ",
        ),
        (json!({"peerSelector": "has(rr)"}), ""),
        (
            json!({"peerSelector": "has(rr)", "asNumber": 64513}),
            "asNumber: ",
        ),
        (json!({"peerSelector": "has(rr"}), "peerSelector: "),
        (
            json!({"localWorkloadSelector": "has(speaker)"}),
            r#"asNumber: "0" is missing"#,
        ),
        (
            json!({"localWorkloadSelector": "has(speaker)", "asNumber": 64513}),
            "",
        ),
        (
            json!({"keepOriginalNextHop": true, "nextHopMode": "Self"}),
            "keepOriginalNextHop: ",
        ),
        (json!({"keepaliveTime": "500ms"}), "keepaliveTime: "),
        (
            json!({"reachableBy": "192.0.2.2"}),
            r#"reachableBy: "192.0.2.2" needs peerIP"#,
        ),
        (
            json!({"peerIP": "2001:db8::1", "reachableBy": "192.0.2.2"}),
            r#"reachableBy: "192.0.2.2" is not of peerIP's IP version"#,
        ),
    ]);
    for text in ["192.0.2.1", "192.0.2.1:1790", "2001:db8::1", "[2001:db8::1]:1790"] {
        let peer: BgpPeer = resource("a", &json!({"peerIP": text}));
        assert_eq!(
            serde_json::to_value(&peer).unwrap()["spec"],
            json!({"peerIP": text})
        );
    }
    for text in ["192.0.2", "192.0.2.1:0", "peer.example", "[2001:db8::1]"] {
        let error = serde_json::from_value::<BgpPeer>(json!({"spec": {"peerIP": text}}))
            .expect_err(text)
            .to_string();
        assert!(
            error.contains(&format!("spec: peerIP: {text:?} is not a peer address")),
            "{error}"
        );
    }
}

#[test]
fn bgp_filters() {
    let one = |rule: Value| json!({"importV4": [{"action": "Accept"}, rule]});
    check::<model::bgp_filter::BgpFilterSpec>(&[
        (json!({}), ""),
        (
            one(
                json!({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 16, "max": 24},
                       "source": "RemotePeers", "interface": "eth*", "peerType": "eBGP", "communities": {"values": ["64512:1"]},
                       "asPathPrefix": [64513, "1.10"], "priority": 100,
                       "operations": [{"addCommunity": {"value": "1:2:3"}}, {"prependASPath": {"prefix": [64512]}},
                                      {"setPriority": {"value": 512}}]}),
            ),
            "",
        ),
        (
            one(json!({"action": "Reject", "cidr": "10.0.0.0/8"})),
            r#"importV4[1].matchOperator: "(none)" and cidr go together"#,
        ),
        (
            one(json!({"action": "Reject", "matchOperator": "In"})),
            r#"importV4[1].matchOperator: "In""#,
        ),
        (
            one(json!({"action": "Reject", "cidr": "fd00::/8", "matchOperator": "In"})),
            "importV4[1].cidr: ",
        ),
        (
            one(json!({"action": "Reject", "prefixLength": {"min": 8}})),
            r#"importV4[1].prefixLength: "8..32" needs cidr"#,
        ),
        (
            one(
                json!({"action": "Reject", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 24, "max": 16}}),
            ),
            r#"importV4[1].prefixLength: "24..16" is out of range"#,
        ),
        (
            one(
                json!({"action": "Reject", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"max": 33}}),
            ),
            "importV4[1].prefixLength: ",
        ),
        (
            one(json!({"action": "Reject", "interface": "a-very-long-name"})),
            "importV4[1].interface: ",
        ),
        (
            one(json!({"action": "Reject", "communities": {"values": []}})),
            "importV4[1].communities.values: ",
        ),
        (
            one(json!({"action": "Reject", "operations": [{"setPriority": {"value": 1}}]})),
            "importV4[1].action: ",
        ),
        (
            one(json!({"action": "Accept", "operations": vec![json!({"setPriority": {"value": 1}}); 11]})),
            "importV4[1].operations: ",
        ),
        (
            one(json!({"action": "Accept", "operations": [{}]})),
            "importV4[1].operations[0]: ",
        ),
        (
            one(
                json!({"action": "Accept", "operations": [{"setPriority": {"value": 1}, "addCommunity": {"value": "1:2"}}]}),
            ),
            r#"importV4[1].operations[0]: "2""#,
        ),
        (
            one(json!({"action": "Accept", "operations": [{"prependASPath": {"prefix": []}}]})),
            "importV4[1].operations[0].prependASPath.prefix: ",
        ),
        (
            json!({"exportV6": [{"action": "Accept", "cidr": "fd00::/8", "matchOperator": "NotIn", "prefixLength": {"max": 128}}]}),
            "",
        ),
    ]);
    let filter: Result<BgpFilter, _> =
        serde_json::from_value(json!({"spec": {"exportV4": [{"cidr": "10.0.0.0/8"}]}}));
    let error = filter.expect_err("no action").to_string();
    assert!(
        error.contains("spec: exportV4: missing field `action`"),
        "{error}"
    );
}

#[test]
fn felix_configurations() {
    check::<model::felix_configuration::FelixConfigurationSpec>(&[
        (json!({}), ""),
        (
            json!({"interfacePrefix": "cali,tap", "vxlanVNI": 4096, "vxlanPort": 4789, "ipipMTU": 0, "vxlanMTU": 1450}),
            "",
        ),
        (
            json!({"interfacePrefix": "calico"}),
            r#"interfacePrefix: "calico" cannot start interface names"#,
        ),
        (json!({"vxlanVNI": 16_777_216}), "vxlanVNI: "),
        (json!({"vxlanVNI": 0}), "vxlanVNI: "),
        (json!({"vxlanPort": 0}), "vxlanPort: "),
        (json!({"vxlanMTUV6": 67}), "vxlanMTUV6: "),
        (json!({"ipipMTU": 65_536}), "ipipMTU: "),
        (json!({"nodeSelector": "rack"}), "nodeSelector: "),
        (json!({"externalNodesList": ["192.0.2.0/24", "192.0.2.9"]}), ""),
        (json!({"externalNodesList": ["here"]}), "externalNodesList[0]: "),
    ]);
    let felix: FelixConfiguration = resource(
        "default",
        &json!({"natPortRange": "32768:65535", "floatingIPs": "Enabled", "bpfEnabled": true, "ipForwarding": ""}),
    );
    assert_eq!(felix.spec.nat_port_range.unwrap().min, 32_768);
    assert!(felix.spec.forwards());
    assert_eq!(felix.spec.effective_interface_prefix().unwrap().as_str(), "cali");
    assert_eq!(
        (
            felix.spec.effective_vxlan_port(),
            felix.spec.effective_vxlan_vni()
        ),
        (4789, 4096)
    );
    assert_eq!(felix.spec.effective_device_route_protocol(), 3);
    let written = serde_json::to_value(&felix).unwrap();
    assert_eq!(
        written["spec"],
        json!({"natPortRange": "32768:65535", "floatingIPs": "Enabled", "bpfEnabled": true})
    );
    let single: FelixConfiguration = resource("default", &json!({"natPortRange": 4000}));
    assert_eq!(single.spec.nat_port_range.unwrap().to_string(), "4000:4000");
    for range in ["", "2:1", "1:2:3", "a:b", "1:65536"] {
        let felix: Result<FelixConfiguration, _> =
            serde_json::from_value(json!({"spec": {"natPortRange": range}}));
        assert_eq!(felix.is_ok(), range.is_empty(), "{range}");
    }
}
