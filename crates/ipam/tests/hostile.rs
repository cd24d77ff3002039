// SPDX-License-Identifier: Apache-2.0
//! Damaged objects in the store: not used, not repaired behind the operator's back, named; everything else works.

mod support;

use ipam::{
    AccessError, AssignError, Engine, ErrorClass, HandleSearch, Notice, ReleaseOption, ReleaseRefusal,
};
use model::{AffinityState, Key, Kind};
use support::*;

/// Ways in which a stored block of 10.0.0.0/30 can be broken.
const BROKEN_BLOCKS: [&str; 12] = [
    "",
    "{",
    "[]",
    "null",
    r#"{"cidr":"10.0.0.0/30"}"#,
    r#"{"cidr":"10.0.0.4/30","affinity":"host:node1","allocations":[null,null,null,null],"unallocated":[0,1,2,3]}"#,
    r#"{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[7,null,null,null],"unallocated":[1,2,3]}"#,
    r#"{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[null,null,null,null],"unallocated":[0,0,1,2]}"#,
    r#"{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[null,null,null,null],"unallocated":[0,1,2,99]}"#,
    r#"{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[null],"unallocated":[0]}"#,
    r#"{"cidr":"10.0.0.0/30","affinity":"nobody","allocations":[null,null,null,null],"unallocated":[0,1,2,3]}"#,
    r#"{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[0,0,null,null],"unallocated":[1,2,3],
        "attributes":[{"handle_id":"h"}],"sequenceNumber":-1}"#,
];

#[test]
fn a_damaged_block_is_left_alone_and_named() {
    for mode in both_modes() {
        for broken in BROKEN_BLOCKS {
            let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1", "node2"]);
            let key = Key::Block(net("10.0.0.0/30"));
            cluster.put_raw(key.clone(), broken);
            cluster.put_affinity("node1", "10.0.0.0/30", AffinityState::Confirmed);
            let notices = Notices::default();
            let listener = notices.listener();
            let engine = Engine {
                notices: &listener,
                ..cluster.engine()
            };
            // Everything else goes on, for its owner and for borrowers.
            let assigned = assign_with(&engine, "node1", "h", 4, 0).unwrap().addresses;
            assert!(
                assigned
                    .iter()
                    .all(|assigned| assigned.block == net("10.0.0.4/30")),
                "{broken}"
            );
            assert!(assign_with(&engine, "node2", "h2", 1, 0).is_err(), "{broken}");
            let named =
                |notice: &Notice| matches!(notice, Notice::Damaged { key: found, .. } if *found == key);
            assert!(notices.all().iter().any(named), "{broken}: {:?}", notices.all());
            // What concerns the block itself is refused with its name.
            let report = engine
                .release_addresses(&[ReleaseOption::unconditional(ip("10.0.0.1"))], "test", None)
                .unwrap();
            assert!(
                matches!(report.refused[0].1, ReleaseRefusal::DamagedBlock { .. }),
                "{broken}: {report:?}"
            );
            let error = cluster.assign_address("node1", "h3", "10.0.0.1").unwrap_err();
            assert!(error.to_string().contains("10.0.0.0-30 is damaged"), "{error}");
            assert_eq!(error.class(), ErrorClass::Configuration);
            let report = engine.release_host_affinities("node1", false, "test").unwrap();
            assert_eq!(report.failed.len(), 1, "{broken}");
            assert_eq!(
                engine
                    .release_by_handle("h", HandleSearch::Thorough, "test", &mut |_| Vec::new())
                    .unwrap()
                    .released
                    .len(),
                4,
                "{broken}"
            );
            assert_eq!(
                cluster.store.snapshot().value(&key),
                Some(broken),
                "it is not touched"
            );
        }
    }
}

#[test]
fn a_handle_keeps_counting_what_is_in_a_damaged_block() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
        let assigned = cluster.assign("node1", "h", 5, 0).unwrap().addresses;
        let damaged = assigned[0].block;
        let sound = cluster
            .store
            .snapshot()
            .value(&Key::Block(damaged))
            .unwrap()
            .to_owned();
        cluster.put_raw(Key::Block(damaged), "{}");
        let report = cluster.release("h");
        assert_eq!((report.released.len(), report.damaged.len()), (1, 1));
        assert_eq!(report.damaged[0].0, Key::Block(damaged));
        assert_eq!(cluster.counted("h"), 4);
        // Once the block is repaired, the same call finishes.
        cluster.put_raw(Key::Block(damaged), &sound);
        assert_eq!(cluster.release("h").released.len(), 4);
        assert_eq!(cluster.handle("h"), None);
    }
}

#[test]
fn damaged_configuration_is_an_error_where_guessing_is_dangerous() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/29", 30, &["node1"]);
    cluster.put_raw(Key::IpamConfig, r#"{"strict_affinity":"perhaps"}"#);
    let error = cluster.assign("node1", "h", 1, 0).unwrap_err();
    assert!(
        error.to_string().contains("/calico/ipam/v2/config is damaged"),
        "{error}"
    );
    assert!(matches!(error, AssignError::Access(AccessError::Damaged { .. })));
    cluster.delete(&Key::IpamConfig);
    cluster.put_raw(Key::resource(Kind::Node, "node1"), "{\"kind\":\"IPPool\"}");
    let error = cluster.assign("node1", "h", 1, 0).unwrap_err();
    assert!(error.to_string().contains("nodes/node1 is damaged"), "{error}");
}

#[test]
fn damaged_pools_reservations_nodes_and_affinities_are_passed_over() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
        for (name, text) in [
            ("a", "{"),
            ("b", r#"{"spec":{"cidr":"nonsense"}}"#),
            ("c", r#"{"spec":{"cidr":"10.5.0.0/16","blockSize":2}}"#),
            ("d", r#"{"spec":{"cidr":"10.6.0.0/28","blockSize":26}}"#),
        ] {
            cluster.put_raw(Key::resource(Kind::IpPool, name), text);
        }
        cluster.put_raw(Key::resource(Kind::IpReservation, "r"), "[1]");
        cluster.put_raw(Key::resource(Kind::Node, "broken"), "7");
        cluster.put_raw(Key::host_affinity("node1", net("10.0.0.0/30")), "{{");
        cluster.put_raw(Key::host_affinity("node1", net("10.0.0.0/8")), "{}");
        let notices = Notices::default();
        let listener = notices.listener();
        let engine = Engine {
            notices: &listener,
            ..cluster.engine()
        };
        let assigned = assign_with(&engine, "node1", "h", 4, 0).unwrap().addresses;
        assert!(
            assigned
                .iter()
                .all(|assigned| assigned.block == net("10.0.0.4/30")),
            "{assigned:?}"
        );
        assert!(notices.all().len() >= 7, "{:?}", notices.all());
        cluster.release("h");
    }
}

#[test]
fn a_damaged_handle_keeps_nobody_from_releasing_its_address() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
        let assigned = cluster.assign_one("node1", "h");
        cluster.put_raw(Key::Handle("h".to_owned()), "true");
        let error = cluster.assign("node1", "h", 1, 0).unwrap_err();
        assert!(error.to_string().contains("handle/h is damaged"), "{error}");
        release_with(&cluster.engine(), "h").unwrap_err();
        let report = cluster
            .engine()
            .release_addresses(&[ReleaseOption::unconditional(assigned.address)], "test", None)
            .unwrap();
        assert_eq!(report.released, [assigned.address]);
    }
}

/// Numbers at the edge of their types.
#[test]
fn extreme_numbers_do_not_panic() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/30", 30, &["node1"]);
    cluster.put_affinity("node1", "10.0.0.0/30", AffinityState::Confirmed);
    cluster.put_raw(
        Key::Block(net("10.0.0.0/30")),
        &format!(
            r#"{{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[null,null,null,null],
                "unallocated":[0,1,2,3],"attributes":null,"sequenceNumber":{}}}"#,
            u64::MAX
        ),
    );
    cluster.put_raw(
        Key::Handle("h".to_owned()),
        &format!(r#"{{"block":{{"10.0.0.0/30":{}}}}}"#, usize::MAX),
    );
    cluster.assign_one("node1", "h");
    assert_eq!(cluster.release("h").released.len(), 1);
    cluster.configure(|config| config.max_blocks_per_host = u32::MAX);
    let mut all = request("node1", "h", u32::MAX, u32::MAX);
    all.all_or_nothing = false;
    all.v6 = 0;
    assert_eq!(
        cluster
            .engine()
            .auto_assign(&all, &mut no_writes)
            .unwrap()
            .addresses
            .len(),
        4
    );
}
