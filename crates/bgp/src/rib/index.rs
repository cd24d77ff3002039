// SPDX-License-Identifier: Apache-2.0
//! Places by hash: open addressing with linear probing, eight octets a place, so that a prefix that is looked for costs
//! one cache line here, and looking for many at once has the memory fetch them side by side.

use std::hint::black_box;

use super::table::Slot;

/// Half of a prefix's hash; the index needs no more.
pub(super) type Half = u32;

/// No place has this number: the table would have four thousand million prefixes.
const NOTHING: Slot = Slot::MAX;
const EMPTY: (Half, Slot) = (0, NOTHING);
const FIRST_SIZE: usize = 16;

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A power of two of them, or none.
    places: Vec<(Half, Slot)>,
    used: usize,
}

impl Index {
    pub(super) const fn len(&self) -> usize {
        self.used
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Where a hash belongs if nothing else is there.
    const fn home(&self, half: Half) -> usize {
        half as usize & (self.places.len() - 1)
    }

    const fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    /// Has the memory fetch a place that is asked for soon.
    pub(super) fn touch(&self, half: Half) {
        if !self.is_empty() {
            black_box(self.places[self.home(half)].0);
        }
    }

    /// The first with this hash that it is.
    pub(super) fn find(&self, half: Half, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        self.position(half, is_it).map(|place| self.places[place].1)
    }

    fn position(&self, half: Half, is_it: impl Fn(Slot) -> bool) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let mut place = self.home(half);
        loop {
            match self.places[place] {
                (_, NOTHING) => return None,
                (of, slot) if of == half && is_it(slot) => return Some(place),
                _ => place = self.after(place),
            }
        }
    }

    /// Adds one that is not there.
    pub(super) fn insert(&mut self, half: Half, slot: Slot) {
        // A quarter stays empty: probing ends soon.
        if (self.used + 1) * 4 > self.places.len() * 3 {
            let size = (self.places.len() * 2).max(FIRST_SIZE);
            let before = std::mem::replace(&mut self.places, vec![EMPTY; size]);
            for (half, slot) in before.into_iter().filter(|(_, slot)| *slot != NOTHING) {
                self.put(half, slot);
            }
        }
        self.put(half, slot);
        self.used += 1;
    }

    fn put(&mut self, half: Half, slot: Slot) {
        let mut place = self.home(half);
        while self.places[place].1 != NOTHING {
            place = self.after(place);
        }
        self.places[place] = (half, slot);
    }

    /// Removes one; whether it was there.
    pub(super) fn remove(&mut self, half: Half, slot: Slot) -> bool {
        let Some(mut hole) = self.position(half, |other| other == slot) else {
            return false;
        };
        self.used -= 1;
        // Whatever was kept from its home by this one moves up, so that no probing ends too early.
        let mut place = self.after(hole);
        while self.places[place].1 != NOTHING {
            let home = self.home(self.places[place].0);
            let mask = self.places.len() - 1;
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[place];
                hole = place;
            }
            place = self.after(place);
        }
        self.places[hole] = EMPTY;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes for many: whatever comes and goes, the same is found as in a map.
        #[test]
        fn finds_what_a_map_finds(steps in prop::collection::vec((any::<bool>(), 0..24_u32, 0..40_u32), 0..400)) {
            let mut index = Index::default();
            let mut map = BTreeMap::new();
            for (adds, half, slot) in steps {
                // Ends of the range too, where probing begins again from the start.
                let half = if half < 12 { half } else { u32::MAX - half };
                if adds && !map.contains_key(&slot) {
                    index.insert(half, slot);
                    map.insert(slot, half);
                } else if !adds {
                    prop_assert_eq!(index.remove(half, slot), map.get(&slot) == Some(&half));
                    if map.get(&slot) == Some(&half) {
                        map.remove(&slot);
                    }
                }
                prop_assert_eq!(index.len(), map.len());
                for (slot, half) in &map {
                    prop_assert_eq!(index.find(*half, |found| found == *slot), Some(*slot));
                }
                for half in 0..12 {
                    let is_there = map.values().any(|of| *of == half);
                    prop_assert_eq!(index.find(half, |_| true).is_some(), is_there);
                }
            }
        }
    }
}
