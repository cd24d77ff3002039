// SPDX-License-Identifier: Apache-2.0
//! What is selected for each prefix, as numbers: nearly all prefixes of a peer have the same selection, and whoever wants
//! to know what has changed compares two numbers.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::Speaker;
use crate::{
    family::Family,
    rib::{Entry, PeerId, Slot},
};

/// What carries the traffic to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Who has sent the best path; `None`: it is the speaker's own.
    pub peer: Option<PeerId>,
    /// The best path's next hop; `None` for an own one.
    pub next_hop: Option<IpAddr>,
    /// How many paths share the traffic.
    pub sharing: u8,
}

impl Selection {
    fn of(entry: &Entry) -> Option<Self> {
        let best = entry.best()?;
        let next_hop = best.used.as_ref().and_then(|used| used.next_hop);
        Some(Self {
            peer: (best.peer != PeerId::OWN).then_some(best.peer),
            next_hop: next_hop.map(|next_hop| next_hop.address),
            sharing: entry.sharing,
        })
    }
}

/// A prefix whose selection may have changed, or paths of it. It holds until the next [`Speaker::settle`].
#[derive(Clone, Copy, Debug)]
pub struct SelectionChange {
    /// Which.
    pub prefix: IpNet,
    slot: Slot,
    before: u32,
    now: u32,
}

impl SelectionChange {
    /// Whether the selection is another than before.
    pub const fn is_another(&self) -> bool {
        self.before != self.now
    }

    /// Whether it is from the same selection to the same as another change since the last settling.
    pub const fn is_like(&self, other: &Self) -> bool {
        self.before == other.before && self.now == other.now
    }
}

/// Stands for no selection.
const NONE: u32 = 0;
/// Before so many are known, unused ones are not looked for.
const FIRST_SWEEP: usize = 4096;

/// Selections by number.
#[derive(Debug)]
pub(super) struct Selections {
    numbers: HashMap<Selection, u32>,
    /// By number; those that nothing refers to any more are `None`.
    known: Vec<Option<Selection>>,
    free: Vec<u32>,
    /// The number that was given last.
    latest: u32,
    sweep_at: usize,
}

impl Default for Selections {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            known: vec![None],
            free: Vec::new(),
            latest: NONE,
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl Selections {
    fn get(&self, number: u32) -> Option<Selection> {
        *self.known.get(number as usize)?
    }

    fn number(&mut self, selection: Option<Selection>) -> u32 {
        let Some(wanted) = selection else { return NONE };
        // Of many prefixes in a row that come from one peer, all but the first end here.
        if self.get(self.latest) == selection {
            return self.latest;
        }
        let (known, free) = (&mut self.known, &mut self.free);
        self.latest = *self.numbers.entry(wanted).or_insert_with(|| {
            if let Some(number) = free.pop() {
                known[number as usize] = selection;
                return number;
            }
            known.push(selection);
            u32::try_from(known.len() - 1).unwrap_or(NONE)
        });
        self.latest
    }

    /// Forgets what no prefix has.
    fn sweep(&mut self, used: impl Iterator<Item = u32>) {
        let mut is_used = vec![false; self.known.len()];
        for number in used {
            is_used[number as usize] = true;
        }
        self.numbers.retain(|_, number| is_used[*number as usize]);
        self.free.clear();
        for (number, known) in self.known.iter_mut().enumerate().skip(1) {
            if !is_used[number] {
                *known = None;
                self.free.extend(u32::try_from(number));
            }
        }
        self.sweep_at = FIRST_SWEEP.max(self.numbers.len() * 2);
    }
}

impl Speaker {
    /// What is selected for a prefix.
    pub fn selection(&self, prefix: &IpNet) -> Option<Selection> {
        let table = self.tables.of(Family::of(prefix));
        Selection::of(table.entry(table.find(prefix)?))
    }

    /// What was selected before a change.
    pub fn selection_before(&self, change: &SelectionChange) -> Option<Selection> {
        self.selections.get(change.before)
    }

    /// What is selected since a change.
    pub fn selection_now(&self, change: &SelectionChange) -> Option<Selection> {
        self.selections.get(change.now)
    }

    /// The next hops that share the traffic since a change, the best first; own routes have none.
    pub fn next_hops_of<'a>(&'a self, change: &SelectionChange) -> impl Iterator<Item = IpAddr> + use<'a> {
        let entry = self.tables.of(Family::of(&change.prefix)).entry_at(change.slot);
        // Selections that are gone have given up their place.
        let entry = entry.filter(|_| change.now != NONE);
        entry.into_iter().flat_map(next_hops)
    }

    /// The next hops that share the traffic to a prefix, the best first; own routes have none.
    pub fn next_hops_to<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> + use<'a> {
        let table = self.tables.of(Family::of(prefix));
        let entry = table.find(prefix).map(|slot| table.entry(slot));
        entry.into_iter().flat_map(next_hops)
    }

    /// Whether a peer's path to a changed prefix is still there, and then whether it is refused.
    pub fn path_of(&self, change: &SelectionChange, peer: PeerId) -> Option<bool> {
        let entry = self.tables.of(Family::of(&change.prefix)).entry_at(change.slot)?;
        let mut paths = entry.paths().iter().filter(|_| entry.prefix == change.prefix);
        paths
            .find(|path| path.peer == peer)
            .map(|path| path.used.is_none())
    }

    /// Notes that a prefix may have another selection.
    pub(super) fn note_change(&mut self, family: Family, slot: Slot) {
        let entry = self.tables.of_mut(family).entry_mut(slot);
        let now = self.selections.number(Selection::of(entry));
        let before = std::mem::replace(&mut entry.selection, now);
        self.changes.push(SelectionChange {
            prefix: entry.prefix,
            slot,
            before,
            now,
        });
    }

    /// Forgets selections that no prefix has, now and then. Not to be done while changes are waiting.
    pub(super) fn sweep_selections(&mut self) {
        if self.selections.numbers.len() < self.selections.sweep_at || !self.changes.is_empty() {
            return;
        }
        let tables = Family::ALL.map(|family| self.tables.of(family));
        let used = tables
            .into_iter()
            .flat_map(|table| table.slots().map(|slot| table.entry(slot).selection));
        self.selections.sweep(used);
    }
}

fn next_hops(entry: &Entry) -> impl Iterator<Item = IpAddr> {
    let used = entry.used().iter();
    used.filter_map(|path| Some(path.used.as_ref()?.next_hop?.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(number: u32) -> Selection {
        Selection {
            peer: Some(PeerId(number)),
            next_hop: None,
            sharing: 1,
        }
    }

    #[test]
    fn numbers_stand_for_selections_until_nothing_has_them() {
        let mut selections = Selections::default();
        assert_eq!(selections.number(None), NONE);
        let numbers: Vec<u32> = (0..5000)
            .map(|peer| selections.number(Some(selection(peer))))
            .collect();
        assert_eq!(selections.number(Some(selection(7))), numbers[7]);
        for (peer, number) in (0..).zip(&numbers) {
            assert_eq!(selections.get(*number), Some(selection(peer)));
        }
        selections.sweep(numbers[..10].iter().copied().chain([NONE]));
        assert_eq!(selections.numbers.len(), 10);
        assert_eq!(selections.get(numbers[3]), Some(selection(3)));
        assert_eq!(selections.get(numbers[4999]), None);
        assert_eq!(selections.get(NONE), None);
        // The latest was forgotten as well: it comes back as a new one.
        let again = selections.number(Some(selection(4999)));
        assert_eq!(selections.get(again), Some(selection(4999)));
        assert_eq!(
            selections.number(Some(selection(6000))),
            selections.number(Some(selection(6000)))
        );
        assert_eq!(selections.known.len(), 5001);
    }
}
