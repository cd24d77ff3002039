// SPDX-License-Identifier: Apache-2.0
//! Prefixes and the paths to each. Slots are stable while a prefix has a path, so that lists of changed prefixes are
//! lists of numbers.

use std::{hash::BuildHasher, hint::black_box, rc::Rc, slice};

use hashbrown::DefaultHashBuilder;
use ipnet::IpNet;

use super::{
    PeerId,
    index::{Half, Index},
    intern::Shared,
};
use crate::family::Nlri;

/// A prefix's place in a [`Table`].
pub(crate) type Slot = u32;

/// What is special about a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PathFlags(u8);

impl PathFlags {
    /// Kept over the restart of its peer (RFC 4724).
    pub const STALE: Self = Self(1);
    /// To be sent again by a peer that repeats its routes (RFC 7313).
    pub const REFRESHING: Self = Self(2);

    /// Whether all of these are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(crate) const fn set(&mut self, flags: Self) {
        self.0 |= flags.0;
    }
}

/// A path to a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Who has sent it.
    pub(crate) peer: PeerId,
    /// Its identifier, where the peer sends several (RFC 7911); 0 elsewhere.
    pub(crate) number: u32,
    /// As it came.
    pub(crate) received: Shared,
    /// As the import policy has made it; `None` if that, or a loop, has refused it.
    pub(crate) used: Option<Shared>,
    pub(crate) flags: PathFlags,
}

/// The paths of a prefix; nearly all have one.
#[derive(Debug, Default)]
enum Paths {
    #[default]
    None,
    One(Path),
    Many(Vec<Path>),
}

/// A prefix and its paths. The first [`Entry::sharing`] of them share the traffic, the very first is the best.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) prefix: IpNet,
    /// How many paths are used; 0 if none can be.
    pub(crate) sharing: u8,
    /// In the list of changed prefixes.
    listed: bool,
    /// The number of what was selected last.
    pub(crate) selection: u32,
    paths: Paths,
}

impl Entry {
    /// All paths.
    pub(crate) fn paths(&self) -> &[Path] {
        match &self.paths {
            Paths::None => &[],
            Paths::One(path) => slice::from_ref(path),
            Paths::Many(paths) => paths,
        }
    }

    /// All paths, to be changed.
    pub(crate) fn paths_mut(&mut self) -> &mut [Path] {
        match &mut self.paths {
            Paths::None => &mut [],
            Paths::One(path) => slice::from_mut(path),
            Paths::Many(paths) => paths,
        }
    }

    /// The best path.
    pub(crate) fn best(&self) -> Option<&Path> {
        (self.sharing > 0).then(|| self.paths().first()).flatten()
    }

    /// Those that share the traffic.
    pub(crate) fn used(&self) -> &[Path] {
        &self.paths()[..usize::from(self.sharing).min(self.paths().len())]
    }

    fn push(&mut self, path: Path) {
        self.paths = match std::mem::take(&mut self.paths) {
            Paths::None => Paths::One(path),
            Paths::One(first) => Paths::Many(vec![first, path]),
            Paths::Many(mut paths) => {
                paths.push(path);
                Paths::Many(paths)
            }
        };
    }

    fn retain(&mut self, mut keep: impl FnMut(&Path) -> bool) -> bool {
        let before = self.paths().len();
        self.paths = match std::mem::take(&mut self.paths) {
            Paths::One(path) if keep(&path) => Paths::One(path),
            Paths::None | Paths::One(_) => Paths::None,
            Paths::Many(mut paths) => {
                paths.retain(keep);
                match paths.len() {
                    0 => Paths::None,
                    1 => paths.pop().map_or(Paths::None, Paths::One),
                    _ => Paths::Many(paths),
                }
            }
        };
        self.paths().len() < before
    }
}

/// Prefixes by number and by value.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    index: Index,
    hasher: DefaultHashBuilder,
    /// Prefixes whose paths have changed.
    listed: Vec<Slot>,
}

/// How a [`Table`] finds a prefix: good for that table only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(Half);

/// So many prefixes are looked for together.
pub(crate) const BATCH: usize = 64;

/// What [`Table::put`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// A path that was not there.
    Added,
    /// A path in place of the one that its peer had sent before.
    Replaced,
    /// The path was there already.
    Same,
}

impl Table {
    /// How many prefixes have a path.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The prefix's place.
    pub(crate) fn find(&self, prefix: &IpNet) -> Option<Slot> {
        self.find_by(self.key(prefix), prefix)
    }

    /// The prefix's place, by its key.
    pub(crate) fn find_by(&self, Key(half): Key, prefix: &IpNet) -> Option<Slot> {
        self.index
            .find(half, |slot| self.entries[slot as usize].prefix == *prefix)
    }

    /// The key of a prefix.
    pub(crate) fn key(&self, prefix: &IpNet) -> Key {
        let hash = match prefix {
            IpNet::V4(prefix) => {
                let number = u64::from(u32::from(prefix.network())) << 8;
                self.hasher.hash_one(number | u64::from(prefix.prefix_len()))
            }
            IpNet::V6(prefix) => self
                .hasher
                .hash_one((u128::from(prefix.network()), prefix.prefix_len())),
        };
        let [.., a, b, c, d] = hash.to_be_bytes();
        Key(u32::from_be_bytes([a, b, c, d]))
    }

    /// The keys of at most [`BATCH`] prefixes. What is there of them is on its way from the memory then, all at once: in a
    /// large table nearly all of the time to find a prefix is spent on waiting for that.
    pub(crate) fn keys(&self, prefixes: &[Nlri]) -> [Key; BATCH] {
        let mut keys = [Key(0); BATCH];
        for (key, nlri) in keys.iter_mut().zip(prefixes) {
            *key = self.key(&nlri.prefix);
            self.index.touch(key.0);
        }
        for (key, _) in keys.iter().zip(prefixes) {
            if let Some(slot) = self.index.find(key.0, |_| true) {
                black_box(self.entries[slot as usize].listed);
            }
        }
        keys
    }

    /// What is at a place.
    pub(crate) fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot as usize]
    }

    /// What is at a place, if there is such a place still.
    pub(crate) fn entry_at(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot as usize)
    }

    /// What is at a place, to be changed.
    pub(crate) fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    /// Every place, those without paths among them: what is said there of a prefix may be long past.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Every prefix that has paths.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.paths().is_empty())
    }

    /// Puts a path in, in place of the same peer's with the same identifier; and whether that one was refused.
    pub(crate) fn put(&mut self, prefix: IpNet, key: Key, path: Path) -> (Slot, Put, bool) {
        if let Some(slot) = self.find_by(key, &prefix) {
            let entry = &mut self.entries[slot as usize];
            let same = |found: &&mut Path| found.peer == path.peer && found.number == path.number;
            let Some(there) = entry.paths_mut().iter_mut().find(same) else {
                entry.push(path);
                return (slot, Put::Added, false);
            };
            let is_same = Rc::ptr_eq(&there.received, &path.received) && same_use(there, &path);
            let was_refused = there.used.is_none();
            *there = path;
            let put = if is_same { Put::Same } else { Put::Replaced };
            return (slot, put, was_refused);
        }
        let entry = Entry {
            prefix,
            sharing: 0,
            listed: false,
            selection: 0,
            paths: Paths::One(path),
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = entry;
            slot
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        self.index.insert(key.0, slot);
        (slot, Put::Added, false)
    }

    /// Removes paths of one prefix; whether there were any. The place stays until [`Table::release`].
    pub(crate) fn remove(&mut self, slot: Slot, mut gone: impl FnMut(&Path) -> bool) -> bool {
        self.entries[slot as usize].retain(|path| !gone(path))
    }

    /// The paths of a prefix have changed.
    pub(crate) fn list(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot as usize];
        if !entry.listed {
            entry.listed = true;
            self.listed.push(slot);
        }
    }

    /// Prefixes whose paths have changed since the last call.
    pub(crate) fn take_listed(&mut self) -> Vec<Slot> {
        let listed = std::mem::take(&mut self.listed);
        for slot in &listed {
            self.entries[*slot as usize].listed = false;
        }
        listed
    }

    /// Gives places back that have no path any more. Not to be done while they are in the list of changed ones.
    pub(crate) fn release(&mut self, places: &[Slot]) {
        let mut gone = [(0, 0); BATCH];
        for batch in places.chunks(BATCH) {
            let mut count = 0;
            for slot in batch {
                let entry = &self.entries[*slot as usize];
                if entry.paths().is_empty() {
                    let Key(half) = self.key(&entry.prefix);
                    self.index.touch(half);
                    gone[count] = (half, *slot);
                    count += 1;
                }
            }
            for (half, slot) in &gone[..count] {
                if self.index.remove(*half, *slot) {
                    self.free.push(*slot);
                }
            }
        }
    }

    /// Gives memory back if nothing is left.
    pub(crate) fn shrink(&mut self) {
        if self.index.is_empty() && !self.entries.is_empty() {
            *self = Self::default();
        }
    }
}

/// Whether two paths go by the same attributes. Equal ones of one interner are the same.
fn same_use(one: &Path, other: &Path) -> bool {
    match (&one.used, &other.used) {
        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
