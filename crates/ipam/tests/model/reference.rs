// SPDX-License-Identifier: Apache-2.0
//! The reference: who has which address, kept from what operations were asked to do and said they did. A change in
//! the store that no running operation may make, or that breaks a rule, ends the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use datastore::{MemoryStore, Store};
use ipnet::IpNet;
use model::{AffinityOwner, AffinityState, BlockAffinity, IpamBlock, IpamHandle, Key};

/// An allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) handle: String,
    pub(crate) sequence: u64,
}

/// A block as last seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) owner: Option<AffinityOwner>,
    pub(crate) held: BTreeMap<IpAddr, Held>,
    pub(crate) cooling: BTreeSet<IpAddr>,
    pub(crate) queue: Vec<IpAddr>,
    pub(crate) sequence: u64,
}

/// What a running operation may do to addresses.
#[derive(Clone, Debug)]
pub(crate) enum Permission {
    /// Gain any addresses under the handle, and lose what it gained.
    Assign { handle: String },
    /// Gain these, and lose what it gained.
    Specific {
        handle: String,
        addresses: BTreeSet<IpAddr>,
    },
    /// Gain these; take them from others if `replace`.
    Adopt {
        handle: String,
        addresses: BTreeSet<IpAddr>,
        replace: bool,
    },
    /// Lose these.
    Release { addresses: BTreeSet<IpAddr> },
    /// Lose what the handle has.
    ReleaseHandle { handle: String },
    /// Nothing.
    None,
}

impl Permission {
    fn may_gain(&self, address: IpAddr, held: &Held) -> bool {
        match self {
            Self::Assign { handle } => held.handle == *handle,
            Self::Specific { handle, addresses }
            | Self::Adopt {
                handle, addresses, ..
            } => held.handle == *handle && addresses.contains(&address),
            Self::Release { .. } | Self::ReleaseHandle { .. } | Self::None => false,
        }
    }

    fn may_lose(&self, address: IpAddr, held: &Held, gained: &[(IpAddr, Held)]) -> bool {
        match self {
            Self::Assign { .. } | Self::Specific { .. } => gained.contains(&(address, held.clone())),
            Self::Adopt {
                addresses, replace, ..
            } => *replace && addresses.contains(&address),
            Self::Release { addresses } => addresses.contains(&address),
            Self::ReleaseHandle { handle } => held.handle == *handle,
            Self::None => false,
        }
    }
}

/// A running operation and what it has done so far.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) permission: Permission,
    pub(crate) gained: Vec<(IpAddr, Held)>,
    pub(crate) lost: Vec<(IpAddr, Held)>,
}

impl InFlight {
    /// What it gained and did not lose again.
    pub(crate) fn net_gain(&self) -> BTreeSet<(IpAddr, Held)> {
        self.gained
            .iter()
            .filter(|gain| !self.lost.contains(gain))
            .cloned()
            .collect()
    }
}

/// See the file's comment.
pub(crate) struct Reference {
    atomic: bool,
    cooldown: bool,
    /// No owned block may overlap these.
    pub(crate) occupied: Vec<IpNet>,
    /// Automatic assignment passes these over.
    pub(crate) unusable: Vec<IpNet>,
    pub(crate) blocks: BTreeMap<IpNet, Seen>,
    handles: BTreeMap<String, BTreeMap<IpNet, usize>>,
    affinities: BTreeMap<IpNet, BTreeMap<AffinityOwner, AffinityState>>,
    /// Blocks whose affinity was removed by hand, or (without transactions) by one operation while another was
    /// between marking it and writing the block. Until the owner has it again.
    pub(crate) orphaned: BTreeSet<IpNet>,
    last_sequence: BTreeMap<IpAddr, u64>,
    /// The innermost last.
    pub(crate) in_flight: Vec<InFlight>,
}

impl Reference {
    pub(crate) fn new(atomic: bool, cooldown: bool) -> Self {
        Self {
            atomic,
            cooldown,
            occupied: Vec::new(),
            unusable: Vec::new(),
            blocks: BTreeMap::new(),
            handles: BTreeMap::new(),
            affinities: BTreeMap::new(),
            orphaned: BTreeSet::new(),
            last_sequence: BTreeMap::new(),
            in_flight: Vec::new(),
        }
    }

    pub(crate) fn begin(&mut self, permission: Permission) {
        self.in_flight.push(InFlight {
            permission,
            gained: Vec::new(),
            lost: Vec::new(),
        });
    }

    pub(crate) fn end(&mut self) -> InFlight {
        self.in_flight.pop().expect("begin comes before end")
    }

    pub(crate) fn holder(&self, address: IpAddr) -> Option<&Held> {
        self.blocks.values().find_map(|block| block.held.get(&address))
    }

    /// All allocations.
    pub(crate) fn allocations(&self) -> impl Iterator<Item = (IpAddr, &Held)> {
        self.blocks
            .values()
            .flat_map(|block| block.held.iter().map(|(address, held)| (*address, held)))
    }

    pub(crate) fn of_handle<'a>(&'a self, handle: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.allocations()
            .filter(move |(_, held)| held.handle == handle)
            .map(|(address, _)| address)
    }

    pub(crate) fn handle_exists(&self, handle: &str) -> bool {
        self.handles.contains_key(handle)
    }

    /// Whether an address is one that automatic assignment passes over.
    pub(crate) fn is_unusable(&self, address: IpAddr) -> bool {
        self.unusable.iter().any(|prefix| prefix.contains(&address))
    }

    /// Takes over what has changed under these keys, and checks it.
    pub(crate) fn absorb(&mut self, store: &MemoryStore, touched: &BTreeSet<Key>) {
        let mut blocks = BTreeSet::new();
        let mut handles = BTreeSet::new();
        for key in touched {
            let value = store.get(key).unwrap().map(|entry| entry.value);
            match key {
                Key::Block(cidr) => {
                    blocks.insert(*cidr);
                    handles.extend(self.take_block(*cidr, value.as_deref()));
                }
                Key::Handle(id) => {
                    handles.insert(id.clone());
                    let handle = value.map(|value| serde_json::from_str::<IpamHandle>(&value).unwrap());
                    match handle {
                        Some(handle) => self.handles.insert(id.clone(), handle.block),
                        None => self.handles.remove(id),
                    };
                }
                Key::Affinity { owner, block } => {
                    blocks.insert(*block);
                    let interrupted = !self.atomic && self.in_flight.len() > 1;
                    let claims = self.affinities.entry(*block).or_default();
                    if let Some(value) = value {
                        let affinity = BlockAffinity::from_stored(&value).unwrap();
                        claims.insert(owner.clone(), affinity.state);
                    } else if claims
                        .remove(owner)
                        .is_some_and(|state| state != AffinityState::Confirmed)
                        && interrupted
                    {
                        self.orphaned.insert(*block);
                    }
                }
                _ => {}
            }
        }
        for block in blocks {
            self.check_ownership(block);
        }
        for handle in handles {
            self.check_count(&handle);
        }
    }

    /// Takes over one block. Returns the handles whose allocations changed.
    fn take_block(&mut self, cidr: IpNet, value: Option<&str>) -> BTreeSet<String> {
        let new = value
            .map(|value| self.read_block(cidr, value))
            .unwrap_or_default();
        let existed = self.blocks.contains_key(&cidr);
        let old = self.blocks.remove(&cidr).unwrap_or_default();
        let mut changed = BTreeSet::new();
        let mut freed = Vec::new();
        for (address, held) in &old.held {
            if new.held.get(address) != Some(held) {
                self.attribute_loss(*address, held);
                changed.insert(held.handle.clone());
                freed.push(*address);
            }
        }
        let mut gained = Vec::new();
        for (address, held) in &new.held {
            if old.held.get(address) != Some(held) {
                let last = self.last_sequence.insert(*address, held.sequence);
                assert!(
                    last.is_none_or(|last| last < held.sequence),
                    "{address}: {held:?} after sequence {last:?}"
                );
                changed.insert(held.handle.clone());
                gained.push(*address);
                self.attribute_gain(*address, held);
            }
        }
        if value.is_none() {
            assert!(new.held.is_empty());
        } else {
            assert!(
                !existed || new.sequence >= old.sequence,
                "{cidr}: sequence went back"
            );
            if existed && new.sequence == old.sequence + 1 && !self.cooldown {
                self.check_queue(cidr, &old, &new, &gained, &freed);
            }
            self.check_position(cidr, &new);
            self.blocks.insert(cidr, new);
        }
        changed
    }

    fn read_block(&self, cidr: IpNet, value: &str) -> Seen {
        let block: IpamBlock = serde_json::from_str(value).unwrap();
        assert_eq!(block.cidr, cidr);
        let defects = block.validate(None);
        assert!(defects.is_empty(), "{cidr}: {defects:?} in {value}");
        let mut seen = Seen {
            owner: block.affinity.clone(),
            sequence: block.sequence_number,
            queue: block
                .unallocated
                .iter()
                .map(|ordinal| block.address(*ordinal).unwrap())
                .collect(),
            ..Seen::default()
        };
        for ordinal in 0..block.allocations.len() {
            let Some(attribute) = block.attribute(ordinal) else {
                continue;
            };
            let address = block.address(ordinal).unwrap();
            let sequence = block.sequence_number_for_allocation[&ordinal];
            let Some(handle) = attribute.handle_id.clone() else {
                assert!(
                    self.cooldown && attribute.released_at.is_some(),
                    "{address}: {attribute:?}"
                );
                seen.cooling.insert(address);
                continue;
            };
            assert!(
                sequence < block.sequence_number,
                "{address}: {sequence} is not before its write"
            );
            seen.held.insert(address, Held { handle, sequence });
        }
        seen
    }

    fn attribute_gain(&mut self, address: IpAddr, held: &Held) {
        let operation = self
            .in_flight
            .iter_mut()
            .rev()
            .find(|running| running.permission.may_gain(address, held));
        let operation = operation.unwrap_or_else(|| panic!("nobody was to assign {address} to {held:?}"));
        operation.gained.push((address, held.clone()));
    }

    fn attribute_loss(&mut self, address: IpAddr, held: &Held) {
        let may = |running: &&mut InFlight| running.permission.may_lose(address, held, &running.gained);
        let operation = self.in_flight.iter_mut().rev().find(may);
        let operation = operation.unwrap_or_else(|| panic!("nobody was to release {address} from {held:?}"));
        operation.lost.push((address, held.clone()));
    }

    /// One write: what is gained leaves the queue, from its head if the engine chose; what is freed joins its tail
    /// in ascending order.
    fn check_queue(&self, cidr: IpNet, old: &Seen, new: &Seen, gained: &[IpAddr], freed: &[IpAddr]) {
        let mut expected = old.queue.clone();
        expected.retain(|address| !gained.contains(address));
        expected.extend(freed.iter().filter(|address| !new.held.contains_key(address)));
        assert_eq!(
            new.queue, expected,
            "{cidr}: +{gained:?} -{freed:?} from {:?}",
            old.queue
        );
        let chosen = |running: &InFlight| matches!(running.permission, Permission::Assign { .. });
        if freed.is_empty() && self.in_flight.len() == 1 && self.in_flight.iter().all(chosen) {
            let usable = old.queue.iter().filter(|address| !self.is_unusable(**address));
            let head: BTreeSet<IpAddr> = usable.take(gained.len()).copied().collect();
            assert_eq!(
                head,
                gained.iter().copied().collect(),
                "{cidr}: not from the head of {:?}",
                old.queue
            );
        }
    }

    /// No overlap with another block, none with a network of the host unless nobody owns it.
    fn check_position(&self, cidr: IpNet, new: &Seen) {
        let overlaps = |other: &IpNet| *other != cidr && (other.contains(&cidr) || cidr.contains(other));
        assert!(!self.blocks.keys().any(overlaps), "{cidr} overlaps another block");
        let taken = |prefix: &IpNet| prefix.contains(&cidr) || cidr.contains(prefix);
        assert!(
            new.owner.is_none() || !self.occupied.iter().any(taken),
            "{cidr} overlaps a network of the host"
        );
    }

    /// A confirmed affinity is for an own block, and an owned block has its owner's affinity.
    fn check_ownership(&mut self, cidr: IpNet) {
        let none = BTreeMap::new();
        let claims = self.affinities.get(&cidr).unwrap_or(&none);
        let Some(block) = self.blocks.get(&cidr) else {
            return;
        };
        for (owner, state) in claims {
            assert!(
                *state != AffinityState::Confirmed || block.owner.as_ref() == Some(owner),
                "{owner} confirmed {cidr}, which is {:?}'s",
                block.owner
            );
        }
        if let Some(owner) = &block.owner {
            if claims.contains_key(owner) {
                self.orphaned.remove(&cidr);
            } else {
                assert!(
                    self.orphaned.contains(&cidr),
                    "{cidr} is {owner}'s without an affinity"
                );
            }
        }
    }

    /// Never too few; with transactions exactly.
    fn check_count(&self, id: &str) {
        let mut truth: BTreeMap<IpNet, usize> = BTreeMap::new();
        for (cidr, block) in &self.blocks {
            let count = block.held.values().filter(|held| held.handle == id).count();
            if count > 0 {
                truth.insert(*cidr, count);
            }
        }
        let none = BTreeMap::new();
        let counted = self.handles.get(id).unwrap_or(&none);
        if self.atomic {
            assert_eq!(*counted, truth, "handle {id}");
            return;
        }
        for (cidr, count) in truth {
            let counted = counted.get(&cidr).copied().unwrap_or(0);
            assert!(
                counted >= count,
                "handle {id} counts {counted} in {cidr}, which has {count}"
            );
        }
    }

    /// Nothing but what is known here may be stored.
    pub(crate) fn check_keys<'k>(&self, keys: impl Iterator<Item = &'k Key>) {
        let mut blocks = BTreeSet::new();
        let mut handles = BTreeSet::new();
        for key in keys {
            match key {
                Key::Block(cidr) => {
                    blocks.insert(*cidr);
                }
                Key::Handle(id) => {
                    handles.insert(id.clone());
                }
                Key::Affinity { owner, block } => {
                    assert!(
                        self.affinities
                            .get(block)
                            .is_some_and(|claims| claims.contains_key(owner)),
                        "{key}"
                    );
                }
                _ => {}
            }
        }
        assert_eq!(blocks, self.blocks.keys().copied().collect());
        assert_eq!(handles, self.handles.keys().cloned().collect());
    }
}
