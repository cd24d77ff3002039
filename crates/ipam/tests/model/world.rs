// SPDX-License-Identifier: Apache-2.0
//! The hosts and their store: chooses operations and faults, runs operations with others in between, and checks now
//! and then that nothing was lost for good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use datastore::{
    MemoryOptions, MemoryStore,
    memory::{Fault, FaultPlan, Step},
};
use ipam::HandleSearch;
use ipnet::IpNet;
use model::Key;

use crate::{
    operations::{Operation, Outcome},
    random::Random,
    reference::Reference,
    support::*,
};

pub(crate) const NODES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];

/// How many handles there are; few enough that operations meet.
pub(crate) const HANDLES: usize = 45;

/// See the file's comment.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    atomic: bool,
    clients: Vec<MemoryStore>,
    pub(crate) reference: Mutex<Reference>,
    touched: Arc<Mutex<BTreeSet<Key>>>,
    random: Mutex<Random>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    nested: AtomicU64,
}

impl World {
    /// IPv4: sixteen blocks of eight for all, eight of four for nodes in zone b. IPv6: sixteen blocks of four.
    /// One block of each version overlaps a network of the host; a few addresses are in use there.
    pub(crate) fn new(options: MemoryOptions, cooldown: u32, seed: u64) -> Arc<Self> {
        let cluster = Cluster::new(options);
        for (name, cidr, length, selector) in [
            ("pool", "10.0.0.0/25", 29, ""),
            ("zone", "10.0.1.0/27", 30, "zone == 'b'"),
            ("v6", "fd00::/122", 126, "all()"),
        ] {
            let mut spec = pool(cidr);
            spec.block_size = Some(length);
            selector.clone_into(&mut spec.node_selector);
            cluster.put_pool(name, spec);
        }
        for node in NODES {
            cluster.put_node(node, &[("zone", "a")]);
        }
        cluster.configure(|config| config.ip_cooldown_seconds = cooldown);
        let mut reference = Reference::new(options.atomic, cooldown > 0);
        reference.occupied = vec![net("10.0.0.40/32"), net("fd00::30/127")];
        reference.unusable = ["10.0.0.3/32", "10.0.0.70/32", "10.0.1.9/32", "fd00::9/128"]
            .map(net)
            .to_vec();
        cluster
            .network
            .occupied
            .lock()
            .unwrap()
            .clone_from(&reference.occupied);
        *cluster.network.in_use.lock().unwrap() = reference.unusable.iter().map(IpNet::addr).collect();
        let clients = NODES.iter().map(|_| cluster.store.client()).collect();
        Arc::new(Self {
            cluster,
            atomic: options.atomic,
            clients,
            reference: Mutex::new(reference),
            touched: Arc::default(),
            random: Mutex::new(Random::new(seed)),
            counts: Mutex::default(),
            nested: AtomicU64::new(0),
        })
    }

    pub(crate) fn reference(&self) -> MutexGuard<'_, Reference> {
        self.reference.lock().unwrap()
    }

    /// One operation of one host, with what may go wrong.
    pub(crate) fn step(self: &Arc<Self>) {
        let (mut random, client) = {
            let mut random = self.random.lock().unwrap();
            (Random::new(random.next()), random.below(NODES.len()))
        };
        self.cluster
            .clock
            .advance(Duration::from_millis(random.next() % 400));
        if random.percent(1) {
            self.cluster.clock.advance(Duration::from_secs(70));
        }
        if random.percent(4) {
            self.reconfigure(&mut random);
        }
        let operation = Operation::random(&mut random, &self.reference(), None);
        self.run(client, &operation, &mut random, true);
    }

    /// Runs an operation on a client, takes its changes over and checks its result.
    fn run(self: &Arc<Self>, client: usize, operation: &Operation, random: &mut Random, outermost: bool) {
        let store = &self.clients[client];
        self.absorb();
        self.reference().begin(operation.permission());
        let expected = operation.expect(&self.reference(), &self.cluster);
        let faulty = random.percent(35);
        let nested_before = self.nested.load(Ordering::SeqCst);
        store.plan_faults(self.plan(client, operation, random, faulty, outermost));
        let engine = self.cluster.engine_on(store);
        let outcome = operation.run(&engine);
        let crashed = store.crashed();
        store.plan_faults(FaultPlan::none());
        store.restart();
        self.absorb();
        let running = self.reference().end();
        *self
            .counts
            .lock()
            .unwrap()
            .entry(outcome.name(crashed))
            .or_default() += 1;
        let alone = outermost && self.nested.load(Ordering::SeqCst) == nested_before;
        let undisturbed = alone && !faulty;
        trace(|| {
            let node = NODES[client];
            format!("{node}: {operation:?} came to {outcome:?} after {running:?}, crashed: {crashed}")
        });
        self.check(operation, &outcome, &running, crashed, alone);
        if undisturbed && let Some(expected) = expected {
            assert_eq!(outcome.verdict(), expected, "{operation:?} came to {outcome:?}");
        }
    }

    /// What the result says has to be what was done.
    fn check(
        &self,
        operation: &Operation,
        outcome: &Outcome,
        running: &crate::reference::InFlight,
        crashed: bool,
        alone: bool,
    ) {
        let context = || format!("{operation:?} came to {outcome:?} after {running:?}, crashed: {crashed}");
        let gain: BTreeSet<_> = running
            .net_gain()
            .into_iter()
            .map(|(address, held)| (address, held.sequence))
            .collect();
        match outcome {
            Outcome::Assigned(assigned) => {
                let said: BTreeSet<_> = assigned.iter().copied().collect();
                assert_eq!(said, gain, "{}", context());
                assert_eq!(said.len(), assigned.len(), "{}", context());
            }
            Outcome::Adopted(adopted) => {
                let reference = self.reference();
                for address in adopted {
                    let held = reference.holder(*address);
                    assert_eq!(
                        held.map(|held| held.handle.as_str()),
                        operation.handle(),
                        "{}",
                        context()
                    );
                }
            }
            Outcome::Released(released) => {
                let lost: BTreeSet<_> = running.lost.iter().map(|(address, _)| *address).collect();
                assert!(lost.is_subset(released), "{}", context());
                assert!(!alone || lost == *released, "{}", context());
                if let Operation::ReleaseHandle { handle, .. } = operation {
                    let reference = self.reference();
                    assert_eq!(reference.of_handle(handle).count(), 0, "{}", context());
                    assert!(!reference.handle_exists(handle), "{}", context());
                }
            }
            // What was cut off may have got some way; what only failed may not.
            Outcome::Failed(error) => assert!(crashed || gain.is_empty(), "{error}: {}", context()),
            Outcome::Done => assert!(gain.is_empty(), "{}", context()),
        }
        assert!(gain.len() <= operation.at_most(), "{}", context());
    }

    /// Notes what is about to be written; injects one fault, or one operation of another host, at a random step.
    fn plan(
        self: &Arc<Self>,
        client: usize,
        operation: &Operation,
        random: &mut Random,
        faulty: bool,
        outermost: bool,
    ) -> FaultPlan {
        let touched = Arc::clone(&self.touched);
        let at = random.next() % if self.atomic { 3 } else { 7 };
        let kind = random.below(if outermost { 7 } else { 4 });
        let applied = random.percent(50);
        let mut rest = Random::new(random.next());
        let world = Arc::clone(self);
        let reserved_handle = operation.handle().map(str::to_owned);
        FaultPlan::from_fn(move |step| {
            let Step::Write { number, writes } = step else {
                return None;
            };
            let fault = match kind {
                _ if !faulty || *number < at || (*number > at && kind < 6) => None,
                0 => Some(Fault::Crash { applied }),
                1 => Some(Fault::LostReply { applied }),
                2 => Some(Fault::Conflict { write: rest.below(8) }),
                3 => Some(Fault::Unavailable),
                // Once, or (6) again and again.
                _ => {
                    if kind < 6 || rest.percent(40) {
                        world.absorb();
                        let other = (client + 1 + rest.below(NODES.len() - 1)) % NODES.len();
                        let operation =
                            Operation::random(&mut rest, &world.reference(), reserved_handle.as_deref());
                        world.nested.fetch_add(1, Ordering::SeqCst);
                        world.run(other, &operation, &mut rest, false);
                    }
                    None
                }
            };
            trace(|| {
                format!(
                    "{}: fault {fault:?} at write {number} of {writes:?}",
                    NODES[client]
                )
            });
            touched
                .lock()
                .unwrap()
                .extend(writes.iter().map(|write| write.key().clone()));
            fault
        })
    }

    /// Takes over into the reference what has been written.
    fn absorb(&self) {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap());
        self.reference().absorb(&self.cluster.store, &touched);
    }

    /// A change by an administrator.
    fn reconfigure(&self, random: &mut Random) {
        let cluster = &self.cluster;
        match random.below(6) {
            0 => {
                let strict = random.percent(25);
                cluster.configure(|config| config.strict_affinity = strict);
            }
            1 => {
                let pool = *random.pick(&["pool", "zone", "v6"]).unwrap();
                let disabled = random.percent(15);
                cluster.edit_pool(pool, |spec| spec.disabled = disabled);
            }
            2 => {
                let node = *random.pick(&NODES).unwrap();
                let zone = if random.percent(50) { "a" } else { "b" };
                cluster.put_node(node, &[("zone", zone)]);
            }
            3 => {
                let limit = if random.percent(85) { 0 } else { 2 };
                cluster.configure(|config| config.max_blocks_per_host = limit);
            }
            4 => {
                let network = &cluster.network;
                let in_use: Vec<_> = network.in_use.lock().unwrap().iter().copied().collect();
                let mut unusable: Vec<_> = in_use.into_iter().map(IpNet::from).collect();
                let mut reserved = Vec::new();
                for _ in 0..random.below(4) {
                    let prefix = format!("10.0.0.{}/{}", random.below(128), 28 + random.below(5));
                    let prefix = net(&prefix).trunc();
                    reserved.push(prefix.to_string());
                    unusable.push(prefix);
                }
                let reserved: Vec<&str> = reserved.iter().map(String::as_str).collect();
                cluster.reserve("reservation", &reserved);
                self.reference().unusable = unusable;
            }
            _ => {
                // An affinity removed by hand.
                let block = random
                    .pick(&self.reference().blocks.keys().copied().collect::<Vec<_>>())
                    .copied();
                let Some(block) = block else { return };
                let owner = self.reference().blocks[&block].owner.clone();
                if let Some(owner) = owner {
                    let key = Key::Affinity { owner, block };
                    self.reference().orphaned.insert(block);
                    cluster.delete(&key);
                    self.touched.lock().unwrap().insert(key);
                }
            }
        }
    }

    /// Everything that is stored is known to the reference and sound.
    pub(crate) fn check_everything(&self) {
        self.absorb();
        let snapshot = self.cluster.store.snapshot();
        self.reference().check_keys(snapshot.iter().map(|(key, ..)| key));
        let found = defects(&snapshot);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// Nothing is lost for good: once everything is released, by handle only, one node can get every address, and
    /// after that nothing of it all is left. Then the world goes on where it was.
    pub(crate) fn check_convergence(&self) {
        let cluster = &self.cluster;
        let before = cluster.store.snapshot();
        let engine = cluster.engine();
        let handles: Vec<String> = before
            .iter()
            .filter_map(|(key, ..)| match key {
                Key::Handle(id) => Some(id.clone()),
                _ => None,
            })
            .collect();
        for handle in &handles {
            let report =
                engine.release_by_handle(handle, HandleSearch::Listed, "converge", &mut |_| Vec::new());
            assert!(report.unwrap().damaged.is_empty());
        }
        cluster.clock.advance(Duration::from_secs(100));
        for name in ["pool", "zone", "v6"] {
            cluster.edit_pool(name, |spec| {
                spec.disabled = false;
                spec.node_selector.clear();
            });
        }
        cluster.reserve("reservation", &[]);
        cluster.configure(|config| {
            config.strict_affinity = true;
            config.max_blocks_per_host = 1000;
        });
        let mut wanted = request("n0", "all", 1000, 1000);
        wanted.all_or_nothing = false;
        let all = engine.auto_assign(&wanted, &mut no_writes).unwrap().addresses;
        let distinct: BTreeSet<_> = all.iter().map(|assigned| assigned.address).collect();
        // Addresses, less the block that collides, less those in use on the host; for both versions.
        let expected = (128 - 8 - 2) + (32 - 1) + (64 - 4 - 1);
        let blocks: Vec<String> = cluster
            .store
            .snapshot()
            .iter()
            .map(|(key, ..)| key.to_string())
            .collect();
        assert_eq!(distinct.len(), expected, "{blocks:#?}");
        assert_eq!(all.len(), expected);
        engine
            .release_by_handle("all", HandleSearch::Listed, "converge", &mut |_| Vec::new())
            .unwrap();
        cluster.clock.advance(Duration::from_secs(100));
        for node in NODES {
            let report = engine.release_host_affinities(node, true, "converge").unwrap();
            assert!(report.failed.is_empty(), "{report:?}");
        }
        for (key, _, value) in cluster.store.snapshot().iter() {
            assert!(
                !matches!(key, Key::Handle(_) | Key::Affinity { .. }),
                "{key} is left: {value}"
            );
            // A block nobody owned that only had cooling addresses is found again when somebody needs it.
            let unowned = matches!(key, Key::Block(_)) && value.contains("\"affinity\":null");
            assert!(!matches!(key, Key::Block(_)) || unowned, "{key} is left: {value}");
        }
        cluster.store.restore(&before);
    }

    pub(crate) fn summary(&self) -> String {
        let counts = self.counts.lock().unwrap();
        let texts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        format!(
            "{} ({} in between others)",
            texts.join(", "),
            self.nested.load(Ordering::SeqCst)
        )
    }
}

/// For whoever looks into a failure: `IPAM_MODEL_TRACE=1` prints every write and operation.
fn trace(line: impl FnOnce() -> String) {
    static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("IPAM_MODEL_TRACE").is_some());
    if *WANTED {
        eprintln!("{}", line());
    }
}
