// SPDX-License-Identifier: Apache-2.0
//! Prefixes and the paths to each. Slots are stable while a prefix has a path, so that lists of changed prefixes are
//! lists of numbers.

use std::{hash::BuildHasher, slice, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::IpNet;

use super::{PeerId, intern::Shared};

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
    pub(crate) listed: bool,
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
    /// Half of the prefix's hash beside its place: to grow, or to pass one over, takes no look at the entry.
    index: HashTable<(u32, Slot)>,
    hasher: DefaultHashBuilder,
}

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
        let half = self.half(prefix);
        let is_it = |(of, slot): &(u32, Slot)| *of == half && self.entries[*slot as usize].prefix == *prefix;
        self.index.find(spread(half), is_it).map(|(_, slot)| *slot)
    }

    fn half(&self, prefix: &IpNet) -> u32 {
        let [.., a, b, c, d] = self.hasher.hash_one(prefix).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
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
    pub(crate) fn put(&mut self, prefix: IpNet, path: Path) -> (Slot, Put, bool) {
        let half = self.half(&prefix);
        let entries = &mut self.entries;
        let is_it = |(of, slot): &(u32, Slot)| *of == half && entries[*slot as usize].prefix == prefix;
        if let Some((_, slot)) = self.index.find(spread(half), is_it) {
            let entry = &mut entries[*slot as usize];
            let same = |found: &&mut Path| found.peer == path.peer && found.number == path.number;
            let Some(there) = entry.paths_mut().iter_mut().find(same) else {
                entry.push(path);
                return (*slot, Put::Added, false);
            };
            let is_same = Arc::ptr_eq(&there.received, &path.received) && same_use(there, &path);
            let was_refused = there.used.is_none();
            *there = path;
            let put = if is_same { Put::Same } else { Put::Replaced };
            return (*slot, put, was_refused);
        }
        let entry = Entry {
            prefix,
            sharing: 0,
            listed: false,
            selection: 0,
            paths: Paths::One(path),
        };
        let slot = if let Some(slot) = self.free.pop() {
            entries[slot as usize] = entry;
            slot
        } else {
            entries.push(entry);
            u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
        };
        self.index
            .insert_unique(spread(half), (half, slot), |(of, _)| spread(*of));
        (slot, Put::Added, false)
    }

    /// Removes paths of one prefix; whether there were any. The place stays until [`Table::release`].
    pub(crate) fn remove(&mut self, slot: Slot, mut gone: impl FnMut(&Path) -> bool) -> bool {
        self.entries[slot as usize].retain(|path| !gone(path))
    }

    /// Gives a place back that has no path any more. Not to be done while the place is in a list of changed ones.
    pub(crate) fn release(&mut self, slot: Slot) {
        let entry = &self.entries[slot as usize];
        if !entry.paths().is_empty() {
            return;
        }
        let half = self.half(&entry.prefix);
        if let Ok(found) = self.index.find_entry(spread(half), |(_, other)| *other == slot) {
            found.remove();
            self.free.push(slot);
        }
    }

    /// Gives memory back if nothing is left.
    pub(crate) fn shrink(&mut self) {
        if self.index.is_empty() && !self.entries.is_empty() {
            *self = Self::default();
        }
    }
}

/// A hash of full length: the index takes both of its ends.
fn spread(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

/// Whether two paths go by the same attributes. Equal ones of one interner are the same.
fn same_use(one: &Path, other: &Path) -> bool {
    match (&one.used, &other.used) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
