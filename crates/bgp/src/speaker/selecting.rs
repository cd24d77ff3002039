// SPDX-License-Identifier: Apache-2.0
//! Which paths are used (the decision process, RFC 4271 9.1), once for all that has changed.

use std::{net::IpAddr, rc::Rc};

use super::{Speaker, peer::Peer};
use crate::{
    best_path::{Candidate, Source, order, select},
    family::Family,
    rib::{Path, PeerId, Shared, Slot},
};

impl Speaker {
    /// Selects and announces what events have changed since the last call.
    pub fn settle(&mut self) {
        self.sweep_selections();
        for family in Family::ALL {
            let listed = self.tables.of_mut(family).take_listed();
            let mut usable = None;
            self.changes.reserve(listed.len());
            for slot in &listed {
                self.select(family, *slot, &mut usable);
                self.note_change(family, *slot);
            }
            self.export(family, &listed);
            let table = self.tables.of_mut(family);
            table.release(&listed);
            table.shrink();
        }
    }

    /// Puts the paths that are used to the front. `usable` is what a single path had last that can be used: the next one
    /// often has the same.
    fn select(&mut self, family: Family, slot: Slot, usable: &mut Option<Shared>) {
        let entry = self.tables.of(family).entry(slot);
        let paths = entry.paths();
        let sharing = if paths.is_empty() {
            0
        } else if let [path] = paths {
            let is_known = |used: &Shared| usable.as_ref().is_some_and(|known| Rc::ptr_eq(known, used));
            match &path.used {
                Some(used) if is_known(used) => 1,
                Some(used) if self.cost_of(used).is_some() => {
                    *usable = Some(Rc::clone(used));
                    1
                }
                _ => 0,
            }
        } else {
            let candidates: Vec<(usize, Candidate<&_>)> = paths
                .iter()
                .enumerate()
                .filter_map(|(place, path)| Some((place, self.candidate(path)?)))
                .collect();
            let (places, candidates): (Vec<usize>, Vec<_>) = candidates.into_iter().unzip();
            let selection = select(&candidates, self.config.multipath);
            let Some(best) = selection.best else {
                self.tables.of_mut(family).entry_mut(slot).sharing = 0;
                return;
            };
            let mut order: Vec<usize> = vec![places[best]];
            let others = selection.multipath.iter().filter(|place| **place != best);
            order.extend(others.map(|place| places[*place]));
            let sharing = order.len();
            let paths = self.tables.of_mut(family).entry_mut(slot).paths_mut();
            for front in 0..order.len() {
                let from = order[front];
                paths.swap(front, from);
                // Whatever was at the front is now where the other came from.
                for place in &mut order[front + 1..] {
                    if *place == front {
                        *place = from;
                    }
                }
            }
            u8::try_from(sharing).unwrap_or(u8::MAX)
        };
        self.tables.of_mut(family).entry_mut(slot).sharing = sharing;
    }

    /// The paths to a prefix that can be used, the better first.
    pub(super) fn usable(&self, family: Family, slot: Slot) -> Vec<Path> {
        let paths = self.tables.of(family).entry(slot).paths();
        if let [path] = paths {
            return self.cost(path).map(|_| path.clone()).into_iter().collect();
        }
        let candidates = paths
            .iter()
            .filter_map(|path| Some((path, self.candidate(path)?)));
        let (paths, candidates): (Vec<&Path>, Vec<_>) = candidates.unzip();
        order(&candidates)
            .into_iter()
            .map(|place| paths[place].clone())
            .collect()
    }

    /// What it costs to get to a path's next hop; `None` if it cannot be used.
    fn cost(&self, path: &Path) -> Option<u32> {
        self.cost_of(path.used.as_ref()?)
    }

    fn cost_of(&self, used: &Shared) -> Option<u32> {
        match used.next_hop {
            None => Some(0),
            Some(next_hop) => self
                .next_hops
                .get(&next_hop.address)
                .map_or(Some(0), |state| state.cost),
        }
    }

    fn candidate<'a>(&self, path: &'a Path) -> Option<Candidate<&'a crate::attributes::Attributes>> {
        let used = path.used.as_ref()?;
        Some(Candidate {
            attributes: &used.attributes,
            source: self.source(path),
            cost: self.cost_of(used),
            long_stale: false,
        })
    }

    fn source(&self, path: &Path) -> Source {
        if path.peer == PeerId::OWN {
            return Source::Own;
        }
        let peer = self.peers.get(&path.peer);
        Source::Peer {
            internal: peer.is_some_and(Peer::is_internal),
            identifier: peer.map_or(std::net::Ipv4Addr::UNSPECIFIED, |peer| peer.identifier),
            address: peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.config.address),
            path_id: Some(path.number),
        }
    }
}
