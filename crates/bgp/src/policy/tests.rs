// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::attributes::AsPath;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn term(conditions: Vec<Condition>, changes: Vec<Change>, verdict: Option<Verdict>) -> Term {
    Term {
        name: String::new(),
        conditions,
        changes,
        verdict,
    }
}

fn attributes() -> Attributes {
    Attributes {
        as_path: AsPath::sequence([65_001, 65_002]),
        local_pref: Some(200),
        communities: vec![Community::new(65_000, 1)],
        large_communities: vec![LargeCommunity([1, 2, 3])],
        ..Attributes::default()
    }
}

#[test]
fn each_condition_holds_for_what_it_says_and_for_nothing_else() {
    let range = |prefix: &str, min, max| PrefixRange {
        prefix: net(prefix),
        min,
        max,
    };
    let holding = [
        Condition::PrefixIn(vec![PrefixRange::within(net("10.0.0.0/8"))]),
        Condition::PrefixIn(vec![PrefixRange::exactly(net("10.1.2.0/26"))]),
        Condition::PrefixIn(vec![range("10.0.0.0/8", 26, 26), range("11.0.0.0/8", 8, 8)]),
        Condition::PrefixNotIn(vec![range("10.0.0.0/8", 27, 32)]),
        Condition::PrefixNotIn(vec![PrefixRange::exactly(net("10.0.0.0/8"))]),
        Condition::PrefixNotIn(vec![PrefixRange::within(net("fd00::/8"))]),
        Condition::Learned,
        Condition::Device(Glob("e*0".into())),
        Condition::External(true),
        Condition::Community(Community::new(65_000, 1)),
        Condition::LargeCommunity(LargeCommunity([1, 2, 3])),
        Condition::AsPathStart(vec![65_001]),
        Condition::AsPathStart(vec![65_001, 65_002]),
        Condition::LocalPref(200),
    ];
    let failing = [
        Condition::PrefixIn(vec![]),
        Condition::PrefixIn(vec![range("10.0.0.0/8", 27, 32)]),
        Condition::PrefixIn(vec![PrefixRange::within(net("10.1.2.0/27"))]),
        Condition::PrefixNotIn(vec![PrefixRange::within(net("10.1.0.0/16"))]),
        Condition::Class(vec![1, 2]),
        Condition::Device(Glob("eth".into())),
        Condition::External(false),
        Condition::Community(Community::new(65_000, 2)),
        Condition::LargeCommunity(LargeCommunity([1, 2, 4])),
        Condition::AsPathStart(vec![65_002]),
        Condition::AsPathStart(vec![65_001, 65_002, 65_003]),
        Condition::LocalPref(100),
    ];
    let attributes = attributes();
    let prefix = net("10.1.2.0/26");
    let route = View {
        prefix: &prefix,
        attributes: &attributes,
        next_hop: None,
        class: None,
        device: Some("eth0"),
        external: true,
    };
    for (conditions, expected) in [(holding.to_vec(), true), (failing.to_vec(), false)] {
        for condition in conditions {
            assert_eq!(condition.holds(&route, &attributes), expected, "{condition:?}");
        }
    }
    let own = View {
        class: Some(2),
        device: None,
        ..route
    };
    assert!(Condition::Class(vec![1, 2]).holds(&own, &attributes));
    assert!(!Condition::Learned.holds(&own, &attributes));
    assert!(
        !Condition::Device(Glob("*".into())).holds(&own, &attributes),
        "no device"
    );
}

#[test]
fn the_first_verdict_counts_and_changes_before_it_add_up() {
    let attributes = attributes();
    let prefix = net("10.1.2.0/26");
    let route = View {
        prefix: &prefix,
        attributes: &attributes,
        next_hop: None,
        class: None,
        device: None,
        external: false,
    };
    let policy = Policy {
        terms: vec![
            term(vec![Condition::External(true)], vec![], Some(Verdict::Reject)),
            term(
                vec![],
                vec![Change::AddCommunity(Community::new(65_000, 0))],
                None,
            ),
            term(
                vec![Condition::Community(Community::new(65_000, 0))],
                vec![Change::Prepend(vec![1, 2]), Change::SetLocalPref(7)],
                Some(Verdict::Accept),
            ),
            term(vec![], vec![Change::SetLocalPref(8)], Some(Verdict::Reject)),
        ],
        otherwise: Verdict::Reject,
    };
    let outcome = policy.evaluate(route);
    assert_eq!((outcome.verdict, outcome.decided_by), (Verdict::Accept, Some(2)));
    let changed = outcome.attributes;
    assert_eq!(
        changed.communities,
        [Community::new(65_000, 0), Community::new(65_000, 1)]
    );
    assert_eq!(changed.as_path.to_string(), "1 2 65001 65002");
    assert_eq!(changed.local_pref, Some(7));
    let external = View {
        external: true,
        ..route
    };
    let outcome = policy.evaluate(external);
    assert_eq!((outcome.verdict, outcome.decided_by), (Verdict::Reject, Some(0)));
    assert_eq!(*outcome.attributes, attributes, "what is rejected is not changed");
    assert_eq!(Policy::REJECT.evaluate(route).verdict, Verdict::Reject);
    assert!(matches!(
        Policy::ACCEPT.evaluate(route).attributes,
        Cow::Borrowed(_)
    ));
}

#[test]
fn globs_take_any_characters_or_one() {
    let table = [
        ("", "", true),
        ("*", "", true),
        ("", "a", false),
        ("cali*", "cali123", true),
        ("cali*", "xcali123", false),
        ("*.calico", "vxlan.calico", true),
        ("*.calico", "vxlan.calico2", false),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b*", "xxbxxaxx", false),
        ("eth?", "eth0", true),
        ("eth?", "eth", false),
        ("a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
    ];
    for (pattern, name, expected) in table {
        assert_eq!(Glob(pattern.into()).matches(name), expected, "{pattern} {name}");
    }
}
