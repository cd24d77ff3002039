// SPDX-License-Identifier: Apache-2.0
//! The model test: random operations of several hosts on one store, with crashes between writes, conflicts, lost
//! replies and whole operations of other hosts in the middle of an operation. After every operation, and before
//! every one that comes in between, what has changed in the store is compared with a reference (`reference.rs`).
//!
//! Each test prints its seed. `IPAM_MODEL_SEED` replays one; `IPAM_MODEL_OPERATIONS` sets how many operations each of
//! the four tests runs (default 55 000); `IPAM_MODEL_TRACE=1` prints every write and operation.

#[path = "../support/mod.rs"]
mod support;

mod operations;
mod random;
mod reference;
mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use datastore::MemoryOptions;
use world::World;

const DEFAULT_OPERATIONS: u64 = 55_000;

/// Operations between two checks that everything can still be released and assigned.
const CONVERGE_EVERY: u64 = 2_500;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}: {text:?} is not a number")),
    )
}

fn run(name: &str, options: MemoryOptions, cooldown: u32) {
    let clock_seed = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() ^ u64::from(now.subsec_nanos())
    };
    let seed = number("IPAM_MODEL_SEED").unwrap_or_else(clock_seed);
    let operations = number("IPAM_MODEL_OPERATIONS").unwrap_or(DEFAULT_OPERATIONS);
    println!("{name}: IPAM_MODEL_SEED={seed} IPAM_MODEL_OPERATIONS={operations}");
    let world = World::new(options, cooldown, seed);
    for count in 1..=operations {
        world.step();
        if count % CONVERGE_EVERY == 0 || count == operations {
            world.check_everything();
            world.check_convergence();
        }
    }
    println!("{name}: {}", world.summary());
}

/// As the embedded store: transactions and an index.
#[test]
fn with_transactions_and_index() {
    run("with_transactions_and_index", MemoryOptions::embedded(), 0);
}

/// As etcd: transactions, no index.
#[test]
fn with_transactions_without_index() {
    let options = MemoryOptions {
        hints: false,
        ..MemoryOptions::embedded()
    };
    run("with_transactions_without_index", options, 0);
}

/// As Kubernetes: write by write.
#[test]
fn without_transactions() {
    run("without_transactions", MemoryOptions::kubernetes(), 0);
}

/// Released addresses rest for a while.
#[test]
fn with_cooldown() {
    run("with_cooldown", MemoryOptions::embedded(), 5);
}
