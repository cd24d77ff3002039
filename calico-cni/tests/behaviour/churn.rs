// SPDX-License-Identifier: Apache-2.0
//! Runtimes that add, check and delete beside each other, while plugins are killed at random and GC runs: at every moment
//! an address is one container's, and what is given back is free.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::IpAddr,
    process::Command,
    sync::Mutex,
    thread::{self, ScopedJoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::host::{Answer, Host, Namespace, address, is_root};

const RUNTIMES: u64 = 8;
const STEPS: usize = 6;
/// So many containers of each runtime live at once, at most.
const LIVING: usize = 3;
/// As many steps as ADD has between which it can kill itself.
const KILL_AT: u64 = 4;
/// Microseconds, about as many as a verb takes.
const KILL_WITHIN: u64 = 40_000;

/// Numbers that look random (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Who has which address, as the runtimes were told.
type Held = Mutex<BTreeMap<String, String>>;

struct Container {
    id: String,
    namespace: Namespace,
    result: Value,
}

struct Runtime<'a> {
    host: &'a Host,
    config: Value,
    held: &'a Held,
    random: Random,
    name: u64,
    living: Vec<Container>,
    /// All IDs there ever were, with what is left of their namespaces.
    all: Vec<(String, String)>,
}

impl Runtime<'_> {
    /// Runs a verb, which half of the time is killed: between two steps, or at any moment.
    fn run(&mut self, verb: &str, id: &str, path: &str) -> Answer {
        let step = u32::try_from(self.random.below(KILL_AT) + 1).expect("a small number");
        let moment = Duration::from_micros(self.random.below(KILL_WITHIN));
        match self.random.below(4) {
            0 => self.host.run(verb, id, Some(path), &self.config, step),
            1 => self.run_for(moment, self.host.command(verb, id, Some(path), 0)),
            _ => self.host.run(verb, id, Some(path), &self.config, 0),
        }
    }

    /// Runs a prepared command, and kills it if it takes longer.
    fn run_for(&self, time: Duration, mut command: Command) -> Answer {
        let mut child = command.spawn().expect("the program starts");
        let mut input = child.stdin.take().expect("piped");
        let _ = input.write_all(self.config.to_string().as_bytes());
        drop(input);
        thread::sleep(time);
        // It may have ended by itself.
        let _ = child.kill();
        let output = child.wait_with_output().expect("the program ends");
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { output, json }
    }

    fn add(&mut self) {
        let id = format!("r{}-{}", self.name, self.all.len());
        let namespace = Namespace::new("c");
        let path = namespace.path();
        self.all.push((id.clone(), path.clone()));
        let answer = self.run("ADD", &id, &path);
        if answer.killed() && self.random.below(2) == 0 {
            // A runtime that gives up on the sandbox.
            self.host.run("DEL", &id, Some(&path), &self.config, 0).ok();
            return;
        }
        let result = if answer.killed() {
            self.host.run("ADD", &id, Some(&path), &self.config, 0).ok()
        } else {
            answer.ok()
        };
        let address = address(&result);
        let before = self.held.lock().unwrap().insert(address.clone(), id.clone());
        assert_eq!(before, None, "{address} is given to {id} too");
        self.living.push(Container {
            id,
            namespace,
            result,
        });
    }

    fn check(&mut self) {
        for container in &self.living {
            let mut config = self.config.clone();
            config["prevResult"] = container.result.clone();
            let path = container.namespace.path();
            self.host
                .run("CHECK", &container.id, Some(&path), &config, 0)
                .ok();
        }
    }

    fn del(&mut self) {
        let count = u64::try_from(self.living.len()).expect("a few");
        let index = usize::try_from(self.random.below(count)).expect("a few");
        let Container {
            id,
            namespace,
            result,
        } = self.living.swap_remove(index);
        self.held.lock().unwrap().remove(&address(&result));
        let path = namespace.path();
        let answer = self.run("DEL", &id, &path);
        if answer.killed() {
            self.host.run("DEL", &id, Some(&path), &self.config, 0).ok();
        } else {
            answer.ok();
        }
    }

    fn work(&mut self) {
        for _ in 0..STEPS {
            match (self.living.len(), self.random.below(8)) {
                (0, _) => self.add(),
                (LIVING, _) | (_, 4..6) => self.del(),
                (_, 0..4) => self.add(),
                _ => self.check(),
            }
        }
    }
}

/// GC to which nothing is valid. What is young it leaves alone, also an ADD that has its address and no interface yet.
fn collect(host: &Host) {
    let mut config = host.config(true);
    config["cni.dev/valid-attachments"] = json!([]);
    config["gc_minimum_age_seconds"] = json!(300);
    host.run("GC", "", None, &config, 0).ok();
}

#[test]
fn an_address_is_one_containers_at_every_moment() {
    if !is_root() {
        return;
    }
    let given = std::env::var("CALICO_TEST_SEED").ok();
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let seed = given.map_or_else(
        || clock().as_secs(),
        |seed| seed.parse().expect("CALICO_TEST_SEED is a number"),
    );
    println!("CALICO_TEST_SEED={seed}");
    let (host, held) = (Host::new(), Held::default());
    let mut runtimes: Vec<Runtime<'_>> = (0..RUNTIMES)
        .map(|name| Runtime {
            host: &host,
            config: host.config(true),
            held: &held,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(name + 1) | 1),
            name,
            living: Vec::new(),
            all: Vec::new(),
        })
        .collect();
    thread::scope(|scope| {
        let workers: Vec<_> = runtimes
            .iter_mut()
            .map(|runtime| scope.spawn(|| runtime.work()))
            .collect();
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            collect(&host);
        }
    });
    let stored: BTreeSet<String> = host
        .store_state()
        .into_iter()
        .filter(|found| found.parse().is_ok_and(|address: IpAddr| address.is_ipv4()))
        .collect();
    let held: BTreeSet<String> = held.lock().unwrap().keys().cloned().collect();
    assert_eq!(stored, held, "allocated is what the runtimes were told");
    for runtime in &mut runtimes {
        runtime.check();
    }
    for (id, path) in runtimes.iter().flat_map(|runtime| &runtime.all) {
        host.run("DEL", id, Some(path), &host.config(true), 0).ok();
    }
    host.assert_clean("after DEL of all");
}
