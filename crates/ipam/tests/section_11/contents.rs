// SPDX-License-Identifier: Apache-2.0
//! Lines 21 to 31, 36 and 37: what blocks and handles contain.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use datastore::{
    MemoryOptions,
    memory::{Fault, FaultPlan},
};
use ipam::{AssignSpecificError, HandleSearch, ReleaseOption, ReleaseRefusal};
use model::{IpamBlock, IpamHandle, Key};

use crate::support::*;

fn single(mode: MemoryOptions) -> Cluster {
    Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1", "node2"])
}

const BLOCK: &str = "10.0.0.0/30";

#[test]
fn line_21_a_block_is_used_first_in_first_out() {
    for mode in both_modes() {
        let cluster = single(mode);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(cluster.assign_one("node1", "h").address);
            cluster.release("h");
        }
        let expected = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0"].map(ip);
        assert_eq!(seen, expected);
    }
}

#[test]
fn line_22_several_released_at_once_queue_up_in_ascending_order() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign("node1", "h", 4, 0).unwrap();
        let options =
            ["10.0.0.3", "10.0.0.0", "10.0.0.2"].map(|address| ReleaseOption::unconditional(ip(address)));
        let report = cluster
            .engine()
            .release_addresses(&options, "test", None)
            .unwrap();
        assert_eq!(report.released.len(), 3);
        assert_eq!(cluster.block(BLOCK).unwrap().unallocated, [0, 2, 3]);
        assert_eq!(cluster.counted("h"), 1);
    }
}

#[test]
fn line_23_equal_attributes_are_shared_and_go_with_their_last_address() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign("node1", "first", 1, 0).unwrap();
        cluster.assign("node1", "shared", 2, 0).unwrap();
        let block = cluster.block(BLOCK).unwrap();
        assert_eq!(block.allocations, [Some(0), Some(1), Some(1), None]);
        let release = |address: &str| {
            let options = [ReleaseOption::unconditional(ip(address))];
            cluster
                .engine()
                .release_addresses(&options, "test", None)
                .unwrap();
            cluster.block(BLOCK).unwrap()
        };
        let block = release("10.0.0.1");
        assert_eq!((block.allocations[2], block.attributes.len()), (Some(1), 2));
        let block = release("10.0.0.0");
        assert_eq!(
            (block.allocations[2], block.attributes.len()),
            (Some(0), 1),
            "renumbered"
        );
        assert_eq!(block.attributes[0].handle_id.as_deref(), Some("shared"));
        let block = release("10.0.0.2");
        assert_eq!((block.attributes.len(), block.unallocated), (0, vec![3, 1, 0, 2]));
        assert!(block.sequence_number_for_allocation.is_empty());
    }
}

#[test]
fn line_24_an_address_named_twice_is_counted_once() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign("node1", "h", 3, 0).unwrap();
        let options = [0, 0, 1, 0].map(|last| ReleaseOption::unconditional(ip(&format!("10.0.0.{last}"))));
        cluster
            .engine()
            .release_addresses(&options, "test", None)
            .unwrap();
        assert_eq!(cluster.counted("h"), 1);
        cluster.check();
    }
}

#[test]
fn line_25_a_stale_sequence_number_is_rejected() {
    for mode in both_modes() {
        for recreate in [false, true] {
            let cluster = single(mode);
            let old = cluster.assign_one("node1", "h");
            cluster.release("h");
            if recreate {
                cluster
                    .engine()
                    .release_host_affinities("node1", true, "test")
                    .unwrap();
                assert_eq!(cluster.block(BLOCK), None);
                cluster.clock.advance(Duration::from_micros(1));
            }
            let new = cluster.assign_address("node1", "h", "10.0.0.0").unwrap();
            assert_eq!(old.address, new.address);
            let mut option = ReleaseOption {
                address: old.address,
                handle: Some("h".to_owned()),
                sequence: Some(old.sequence),
            };
            let report = cluster
                .engine()
                .release_addresses(&[option.clone()], "test", None)
                .unwrap();
            assert!(
                matches!(report.refused[0].1, ReleaseRefusal::Sequence { .. }),
                "{report:?}"
            );
            option.sequence = Some(new.sequence);
            let report = cluster
                .engine()
                .release_addresses(&[option], "test", None)
                .unwrap();
            assert_eq!(report.released, [old.address]);
        }
    }
}

#[test]
fn line_26_a_sequence_number_for_a_free_address_is_a_conflict() {
    let cluster = single(both_modes()[0]);
    let assigned = cluster.assign_one("node1", "h");
    cluster.release("h");
    let option = ReleaseOption {
        sequence: Some(assigned.sequence),
        ..ReleaseOption::unconditional(assigned.address)
    };
    let report = cluster
        .engine()
        .release_addresses(&[option], "test", None)
        .unwrap();
    assert!(report.unallocated.is_empty());
    assert_eq!(
        report.refused,
        [(
            assigned.address,
            ReleaseRefusal::Sequence {
                found: 0,
                expected: assigned.sequence
            }
        )]
    );
    let options = [ReleaseOption::unconditional(assigned.address)];
    let report = cluster
        .engine()
        .release_addresses(&options, "test", None)
        .unwrap();
    assert_eq!(report.unallocated, [assigned.address]);
}

#[test]
fn line_27_a_wrong_handle_keeps_its_block_and_no_other() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
        let mine: Vec<_> = cluster.assign("node1", "mine", 8, 0).unwrap().addresses;
        let other = mine
            .iter()
            .find(|assigned| assigned.block != mine[0].block)
            .unwrap();
        let option = |address: IpAddr, handle: &str| ReleaseOption {
            handle: Some(handle.to_owned()),
            ..ReleaseOption::unconditional(address)
        };
        let options = [
            option(mine[0].address, "mine"),
            option(mine[1].address, "theirs"),
            option(other.address, "mine"),
        ];
        let report = cluster
            .engine()
            .release_addresses(&options, "test", None)
            .unwrap();
        assert_eq!(report.released, [other.address]);
        assert_eq!(report.refused.len(), 2);
        let refusal = |address: IpAddr| {
            &report
                .refused
                .iter()
                .find(|refused| refused.0 == address)
                .unwrap()
                .1
        };
        assert!(matches!(refusal(mine[1].address), ReleaseRefusal::Handle { .. }));
        assert!(matches!(
            refusal(mine[0].address),
            ReleaseRefusal::Companion { .. }
        ));
        assert_eq!(cluster.counted("mine"), 7);
    }
}

#[test]
fn line_28_a_handle_with_a_carriage_return_is_releasable() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign_one("node1", "net.abc");
        let text = serde_json::to_string(&cluster.block(BLOCK).unwrap()).unwrap();
        cluster.put_raw(
            Key::Block(net(BLOCK)),
            &text.replace("\"net.abc\"", "\"net.abc\\r\\neth0\""),
        );
        let option = ReleaseOption {
            handle: Some("net.abc".to_owned()),
            ..ReleaseOption::unconditional(ip("10.0.0.0"))
        };
        let snapshot = cluster.store.snapshot();
        assert_eq!(cluster.release("net.abc\r\neth0").released, [ip("10.0.0.0")]);
        assert_eq!(cluster.handle("net.abc"), None);
        cluster.store.restore(&snapshot);
        let report = cluster
            .engine()
            .release_addresses(&[option], "test", None)
            .unwrap();
        assert_eq!(report.released, [ip("10.0.0.0")]);
        assert_eq!(cluster.handle("net.abc"), None);
    }
}

#[test]
fn line_29_a_handle_that_is_wrong_about_its_blocks_is_released_all_the_same() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/28", 30, &["node1"]);
        let assigned = cluster.assign_one("node1", "h");
        let counts = [
            (assigned.block, 7),
            (net("10.0.0.0/30"), 2),
            (net("10.0.0.12/30"), 1),
        ];
        let handle = IpamHandle {
            block: counts.into_iter().collect(),
            ..IpamHandle::default()
        };
        cluster.put(Key::Handle("h".to_owned()), &handle);
        let report = cluster.release("h");
        assert_eq!(report.released, [assigned.address]);
        assert_eq!(cluster.handle("h"), None, "nothing is left to count");
        assert!(!cluster.release("h").handle_found);
    }
}

/// Calico can free such an address by its IP only (section 12).
#[test]
fn line_29_an_address_whose_handle_is_lost_is_found_by_a_thorough_release() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/28", 30, &["node1"]);
        let assigned = cluster.assign_one("node1", "h");
        cluster.assign_one("node1", "other");
        for damage in [None, Some("{"), Some(r#"{"block":{}}"#)] {
            let snapshot = cluster.store.snapshot();
            match damage {
                None => cluster.delete(&Key::Handle("h".to_owned())),
                Some(text) => cluster.put_raw(Key::Handle("h".to_owned()), text),
            }
            let engine = cluster.engine();
            let found = engine
                .release_by_handle("h", HandleSearch::Thorough, "test", &mut |_| Vec::new())
                .unwrap();
            assert_eq!(found.released, [assigned.address], "{damage:?}");
            assert_eq!(cluster.handle("h"), None);
            assert_eq!(cluster.counted("other"), 1);
            cluster.store.restore(&snapshot);
        }
    }
}

#[test]
fn line_29_a_count_too_small_never_goes_below_zero() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign("node1", "h", 3, 0).unwrap();
        let handle = IpamHandle {
            block: [(net(BLOCK), 1)].into_iter().collect(),
            ..IpamHandle::default()
        };
        cluster.put(Key::Handle("h".to_owned()), &handle);
        let options = ["10.0.0.0", "10.0.0.1"].map(|address| ReleaseOption::unconditional(ip(address)));
        assert_eq!(
            cluster
                .engine()
                .release_addresses(&options, "test", None)
                .unwrap()
                .released
                .len(),
            2
        );
        assert_eq!(cluster.handle("h"), None);
    }
}

#[test]
fn line_30_conflicts_leave_the_handle_right() {
    for mode in both_modes() {
        for specific_address in [false, true] {
            for first in 0..if mode.atomic { 1 } else { 2 } {
                let cluster = single(mode);
                cluster.put_block(BLOCK, Some("node1"));
                cluster.put_affinity("node1", BLOCK, model::AffinityState::Confirmed);
                let client = cluster.store.client();
                let faults = (first..first + 3).map(|step| (step, Fault::Conflict { write: 1 }));
                client.plan_faults(FaultPlan::script(faults));
                let engine = cluster.engine_on(&client);
                if specific_address {
                    engine
                        .assign_specific(&specific("node1", "h", &["10.0.0.2"]), &mut no_writes)
                        .unwrap();
                } else {
                    assign_with(&engine, "node1", "h", 1, 0).unwrap();
                }
                assert!(client.counts().conflicts > 0);
                assert_eq!(cluster.counted("h"), 1);
                assert_eq!(cluster.block(BLOCK).unwrap().unallocated.len(), 3);
                cluster.check();
            }
        }
    }
}

/// The block fills up between two attempts, so the second takes another block: the first is not counted any more.
#[test]
fn line_30_a_conflict_that_moves_the_request_to_another_block() {
    for mode in both_modes() {
        let cluster = Arc::new(Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]));
        let first = cluster.assign_one("node1", "h0");
        let (client, other) = (cluster.store.client(), Arc::clone(&cluster));
        interpose(&client, u64::from(!mode.atomic), move || {
            other.assign("node1", "filler", 3, 0).unwrap();
        });
        let assigned = assign_with(&cluster.engine_on(&client), "node1", "h", 1, 0)
            .unwrap()
            .addresses[0];
        assert_ne!(assigned.block, first.block);
        let handle = cluster.handle("h").unwrap();
        assert_eq!(
            handle.block.into_iter().collect::<Vec<_>>(),
            [(assigned.block, 1)]
        );
        cluster.check();
    }
}

#[test]
fn line_31_a_handle_counts_what_it_got_in_each_block() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/28", 30, &["node1"]);
        cluster.assign("node1", "before", 3, 0).unwrap();
        let assigned = cluster.assign("node1", "h", 6, 0).unwrap().addresses;
        let handle = cluster.handle("h").unwrap();
        assert_eq!(handle.block.len(), 3);
        for (block, count) in handle.block {
            assert_eq!(
                assigned.iter().filter(|assigned| assigned.block == block).count(),
                count
            );
        }
        let mut partial = request("node1", "rest", 100, 0);
        partial.all_or_nothing = false;
        let rest = cluster.engine().auto_assign(&partial, &mut no_writes).unwrap();
        assert_eq!(rest.addresses.len(), 7);
        assert_eq!(cluster.counted("rest"), 7);
        cluster.check();
    }
}

#[test]
fn line_36_a_released_address_rests_for_the_cooldown() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.configure(|config| config.ip_cooldown_seconds = 30);
        cluster.assign("node1", "h", 4, 0).unwrap();
        assert_eq!(cluster.release("h").released.len(), 4);
        assert_eq!(cluster.handle("h"), None);
        let block = cluster.block(BLOCK).unwrap();
        assert_eq!(block.attributes.len(), 1, "one marker for all");
        assert!(block.attributes[0].released_at.is_some() && block.unallocated.is_empty());
        // While they rest: not assigned, not released twice, and the block is not deletable.
        cluster.assign("node1", "h2", 1, 0).unwrap_err();
        let error = cluster.assign_address("node1", "h2", "10.0.0.1").unwrap_err();
        assert!(matches!(error, AssignSpecificError::Cooling { .. }), "{error}");
        let options = [ReleaseOption::unconditional(ip("10.0.0.1"))];
        let report = cluster
            .engine()
            .release_addresses(&options, "test", None)
            .unwrap();
        assert_eq!(report.unallocated, [ip("10.0.0.1")]);
        let report = cluster
            .engine()
            .release_host_affinities("node1", true, "test")
            .unwrap();
        assert_eq!(report.outcomes[0].2, ipam::AffinityRelease::InUse);
        cluster.clock.advance(Duration::from_secs(29));
        cluster.assign("node1", "h2", 1, 0).unwrap_err();
        cluster.clock.advance(Duration::from_secs(1));
        assert_eq!(cluster.assign_one("node1", "h2").address, ip("10.0.0.0"));
        let block = cluster.block(BLOCK).unwrap();
        assert_eq!((block.attributes.len(), block.unallocated), (1, vec![1, 2, 3]));
        cluster.check();
    }
}

#[test]
fn line_36_with_cooldown_a_sequence_number_still_protects() {
    let cluster = single(both_modes()[0]);
    cluster.configure(|config| config.ip_cooldown_seconds = 1);
    let assigned = cluster.assign_one("node1", "h");
    cluster.release("h");
    let option = ReleaseOption {
        sequence: Some(assigned.sequence),
        ..ReleaseOption::unconditional(assigned.address)
    };
    let report = cluster
        .engine()
        .release_addresses(&[option], "test", None)
        .unwrap();
    assert!(
        matches!(report.refused[0].1, ReleaseRefusal::Sequence { .. }),
        "{report:?}"
    );
}

/// Time is not measured here, work is: reads and writes must not grow with the addresses in use.
#[test]
fn line_37_the_cost_of_an_assignment_does_not_grow() {
    let cluster = Cluster::with_pool(MemoryOptions::embedded(), "10.0.0.0/16", 26, &["node1"]);
    cluster.configure(|config| config.max_blocks_per_host = 1000);
    let cost = |handle: &str| {
        let before = cluster.store.counts();
        cluster.assign_one("node1", handle);
        let after = cluster.store.counts();
        (
            after.gets - before.gets,
            after.lists - before.lists,
            after.commits - before.commits,
        )
    };
    cluster.assign_one("node1", "zero");
    let empty = cost("one");
    assert!(empty.0 <= 4 && empty.1 <= 3 && empty.2 == 1, "{empty:?}");
    cluster.assign("node1", "many", 20_000, 0).unwrap();
    cluster.assign_one("node1", "last");
    assert_eq!(cost("two"), empty);
    let before = cluster.store.counts();
    cluster.release("two");
    let after = cluster.store.counts();
    assert!(
        after.gets - before.gets <= 4 && after.lists - before.lists <= 1,
        "{before:?} {after:?}"
    );
}

#[test]
fn line_37_thousands_of_addresses_over_many_blocks_are_released() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/20", 28, &["node1"]);
        cluster.configure(|config| config.max_blocks_per_host = 1000);
        let all = cluster.assign("node1", "h", 4000, 0).unwrap().addresses;
        let distinct: BTreeSet<IpAddr> = all.iter().map(|assigned| assigned.address).collect();
        assert_eq!(distinct.len(), 4000);
        let options: Vec<ReleaseOption> = all[..2000]
            .iter()
            .map(|assigned| ReleaseOption {
                address: assigned.address,
                handle: Some("h".to_owned()),
                sequence: Some(assigned.sequence),
            })
            .collect();
        assert_eq!(
            cluster
                .engine()
                .release_addresses(&options, "test", None)
                .unwrap()
                .released
                .len(),
            2000
        );
        assert_eq!(cluster.counted("h"), 2000);
        assert_eq!(cluster.release("h").released.len(), 2000);
        assert_eq!(cluster.handle("h"), None);
        cluster.check();
    }
}

/// Section 6.9 by hand, on a block as another writer could leave it: unknown members stay, order stays.
#[test]
fn foreign_members_and_order_survive() {
    let cluster = single(both_modes()[0]);
    cluster.put_affinity("node1", BLOCK, model::AffinityState::Confirmed);
    cluster.put_raw(
        Key::Block(net(BLOCK)),
        r#"{"cidr":"10.0.0.0/30","affinity":"host:node1","allocations":[null,0,null,null],"unallocated":[3,0,2],
            "attributes":[{"handle_id":"x","secondary":{"k":"v"},"new":1}],"sequenceNumber":7,"future":{"a":[1]},
            "sequenceNumberForAllocation":null,"deleted":false,"hostAffinity":null}"#,
    );
    assert_eq!(cluster.assign_one("node1", "h").address, ip("10.0.0.3"));
    let block: IpamBlock = cluster.block(BLOCK).unwrap();
    assert_eq!(
        (block.unallocated.as_slice(), block.sequence_number),
        (&[0, 2][..], 8)
    );
    assert_eq!(
        block
            .sequence_number_for_allocation
            .into_iter()
            .collect::<Vec<_>>(),
        [(3, 7)]
    );
    assert!(block.extra.contains_key("future") && block.attributes[0].extra.contains_key("new"));
}
