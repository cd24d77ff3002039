// SPDX-License-Identifier: Apache-2.0
use bgp::{AsPath, Attributes, policy::View};
use datastore::{Entry, Revision};
use model::{AffinityOwner, Key, Kind};
use serde_json::{Value, json};

use super::*;

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

/// Node `a` with a block and one that it gives up; a pool, a disabled one, and one that is not announced.
fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::default();
    resource(
        &mut snapshot,
        Kind::IpPool,
        "p",
        &json!({ "cidr": "10.1.0.0/16" }),
    );
    resource(
        &mut snapshot,
        Kind::IpPool,
        "off",
        &json!({ "cidr": "10.2.0.0/16", "disabled": true }),
    );
    resource(
        &mut snapshot,
        Kind::IpPool,
        "quiet",
        &json!({ "cidr": "10.3.0.0/16", "disableBGPExport": true }),
    );
    for (block, state) in [
        ("10.1.1.0/26", "confirmed"),
        ("10.1.2.0/26", "pendingDeletion"),
        ("10.1.9.0/26", "pending"),
        ("10.2.1.0/26", "confirmed"),
        ("10.3.1.0/26", "confirmed"),
    ] {
        let owner = AffinityOwner::Host("a".into());
        let key = Key::Affinity {
            owner,
            block: net(block),
        };
        put(&mut snapshot, key, &json!({ "state": state }));
    }
    snapshot
}

/// A route, by prefix and class (`None`: learned).
fn announced(policy: &Policy, prefix: &str, class: Option<u32>, external: bool) -> Option<Attributes> {
    let attributes = Attributes {
        local_pref: Some(local_pref(1024)),
        as_path: AsPath::sequence([65_001, 65_002]),
        communities: vec![Standard::new(65_001, 7)],
        ..Attributes::default()
    };
    let prefix = net(prefix);
    let outcome = policy.evaluate(View {
        prefix: &prefix,
        attributes: &attributes,
        next_hop: None,
        class,
        device: None,
        external,
    });
    (outcome.verdict == Verdict::Accept).then(|| outcome.attributes.into_owned())
}

#[test]
fn calicos_steps_in_calicos_order() {
    let snapshot = cluster();
    let exports = Exports {
        node: "a".into(),
        ..Exports::default()
    };
    let policy = export(&snapshot, &exports, &[], Family::Ipv4);
    for (prefix, class, expected) in [
        ("10.1.1.0/26", Some(class::BLOCK), true),
        // Inside an own block nothing is announced by itself, whoever it is from.
        ("10.1.1.5/32", Some(class::BORROWED), false),
        ("10.1.1.5/32", None, false),
        // A block that is given up no longer hides what is in it.
        ("10.1.2.0/26", Some(class::BLOCK), true),
        ("10.1.2.5/32", Some(class::DRAINING), true),
        ("10.1.5.5/32", Some(class::BORROWED), true),
        // Of a disabled pool: an own block all the same, others not.
        ("10.2.1.0/26", Some(class::BLOCK), true),
        ("10.2.9.0/26", None, false),
        ("10.3.1.0/26", Some(class::BLOCK), false),
        ("10.1.7.0/26", None, true),
        ("172.30.0.0/16", Some(class::SERVICE), true),
        ("172.30.0.0/16", None, false),
        ("0.0.0.0/0", None, false),
    ] {
        assert_eq!(
            announced(&policy, prefix, class, false).is_some(),
            expected,
            "{prefix} {class:?}"
        );
    }
}

#[test]
fn options_change_what_others_are_told() {
    let snapshot = cluster();
    let base = Exports {
        node: "a".into(),
        ..Exports::default()
    };
    let own_only = Exports {
        external_own_only: true,
        ..base.clone()
    };
    let policy = export(&snapshot, &own_only, &[], Family::Ipv4);
    assert!(
        announced(&policy, "10.1.7.0/26", None, true).is_none(),
        "another's block, outside"
    );
    assert!(announced(&policy, "10.1.7.0/26", None, false).is_some(), "inside");
    assert!(
        announced(&policy, "10.1.1.0/26", Some(class::BLOCK), true).is_some(),
        "the own one"
    );
    let reflector = Exports {
        reflector: true,
        service_prefixes: vec![net("172.30.0.0/16")],
        ..base.clone()
    };
    let policy = export(&snapshot, &reflector, &[], Family::Ipv4);
    assert!(
        announced(&policy, "172.30.3.4/32", None, false).is_some(),
        "a reflector passes services on"
    );
    let disabled = Exports {
        disabled: true,
        ..base.clone()
    };
    assert_eq!(export(&snapshot, &disabled, &[], Family::Ipv4), Policy::REJECT);
    let coloured = Exports {
        communities: vec![
            (
                net("10.1.0.0/16"),
                vec![Community::Standard(1, 2), Community::Large(3, 4, 5)],
            ),
            (net("10.9.0.0/16"), vec![Community::Standard(9, 9)]),
        ],
        ..base
    };
    let policy = export(&snapshot, &coloured, &[], Family::Ipv4);
    let attributes = announced(&policy, "10.1.1.0/26", Some(class::BLOCK), false).unwrap();
    assert_eq!(
        attributes.communities,
        [Standard::new(1, 2), Standard::new(65_001, 7)]
    );
    assert_eq!(attributes.large_communities, [LargeCommunity([3, 4, 5])]);
}

#[test]
fn each_member_of_a_filters_rule_has_its_meaning() {
    let table = [
        (json!({ "matchOperator": "Equal", "cidr": "10.1.7.0/26" }), true),
        (
            json!({ "matchOperator": "NotEqual", "cidr": "10.1.7.0/26" }),
            false,
        ),
        (json!({ "matchOperator": "In", "cidr": "10.1.0.0/16" }), true),
        (json!({ "matchOperator": "NotIn", "cidr": "10.1.0.0/16" }), false),
        (
            json!({ "matchOperator": "In", "cidr": "10.1.0.0/16", "prefixLength": { "min": 27 } }),
            false,
        ),
        (
            json!({ "matchOperator": "In", "cidr": "10.1.0.0/16", "prefixLength": { "min": 20, "max": 26 } }),
            true,
        ),
        (
            json!({ "matchOperator": "In", "cidr": "10.1.0.0/16", "prefixLength": { "max": 25 } }),
            false,
        ),
        (json!({ "source": "RemotePeers" }), true),
        (json!({ "interface": "eth*" }), false),
        (json!({ "peerType": "iBGP" }), true),
        (json!({ "peerType": "eBGP" }), false),
        (json!({ "communities": { "values": ["65001:7"] } }), true),
        (json!({ "communities": { "values": ["65001:8"] } }), false),
        (json!({ "asPathPrefix": [65001] }), true),
        (json!({ "asPathPrefix": [65002] }), false),
        (json!({ "priority": 1024 }), true),
        (json!({ "priority": 512 }), false),
        (json!({}), true),
    ];
    for (mut rule, matches) in table {
        rule["action"] = json!("Reject");
        let mut snapshot = cluster();
        resource(
            &mut snapshot,
            Kind::BgpFilter,
            "f",
            &json!({ "exportV4": [rule], "importV4": [rule] }),
        );
        let filters = ["missing".to_owned(), "f".to_owned()];
        let exports = Exports {
            node: "a".into(),
            ..Exports::default()
        };
        let out = export(&snapshot, &exports, &filters, Family::Ipv4);
        assert_eq!(
            announced(&out, "10.1.7.0/26", None, false).is_none(),
            matches,
            "export {rule}"
        );
        let inward = import(&snapshot, &filters, Family::Ipv4);
        assert_eq!(
            announced(&inward, "10.1.7.0/26", None, false).is_none(),
            matches,
            "import {rule}"
        );
        // Rules of one family are not the other's.
        assert_eq!(import(&snapshot, &filters, Family::Ipv6), Policy::ACCEPT);
    }
}

#[test]
fn a_filter_that_accepts_ends_everything_and_may_change_the_route() {
    let mut snapshot = cluster();
    let rule = json!({
        "action": "Accept", "matchOperator": "In", "cidr": "203.0.113.0/24",
        "operations": [
            { "addCommunity": { "value": "1:2" } },
            { "prependASPath": { "prefix": [65010, 65011] } },
            { "setPriority": { "value": 512 } },
        ],
    });
    resource(
        &mut snapshot,
        Kind::BgpFilter,
        "f",
        &json!({ "exportV4": [rule] }),
    );
    let exports = Exports {
        node: "a".into(),
        ..Exports::default()
    };
    let policy = export(&snapshot, &exports, &["f".to_owned()], Family::Ipv4);
    let attributes =
        announced(&policy, "203.0.113.0/25", None, false).expect("in no pool, but accepted before");
    assert_eq!(
        attributes.communities,
        [Standard::new(1, 2), Standard::new(65_001, 7)]
    );
    assert_eq!(attributes.as_path.to_string(), "65010 65011 65001 65002");
    assert_eq!(attributes.local_pref, Some(2_147_483_647 - 512));
    assert_eq!(local_pref(1024), 2_147_482_623, "as Calico's nodes send it");
}
