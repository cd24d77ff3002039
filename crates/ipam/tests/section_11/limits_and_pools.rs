// SPDX-License-Identifier: Apache-2.0
//! Lines 16 to 20 and 32 to 35: pools, selectors, limits, strict affinity, reservations.

use std::collections::BTreeMap;

use ipam::{AssignError, AssignSpecificError, ErrorClass, PoolReference, ReleaseOption, ShortReason};
use model::{
    AffinityState, Key, Kind,
    ip_pool::{AllowedUse, AssignmentMode},
};

use crate::support::*;

fn reasons(error: &AssignError) -> &[ShortReason] {
    match error {
        AssignError::Short(shortfalls) => &shortfalls[0].reasons,
        other => panic!("{other}"),
    }
}

#[test]
fn line_16_a_disabled_or_deleted_pool_gives_nothing_new_and_takes_back() {
    for mode in both_modes() {
        for deleted in [false, true] {
            let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &["node1"]);
            cluster.put_pool("second", pool("10.1.0.0/24"));
            let old = cluster.assign_one("node1", "h1");
            if deleted {
                cluster.delete(&Key::resource(Kind::IpPool, "pool"));
            } else {
                cluster.edit_pool("pool", |spec| spec.disabled = true);
            }
            let new = cluster.assign_one("node1", "h2");
            assert!(net("10.1.0.0/24").contains(&new.address), "{new:?}");
            assert!(cluster.assign_address("node1", "h3", "10.0.0.200").is_err());
            let report = cluster
                .engine()
                .release_addresses(&[ReleaseOption::unconditional(old.address)], "test", None)
                .unwrap();
            assert_eq!(report.released, [old.address]);
            let report = cluster
                .engine()
                .release_host_affinities("node1", true, "test")
                .unwrap();
            assert_eq!(report.outcomes.len(), 2);
            assert_eq!(
                cluster.affinities("node1"),
                [(new.block, AffinityState::Confirmed)]
            );
            cluster.check();
        }
    }
}

#[test]
fn line_16_the_affinities_of_a_pool_can_be_released_whoever_has_them() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &["node1", "node2"]);
        let kept = cluster.assign_one("node1", "h1");
        cluster.assign_one("node2", "h2");
        cluster.release("h2");
        let report = cluster
            .engine()
            .release_pool_affinities(net("10.0.0.0/24"), "test")
            .unwrap();
        assert_eq!((report.outcomes.len(), report.failed.len()), (2, 0));
        assert_eq!(cluster.block(&kept.block.to_string()).unwrap().affinity, None);
        cluster.release("h1");
        assert_eq!(
            cluster.block(&kept.block.to_string()),
            None,
            "nobody's block goes with its last address"
        );
    }
}

#[test]
fn line_17_a_block_goes_back_when_its_pool_no_longer_selects_the_node() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &[]);
        cluster.put_node("node1", &[("zone", "a")]);
        cluster.edit_pool("pool", |spec| spec.node_selector = "zone == 'a'".to_owned());
        let mut other = pool("10.1.0.0/24");
        other.node_selector = "zone == 'b'".to_owned();
        cluster.put_pool("other", other);
        let old = cluster.assign_one("node1", "h1");

        // An empty block goes at the next assignment.
        cluster.release("h1");
        cluster.put_node("node1", &[("zone", "b")]);
        let new = cluster.assign_one("node1", "h2");
        assert!(net("10.1.0.0/24").contains(&new.address));
        assert_eq!(
            cluster.affinities("node1"),
            [(new.block, AffinityState::Confirmed)]
        );
        assert_eq!(cluster.block(&old.block.to_string()), None);

        // One in use goes with its last address, whichever way that is released.
        for by_handle in [true, false] {
            cluster.put_node("node1", &[("zone", "a")]);
            let first = cluster.assign_one("node1", "h3");
            let second = cluster.assign_one("node1", "h4");
            assert_eq!(first.block, second.block);
            cluster.put_node("node1", &[("zone", "b")]);
            cluster.release("h3");
            assert_eq!(
                cluster.affinity("node1", &first.block.to_string()),
                Some(AffinityState::Confirmed)
            );
            if by_handle {
                cluster.release("h4");
            } else {
                let options = [ReleaseOption::unconditional(second.address)];
                cluster
                    .engine()
                    .release_addresses(&options, "test", None)
                    .unwrap();
            }
            assert_eq!(cluster.affinity("node1", &first.block.to_string()), None);
            assert_eq!(cluster.block(&first.block.to_string()), None);
        }
        cluster.check();
    }
}

#[test]
fn line_17_other_ways_to_exclude_a_pool_take_no_block_away() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &["node1"]);
        cluster.put_pool("other", pool("10.1.0.0/24"));
        let old = cluster.assign_one("node1", "h1");
        cluster.edit_pool("pool", |spec| spec.allowed_uses = vec![AllowedUse::Tunnel]);
        let mut wanted = request("node1", "h2", 1, 0);
        wanted.pools_v4 = vec!["other".into()];
        cluster.engine().auto_assign(&wanted, &mut no_writes).unwrap();
        cluster.assign_one("node1", "h3");
        cluster.release("h1");
        assert_eq!(
            cluster.affinity("node1", &old.block.to_string()),
            Some(AffinityState::Confirmed)
        );
    }
}

#[test]
fn line_18_two_nodes_swap_selectors_with_no_free_block_left() {
    for mode in both_modes() {
        let cluster = Cluster::new(mode);
        for (name, cidr, zone) in [("a", "10.0.0.0/30", "a"), ("b", "10.0.0.4/30", "b")] {
            let mut spec = pool(cidr);
            spec.block_size = Some(30);
            spec.node_selector = format!("zone == '{zone}'");
            cluster.put_pool(name, spec);
        }
        cluster.put_node("node1", &[("zone", "a")]);
        cluster.put_node("node2", &[("zone", "b")]);
        cluster.assign_one("node1", "h1");
        cluster.assign_one("node2", "h2");
        cluster.put_node("node1", &[("zone", "b")]);
        cluster.put_node("node2", &[("zone", "a")]);
        cluster.release("h1");
        cluster.release("h2");
        let first = cluster.assign_one("node1", "h3");
        let second = cluster.assign_one("node2", "h4");
        assert_eq!(
            (first.block, second.block),
            (net("10.0.0.4/30"), net("10.0.0.0/30"))
        );
        assert_eq!(
            cluster.affinities("node1"),
            [(first.block, AffinityState::Confirmed)]
        );
        assert_eq!(
            cluster.affinities("node2"),
            [(second.block, AffinityState::Confirmed)]
        );
        cluster.check();
    }
}

#[test]
fn line_19_an_explicit_limit_is_hard_and_counts_per_family() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 28, &["node1", "node2"]);
        let mut v6 = pool("fd00::/120");
        v6.block_size = Some(124);
        cluster.put_pool("v6", v6);
        cluster.configure(|config| config.max_blocks_per_host = 1);
        // The other node's block has room, but an explicit limit is not got around by borrowing.
        cluster.assign_one("node2", "other");
        let mut all = request("node1", "h", 256, 0);
        all.all_or_nothing = false;
        let assignment = cluster.engine().auto_assign(&all, &mut no_writes).unwrap();
        assert_eq!(assignment.addresses.len(), 16);
        let text = assignment.shortfalls[0].to_string();
        assert!(
            text.starts_with("Assigned 16 out of 256 requested IPv4 addresses"),
            "{text}"
        );
        assert!(
            text.contains("cannot allocate new block due to per host block limit"),
            "{text}"
        );
        assert_eq!(
            cluster.assign("node1", "h6", 0, 16).unwrap().addresses.len(),
            16,
            "IPv6 has a limit of its own"
        );
        // At the limit a block that has room again still serves.
        cluster.release("h");
        cluster.assign_one("node1", "h7");
        assert_eq!(cluster.affinities("node1").len(), 2);
        cluster.check();
    }
}

/// Calico fails at its implicit 20 blocks even where addresses may be borrowed (section 12). Here only claiming ends.
#[test]
fn line_19_the_implicit_limit_ends_claiming_but_not_borrowing() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 30, &["node1", "node2"]);
        cluster.assign("node1", "h", 80, 0).unwrap();
        assert_eq!(cluster.affinities("node1").len(), 20);
        let error = cluster.assign("node1", "over", 1, 0).unwrap_err();
        assert!(
            matches!(reasons(&error)[0], ShortReason::BlockLimit { limit: 20, .. }),
            "{error}"
        );
        assert_eq!(error.class(), ErrorClass::Exhausted);
        let other = cluster.assign_one("node2", "other");
        let borrowed = cluster.assign_one("node1", "borrowed");
        assert_eq!(borrowed.block, other.block);
        cluster.configure(|config| config.strict_affinity = true);
        let error = cluster.assign("node1", "strict", 1, 0).unwrap_err();
        assert!(reasons(&error).contains(&ShortReason::StrictAffinity), "{error}");
        cluster.check();
    }
}

#[test]
fn line_19_the_smaller_of_two_limits_holds() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 30, &["node1"]);
    cluster.configure(|config| config.max_blocks_per_host = 3);
    for (asked, expected) in [(1, 4), (2, 8), (9, 12), (0, 12)] {
        let mut wanted = request("node1", "h", 100, 0);
        wanted.all_or_nothing = false;
        wanted.max_blocks = asked;
        let assignment = cluster.engine().auto_assign(&wanted, &mut no_writes).unwrap();
        assert_eq!(
            assignment.addresses.len(),
            expected,
            "limit {asked} of the request"
        );
        cluster.release("h");
        cluster
            .engine()
            .release_host_affinities("node1", true, "test")
            .unwrap();
    }
}

#[test]
fn line_20_strict_affinity_ends_borrowing_and_keeps_what_was_borrowed_releasable() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1", "node2"]);
        cluster.assign_one("node1", "own");
        cluster.assign_one("node2", "borrowed");
        cluster.configure(|config| config.strict_affinity = true);
        cluster.assign("node2", "more", 1, 0).unwrap_err();
        let error = cluster.assign_address("node2", "more", "10.0.0.3").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Block host affinity does not match"),
            "{error}"
        );
        assert_eq!(cluster.release("borrowed").released.len(), 1);
        cluster.assign_one("node1", "more");
        // A block that is nobody's is not used either.
        cluster.engine().remove_host("node1", "test").unwrap();
        cluster.assign("node1", "none", 1, 0).unwrap_err();
        assert!(matches!(
            cluster.assign_address("node1", "none", "10.0.0.3"),
            Err(AssignSpecificError::StrictAffinity { owner: None, .. })
        ));
        cluster.check();
    }
}

#[test]
fn line_32_reserved_addresses_are_passed_over_in_place() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1"]);
        cluster.reserve(
            "r",
            &[" 10.0.0.1 ", "10.0.0.2/32", "10.0.0.2", "garbage", "10.0.0.0/33"],
        );
        let both = cluster.assign("node1", "h", 2, 0).unwrap();
        let addresses: Vec<_> = both.addresses.iter().map(|assigned| assigned.address).collect();
        assert_eq!(addresses, [ip("10.0.0.0"), ip("10.0.0.3")]);
        cluster.assign("node1", "h2", 1, 0).unwrap_err();
        assert_eq!(
            cluster.block("10.0.0.0/30").unwrap().unallocated,
            [1, 2],
            "their place in the queue is kept"
        );
        // An explicit request ignores reservations.
        cluster.assign_address("node1", "h3", "10.0.0.1").unwrap();
        // A reservation over an address in use changes nothing about it.
        cluster.reserve("all", &["10.0.0.0/8", "10.0.0.0/30"]);
        assert_eq!(cluster.release("h").released.len(), 2);
        cluster.check();
    }
}

#[test]
fn line_32_wholly_reserved_blocks_are_neither_used_nor_claimed() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/28", 30, &["node1", "node2"]);
        // Three of four blocks, one of them by two halves.
        cluster.reserve(
            "r",
            &["10.0.0.0/30", "10.0.0.4/31", "10.0.0.6/31", "10.0.0.12/30"],
        );
        for (node, handle) in [("node1", "h1"), ("node2", "h2")] {
            assert_eq!(cluster.assign_one(node, handle).block, net("10.0.0.8/30"));
        }
        assert_eq!(
            cluster.affinities("node1").len() + cluster.affinities("node2").len(),
            1
        );
        cluster.reserve("rest", &["10.0.0.8/30"]);
        cluster.assign("node1", "h3", 1, 0).unwrap_err();
        cluster.check();
    }
}

#[test]
fn line_33_both_families_or_none() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1"]);
        let mut v6 = pool("fd00::/126");
        v6.block_size = Some(126);
        cluster.put_pool("v6", v6);
        let both = cluster.assign("node1", "h", 1, 1).unwrap();
        let addresses: Vec<_> = both.addresses.iter().map(|assigned| assigned.address).collect();
        assert_eq!(addresses, [ip("10.0.0.0"), ip("fd00::")]);
        assert_eq!(cluster.counted("h"), 2);
        // IPv6 is used up first.
        cluster.assign("node1", "six", 0, 3).unwrap();
        let error = cluster.assign("node1", "h2", 1, 1).unwrap_err();
        assert!(
            error.to_string().contains("Assigned 0 out of 1 requested IPv6"),
            "{error}"
        );
        assert_eq!(cluster.handle("h2"), None);
        assert_eq!(
            cluster.block("10.0.0.0/30").unwrap().unallocated.len(),
            3,
            "IPv4 was not taken"
        );
        // Without all_or_nothing the other family is kept.
        let mut partial = request("node1", "h3", 1, 1);
        partial.all_or_nothing = false;
        let assignment = cluster.engine().auto_assign(&partial, &mut no_writes).unwrap();
        assert_eq!((assignment.addresses.len(), assignment.shortfalls.len()), (1, 1));
        cluster.check();
    }
}

#[test]
fn line_33_a_pool_of_the_other_family_is_refused() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 26, &["node1"]);
    cluster.put_pool("six", pool("fd00::/112"));
    for reference in ["six", "fd00::/112"] {
        let mut wanted = request("node1", "h", 1, 0);
        wanted.pools_v4 = vec![reference.into()];
        let error = cluster.engine().auto_assign(&wanted, &mut no_writes).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "the given pool ({reference}) does not exist, or is not enabled"
            )),
            "{text}"
        );
        assert_eq!(error.class(), ErrorClass::Configuration);
    }
}

#[test]
fn line_34_requested_pools_need_no_selector_and_may_be_manual() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 26, &["node1"]);
    let mut special = pool("10.9.0.0/24");
    special.node_selector = "zone == 'nowhere'".to_owned();
    special.namespace_selector = "never == 'ever'".to_owned();
    special.assignment_mode = AssignmentMode::Manual;
    cluster.put_pool("special", special);
    assert!(net("10.0.0.0/24").contains(&cluster.assign_one("node1", "auto").address));
    for (index, reference) in ["special", "10.9.0.0/24", "10.9.0.7/24"].into_iter().enumerate() {
        let mut wanted = request("node1", &format!("h{index}"), 1, 0);
        wanted.pools_v4 = vec![reference.into()];
        let assigned = cluster.engine().auto_assign(&wanted, &mut no_writes).unwrap();
        assert!(net("10.9.0.0/24").contains(&assigned.addresses[0].address));
    }
    cluster.edit_pool("special", |spec| spec.disabled = true);
    for reference in ["special", "10.9.0.0/24", "unknown", "10.77.0.0/24"] {
        let mut wanted = request("node1", "h", 1, 0);
        wanted.pools_v4 = vec![reference.into()];
        let error = cluster.engine().auto_assign(&wanted, &mut no_writes).unwrap_err();
        assert!(
            error.to_string().contains("does not exist, or is not enabled"),
            "{error}"
        );
    }
}

#[test]
fn line_34_requested_pools_are_used_in_their_order() {
    let cluster = Cluster::new(both_modes()[0]);
    cluster.put_node("node1", &[]);
    for (name, cidr) in [("a", "10.1.0.0/30"), ("b", "10.2.0.0/30")] {
        let mut spec = pool(cidr);
        spec.block_size = Some(30);
        cluster.put_pool(name, spec);
    }
    let mut wanted = request("node1", "h", 5, 0);
    wanted.pools_v4 = vec![
        PoolReference::Name("b".to_owned()),
        PoolReference::Name("a".to_owned()),
    ];
    let assigned = cluster
        .engine()
        .auto_assign(&wanted, &mut no_writes)
        .unwrap()
        .addresses;
    assert!(
        assigned[..4]
            .iter()
            .all(|assigned| assigned.block == net("10.2.0.0/30"))
    );
    assert_eq!(assigned[4].block, net("10.1.0.0/30"));
    assert_eq!(cluster.counted("h"), 5);
}

#[test]
fn line_34_a_use_that_no_pool_allows_is_a_configuration_error() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 26, &["node1"]);
    cluster.edit_pool("pool", |spec| spec.allowed_uses = vec![AllowedUse::Tunnel]);
    let error = cluster.assign("node1", "h", 1, 0).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot find a qualified ippool"),
        "{error}"
    );
    let mut wanted = specific("node1", "h", &["10.0.0.5"]);
    wanted.intended_use = Some(AllowedUse::Workload);
    let error = cluster
        .engine()
        .assign_specific(&wanted, &mut no_writes)
        .unwrap_err();
    assert!(matches!(error, AssignSpecificError::Use { .. }), "{error}");
    let error = cluster.assign("unknown", "h", 1, 0).unwrap_err();
    assert!(matches!(error, AssignError::NodeUnknown { .. }), "{error}");
}

#[test]
fn line_35_namespace_selectors() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 26, &["node1"]);
    cluster.edit_pool("pool", |spec| {
        spec.namespace_selector = "team == 'red'".to_owned();
    });
    let with = |labels: Option<BTreeMap<String, String>>| {
        let mut wanted = request("node1", "h", 1, 0);
        wanted.namespace_labels = labels;
        cluster.engine().auto_assign(&wanted, &mut no_writes)
    };
    let label = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
    for labels in [None, Some(BTreeMap::new()), Some(label("blue"))] {
        let error = with(labels).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no configured Calico pools for node"),
            "{error}"
        );
    }
    with(Some(label("red"))).unwrap();
    cluster.edit_pool("pool", |spec| spec.namespace_selector = "!has(team)".to_owned());
    with(None).unwrap();
    cluster.edit_pool("pool", |spec| spec.namespace_selector = "team =".to_owned());
    let error = with(Some(label("red"))).unwrap_err();
    assert!(
        matches!(&error, AssignError::Selector { defect, .. } if defect.field == "namespaceSelector"),
        "{error}"
    );
    cluster.edit_pool("pool", |spec| {
        spec.namespace_selector.clear();
        spec.node_selector = "zone in {".to_owned();
    });
    let error = with(None).unwrap_err();
    assert!(
        matches!(&error, AssignError::Selector { defect, .. } if defect.field == "nodeSelector"),
        "{error}"
    );
}
