// SPDX-License-Identifier: Apache-2.0
//! Lines 3 to 14: two parties at one block. Another party acts just before a chosen write of the first.

use std::{sync::Arc, time::Duration};

use datastore::{
    MemoryOptions, Store,
    memory::{Fault, FaultPlan},
};
use ipam::{AffinityRelease, ReleaseOption};
use model::{AffinityState, Key};

use crate::support::*;

const CONFIRMED: Option<AffinityState> = Some(AffinityState::Confirmed);

/// A pool of four blocks of four addresses.
fn small(mode: MemoryOptions) -> Arc<Cluster> {
    Arc::new(Cluster::with_pool(
        mode,
        "10.0.0.0/28",
        30,
        &["node1", "node2", "node3"],
    ))
}

/// A pool of just one block.
fn single(mode: MemoryOptions) -> Arc<Cluster> {
    Arc::new(Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1", "node2"]))
}

#[test]
fn line_03_two_processes_of_a_host_claim_the_same_block() {
    for mode in both_modes() {
        // Without transactions: pending, block, confirmation, handle, block. With: claim, assignment.
        for step in 0..if mode.atomic { 2 } else { 5 } {
            let cluster = small(mode);
            let (first, other) = (cluster.store.client(), Arc::clone(&cluster));
            interpose(&first, step, move || {
                other.assign("node1", "second", 1, 0).unwrap();
            });
            let assigned = assign_with(&cluster.engine_on(&first), "node1", "first", 1, 0).unwrap();
            assert_eq!(assigned.addresses.len(), 1);
            let affinities = cluster.affinities("node1");
            assert_eq!(affinities.len(), 1, "step {step}: {affinities:?}");
            assert_eq!(affinities[0].1, AffinityState::Confirmed);
            assert_eq!(
                (cluster.counted("first"), cluster.counted("second")),
                (1, 1),
                "step {step}"
            );
            cluster.check();
        }
    }
}

#[test]
fn line_04_the_loser_of_a_race_for_a_block_keeps_no_affinity() {
    for mode in both_modes() {
        // Before the claim's first write, and, without transactions, before it creates the block.
        for step in 0..if mode.atomic { 1 } else { 2 } {
            let cluster = single(mode);
            let (loser, other) = (cluster.store.client(), Arc::clone(&cluster));
            interpose(&loser, step, move || {
                other.assign("node2", "winner", 4, 0).unwrap();
            });
            let result = assign_with(&cluster.engine_on(&loser), "node1", "loser", 1, 0);
            assert!(result.is_err(), "step {step}: {result:?}");
            assert_eq!(cluster.affinities("node1"), []);
            assert_eq!(cluster.affinity("node2", "10.0.0.0/30"), CONFIRMED);
            assert_eq!(cluster.handle("loser"), None);
            cluster.check();
        }
    }
}

#[test]
fn line_04_an_affinity_that_could_not_be_deleted_goes_at_the_next_use() {
    let cluster = single(MemoryOptions::kubernetes());
    let (loser, other) = (cluster.store.client(), Arc::clone(&cluster));
    let mut winner = Some(move || {
        other.assign("node2", "winner", 4, 0).unwrap();
    });
    // Steps: pending affinity, block (before which node2 wins), deletion of the affinity (which fails).
    loser.plan_faults(FaultPlan::from_fn(move |step| match step {
        datastore::memory::Step::Write { number: 1, .. } => {
            winner.take().expect("asked once for each step")();
            None
        }
        datastore::memory::Step::Write { number: 2, .. } => Some(Fault::Unavailable),
        _ => None,
    }));
    assert!(assign_with(&cluster.engine_on(&loser), "node1", "loser", 1, 0).is_err());
    assert_eq!(
        cluster.affinity("node1", "10.0.0.0/30"),
        Some(AffinityState::Pending)
    );
    cluster.release("winner");
    // The winner's block has room now, so borrowing serves; on the way the stale affinity goes.
    cluster.assign("node1", "loser", 1, 0).unwrap();
    assert_eq!(cluster.affinity("node1", "10.0.0.0/30"), None);
    cluster.check();
}

#[test]
fn line_05_a_claim_is_not_confirmed_after_a_release_took_its_block() {
    // Steps of the claim: pending, block, confirmation. The release comes before the confirmation.
    let cluster = small(MemoryOptions::kubernetes());
    let (claimer, other) = (cluster.store.client(), Arc::clone(&cluster));
    interpose(&claimer, 2, move || {
        let report = other
            .engine()
            .release_host_affinities("node1", true, "test")
            .unwrap();
        assert_eq!(report.outcomes.len(), 1);
        assert_eq!(report.outcomes[0].2, AffinityRelease::Released);
        assert_eq!(other.affinities("node1"), []);
    });
    let conflicts = claimer.counts().conflicts;
    let assigned = assign_with(&cluster.engine_on(&claimer), "node1", "h", 1, 0).unwrap();
    assert!(
        claimer.counts().conflicts > conflicts,
        "the confirmation has to conflict"
    );
    // It then claimed again from the start.
    let block = assigned.addresses[0].block.to_string();
    assert_eq!(cluster.affinity("node1", &block), CONFIRMED);
    assert_eq!(cluster.block(&block).unwrap().affinity, Some(host("node1")));
    cluster.check();
}

#[test]
fn line_06_a_claim_that_marks_the_affinity_again_wins_over_a_release() {
    // Steps of the release: pending deletion, block, deletion of the affinity.
    let cluster = small(MemoryOptions::kubernetes());
    let block = cluster.assign_one("node1", "h").block.to_string();
    cluster.release("h");
    let (releaser, other) = (cluster.store.client(), Arc::clone(&cluster));
    interpose(&releaser, 2, move || {
        other.assign("node1", "again", 1, 0).unwrap();
    });
    let report = cluster
        .engine_on(&releaser)
        .release_host_affinities("node1", true, "test")
        .unwrap();
    assert_eq!(report.outcomes[0].2, AffinityRelease::Reclaimed);
    assert_eq!(cluster.affinity("node1", &block), CONFIRMED);
    assert_eq!(cluster.block(&block).unwrap().affinity, Some(host("node1")));
    cluster.check();
}

#[test]
fn line_07_an_address_assigned_before_the_block_is_deleted_survives() {
    for mode in both_modes() {
        for require_empty in [true, false] {
            let cluster = small(mode);
            let block = cluster.assign_one("node1", "h").block.to_string();
            cluster.release("h");
            let (releaser, other) = (cluster.store.client(), Arc::clone(&cluster));
            interpose(&releaser, u64::from(!mode.atomic), move || {
                // The mark, where there is one, must not keep the owner from using its block.
                other.assign("node1", "late", 1, 0).unwrap();
            });
            let engine = cluster.engine_on(&releaser);
            let report = engine
                .release_host_affinities("node1", require_empty, "test")
                .unwrap();
            let outcome = report.outcomes[0].2;
            assert_eq!(cluster.counted("late"), 1);
            let stored = cluster
                .block(&block)
                .expect("a block with an address is never deleted");
            if outcome == AffinityRelease::Released {
                assert!(!require_empty);
                assert_eq!(stored.affinity, None);
                assert_eq!(cluster.affinities("node1"), []);
            } else {
                assert!(
                    matches!(outcome, AffinityRelease::InUse | AffinityRelease::Reclaimed),
                    "{outcome:?}"
                );
                assert_eq!(stored.affinity, Some(host("node1")));
                assert_eq!(cluster.affinity("node1", &block), CONFIRMED);
            }
            cluster.check();
        }
    }
}

/// Every line of table 6.3, written down as it is found, then used.
#[test]
fn line_08_every_state_that_a_crash_can_leave_is_repaired_at_the_next_use() {
    const BLOCK: &str = "10.0.0.0/30";
    let states = [
        None,
        Some(AffinityState::Pending),
        Some(AffinityState::Confirmed),
        Some(AffinityState::PendingDeletion),
    ];
    let blocks = [None, Some(None), Some(Some("node1")), Some(Some("node2"))];
    for mode in both_modes() {
        for state in states {
            for block in blocks {
                let context = format!("affinity {state:?}, block {block:?}");
                let cluster = single(mode);
                if let Some(state) = state {
                    cluster.put_affinity("node1", BLOCK, state);
                }
                if let Some(owner) = block {
                    cluster.put_block(BLOCK, owner);
                    if owner == Some("node2") {
                        cluster.put_affinity("node2", BLOCK, AffinityState::Confirmed);
                        cluster.assign_address("node2", "other", "10.0.0.3").unwrap();
                    }
                }
                let assigned = cluster
                    .assign("node1", "h", 1, 0)
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(assigned.addresses[0].address, ip("10.0.0.0"), "{context}");
                let stored = cluster.block(BLOCK).unwrap();
                if block == Some(Some("node2")) {
                    assert_eq!(stored.affinity, Some(host("node2")), "{context}");
                    assert_eq!(cluster.affinity("node1", BLOCK), None, "{context}");
                } else {
                    assert_eq!(stored.affinity, Some(host("node1")), "{context}");
                    assert_eq!(cluster.affinity("node1", BLOCK), CONFIRMED, "{context}");
                }
                cluster.check();
            }
        }
    }
}

/// The right half of the table: what a release makes of each state. A missing block does not stop it, as in Calico.
#[test]
fn line_08_every_state_can_be_released() {
    const BLOCK: &str = "10.0.0.0/30";
    let states = [
        AffinityState::Pending,
        AffinityState::Confirmed,
        AffinityState::PendingDeletion,
    ];
    for mode in both_modes() {
        for state in states {
            for block in [None, Some(None), Some(Some("node1")), Some(Some("node2"))] {
                let context = format!("affinity {state:?}, block {block:?}");
                let cluster = single(mode);
                cluster.put_affinity("node1", BLOCK, state);
                if let Some(owner) = block {
                    cluster.put_block(BLOCK, owner);
                }
                let report = cluster.engine().remove_host("node1", "test").unwrap();
                let expected = if block == Some(Some("node2")) {
                    AffinityRelease::Stale
                } else {
                    AffinityRelease::Released
                };
                assert_eq!(report.outcomes[0].2, expected, "{context}");
                assert_eq!(cluster.affinities("node1"), [], "{context}");
                assert_eq!(
                    cluster.block(BLOCK).is_some(),
                    block == Some(Some("node2")),
                    "{context}"
                );
            }
        }
    }
}

#[test]
fn line_11_an_empty_block_is_taken_over_after_a_minute_and_not_before() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign_one("node2", "h");
        cluster.release("h");
        // Strict, so that the address cannot just be borrowed.
        cluster.configure(|config| config.strict_affinity = true);
        cluster.clock.advance(Duration::from_secs(59));
        cluster.assign("node1", "h", 1, 0).unwrap_err();
        cluster.clock.advance(Duration::from_secs(1));
        cluster.assign("node1", "h", 1, 0).unwrap();
        assert_eq!(cluster.affinities("node2"), []);
        assert_eq!(cluster.affinity("node1", "10.0.0.0/30"), CONFIRMED);
        cluster.check();
    }
}

#[test]
fn line_11_a_block_in_use_is_never_taken_over() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign_one("node2", "h");
        cluster.configure(|config| config.strict_affinity = true);
        cluster.clock.advance(Duration::from_secs(3600));
        cluster.assign("node1", "g", 1, 0).unwrap_err();
        assert_eq!(cluster.affinity("node2", "10.0.0.0/30"), CONFIRMED);
    }
}

#[test]
fn line_11_a_block_that_is_written_meanwhile_is_not_taken_over() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign_one("node2", "h");
        cluster.release("h");
        cluster.configure(|config| config.strict_affinity = true);
        cluster.clock.advance(Duration::from_secs(61));
        let (taker, other) = (cluster.store.client(), Arc::clone(&cluster));
        interpose(&taker, 0, move || {
            other.assign("node2", "back", 1, 0).unwrap();
            other.release("back");
        });
        // Its sequence number has changed, although it is empty again.
        assign_with(&cluster.engine_on(&taker), "node1", "g", 1, 0).unwrap_err();
        assert_eq!(
            cluster.block("10.0.0.0/30").unwrap().affinity,
            Some(host("node2"))
        );
        cluster.check();
    }
}

#[test]
fn line_11_a_takeover_that_fails_is_an_error_and_no_crash() {
    for mode in both_modes() {
        let cluster = single(mode);
        cluster.assign_one("node2", "h");
        cluster.release("h");
        cluster.clock.advance(Duration::from_secs(61));
        let taker = cluster.store.client();
        taker.plan_faults(FaultPlan::at(0, Fault::Unavailable));
        cluster.configure(|config| config.strict_affinity = true);
        let error = assign_with(&cluster.engine_on(&taker), "node1", "g", 1, 0).unwrap_err();
        assert_eq!(error.class(), ipam::ErrorClass::TryAgain, "{error}");
        cluster.check();
    }
}

#[test]
fn line_12_long_names_with_equal_starts_have_affinities_of_their_own() {
    let names = ["a", "b"].map(|last| format!("{}{last}", "n".repeat(251)));
    let cluster = Cluster::with_pool(
        MemoryOptions::embedded(),
        "10.0.0.0/24",
        26,
        &[&names[0], &names[1]],
    );
    let first = cluster.assign_one(&names[0], "h1");
    let second = cluster.assign_one(&names[1], "h2");
    assert_ne!(first.block, second.block);
    assert_eq!(
        cluster.affinities(&names[0]),
        [(first.block, AffinityState::Confirmed)]
    );
    assert_eq!(
        cluster.affinities(&names[1]),
        [(second.block, AffinityState::Confirmed)]
    );
}

#[test]
fn line_14_an_affinity_without_value_is_a_confirmed_one() {
    for mode in both_modes() {
        for value in ["", "{}", r#"{"state":""}"#] {
            let cluster = single(mode);
            cluster.put_block("10.0.0.0/30", Some("node1"));
            cluster.put_raw(Key::host_affinity("node1", net("10.0.0.0/30")), value);
            let before = cluster.store.counts().writes;
            cluster.assign("node1", "h", 1, 0).unwrap();
            assert_eq!(
                cluster.store.counts().writes - before,
                2,
                "block and handle only: nothing to repair"
            );
            cluster.release("h");
            let report = cluster
                .engine()
                .release_host_affinities("node1", true, "test")
                .unwrap();
            assert_eq!(report.outcomes[0].2, AffinityRelease::Released);
        }
    }
}

/// Not a line of its own: what the fix of Calico's "confirmed affinity whose block is missing" rests on.
#[test]
fn a_release_works_when_only_the_address_is_known() {
    for mode in both_modes() {
        let cluster = small(mode);
        let assigned = cluster.assign_one("node1", "h");
        cluster.delete(&Key::Handle("h".to_owned()));
        let options = [ReleaseOption::unconditional(assigned.address)];
        let report = cluster
            .engine()
            .release_addresses(&options, "test", None)
            .unwrap();
        assert_eq!(report.released, [assigned.address]);
        assert_eq!(cluster.store.get(&Key::Handle("h".to_owned())).unwrap(), None);
    }
}
