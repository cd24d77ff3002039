// SPDX-License-Identifier: Apache-2.0
//! Many hosts and many processes at once, on real threads: section 11, lines 1, 2 and 37.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use datastore::{MemoryOptions, MemoryStore, Store};
use ipam::{Clock, Engine, HandleSearch, NoHostNetwork, ignore_notices};
use model::{AffinityState, BlockAffinity, IpamBlock, Key, KeyRange, Timestamp};
use support::*;

/// The real clocks, and a back-off that grows.
struct RealClock {
    started: Instant,
    seed: u64,
}

impl RealClock {
    fn new(seed: u64) -> Self {
        Self {
            started: Instant::now(),
            seed,
        }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn back_off(&self, attempt: u32) {
        let spread = (self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (attempt % 50)) % 100;
        thread::sleep(Duration::from_micros((50 + spread) * u64::from(attempt.min(40))));
    }
}

/// Runs `work` on as many threads, all starting at once, each with a client of its own.
fn at_once(store: &MemoryStore, threads: usize, work: impl Fn(usize, &Engine<'_>) + Sync) {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        for index in 0..threads {
            let (client, barrier, work) = (store.client(), &barrier, &work);
            scope.spawn(move || {
                let clock = RealClock::new(index as u64 + 1);
                let engine = Engine {
                    store: &client,
                    clock: &clock,
                    host: &NoHostNetwork,
                    notices: &ignore_notices,
                };
                barrier.wait();
                work(index, &engine);
            });
        }
    });
}

/// Every affinity is confirmed and its block agrees.
fn confirmed(store: &dyn Store) -> BTreeMap<ipnet::IpNet, String> {
    let mut owners = BTreeMap::new();
    for entry in store.list(&KeyRange::HostAffinities).unwrap().entries {
        let Key::Affinity { owner, block } = entry.key else {
            panic!("{}", entry.key)
        };
        assert_eq!(
            BlockAffinity::from_stored(&entry.value).unwrap().state,
            AffinityState::Confirmed,
            "{block}"
        );
        let stored: IpamBlock = store.get(&Key::Block(block)).unwrap().unwrap().decode().unwrap();
        assert_eq!(stored.affinity.as_ref(), Some(&owner), "{block}");
        assert_eq!(
            owners.insert(block, owner.to_string()),
            None,
            "{block} is claimed twice"
        );
    }
    owners
}

#[test]
fn line_01_thirty_two_hosts_race_for_sixteen_blocks() {
    for mode in both_modes() {
        let names: Vec<String> = (0..32).map(|index| format!("host{index}")).collect();
        let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 28, &nodes);
        at_once(&cluster.store, 32, |index, engine| {
            let assignment = assign_with(engine, nodes[index], &format!("h{index}"), 1, 0).unwrap();
            assert_eq!(assignment.addresses.len(), 1);
        });
        let addresses: BTreeSet<IpAddr> = (0..32)
            .flat_map(|index| held(&cluster, &format!("h{index}")))
            .collect();
        assert_eq!(addresses.len(), 32, "an address was given out twice");
        assert_eq!(confirmed(&cluster.store).len(), 16);
        cluster.check();
    }
}

fn held(cluster: &Cluster, handle: &str) -> Vec<IpAddr> {
    let found = cluster
        .engine()
        .allocations_by_handle(handle, HandleSearch::Thorough)
        .unwrap();
    found
        .iter()
        .map(|allocation| allocation.assigned.address)
        .collect()
}

#[test]
fn line_02_many_assignments_of_one_host_at_once() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/16", 26, &["node1"]);
        at_once(&cluster.store, 32, |index, engine| {
            for round in 0..4 {
                assign_with(engine, "node1", &format!("h{index}-{round}"), 1, 0).unwrap();
            }
        });
        let all = (0..32).flat_map(|index| (0..4).map(move |round| format!("h{index}-{round}")));
        let addresses: BTreeSet<IpAddr> = all.flat_map(|handle| held(&cluster, &handle)).collect();
        assert_eq!(addresses.len(), 128);
        let blocks = confirmed(&cluster.store).len();
        assert!(
            (2..=4).contains(&blocks),
            "128 addresses took {blocks} blocks of 64"
        );
        cluster.check();
    }
}

/// Starts and ends of containers on several hosts, borrowing from each other, until nothing is left.
fn churn(store: &MemoryStore, hosts: &[&str], rounds: usize) {
    at_once(store, hosts.len() * 2, |index, engine| {
        let node = hosts[index % hosts.len()];
        for round in 0..rounds {
            let handle = format!("h{index}-{}", round % 3);
            if let Err(error) = assign_with(engine, node, &handle, 2, 0) {
                assert!(error.to_string().contains("No Free Blocks"), "{error}");
            }
            if round % 3 == 2 {
                for old in 0..3 {
                    release_with(engine, &format!("h{index}-{old}")).unwrap();
                }
            }
        }
        for old in 0..3 {
            release_with(engine, &format!("h{index}-{old}")).unwrap();
        }
    });
}

#[test]
fn churn_on_several_hosts_leaves_nothing_behind() {
    for mode in both_modes() {
        let hosts = ["n0", "n1", "n2", "n3"];
        let cluster = Cluster::with_pool(mode, "10.0.0.0/26", 29, &hosts);
        churn(&cluster.store, &hosts, 60);
        cluster.check();
        assert_eq!(cluster.store.list(&KeyRange::Handles).unwrap().entries, []);
        let mut free = 0;
        for entry in cluster
            .store
            .list(&KeyRange::Blocks { v6: false })
            .unwrap()
            .entries
        {
            let block: IpamBlock = entry.decode().unwrap();
            assert_eq!(block.unallocated.len(), 8, "{}", entry.value);
            free += 8;
        }
        assert!(free <= 64);
        for host in hosts {
            cluster
                .engine()
                .release_host_affinities(host, true, "test")
                .unwrap();
        }
        assert_eq!(
            cluster
                .store
                .list(&KeyRange::Blocks { v6: false })
                .unwrap()
                .entries
                .len(),
            0
        );
    }
}

/// A thousand nodes take their first and second address; what each costs does not depend on how many there are,
/// beyond one list of the blocks when one is claimed.
#[test]
fn line_37_a_thousand_nodes() {
    let cluster = Cluster::new(MemoryOptions::embedded());
    cluster.put_pool("pool", pool("10.0.0.0/16"));
    let mut costs = Vec::new();
    for index in 0..1000 {
        let node = format!("node{index}");
        cluster.put_node(&node, &[]);
        let before = cluster.store.counts();
        cluster.assign_one(&node, &format!("a{index}"));
        let claimed = cluster.store.counts();
        cluster.assign_one(&node, &format!("b{index}"));
        let after = cluster.store.counts();
        let work = |from: &datastore::memory::Counts, to: &datastore::memory::Counts| {
            (
                to.gets + to.lists - from.gets - from.lists,
                to.commits - from.commits,
            )
        };
        costs.push((work(&before, &claimed), work(&claimed, &after)));
    }
    assert_eq!(costs[0], costs[999]);
    assert_eq!(confirmed(&cluster.store).len(), 1000);
}
