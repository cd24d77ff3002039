// SPDX-License-Identifier: Apache-2.0
//! Many hosts and many processes at once, on real threads: section 11, lines 1, 2 and 37. On a store in memory with
//! and without transactions, and on the embedded store, where every thread opens the file for itself as a process
//! would.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use datastore::{
    Batch, EmbeddedStore, MemoryOptions, MemoryStore, OpenOptions, Store, Write, memory::Counts,
};
use ipam::{Clock, Engine, HandleSearch, NoHostNetwork, ignore_notices};
use ipnet::IpNet;
use model::{AffinityState, BlockAffinity, IpamBlock, Key, KeyRange, Timestamp};
use support::*;
use tempfile::TempDir;

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

/// A store that any number of clients can open.
enum Place {
    Memory(MemoryStore),
    Embedded(TempDir),
}

impl Place {
    /// One of each kind, with the content of `cluster`.
    fn all(cluster: impl Fn() -> Cluster) -> Vec<Self> {
        let memory = both_modes().map(|mode| Self::Memory(MemoryStore::new(mode)));
        let embedded = Self::Embedded(tempfile::tempdir().unwrap());
        let places: Vec<Self> = memory.into_iter().chain([embedded]).collect();
        for place in &places {
            copy(&cluster().store, place.open().as_ref());
        }
        places
    }

    fn open(&self) -> Box<dyn Store> {
        match self {
            Self::Memory(store) => Box::new(store.client()),
            Self::Embedded(folder) => {
                let options = OpenOptions {
                    any_file_system: true,
                    ..OpenOptions::default()
                };
                Box::new(
                    EmbeddedStore::open(&folder.path().join("node.db"), options)
                        .unwrap()
                        .store,
                )
            }
        }
    }

    /// A copy in memory, to be examined.
    fn examine(&self) -> Cluster {
        let cluster = Cluster::new(MemoryOptions::embedded());
        copy(self.open().as_ref(), &cluster.store);
        cluster.check();
        cluster
    }

    /// Runs `work` on as many threads, all starting at once, each with a client of its own.
    fn at_once(&self, threads: usize, work: impl Fn(usize, &Engine<'_>) + Sync) {
        let barrier = Barrier::new(threads);
        thread::scope(|scope| {
            for index in 0..threads {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    let clock = RealClock::new(index as u64 + 1);
                    let client = self.open();
                    let engine = Engine {
                        store: client.as_ref(),
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
}

fn copy(from: &dyn Store, to: &dyn Store) {
    for entry in from.list(&KeyRange::Everything).unwrap().entries {
        let (key, value) = (entry.key, entry.value);
        let batch = Batch {
            writes: vec![Write::Create { key, value }],
            ..Batch::default()
        };
        to.commit(&batch).unwrap();
    }
}

/// Every affinity is confirmed and its block agrees.
fn confirmed(cluster: &Cluster) -> BTreeMap<IpNet, String> {
    let mut owners = BTreeMap::new();
    for entry in cluster.store.list(&KeyRange::HostAffinities).unwrap().entries {
        let Key::Affinity { owner, block } = entry.key else {
            panic!("{}", entry.key)
        };
        let state = BlockAffinity::from_stored(&entry.value).unwrap().state;
        assert_eq!(state, AffinityState::Confirmed, "{block}");
        assert_eq!(
            cluster.block(&block.to_string()).unwrap().affinity.as_ref(),
            Some(&owner)
        );
        assert_eq!(
            owners.insert(block, owner.to_string()),
            None,
            "{block} is claimed twice"
        );
    }
    owners
}

fn held(cluster: &Cluster, handle: &str) -> Vec<IpAddr> {
    let found = cluster
        .engine()
        .allocations_by_handle(handle, HandleSearch::Thorough);
    found
        .unwrap()
        .iter()
        .map(|allocation| allocation.assigned.address)
        .collect()
}

#[test]
fn line_01_thirty_two_hosts_race_for_sixteen_blocks() {
    let names: Vec<String> = (0..32).map(|index| format!("host{index}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let cluster = || Cluster::with_pool(MemoryOptions::embedded(), "10.0.0.0/24", 28, &nodes);
    for place in Place::all(cluster) {
        place.at_once(32, |index, engine| {
            let assignment = assign_with(engine, nodes[index], &format!("h{index}"), 1, 0).unwrap();
            assert_eq!(assignment.addresses.len(), 1);
        });
        let cluster = place.examine();
        let addresses = (0..32).flat_map(|index| held(&cluster, &format!("h{index}")));
        assert_eq!(
            addresses.collect::<BTreeSet<IpAddr>>().len(),
            32,
            "an address was given out twice"
        );
        assert_eq!(confirmed(&cluster).len(), 16);
    }
}

#[test]
fn line_02_many_assignments_of_one_host_at_once() {
    let cluster = || Cluster::with_pool(MemoryOptions::embedded(), "10.0.0.0/16", 26, &["node1"]);
    for place in Place::all(cluster) {
        place.at_once(32, |index, engine| {
            for round in 0..4 {
                assign_with(engine, "node1", &format!("h{index}-{round}"), 1, 0).unwrap();
            }
        });
        let cluster = place.examine();
        let all = (0..32).flat_map(|index| (0..4).map(move |round| format!("h{index}-{round}")));
        let addresses: BTreeSet<IpAddr> = all.flat_map(|handle| held(&cluster, &handle)).collect();
        assert_eq!(addresses.len(), 128);
        let blocks = confirmed(&cluster).len();
        assert!(
            (2..=4).contains(&blocks),
            "128 addresses took {blocks} blocks of 64"
        );
    }
}

/// Starts and ends of containers on several hosts, borrowing from each other, until nothing is left.
#[test]
fn churn_on_several_hosts_leaves_nothing_behind() {
    let hosts = ["n0", "n1", "n2", "n3"];
    let cluster = || Cluster::with_pool(MemoryOptions::embedded(), "10.0.0.0/26", 29, &hosts);
    for place in Place::all(cluster) {
        place.at_once(hosts.len() * 2, |index, engine| {
            let release_all = || {
                for old in 0..3 {
                    release_with(engine, &format!("h{index}-{old}")).unwrap();
                }
            };
            for round in 0..60 {
                let handle = format!("h{index}-{}", round % 3);
                if let Err(error) = assign_with(engine, hosts[index % hosts.len()], &handle, 2, 0) {
                    assert!(error.to_string().contains("No Free Blocks"), "{error}");
                }
                if round % 3 == 2 {
                    release_all();
                }
            }
            release_all();
        });
        let cluster = place.examine();
        let blocks = || {
            cluster
                .store
                .list(&KeyRange::Blocks { v6: false })
                .unwrap()
                .entries
        };
        assert_eq!(cluster.store.list(&KeyRange::Handles).unwrap().entries, []);
        for entry in blocks() {
            assert_eq!(
                entry.decode::<IpamBlock>().unwrap().unallocated.len(),
                8,
                "{}",
                entry.value
            );
        }
        for host in hosts {
            cluster
                .engine()
                .release_host_affinities(host, true, "test")
                .unwrap();
        }
        assert_eq!(blocks(), []);
    }
}

/// A thousand nodes take their first and second address; what each costs does not depend on how many there are,
/// beyond one list of the blocks when one is claimed.
#[test]
fn line_37_a_thousand_nodes() {
    let cluster = Cluster::new(MemoryOptions::embedded());
    cluster.put_pool("pool", pool("10.0.0.0/16"));
    let work = |from: &Counts, to: &Counts| {
        let reads = to.gets + to.lists - from.gets - from.lists;
        (reads, to.commits - from.commits)
    };
    let mut costs = Vec::new();
    for index in 0..1000 {
        let node = format!("node{index}");
        cluster.put_node(&node, &[]);
        let before = cluster.store.counts();
        cluster.assign_one(&node, &format!("a{index}"));
        let claimed = cluster.store.counts();
        cluster.assign_one(&node, &format!("b{index}"));
        let after = cluster.store.counts();
        costs.push((work(&before, &claimed), work(&claimed, &after)));
    }
    assert_eq!(costs[0], costs[999]);
    assert_eq!(confirmed(&cluster).len(), 1000);
}
