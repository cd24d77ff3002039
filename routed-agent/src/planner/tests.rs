// SPDX-License-Identifier: Apache-2.0
use std::collections::{BTreeMap, BTreeSet};

use datastore::{Entry, Revision};
use model::{AffinityOwner, Key, Kind};
use serde_json::{Value, json};

use super::*;
use crate::facts::{Device, Underlay};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn put(snapshot: &mut Snapshot, key: Key, value: &Value) {
    let entry = Entry {
        key,
        revision: Revision(1),
        value: value.to_string(),
    };
    snapshot.put(&entry);
    assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
}

fn resource(snapshot: &mut Snapshot, kind: Kind, name: &str, spec: &Value) {
    let value = json!({
        "kind": kind.name(), "apiVersion": "projectcalico.org/v3", "metadata": { "name": name }, "spec": spec,
    });
    put(snapshot, Key::resource(kind, name), &value);
}

fn block(snapshot: &mut Snapshot, node: &str, cidr: &str) {
    let owner = AffinityOwner::Host(node.into());
    put(
        snapshot,
        Key::Affinity {
            owner,
            block: net(cidr),
        },
        &json!({ "state": "confirmed" }),
    );
}

/// This node is `a` at 10.0.0.1/24; `b` is near, `c` behind 10.0.0.254.
fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24"), ("c", "10.0.1.3/24")] {
        resource(
            &mut snapshot,
            Kind::Node,
            name,
            &json!({ "bgp": { "ipv4Address": address } }),
        );
    }
    resource(
        &mut snapshot,
        Kind::IpPool,
        "p",
        &json!({ "cidr": "192.168.0.0/16", "ipipMode": "CrossSubnet" }),
    );
    block(&mut snapshot, "a", "192.168.1.0/26");
    block(&mut snapshot, "b", "192.168.2.0/26");
    block(&mut snapshot, "c", "192.168.3.0/26");
    snapshot
}

fn ground() -> Facts {
    let mut facts = Facts::default();
    let device = Device {
        name: "eth0".into(),
        mtu: 1500,
        up: true,
        kind: None,
    };
    facts.links.insert(2, device);
    facts.addresses.push((net("10.0.0.1/24"), 2));
    let route = |destination: &str, gateway: Option<&str>, protocol| Underlay {
        destination: net(destination),
        metric: 0,
        protocol,
        hops: vec![Hop {
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            device: "eth0".into(),
        }],
    };
    facts.underlay.push(route("0.0.0.0/0", Some("10.0.0.254"), 3));
    facts.underlay.push(route("10.0.0.0/24", None, 2));
    facts.underlay.push(route("172.16.0.0/12", Some("10.0.0.253"), 4));
    facts
}

fn choices() -> Choices {
    Choices {
        node: "a".into(),
        ipip_device: "ipip.calico".into(),
        vxlan_device: "vxlan.calico".into(),
        vxlan6_device: "vxlan-v6.calico".into(),
        ipip_mtu: None,
        vxlan_mtu: None,
        vxlan6_mtu: None,
        vxlan_id: 4096,
        vxlan_port: 4789,
        metric_v4: 0,
        metric_v6: 1024,
        without_bgp: false,
        by_workload: false,
        ipip_enabled: true,
        vxlan_enabled: true,
        programs_ipip: true,
        programs_unencapsulated: true,
        onlink_is_near: false,
        source_v4: None,
        source_v6: None,
        forwarding: true,
        ipv6: true,
        firewall: Firewall::default(),
        mtu_pattern: String::new(),
    }
}

/// What becomes of a prefix that peers announce with these next hops.
fn learned(
    snapshot: &Snapshot,
    choices: &Choices,
    prefix: &str,
    next_hops: &[&str],
) -> Option<Result<PlannedRoute, Refusal>> {
    let facts = ground();
    let planner = Planner {
        snapshot,
        facts: &facts,
        choices,
    };
    let next_hops: Vec<IpAddr> = next_hops.iter().map(|text| text.parse().unwrap()).collect();
    LearnedRoutes::new(planner).route(&net(prefix), &next_hops)
}

fn way(route: &PlannedRoute) -> BTreeSet<String> {
    match &route.way {
        Way::Via { hops, .. } => hops
            .iter()
            .map(|hop| format!("{} {}", hop.gateway.unwrap(), hop.device))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn services_of_others_are_not_for_the_kernel() {
    let snapshot = cluster();
    let mut choices = choices();
    choices.firewall.services = [net("10.96.0.0/16")].into();
    for (prefix, is_planned) in [
        ("10.96.0.0/16", false),
        ("10.96.7.0/24", false),
        ("10.96.7.7/32", false),
        ("10.97.0.0/16", true),
        // What is around services is somebody's network.
        ("10.96.0.0/12", true),
    ] {
        let planned = learned(&snapshot, &choices, prefix, &["10.0.0.2"]);
        assert_eq!(planned.is_some_and(|route| route.is_ok()), is_planned, "{prefix}");
    }
}

#[test]
fn routes_lead_where_the_owner_or_the_next_hop_is() {
    let snapshot = cluster();
    for (prefix, next_hops, expected) in [
        ("192.168.2.0/26", vec!["10.0.0.2"], vec!["10.0.0.2 eth0"]),
        // By whomever it is announced: the owner counts.
        ("192.168.3.0/26", vec!["10.0.1.3"], vec!["10.0.1.3 ipip.calico"]),
        ("192.168.3.0/26", vec!["10.0.0.254"], vec!["10.0.1.3 ipip.calico"]),
        // Nobody's by the store: the next hop counts, if it is a node.
        ("192.168.9.0/26", vec!["10.0.1.3"], vec!["10.0.1.3 ipip.calico"]),
        ("192.168.9.0/26", vec!["10.0.0.254"], vec!["10.0.0.254 eth0"]),
        // In no pool: always direct, over the ground's routers.
        ("203.0.113.0/24", vec!["10.0.1.3"], vec!["10.0.0.254 eth0"]),
        (
            "203.0.113.0/24",
            vec!["172.16.1.1", "10.0.0.7"],
            vec!["10.0.0.253 eth0", "10.0.0.7 eth0"],
        ),
    ] {
        let route = learned(&snapshot, &choices(), prefix, &next_hops)
            .unwrap()
            .unwrap();
        let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(way(&route), expected, "{prefix} {next_hops:?}: {}", route.reason);
    }
}

#[test]
fn routes_that_would_do_harm_are_refused_by_name() {
    let snapshot = cluster();
    for (prefix, expected) in [
        ("192.168.1.0/26", Some(code::OWN_BLOCK)),
        ("192.168.1.8/32", Some(code::OWN_BLOCK)),
        ("10.0.0.0/24", Some(code::COVERS)),
        ("10.0.0.128/25", Some(code::COVERS)),
        ("10.0.0.2/32", Some(code::COVERS)),
        // Node c is reached by the default route, which this one would go before.
        ("10.0.1.0/24", Some(code::COVERS)),
        ("0.0.0.0/0", Some(code::COVERS)),
        ("172.16.0.0/12", Some(code::FOREIGN)),
        // Around an own block the longer prefix wins.
        ("192.168.0.0/16", None),
        ("172.16.1.0/24", None),
    ] {
        let planned = learned(&snapshot, &choices(), prefix, &["10.0.0.9"]).unwrap();
        assert_eq!(
            planned.as_ref().err().map(|refusal| refusal.code),
            expected,
            "{prefix}: {planned:?}"
        );
    }
    let nowhere = learned(&snapshot, &choices(), "203.0.113.0/24", &["fd00::1"]).unwrap();
    assert_eq!(nowhere.unwrap_err().code, code::UNREACHABLE);
}

#[test]
fn an_address_lent_out_of_an_own_block_goes_to_the_borrower() {
    let mut snapshot = cluster();
    let mut allocations = vec![Value::Null; 64];
    allocations[8] = json!(0);
    let unallocated: Vec<usize> = (0..64).filter(|ordinal| *ordinal != 8).collect();
    put(
        &mut snapshot,
        Key::Block(net("192.168.1.0/26")),
        &json!({
            "cidr": "192.168.1.0/26", "affinity": "host:a", "allocations": allocations, "unallocated": unallocated,
            "attributes": [{ "handle_id": "h", "secondary": { "node": "c" } }], "sequenceNumber": 1,
            "sequenceNumberForAllocation": {}, "deleted": false,
        }),
    );
    let route = learned(&snapshot, &choices(), "192.168.1.8/32", &["10.0.1.3"])
        .unwrap()
        .unwrap();
    assert_eq!(way(&route), ["10.0.1.3 ipip.calico".to_owned()].into());
    assert_eq!(
        snapshot.borrowed_by("c").collect::<Vec<_>>(),
        [(
            net("192.168.1.0/26"),
            vec!["192.168.1.8".parse::<IpAddr>().unwrap()]
        )]
    );
    let other = learned(&snapshot, &choices(), "192.168.1.9/32", &["10.0.1.3"]).unwrap();
    assert_eq!(other.unwrap_err().code, code::OWN_BLOCK);
}

#[test]
fn settings_decide_what_is_programmed() {
    let snapshot = cluster();
    let mut choices = choices();
    choices.source_v4 = Some("10.0.0.1".parse().unwrap());
    choices.metric_v4 = 77;
    let route = learned(&snapshot, &choices, "192.168.2.0/26", &["10.0.0.2"])
        .unwrap()
        .unwrap();
    assert_eq!((route.source, route.metric), (choices.source_v4, 77));
    choices.programs_unencapsulated = false;
    assert!(learned(&snapshot, &choices, "192.168.2.0/26", &["10.0.0.2"]).is_none());
    assert!(
        learned(&snapshot, &choices, "203.0.113.0/24", &["10.0.0.2"]).is_some(),
        "in no pool"
    );
    assert!(
        learned(&snapshot, &choices, "192.168.3.0/26", &["10.0.1.3"]).is_some(),
        "encapsulated"
    );
    choices.programs_ipip = false;
    assert!(learned(&snapshot, &choices, "192.168.3.0/26", &["10.0.1.3"]).is_none());
}

#[test]
fn devices_come_with_pools_and_fit_the_one_below() {
    let mut snapshot = cluster();
    let (facts, mut choices) = (ground(), choices());
    let fixtures = |snapshot: &Snapshot, choices: &Choices| {
        let planner = Planner {
            snapshot,
            facts: &facts,
            choices,
        };
        let fixtures = planner.fixtures();
        let mtu = planner.container_mtu(&fixtures);
        let tunnels: Vec<(String, u32)> = fixtures
            .tunnels
            .iter()
            .map(|tunnel| (tunnel.name.to_string(), tunnel.mtu))
            .collect();
        (tunnels, mtu)
    };
    assert_eq!(
        fixtures(&snapshot, &choices),
        (vec![("ipip.calico".into(), 1480)], Some(1480))
    );
    choices.ipip_mtu = Some(1400);
    assert_eq!(
        fixtures(&snapshot, &choices),
        (vec![("ipip.calico".into(), 1400)], Some(1400))
    );
    choices.ipip_enabled = false;
    assert_eq!(fixtures(&snapshot, &choices), (vec![], Some(1500)));
    resource(
        &mut snapshot,
        Kind::IpPool,
        "p",
        &json!({ "cidr": "192.168.0.0/16", "vxlanMode": "Always" }),
    );
    assert_eq!(
        fixtures(&snapshot, &choices),
        (vec![("vxlan.calico".into(), 1450)], Some(1450))
    );
}

fn store_routes(snapshot: &Snapshot, choices: &Choices) -> BTreeMap<String, String> {
    let facts = ground();
    let planner = Planner {
        snapshot,
        facts: &facts,
        choices,
    };
    let (routes, refused) = planner.store_routes();
    let refused = refused
        .into_iter()
        .map(|(prefix, refusal)| (prefix, refusal.code.to_owned()));
    let text = |route: &PlannedRoute| match &route.way {
        Way::Via { hops, .. } => format!("{} {}", hops[0].gateway.unwrap(), hops[0].device),
        other => format!("{other:?}"),
    };
    let routes = routes.iter().map(|(prefix, route)| (*prefix, text(route)));
    routes
        .chain(refused)
        .map(|(prefix, text)| (prefix.to_string(), text))
        .collect()
}

fn attachment(snapshot: &mut Snapshot, node: &str, address: &str) {
    let key = Key::local(
        model::LocalTable::Attachment,
        format!("{node}/net/{address}/eth0"),
    );
    let value = json!({ "created": 1, "hostInterface": "cali1", "mtu": 0, "addresses": [{ "address": address, "sequence": null }] });
    put(snapshot, key, &value);
}

#[test]
fn where_each_workload_counts_blocks_do_not() {
    let mut snapshot = cluster();
    resource(
        &mut snapshot,
        Kind::IpPool,
        "v",
        &json!({ "cidr": "10.77.0.0/16", "vxlanMode": "CrossSubnet" }),
    );
    resource(
        &mut snapshot,
        Kind::Node,
        "c",
        &json!({ "bgp": { "ipv4Address": "10.0.1.3/24" }, "ipv4VXLANTunnelAddr": "10.77.3.1" }),
    );
    block(&mut snapshot, "c", "10.77.3.0/26");
    for (node, address) in [
        ("a", "10.77.1.5"),
        ("b", "10.77.2.5"),
        ("c", "10.77.3.5"),
        ("c", "192.168.3.5"),
        ("b", "192.168.2.5"),
        ("c", "203.0.113.5"),
        // What this host depends on is no container's.
        ("c", "10.0.0.254"),
    ] {
        attachment(&mut snapshot, node, address);
    }
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(prefix, text)| ((*prefix).to_owned(), (*text).to_owned()))
            .collect()
    };
    let own = [
        ("192.168.1.0/26", "Blackhole"),
        ("10.77.1.5/32", "Container(\"cali1\")"),
    ];
    let mut choices = choices();
    let by_block = [&own[..], &[("10.77.3.0/26", "10.77.3.1 vxlan.calico")]].concat();
    assert_eq!(store_routes(&snapshot, &choices), map(&by_block));
    choices.by_workload = true;
    let tunnelled = [
        ("10.77.3.1/32", "10.77.3.1 vxlan.calico"),
        ("10.77.3.5/32", "10.77.3.1 vxlan.calico"),
        // Near, but in a pool of VXLAN: BGP leaves it to the store.
        ("10.77.2.5/32", "10.0.0.2 eth0"),
        ("192.168.3.5/32", "10.0.1.3 ipip.calico"),
    ];
    let with_bgp = [&own[..], &tunnelled].concat();
    assert_eq!(store_routes(&snapshot, &choices), map(&with_bgp));
    choices.without_bgp = true;
    let alone = [
        ("192.168.2.5/32", "10.0.0.2 eth0"),
        ("203.0.113.5/32", "10.0.0.254 eth0"),
        ("10.0.0.254/32", code::COVERS),
    ];
    assert_eq!(
        store_routes(&snapshot, &choices),
        map(&[&with_bgp[..], &alone].concat())
    );
}
