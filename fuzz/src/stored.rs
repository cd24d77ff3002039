// SPDX-License-Identifier: Apache-2.0
//! What a datastore holds that others write too: blocks, affinities, handles, pools, nodes and the configuration,
//! possibly damaged, and the IPAM engine working on them.
//!
//! The input is a list of stored objects: a line with the key, then the value, up to a line `---` or the end.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use datastore::{Batch, MemoryOptions, MemoryStore, Store, Write};
use ipam::{
    AccessError, AdoptError, AdoptRequest, AssignError, AssignRequest, AssignSpecificError, Clock, Engine,
    HandleSearch, NoHostNetwork, Notice, ReleaseOption, ReleaseRefusal, SpecificRequest,
};
use ipnet::IpNet;
use model::{
    BlockAffinity, IpPool, IpReservation, IpamBlock, IpamConfig, IpamHandle, Key, KeyRange, Kind, Node,
    Timestamp, ip_pool::IpPoolSpec, node::NodeSpec,
};
use serde::{Serialize, de::DeserializeOwned};

const NODE: &str = "node1";
const HANDLE: &str = "fuzz.handle";
/// More objects than this only make the fuzzer slow.
const MAX_OBJECTS: usize = 12;

/// Stored objects, and operations of the engine on them.
///
/// - Nothing panics, and no operation retries for ever.
/// - What is read can be written, and is then the same.
/// - A damaged block is never written, and whoever needs it is told its key.
/// - A sound block stays sound, and no address of it that was allocated changes hands.
pub fn stored_block(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let objects = objects(text);
    for (key, value) in &objects {
        rewrites(key, value);
    }
    // The fakes of both kinds of store: batches that are atomic, and writes one by one.
    for options in [MemoryOptions::embedded(), MemoryOptions::kubernetes()] {
        let store = MemoryStore::new(options);
        for (key, value) in &objects {
            create(&store, key.clone(), value.clone());
        }
        create_unless_there(&store, &Node::new(NODE, NodeSpec::default()));
        for (name, cidr) in [("fuzz-v4", "10.0.0.0/8"), ("fuzz-v6", "fd00::/16")] {
            let cidr = cidr.parse().expect("a prefix");
            create_unless_there(&store, &IpPool::new(name, IpPoolSpec::new(cidr)));
        }
        World::new(&store).exercise();
    }
}

/// The objects of an input; a later one of the same key is left out.
fn objects(text: &str) -> Vec<(Key, String)> {
    let mut seen = BTreeSet::new();
    let read = |document: &str| {
        let (key, value) = document.trim_start().split_once('\n')?;
        Some((key.trim().parse::<Key>().ok()?, value.trim().to_owned()))
    };
    let documents = text.split("\n---\n").filter_map(read);
    documents
        .filter(|(key, _)| seen.insert(key.to_string()))
        .take(MAX_OBJECTS)
        .collect()
}

/// What is read is written the same, for ever after.
fn rewrites(key: &Key, value: &str) {
    fn stable<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &str) {
        let Ok(read) = serde_json::from_str::<T>(value) else {
            return;
        };
        let written = serde_json::to_string(&read).unwrap_or_else(|error| panic!("{read:?}: {error}"));
        let again = serde_json::from_str::<T>(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(again, read, "{written}");
    }
    match key {
        Key::Block(_) => stable::<IpamBlock>(value),
        Key::Affinity { .. } => {
            stable::<BlockAffinity>(value);
            let _ = BlockAffinity::from_stored(value);
        }
        Key::Handle(_) => stable::<IpamHandle>(value),
        Key::IpamConfig => stable::<IpamConfig>(value),
        Key::Resource { kind, .. } => match kind {
            Kind::IpPool => stable::<IpPool>(value),
            Kind::Node => stable::<Node>(value),
            Kind::IpReservation => stable::<IpReservation>(value),
            _ => {}
        },
        Key::Local { .. } => {}
    }
}

fn create(store: &MemoryStore, key: Key, value: String) {
    let batch = Batch {
        writes: vec![Write::Create { key, value }],
        ..Batch::default()
    };
    store
        .commit(&batch)
        .expect("the key is new and no fault is planned");
}

fn create_unless_there<T: Serialize + Named>(store: &MemoryStore, object: &T) {
    let key = object.key();
    if store.get(&key).expect("no fault is planned").is_none() {
        let value = serde_json::to_string(object).expect("a resource has JSON");
        create(store, key, value);
    }
}

/// The two kinds of resource without which nothing is assigned.
trait Named {
    fn key(&self) -> Key;
}

impl Named for Node {
    fn key(&self) -> Key {
        Key::resource(Kind::Node, &self.metadata.name)
    }
}

impl Named for IpPool {
    fn key(&self) -> Key {
        Key::resource(Kind::IpPool, &self.metadata.name)
    }
}

/// Stands still: cool-down never ends, and retries do not wait.
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(1_772_359_200, 0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn back_off(&self, _: u32) {}
}

/// The blocks as they are stored.
#[derive(Debug, Default)]
struct Blocks {
    sound: BTreeMap<Key, IpamBlock>,
    damaged: BTreeMap<Key, String>,
}

struct World<'a> {
    store: &'a MemoryStore,
    /// Two blocks share addresses, which no writer makes: an address is then looked for in one of them only.
    overlapping: bool,
    notices: RefCell<Vec<String>>,
}

impl<'a> World<'a> {
    fn new(store: &'a MemoryStore) -> Self {
        let mut blocks = Vec::new();
        for v6 in [false, true] {
            let listing = store.list(&KeyRange::Blocks { v6 });
            let entries = listing.expect("no fault is planned").entries;
            blocks.extend(entries.into_iter().filter_map(|entry| block_prefix(&entry.key)));
        }
        let overlaps = |one: &IpNet| blocks.iter().any(|other| one != other && other.contains(one));
        Self {
            store,
            overlapping: blocks.iter().any(overlaps),
            notices: RefCell::default(),
        }
    }

    fn blocks(&self) -> Blocks {
        let mut blocks = Blocks::default();
        for v6 in [false, true] {
            let listing = self
                .store
                .list(&KeyRange::Blocks { v6 })
                .expect("no fault is planned");
            for entry in listing.entries {
                match entry.decode::<IpamBlock>() {
                    Ok(block) if block.key() == entry.key && block.validate(None).is_empty() => {
                        blocks.sound.insert(entry.key, block);
                    }
                    _ => {
                        blocks.damaged.insert(entry.key, entry.value);
                    }
                }
            }
        }
        blocks
    }

    fn exercise(&self) {
        let notice = |notice: &Notice| self.notices.borrow_mut().push(notice.to_string());
        let engine = Engine {
            store: self.store,
            clock: &StoppedClock,
            host: &NoHostNetwork,
            notices: &notice,
        };
        let before = self.blocks();
        let addresses = interesting(&before);

        for address in &addresses {
            self.look_up(&engine, &before, *address);
        }
        for search in [HandleSearch::Listed, HandleSearch::Thorough] {
            accept(engine.allocations_by_handle(HANDLE, search).map(drop));
        }
        self.unharmed(&before, None);

        let assigned = self.assign(&engine);
        self.unharmed(&before, Some(HANDLE));
        for address in &addresses {
            Self::assign_specific(&engine, &before, *address);
            self.unharmed(&before, Some(HANDLE));
        }
        for address in &addresses {
            Self::adopt(&engine, *address);
        }
        self.unharmed(&before, Some(HANDLE));

        let released = engine.release_by_handle(HANDLE, HandleSearch::Thorough, "fuzz", &mut |_| Vec::new());
        let complete = released.as_ref().is_ok_and(|report| report.damaged.is_empty());
        accept(released.map(drop));
        if complete && !self.overlapping {
            for address in assigned {
                let found = engine.allocation(address).unwrap_or_default();
                assert!(
                    found.is_none_or(|found| found.cooling || found.handle.as_deref() != Some(HANDLE)),
                    "{address} is still assigned after its handle was released"
                );
            }
        }
        self.unharmed(&before, Some(HANDLE));
        for address in &addresses {
            Self::release(&engine, &before, *address);
        }
        accept(engine.release_host_affinities(NODE, false, "fuzz").map(drop));
        for (key, value) in &self.blocks().damaged {
            assert_eq!(
                before.damaged.get(key),
                Some(value),
                "{key} was damaged, or was written though damaged"
            );
        }
    }

    fn look_up(&self, engine: &Engine<'_>, before: &Blocks, address: IpAddr) {
        match engine.allocation(address) {
            Ok(Some(found)) => {
                assert_eq!(found.assigned.address, address);
                assert!(found.assigned.block.contains(&address));
            }
            Ok(None) => {}
            Err(AccessError::Damaged { key, defect }) => {
                assert!(!defect.is_empty());
                assert!(
                    !before.sound.contains_key(&key),
                    "{key} is sound but called damaged: {defect}"
                );
            }
            Err(error) => panic!("looking up {address}: {error} ({:?})", self.notices.borrow()),
        }
    }

    fn assign(&self, engine: &Engine<'_>) -> Vec<IpAddr> {
        let before = self.blocks();
        let request = AssignRequest {
            v4: 2,
            v6: 1,
            ..AssignRequest::new(NODE, HANDLE, "fuzz")
        };
        let assigned = match engine.auto_assign(&request, &mut |_| Vec::new()) {
            Ok(assignment) => assignment.addresses,
            Err(AssignError::Access(error)) => {
                accept(Err(error));
                return Vec::new();
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return Vec::new();
            }
        };
        assert_eq!(assigned.len(), 3, "all or nothing");
        for one in &assigned {
            let key = Key::Block(one.block);
            assert!(one.block.contains(&one.address));
            assert!(
                !before.damaged.contains_key(&key),
                "{} was taken from a damaged block",
                one.address
            );
            let free = before.sound.get(&key).is_none_or(|block| {
                let ordinal = block.ordinal(one.address).expect("the block contains it");
                block
                    .attribute(ordinal)
                    .is_none_or(|attribute| attribute.released_at.is_some())
            });
            assert!(free, "{} was allocated already", one.address);
            if self.overlapping {
                continue;
            }
            let found = engine.allocation(one.address).expect("its block is sound");
            let found = found.unwrap_or_else(|| panic!("{} was assigned and is not allocated", one.address));
            assert_eq!((found.assigned, found.handle.as_deref()), (*one, Some(HANDLE)));
        }
        assigned.into_iter().map(|one| one.address).collect()
    }

    fn assign_specific(engine: &Engine<'_>, before: &Blocks, address: IpAddr) {
        let request = SpecificRequest {
            node: NODE.to_owned(),
            handle: HANDLE.to_owned(),
            attributes: BTreeMap::new(),
            addresses: vec![address],
            intended_use: None,
            cause: "fuzz".to_owned(),
        };
        match engine.assign_specific(&request, &mut |_| Vec::new()) {
            Ok(assigned) => {
                assert_eq!(assigned.len(), 1);
                assert!(!before.damaged.contains_key(&Key::Block(assigned[0].block)));
            }
            Err(AssignSpecificError::Access(error)) => accept(Err(error)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    fn adopt(engine: &Engine<'_>, address: IpAddr) {
        let request = AdoptRequest {
            node: NODE.to_owned(),
            handle: HANDLE.to_owned(),
            attributes: BTreeMap::new(),
            addresses: vec![address],
            replace: false,
            cause: "fuzz".to_owned(),
        };
        match engine.adopt(&request, &mut |_| Vec::new()) {
            Err(AdoptError::Access(error)) => accept(Err(error)),
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(adopted) => assert_eq!(adopted.len(), 1),
        }
    }

    fn release(engine: &Engine<'_>, before: &Blocks, address: IpAddr) {
        match engine.release_addresses(&[ReleaseOption::unconditional(address)], "fuzz", None) {
            Ok(report) => {
                let told = report.released.len() + report.unallocated.len() + report.refused.len();
                assert_eq!(told, 1, "{address}: {report:?}");
                if let Some((_, ReleaseRefusal::DamagedBlock { key, .. })) = report.refused.first() {
                    assert!(
                        !before.sound.contains_key(key),
                        "{key} is sound but called damaged"
                    );
                }
            }
            Err(error) => accept(Err(error)),
        }
    }

    /// Damaged blocks are as they were, sound ones are sound, and what was allocated is its owner's. `handle` is the
    /// one that the operations here may have changed.
    fn unharmed(&self, before: &Blocks, handle: Option<&str>) {
        let now = self.blocks();
        for (key, value) in &before.damaged {
            assert_eq!(
                now.damaged.get(key),
                Some(value),
                "{key} is damaged and was changed"
            );
        }
        for key in now.damaged.keys() {
            assert!(before.damaged.contains_key(key), "{key} was damaged");
        }
        for (key, old) in &before.sound {
            for (ordinal, attribute) in old.allocations.iter().enumerate() {
                let Some(attribute) = attribute.and_then(|index| old.attributes.get(index)) else {
                    continue;
                };
                if attribute.released_at.is_some() || attribute.handle_id.as_deref() == handle {
                    continue;
                }
                let found = now.sound.get(key).and_then(|block| block.attribute(ordinal));
                assert_eq!(found, Some(attribute), "{key}, ordinal {ordinal} changed hands");
            }
        }
    }
}

/// Errors that name damage are right here; the store never fails and nobody competes.
fn accept(result: Result<(), AccessError>) {
    match result {
        Ok(()) => {}
        Err(AccessError::Damaged { defect, .. }) => assert!(!defect.is_empty()),
        Err(error) => panic!("nobody competes and the store is well: {error}"),
    }
}

fn block_prefix(key: &Key) -> Option<IpNet> {
    match key {
        Key::Block(prefix) => Some(*prefix),
        _ => None,
    }
}

/// First and last address of each block, and addresses of no block.
fn interesting(blocks: &Blocks) -> BTreeSet<IpAddr> {
    let keys = blocks.sound.keys().chain(blocks.damaged.keys());
    let prefixes = keys.filter_map(block_prefix);
    let ends = prefixes.flat_map(|prefix: IpNet| [prefix.network(), prefix.broadcast()]);
    let fixed = ["10.255.0.1", "192.0.2.1", "fd00::77"].map(|text| text.parse().expect("an address"));
    ends.chain(fixed).collect()
}
