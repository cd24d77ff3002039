// SPDX-License-Identifier: Apache-2.0
//! The key layout both ways, and what is refused.

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The layout of Calico's etcd v3 datastore, and our own below `/calico/local/`.
#[test]
fn keys_and_their_text() {
    let virtual_affinity = Key::Affinity {
        owner: AffinityOwner::Virtual("load-balancer".into()),
        block: net("10.50.0.0/28"),
    };
    let cases = [
        (
            Key::resource(Kind::IpPool, "pods-a"),
            "/calico/resources/v3/projectcalico.org/ippools/pods-a",
        ),
        (
            Key::namespaced(Kind::WorkloadEndpoint, "default", "node1-k8s-web--0-eth0"),
            "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-k8s-web--0-eth0",
        ),
        (
            Key::Block(net("10.9.0.4/30")),
            "/calico/ipam/v2/assignment/ipv4/block/10.9.0.4-30",
        ),
        (
            Key::Block(net("fd00:10:244::/122")),
            "/calico/ipam/v2/assignment/ipv6/block/fd00:10:244::-122",
        ),
        (
            Key::host_affinity("node1", net("10.9.0.4/30")),
            "/calico/ipam/v2/host/node1/ipv4/block/10.9.0.4-30",
        ),
        (
            virtual_affinity,
            "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.50.0.0-28",
        ),
        (
            Key::Handle("k8s-pod-network.4f1c".into()),
            "/calico/ipam/v2/handle/k8s-pod-network.4f1c",
        ),
        (Key::IpamConfig, "/calico/ipam/v2/config"),
        (
            Key::local(LocalTable::Attachment, "node1/net/4f1c/eth0"),
            "/calico/local/attachment/node1/net/4f1c/eth0",
        ),
        (
            Key::local(LocalTable::NodeState, "node1/boot"),
            "/calico/local/node-state/node1/boot",
        ),
        (
            Key::local(LocalTable::ReleaseIntent, "node1/net.4f1c"),
            "/calico/local/release-intent/node1/net.4f1c",
        ),
    ];
    for (key, text) in cases {
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key), "{text}");
    }
}

#[test]
fn every_kind_and_table_reads_back() {
    for kind in Kind::ALL {
        let key = if kind.namespaced() {
            Key::namespaced(kind, "ns", "a")
        } else {
            Key::resource(kind, "a")
        };
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert!(key.to_string().starts_with(&KeyRange::Kind(kind).prefix()));
        assert_eq!(kind.name().to_lowercase() + "s", kind.plural());
    }
    for table in LocalTable::ALL {
        let key = Key::local(table, "n/a");
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}

#[test]
fn what_is_no_key() {
    let cases = [
        "",
        "/calico",
        "/calico/v1/Ready",
        "/calico/resources/v3/projectcalico.org/ippools",
        "/calico/resources/v3/projectcalico.org/ippools/",
        "/calico/resources/v3/projectcalico.org/ippools/ns/a",
        "/calico/resources/v3/projectcalico.org/policies/a",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/a",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/ns/",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/ns/a/b",
        "/calico/ipam/v2/assignment/ipv4/block/10.9.0.5-30",
        "/calico/ipam/v2/assignment/ipv6/block/10.9.0.4-30",
        "/calico/ipam/v2/assignment/ipv4/block/10.9.0.4-33",
        "/calico/ipam/v2/assignment/ipv4/10.9.0.4-30",
        "/calico/ipam/v2/assignment/ipv4/block/10.9.0.4",
        "/calico/ipam/v2/host/node1",
        "/calico/ipam/v2/host/node1/ipv4/block/x",
        "/calico/ipam/v2/guest/node1/ipv4/block/10.9.0.4-30",
        "/calico/ipam/v2/host//ipv4/block/10.9.0.4-30",
        "/calico/ipam/v2/handle/",
        "/calico/local/attachment",
        "/calico/local/other/a",
    ];
    for text in cases {
        let error = text.parse::<Key>().expect_err(text);
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn owners() {
    for text in ["host:node1", "virtual:load-balancer", "host:a:b"] {
        assert_eq!(text.parse::<AffinityOwner>().unwrap().to_string(), text);
    }
    for text in ["", "host:", "virtual:", "node1", "guest:a"] {
        assert!(text.parse::<AffinityOwner>().is_err(), "{text}");
    }
}

#[test]
fn ranges_hold_their_keys_only() {
    let (v4, v6) = (net("10.9.0.4/30"), net("fd00::/122"));
    let keys = [
        Key::resource(Kind::IpPool, "a"),
        Key::resource(Kind::Node, "a"),
        Key::Block(v4),
        Key::Block(v6),
        Key::host_affinity("a", v4),
        Key::host_affinity("ab", v4),
        Key::host_affinity("a", v6),
        Key::Handle("a".into()),
        Key::local(LocalTable::Attachment, "a/x"),
        Key::local(LocalTable::Attachment, "b/x"),
    ];
    let host = AffinityOwner::Host("a".into());
    let cases: [(KeyRange, &[usize]); 9] = [
        (KeyRange::Kind(Kind::IpPool), &[0]),
        (KeyRange::Blocks { v6: false }, &[2]),
        (KeyRange::Blocks { v6: true }, &[3]),
        (
            KeyRange::Affinities {
                owner: host.clone(),
                v6: false,
            },
            &[4],
        ),
        (
            KeyRange::Affinities {
                owner: host,
                v6: true,
            },
            &[6],
        ),
        (KeyRange::HostAffinities, &[4, 5, 6]),
        (KeyRange::Handles, &[7]),
        (
            KeyRange::Local {
                table: LocalTable::Attachment,
                prefix: "a/".into(),
            },
            &[8],
        ),
        (KeyRange::Everything, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ];
    for (range, expected) in cases {
        let prefix = range.prefix();
        let held = |key: &Key| key.to_string().starts_with(&prefix);
        let found: Vec<usize> = (0..keys.len()).filter(|index| held(&keys[*index])).collect();
        assert_eq!(found, expected, "{range:?}");
    }
}

proptest! {
    #[test]
    fn whatever_reads_writes_back(text in "/calico/(ipam/v2|local|resources/v3/projectcalico.org)/[a-z0-9:./-]{0,40}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = text.parse::<Key>();
    }
}
