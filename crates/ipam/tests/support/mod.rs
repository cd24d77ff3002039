// SPDX-License-Identifier: Apache-2.0
//! What the engine's tests share: a cluster in memory with pools and nodes, a clock that stands still unless told,
//! a host network made up, and the invariants that must hold whatever happened.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use datastore::{
    Batch, MemoryOptions, MemoryStore, Store, Write,
    memory::{FaultPlan, Snapshot, Step},
};
use ipam::{
    AccessError, AssignError, AssignRequest, AssignSpecificError, Assigned, Assignment, Clock, Engine,
    HandleSearch, HostNetwork, HostNetworkError, Notice, Occupied, ReleaseReport, SpecificRequest,
    ignore_notices,
};
use ipnet::IpNet;
use model::{
    AffinityOwner, AffinityState, BlockAffinity, IpPool, IpReservation, IpamBlock, IpamConfig, IpamHandle,
    Key, KeyRange, Kind, Node, Timestamp, ip_pool::IpPoolSpec, ip_reservation::IpReservationSpec,
    node::NodeSpec,
};
use serde::{Serialize, de::DeserializeOwned};

/// Stands still unless told, but for a microsecond whenever somebody looks: no two moments are the same. Never waits.
pub struct TestClock(AtomicU64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicU64::new(1_772_359_200_000_000_000))
    }
}

impl TestClock {
    pub fn advance(&self, duration: Duration) {
        self.0
            .fetch_add(u64::try_from(duration.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    fn nanos(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let nanos = self.0.fetch_add(1_000, Ordering::SeqCst);
        let seconds = i64::try_from(nanos / 1_000_000_000).unwrap();
        Timestamp::from_unix(seconds, u32::try_from(nanos % 1_000_000_000).unwrap())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    fn back_off(&self, _: u32) {
        std::thread::yield_now();
    }
}

/// A host network made up.
#[derive(Default)]
pub struct FakeNetwork {
    pub occupied: Mutex<Vec<IpNet>>,
    pub in_use: Mutex<BTreeSet<IpAddr>>,
    pub asked: AtomicU64,
}

impl HostNetwork for FakeNetwork {
    fn occupied(&self) -> Result<Vec<Occupied>, HostNetworkError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let occupied = self.occupied.lock().unwrap();
        let named = |prefix: &IpNet| Occupied {
            prefix: *prefix,
            what: "on-link prefix of eth0".to_owned(),
        };
        Ok(occupied.iter().map(named).collect())
    }

    fn in_use(&self, address: IpAddr) -> Result<Option<String>, HostNetworkError> {
        let in_use = self.in_use.lock().unwrap().contains(&address);
        Ok(in_use.then(|| "route to it on eth9".to_owned()))
    }
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn host(name: &str) -> AffinityOwner {
    AffinityOwner::Host(name.to_owned())
}

/// A pool with every default.
pub fn pool(cidr: &str) -> IpPoolSpec {
    IpPoolSpec::new(net(cidr))
}

/// The two ways in which stores apply batches.
pub fn both_modes() -> [MemoryOptions; 2] {
    [MemoryOptions::embedded(), MemoryOptions::kubernetes()]
}

/// A cluster in memory.
pub struct Cluster {
    pub store: MemoryStore,
    pub clock: TestClock,
    pub network: FakeNetwork,
}

impl Cluster {
    pub fn new(options: MemoryOptions) -> Self {
        Self {
            store: MemoryStore::new(options),
            clock: TestClock::default(),
            network: FakeNetwork::default(),
        }
    }

    /// With one pool, `10.0.0.0/16` cut into blocks of `length`, and these nodes.
    pub fn with_pool(options: MemoryOptions, cidr: &str, length: u8, nodes: &[&str]) -> Self {
        let cluster = Self::new(options);
        let mut spec = pool(cidr);
        spec.block_size = Some(length);
        cluster.put_pool("pool", spec);
        for node in nodes {
            cluster.put_node(node, &[]);
        }
        cluster
    }

    pub fn engine(&self) -> Engine<'_> {
        self.engine_on(&self.store)
    }

    /// An engine over another client of the same store.
    pub fn engine_on<'a>(&'a self, store: &'a dyn Store) -> Engine<'a> {
        Engine {
            store,
            clock: &self.clock,
            host: &self.network,
            notices: &ignore_notices,
        }
    }

    pub fn put_raw(&self, key: Key, value: &str) {
        let revision = self.store.get(&key).unwrap().map(|entry| entry.revision);
        let value = value.to_owned();
        let write = match revision {
            Some(revision) => Write::Update { key, value, revision },
            None => Write::Create { key, value },
        };
        let batch = Batch {
            writes: vec![write],
            ..Batch::default()
        };
        self.store.commit(&batch).unwrap();
    }

    pub fn put<T: Serialize>(&self, key: Key, value: &T) {
        self.put_raw(key, &serde_json::to_string(value).unwrap());
    }

    pub fn delete(&self, key: &Key) {
        if let Some(entry) = self.store.get(key).unwrap() {
            let batch = Batch {
                writes: vec![Write::Delete {
                    key: key.clone(),
                    revision: entry.revision,
                }],
                ..Batch::default()
            };
            self.store.commit(&batch).unwrap();
        }
    }

    pub fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        self.store.get(key).unwrap().map(|entry| entry.decode().unwrap())
    }

    pub fn put_pool(&self, name: &str, spec: IpPoolSpec) {
        self.put(Key::resource(Kind::IpPool, name), &IpPool::new(name, spec));
    }

    pub fn edit_pool(&self, name: &str, edit: impl FnOnce(&mut IpPoolSpec)) {
        let key = Key::resource(Kind::IpPool, name);
        let mut pool: IpPool = self.get(&key).unwrap();
        edit(&mut pool.spec);
        self.put(key, &pool);
    }

    pub fn put_node(&self, name: &str, labels: &[(&str, &str)]) {
        let mut node = Node::new(name, NodeSpec::default());
        node.metadata.labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.put(Key::resource(Kind::Node, name), &node);
    }

    pub fn reserve(&self, name: &str, cidrs: &[&str]) {
        let spec = IpReservationSpec {
            reserved_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            ..IpReservationSpec::default()
        };
        self.put(
            Key::resource(Kind::IpReservation, name),
            &IpReservation::new(name, spec),
        );
    }

    pub fn configure(&self, edit: impl FnOnce(&mut IpamConfig)) {
        let mut config = self.get(&Key::IpamConfig).unwrap_or_default();
        edit(&mut config);
        self.put(Key::IpamConfig, &config);
    }

    pub fn block(&self, cidr: &str) -> Option<IpamBlock> {
        self.get(&Key::Block(net(cidr)))
    }

    pub fn affinity(&self, node: &str, cidr: &str) -> Option<AffinityState> {
        let entry = self.store.get(&Key::host_affinity(node, net(cidr))).unwrap()?;
        Some(BlockAffinity::from_stored(&entry.value).unwrap().state)
    }

    pub fn put_affinity(&self, node: &str, cidr: &str, state: AffinityState) {
        self.put(Key::host_affinity(node, net(cidr)), &BlockAffinity::new(state));
    }

    pub fn put_block(&self, cidr: &str, owner: Option<&str>) {
        let now = self.clock.now();
        let block = IpamBlock::new(net(cidr), owner.map(host), Some(now), now.unix_nanos()).unwrap();
        self.put(Key::Block(net(cidr)), &block);
    }

    pub fn handle(&self, id: &str) -> Option<IpamHandle> {
        self.get(&Key::Handle(id.to_owned()))
    }

    /// The total a handle counts.
    pub fn counted(&self, id: &str) -> usize {
        self.handle(id).map_or(0, |handle| handle.block.values().sum())
    }

    /// Blocks of the affinities of a node, with their states.
    pub fn affinities(&self, node: &str) -> Vec<(IpNet, AffinityState)> {
        let mut found = Vec::new();
        for v6 in [false, true] {
            let range = KeyRange::Affinities {
                owner: host(node),
                v6,
            };
            for entry in self.store.list(&range).unwrap().entries {
                if let Key::Affinity { block, .. } = entry.key {
                    found.push((block, BlockAffinity::from_stored(&entry.value).unwrap().state));
                }
            }
        }
        found
    }

    pub fn assign(&self, node: &str, handle: &str, v4: u32, v6: u32) -> Result<Assignment, AssignError> {
        assign_with(&self.engine(), node, handle, v4, v6)
    }

    /// One IPv4 address, or panic.
    pub fn assign_one(&self, node: &str, handle: &str) -> Assigned {
        self.assign(node, handle, 1, 0).unwrap().addresses[0]
    }

    pub fn assign_address(
        &self,
        node: &str,
        handle: &str,
        address: &str,
    ) -> Result<Assigned, AssignSpecificError> {
        self.engine()
            .assign_specific(&specific(node, handle, &[address]), &mut no_writes)
            .map(|assigned| assigned[0])
    }

    pub fn release(&self, handle: &str) -> ReleaseReport {
        release_with(&self.engine(), handle).unwrap()
    }

    /// Fails unless everything that is stored is consistent. See [`defects`].
    pub fn check(&self) {
        let found = defects(&self.store.snapshot());
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// A request for addresses with only a `node` attribute.
pub fn request(node: &str, handle: &str, v4: u32, v6: u32) -> AssignRequest {
    AssignRequest {
        attributes: BTreeMap::from([("node".to_owned(), node.to_owned())]),
        v4,
        v6,
        ..AssignRequest::new(node, handle, "test")
    }
}

pub fn specific(node: &str, handle: &str, addresses: &[&str]) -> SpecificRequest {
    SpecificRequest {
        node: node.to_owned(),
        handle: handle.to_owned(),
        attributes: BTreeMap::from([("node".to_owned(), node.to_owned())]),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        intended_use: None,
        cause: "test".to_owned(),
    }
}

pub fn assign_with(
    engine: &Engine<'_>,
    node: &str,
    handle: &str,
    v4: u32,
    v6: u32,
) -> Result<Assignment, AssignError> {
    engine.auto_assign(&request(node, handle, v4, v6), &mut no_writes)
}

pub fn release_with(engine: &Engine<'_>, handle: &str) -> Result<ReleaseReport, AccessError> {
    engine.release_by_handle(handle, HandleSearch::Listed, "test", &mut |_: &[IpAddr]| {
        Vec::new()
    })
}

/// Companions of an assignment that has none.
pub fn no_writes(_: &[Assigned]) -> Vec<Write> {
    Vec::new()
}

/// Lets something else happen just before a client's write step `number` (from 0, counted from now).
pub fn interpose(client: &MemoryStore, number: u64, action: impl FnOnce() + Send + 'static) {
    let mut action = Some(action);
    client.plan_faults(FaultPlan::from_fn(move |step| {
        if let Step::Write { number: current, .. } = step
            && *current == number
            && let Some(action) = action.take()
        {
            action();
        }
        None
    }));
}

/// Collects notices, to be looked at afterwards.
#[derive(Default)]
pub struct Notices(RefCell<Vec<Notice>>);

impl Notices {
    pub fn listener(&self) -> impl Fn(&Notice) + '_ {
        |notice| self.0.borrow_mut().push(notice.clone())
    }

    pub fn all(&self) -> Vec<Notice> {
        self.0.borrow().clone()
    }
}

/// Everything that must never be, whatever has crashed: unsound blocks, overlapping blocks, a block that somebody
/// confirmed although it is another's, a handle that counts less than its addresses.
pub fn defects(snapshot: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    let mut blocks: BTreeMap<IpNet, IpamBlock> = BTreeMap::new();
    let mut truth: BTreeMap<(String, IpNet), usize> = BTreeMap::new();
    for (key, _, value) in snapshot.iter() {
        if let Key::Block(cidr) = key {
            let block: IpamBlock = serde_json::from_str(value).unwrap();
            found.extend(
                block
                    .validate(None)
                    .iter()
                    .map(|defect| format!("{cidr}: {defect}")),
            );
            for attribute in block
                .allocations
                .iter()
                .flatten()
                .map(|index| &block.attributes[*index])
            {
                if let Some(handle) = &attribute.handle_id {
                    *truth.entry((handle.clone(), *cidr)).or_default() += 1;
                }
            }
            blocks.insert(*cidr, block);
        }
    }
    for (first, second) in blocks.keys().zip(blocks.keys().skip(1)) {
        if first.contains(second) {
            found.push(format!("blocks {first} and {second} overlap"));
        }
    }
    let mut counted: BTreeMap<(String, IpNet), usize> = BTreeMap::new();
    for (key, _, value) in snapshot.iter() {
        match key {
            Key::Handle(id) => {
                let handle: IpamHandle = serde_json::from_str(value).unwrap();
                counted.extend(
                    handle
                        .block
                        .into_iter()
                        .map(|(block, count)| ((id.clone(), block), count)),
                );
            }
            Key::Affinity { owner, block } => {
                let affinity = BlockAffinity::from_stored(value).unwrap();
                let other = blocks.get(block).and_then(|block| block.affinity.as_ref());
                if affinity.state == AffinityState::Confirmed && other.is_some_and(|other| other != owner) {
                    found.push(format!("{owner} has confirmed {block}, which is another's"));
                }
            }
            _ => {}
        }
    }
    for ((handle, block), allocated) in truth {
        let counted = counted.get(&(handle.clone(), block)).copied().unwrap_or(0);
        if counted < allocated {
            found.push(format!(
                "handle {handle} counts {counted} in {block}, which has {allocated}"
            ));
        }
    }
    found
}
