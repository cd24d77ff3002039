// SPDX-License-Identifier: Apache-2.0
//! Many runtimes at once, and plugins that are killed at random: no address is ever two containers'.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::host::{Host, Namespace, address, is_root};

const RUNTIMES: u64 = 8;
const ROUNDS: u64 = 8;

/// The next of a sequence that looks random (xorshift64).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn killed_at_random_nothing_is_given_twice_or_lost() {
    if !is_root() {
        return;
    }
    let seed = std::env::var("CALICO_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = seed.unwrap_or_else(clock);
    println!("CALICO_TEST_SEED={seed}");
    let host = Host::new();
    let held: Mutex<BTreeMap<String, String>> = Mutex::default();
    thread::scope(|scope| {
        for runtime in 0..RUNTIMES {
            let (host, held) = (&host, &held);
            scope.spawn(move || runtime_at_work(host, held, runtime, seed));
        }
    });
    host.assert_clean("after the last DEL");
}

fn runtime_at_work(host: &Host, held: &Mutex<BTreeMap<String, String>>, runtime: u64, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(runtime + 1) | 1;
    let config = host.config(true);
    for round in 0..ROUNDS {
        let container = Namespace::new("c");
        let id = format!("r{runtime}-{round}");
        let mut kill = || u32::try_from(next(&mut state) % 20).unwrap();
        let answer = host.run("ADD", &id, Some(&container.path()), &config, kill());
        let result = if answer.killed() {
            host.run("ADD", &id, Some(&container.path()), &config, 0).ok()
        } else {
            answer.ok()
        };
        let address = address(&result);
        let before = held.lock().unwrap().insert(address.clone(), id.clone());
        assert_eq!(before, None, "{address} is given to {id} too");
        let again = host.run("ADD", &id, Some(&container.path()), &config, 0).ok();
        assert_eq!(again, result, "the same container keeps its address");
        held.lock().unwrap().remove(&address);
        host.run("DEL", &id, Some(&container.path()), &config, kill());
        host.run("DEL", &id, Some(&container.path()), &config, 0).ok();
    }
}
