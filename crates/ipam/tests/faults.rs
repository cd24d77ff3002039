// SPDX-License-Identifier: Apache-2.0
//! Every operation, cut off or disturbed at every one of its writes, in stores with and without transactions. After
//! each: what is stored is sound, an operation that was not cut off has done all or nothing, and from there
//! everything can be released and assigned again, until nothing is left. (Section 11, lines 8 and 42.)

mod support;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use datastore::{
    MemoryOptions, MemoryStore, Store, Write,
    memory::{Fault, FaultPlan, Step},
};
use ipam::{AdoptRequest, Engine, HandleSearch, ReleaseOption};
use model::{Key, LocalTable};
use support::*;

/// What an operation is to have done: addresses under handle `h` before, after success, after failure.
struct Scenario {
    name: &'static str,
    set_up: fn(&Cluster),
    run: fn(&Engine<'_>) -> Result<(), String>,
    before: usize,
    after: usize,
    /// Whether a companion record exists before and after.
    record: (bool, bool),
}

fn record() -> Key {
    Key::local(LocalTable::Attachment, "node1/net/h/eth0")
}

fn text<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(|_| ()).map_err(|error| error.to_string())
}

fn create_record(assigned: &[ipam::Assigned]) -> Vec<Write> {
    let addresses: Vec<String> = assigned
        .iter()
        .map(|assigned| assigned.address.to_string())
        .collect();
    vec![Write::create(record(), &addresses)]
}

/// Deletes the companion record if it is there.
fn delete_record(engine: &Engine<'_>) -> Vec<Write> {
    let entry = engine.store.get(&record()).ok().flatten();
    entry
        .map(|entry| Write::Delete {
            key: record(),
            revision: entry.revision,
        })
        .into_iter()
        .collect()
}

fn assign(engine: &Engine<'_>, v4: u32, v6: u32) -> Result<(), String> {
    text(engine.auto_assign(&request("node1", "h", v4, v6), &mut create_record))
}

fn two_addresses(cluster: &Cluster) {
    assign(&cluster.engine(), 1, 1).unwrap();
    cluster.assign("node1", "other", 1, 1).unwrap();
}

const PLAIN: Scenario = Scenario {
    name: "",
    set_up: |_| {},
    run: |_| Ok(()),
    before: 0,
    after: 0,
    record: (false, false),
};

fn assignments() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "claim and assign, both versions",
            run: |engine| assign(engine, 1, 1),
            after: 2,
            record: (false, true),
            ..PLAIN
        },
        Scenario {
            name: "assign from blocks at hand",
            set_up: |cluster| {
                cluster.assign("node1", "other", 1, 1).unwrap();
            },
            run: |engine| assign(engine, 1, 1),
            after: 2,
            record: (false, true),
            ..PLAIN
        },
        Scenario {
            name: "assign over several blocks",
            set_up: |cluster| {
                cluster.assign("node2", "other", 2, 0).unwrap();
            },
            run: |engine| assign(engine, 7, 2),
            after: 9,
            record: (false, true),
            ..PLAIN
        },
        Scenario {
            name: "assign a given address",
            run: |engine| {
                text(engine.assign_specific(
                    &specific("node1", "h", &["10.0.0.5", "fd00::6"]),
                    &mut create_record,
                ))
            },
            after: 2,
            record: (false, true),
            ..PLAIN
        },
        Scenario {
            name: "take over an empty block",
            set_up: |cluster| {
                cluster.assign("node2", "h", 8, 0).unwrap();
                cluster.assign("node1", "other", 8, 0).unwrap();
                cluster.release("h");
                cluster.clock.advance(Duration::from_secs(61));
                cluster.configure(|config| config.strict_affinity = true);
            },
            run: |engine| assign(engine, 1, 0),
            after: 1,
            record: (false, true),
            ..PLAIN
        },
        Scenario {
            name: "adopt",
            set_up: |cluster| {
                cluster.assign_address("node2", "other", "10.0.0.9").unwrap();
            },
            run: |engine| {
                let request = AdoptRequest {
                    node: "node1".to_owned(),
                    handle: "h".to_owned(),
                    attributes: BTreeMap::new(),
                    addresses: vec![ip("10.0.0.9"), ip("fd00::5")],
                    replace: true,
                    cause: "test".to_owned(),
                };
                text(engine.adopt(&request, &mut create_record))
            },
            after: 2,
            record: (false, true),
            ..PLAIN
        },
    ]
}

fn releases() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "release by handle",
            set_up: two_addresses,
            run: |engine| {
                let companions = &mut |_: &[IpAddr]| delete_record(engine);
                text(engine.release_by_handle("h", HandleSearch::Listed, "test", companions))
            },
            before: 2,
            record: (true, false),
            ..PLAIN
        },
        Scenario {
            name: "release addresses together",
            set_up: two_addresses,
            run: |engine| {
                let held = engine
                    .allocations_by_handle("h", HandleSearch::Listed)
                    .map_err(|error| error.to_string())?;
                let option = |allocation: &ipam::Allocation| ReleaseOption {
                    address: allocation.assigned.address,
                    handle: Some("h".to_owned()),
                    sequence: Some(allocation.assigned.sequence),
                };
                let options: Vec<ReleaseOption> = held.iter().map(option).collect();
                let companions = &mut |_: &[IpAddr]| delete_record(engine);
                let report = engine.release_addresses(&options, "test", Some(companions));
                if let Ok(report) = &report {
                    assert!(
                        report.refused.is_empty() && report.released.len() == 2,
                        "{report:?}"
                    );
                }
                text(report)
            },
            before: 2,
            record: (true, false),
            ..PLAIN
        },
        Scenario {
            name: "release the last address of nobody's block",
            set_up: |cluster| {
                assign(&cluster.engine(), 1, 0).unwrap();
                cluster.engine().remove_host("node1", "test").unwrap();
            },
            run: |engine| {
                let companions = &mut |_: &[IpAddr]| delete_record(engine);
                text(engine.release_by_handle("h", HandleSearch::Listed, "test", companions))
            },
            before: 1,
            record: (true, false),
            ..PLAIN
        },
    ]
}

fn world(mode: MemoryOptions) -> Cluster {
    let cluster = Cluster::with_pool(mode, "10.0.0.0/28", 30, &["node1", "node2"]);
    let mut v6 = pool("fd00::/124");
    v6.block_size = Some(126);
    cluster.put_pool("v6", v6);
    cluster
}

/// Sets the fault and says afterwards whether it came to it.
fn arm(client: &MemoryStore, at: u64, fault: Fault) -> Arc<AtomicBool> {
    let hit = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&hit);
    client.plan_faults(FaultPlan::from_fn(move |step| match step {
        Step::Write { number, .. } if *number == at => {
            flag.store(true, Ordering::SeqCst);
            Some(fault)
        }
        _ => None,
    }));
    hit
}

#[test]
fn every_operation_survives_every_fault_at_every_write() {
    let faults = [
        Fault::Crash { applied: false },
        Fault::Crash { applied: true },
        Fault::LostReply { applied: false },
        Fault::LostReply { applied: true },
        Fault::Unavailable,
        Fault::Conflict { write: 0 },
        Fault::Conflict { write: 1 },
        Fault::Conflict { write: 2 },
    ];
    let mut cases = 0;
    for mode in both_modes() {
        for scenario in assignments().into_iter().chain(releases()) {
            for fault in faults {
                for at in 0.. {
                    let context = format!(
                        "{}, {fault:?} at write {at}, atomic: {}",
                        scenario.name, mode.atomic
                    );
                    if !survives(mode, &scenario, fault, at, &context) {
                        assert!(at > 0, "{context}: no write at all");
                        break;
                    }
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases");
    assert!(cases > 300, "only {cases} cases: the scenarios write too little");
}

/// One case; `false` if the operation has no such write.
fn survives(mode: MemoryOptions, scenario: &Scenario, fault: Fault, at: u64, context: &str) -> bool {
    let cluster = world(mode);
    (scenario.set_up)(&cluster);
    let client = cluster.store.client();
    let hit = arm(&client, at, fault);
    let result = (scenario.run)(&cluster.engine_on(&client));
    if !hit.load(Ordering::SeqCst) {
        assert_eq!(result, Ok(()), "{context}");
        return false;
    }
    let found = defects(&cluster.store.snapshot());
    assert!(found.is_empty(), "{context}: {found:?}");
    let held = cluster
        .engine()
        .allocations_by_handle("h", HandleSearch::Thorough)
        .unwrap()
        .len();
    let recorded = cluster.store.get(&record()).unwrap().is_some();
    let crashed = client.crashed();
    if !crashed {
        let expected = match &result {
            Ok(()) => (scenario.after, scenario.record.1),
            Err(_) => (scenario.before, scenario.record.0),
        };
        // A release that failed half-way in a store without transactions stays half done, to be repeated.
        let halfway = result.is_err() && !mode.atomic && scenario.before > 0;
        assert!(
            halfway || (held, recorded) == expected,
            "{context}: {held}, {recorded} after {result:?}"
        );
        // Only losing the store, or somebody else changing the caller's own record, makes an operation fail.
        let companion =
            |error: &String| error.contains("/attachment/") && matches!(fault, Fault::Conflict { .. });
        let expected = fault == Fault::Unavailable || result.as_ref().err().is_none_or(companion);
        assert!(expected, "{context}: {result:?}");
    } else if mode.atomic {
        let whole = [
            (scenario.before, scenario.record.0),
            (scenario.after, scenario.record.1),
        ];
        assert!(
            whole.contains(&(held, recorded)),
            "{context}: {held}, {recorded}: half done"
        );
    }
    // What the runtime does after a failure, and after a crash: release. A repeated release finds its record.
    client.plan_faults(FaultPlan::none());
    client.restart();
    let engine = cluster.engine();
    let companions = &mut |_: &[IpAddr]| delete_record(&engine);
    engine
        .release_by_handle("h", HandleSearch::Listed, "test", companions)
        .unwrap();
    assert_eq!(cluster.handle("h"), None, "{context}");
    assert_eq!(cluster.store.get(&record()).unwrap(), None, "{context}");
    let left = engine.allocations_by_handle("h", HandleSearch::Thorough).unwrap();
    assert!(left.is_empty(), "{context}: {left:?}");
    converge(&cluster, context);
    true
}

/// Everything can be released; then node1 gets every address; then nothing is left.
fn converge(cluster: &Cluster, context: &str) {
    cluster.release("other");
    cluster.clock.advance(Duration::from_secs(61));
    cluster.configure(|config| config.strict_affinity = true);
    let mut all = request("node1", "all", 100, 100);
    all.all_or_nothing = false;
    let assigned = cluster
        .engine()
        .auto_assign(&all, &mut no_writes)
        .unwrap()
        .addresses;
    assert_eq!(assigned.len(), 32, "{context}: addresses are lost");
    cluster.release("all");
    for node in ["node1", "node2"] {
        cluster
            .engine()
            .release_host_affinities(node, true, "test")
            .unwrap();
    }
    for (key, _, value) in cluster.store.snapshot().iter() {
        let stays = matches!(key, Key::Resource { .. } | Key::IpamConfig);
        assert!(stays, "{context}: {key} is left: {value}");
    }
}

/// The same for claims and releases of affinities, whose outcome is a state of the pair.
#[test]
fn affinities_survive_every_fault_at_every_write() {
    let faults = [
        Fault::Crash { applied: false },
        Fault::Crash { applied: true },
        Fault::LostReply { applied: false },
        Fault::LostReply { applied: true },
        Fault::Unavailable,
        Fault::Conflict { write: 0 },
        Fault::Conflict { write: 1 },
    ];
    for mode in both_modes() {
        for release in [false, true] {
            for in_use in [false, true] {
                for fault in faults {
                    for at in 0.. {
                        let context = format!(
                            "release {release}, in use {in_use}, {fault:?} at {at}, {}",
                            mode.atomic
                        );
                        let cluster = world(mode);
                        if in_use || release {
                            cluster.assign_address("node1", "other", "10.0.0.5").unwrap();
                        }
                        if release && !in_use {
                            cluster.release("other");
                        }
                        let client = cluster.store.client();
                        let hit = arm(&client, at, fault);
                        let engine = cluster.engine_on(&client);
                        let result = if release {
                            text(engine.remove_host("node1", "test"))
                        } else {
                            text(engine.claim_affinities(&host("node1"), net("10.0.0.0/28"), "test"))
                        };
                        if !hit.load(Ordering::SeqCst) {
                            assert_eq!(result, Ok(()), "{context}");
                            break;
                        }
                        let found = defects(&cluster.store.snapshot());
                        assert!(found.is_empty(), "{context}: {found:?}");
                        client.plan_faults(FaultPlan::none());
                        client.restart();
                        converge(&cluster, &context);
                    }
                }
            }
        }
    }
}
