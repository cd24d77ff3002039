// SPDX-License-Identifier: Apache-2.0
//! What is announced to peers that are all told the same (an update group), once for all of them (Adj-RIB-Out, RFC 4271
//! 9.2), as a log: a change of a route takes its earlier place out of the log and adds one at the end. Each peer is at
//! some place of the log and is told what follows; so it never hears what has been superseded meanwhile, however slow
//! it is, and one that joins begins at the front.

use std::{collections::HashMap, hash::BuildHasher, rc::Rc, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::IpNet;

use crate::{
    attributes::Attributes,
    family::{Family, Nlri},
    message::{EncodedAttributes, Encoding, NextHop, announce, withdraw},
    rib::{PeerId, Shared},
};

/// Attributes as they are announced, for all routes that have them.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// What they were made from, kept so that its address stays its own.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(super) made_from: Shared,
    pub(super) attributes: Attributes,
    pub(super) encoded: EncodedAttributes,
    pub(super) next_hop: NextHop,
}

/// A route as a group is to be told it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) route: Rc<Outgoing>,
    /// Who it was learned from.
    pub(super) source: PeerId,
    /// The identifier that it was learned with.
    pub(super) number: u32,
}

#[derive(Debug)]
struct OutEntry {
    /// The prefix, and the path's identifier where peers are told several.
    nlri: Nlri,
    /// `None`: it is withdrawn, and not all may know.
    route: Option<Rc<Outgoing>>,
    /// Who it was learned from: that peer is not told.
    source: PeerId,
    /// The identifier that it was learned with.
    number: u32,
    /// Its place in the log.
    place: usize,
    /// An earlier route of this prefix was learned from somebody else, so `source` may have been told that one.
    changed_hands: bool,
}

/// Most paths of a prefix that a peer is told.
pub(super) const MAX_PATHS: usize = 8;
/// A place in the log without a route any more.
const HOLE: u32 = u32::MAX;
/// Most places that are made into messages at once.
const CHUNK: usize = 16_384;

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct OutRib {
    entries: Vec<OutEntry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    log: Vec<u32>,
    announced: usize,
    chunk: Option<Rc<Chunk>>,
}

/// How far a peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The next place to tell.
    pub(super) next: usize,
    /// What was withdrawn before this place, it has never been told of.
    joined: usize,
}

/// A stretch of the log as messages.
#[derive(Debug)]
pub(super) struct Chunk {
    from: usize,
    to: usize,
    /// Withdrawals before it were left out.
    joined: usize,
    withdrawals: Vec<u8>,
    parts: Vec<Part>,
}

/// Messages with routes that were learned from one peer.
#[derive(Debug)]
struct Part {
    source: PeerId,
    announcements: Vec<u8>,
    /// For the source itself, instead.
    withdrawals: Vec<u8>,
    prefixes: usize,
}

impl OutRib {
    /// Where a peer is that has been told nothing.
    pub(super) fn start(&self) -> Cursor {
        Cursor {
            next: 0,
            joined: self.log.len(),
        }
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self, cursor: Cursor) -> bool {
        cursor.next < self.log.len()
    }

    /// How many routes are announced: prefixes, or paths where there may be several.
    pub(super) fn announced(&self) -> usize {
        self.announced
    }

    /// What is announced.
    pub(super) fn routes(&self) -> impl Iterator<Item = (&Nlri, &Rc<Outgoing>, PeerId)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((&entry.nlri, entry.route.as_ref()?, entry.source)))
    }

    /// Whether nothing has been announced, or all of it is forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether a route is announced.
    pub(super) fn has(&self, nlri: &Nlri) -> bool {
        self.find(nlri)
            .is_some_and(|slot| self.entries[slot as usize].route.is_some())
    }

    fn find(&self, nlri: &Nlri) -> Option<u32> {
        let hash = self.hasher.hash_one(nlri);
        let same = |slot: &u32| self.entries[*slot as usize].nlri == *nlri;
        self.index.find(hash, same).copied()
    }

    /// Announces the paths of a prefix, and withdraws others, to peers that are told several (RFC 7911). A path keeps its
    /// identifier for as long as it is announced; one that goes leaves its own to one that comes. There are never more
    /// than `limit`. Whether that is news.
    pub(super) fn set_all(&mut self, prefix: IpNet, wanted: Vec<Told>, limit: usize) -> bool {
        let identifiers = 1..=u32::try_from(limit).unwrap_or(u32::MAX);
        let nlri = |identifier| Nlri {
            prefix,
            path_id: Some(identifier),
        };
        let mut wanted: Vec<Option<Told>> = wanted.into_iter().take(limit).map(Some).collect();
        let mut free = Vec::new();
        let mut news = false;
        for identifier in identifiers {
            let entry = self
                .find(&nlri(identifier))
                .map(|slot| &self.entries[slot as usize]);
            let kept = entry.filter(|entry| entry.route.is_some()).and_then(|entry| {
                let is_it = |told: &&mut Option<Told>| {
                    told.as_ref()
                        .is_some_and(|told| (told.source, told.number) == (entry.source, entry.number))
                };
                wanted.iter_mut().find(is_it).and_then(Option::take)
            });
            match kept {
                Some(told) => news |= self.set(nlri(identifier), Some(told)),
                None => free.push(identifier),
            }
        }
        let mut coming = wanted.into_iter().flatten();
        for identifier in free {
            news |= self.set(nlri(identifier), coming.next());
        }
        news
    }

    /// Announces a route, or withdraws it. Whether that is news.
    pub(super) fn set(&mut self, nlri: Nlri, wanted: Option<Told>) -> bool {
        match (self.find(&nlri), wanted) {
            (None, None) => false,
            (Some(slot), None) => {
                let entry = &mut self.entries[slot as usize];
                if entry.route.take().is_none() {
                    return false;
                }
                self.announced -= 1;
                self.append(slot);
                true
            }
            (
                Some(slot),
                Some(Told {
                    route,
                    source,
                    number,
                }),
            ) => {
                let entry = &mut self.entries[slot as usize];
                let is_same = entry
                    .route
                    .as_ref()
                    .is_some_and(|found| Rc::ptr_eq(found, &route) && entry.source == source);
                entry.number = number;
                if is_same {
                    return false;
                }
                self.announced += usize::from(entry.route.is_none());
                entry.changed_hands |= entry.source != source;
                entry.route = Some(route);
                entry.source = source;
                self.append(slot);
                true
            }
            (
                None,
                Some(Told {
                    route,
                    source,
                    number,
                }),
            ) => {
                let entry = OutEntry {
                    nlri,
                    route: Some(route),
                    source,
                    number,
                    place: usize::MAX,
                    changed_hands: false,
                };
                let slot = if let Some(slot) = self.free.pop() {
                    self.entries[slot as usize] = entry;
                    slot
                } else {
                    self.entries.push(entry);
                    u32::try_from(self.entries.len() - 1).unwrap_or(HOLE)
                };
                let (entries, hasher) = (&self.entries, &self.hasher);
                let hash = |slot: &u32| hasher.hash_one(entries[*slot as usize].nlri);
                self.index.insert_unique(hash(&slot), slot, hash);
                self.announced += 1;
                self.append(slot);
                true
            }
        }
    }

    fn append(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        if let Some(earlier) = self.log.get_mut(entry.place) {
            *earlier = HOLE;
        }
        entry.place = self.log.len();
        self.log.push(slot);
    }

    /// Takes holes out of the log, and withdrawals that everybody knows, once they are most of it.
    pub(super) fn compact<'a>(&mut self, cursors: impl Iterator<Item = &'a mut Cursor>) {
        if self.log.len() < 1024 + 2 * self.announced {
            return;
        }
        let mut cursors: Vec<&mut Cursor> = cursors.collect();
        let told = cursors
            .iter()
            .map(|cursor| cursor.next)
            .min()
            .unwrap_or(usize::MAX);
        let mut places = Vec::new();
        for cursor in &mut cursors {
            places.push((cursor.next, &mut cursor.next));
            places.push((cursor.joined, &mut cursor.joined));
        }
        places.sort_unstable_by_key(|(place, _)| *place);
        let mut places = places.into_iter().peekable();
        let mut log = Vec::with_capacity(self.announced);
        for (place, slot) in std::mem::take(&mut self.log).into_iter().enumerate() {
            while let Some((_, target)) = places.next_if(|(old, _)| *old <= place) {
                *target = log.len();
            }
            if slot == HOLE {
                continue;
            }
            let entry = &mut self.entries[slot as usize];
            if entry.route.is_none() && place < told {
                let hash = self.hasher.hash_one(entry.nlri);
                if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
                    found.remove();
                    self.free.push(slot);
                }
                entry.place = usize::MAX;
                continue;
            }
            entry.place = log.len();
            log.push(slot);
        }
        for (_, target) in places {
            *target = log.len();
        }
        self.log = log;
        self.chunk = None;
        if self.log.is_empty() {
            *self = Self::default();
        }
    }

    /// The next messages for a peer, and how many routes they announce; its place is after them then. The same stretch is made into messages once.
    pub(super) fn next(
        &mut self,
        cursor: &mut Cursor,
        peer: PeerId,
        encoding: Encoding,
        out: &mut Vec<u8>,
    ) -> usize {
        let from = cursor.next;
        // Later than all withdrawals of the stretch or not: only then it matters.
        let joined = if cursor.joined > from { cursor.joined } else { 0 };
        let known = self.chunk.as_ref().filter(|chunk| {
            chunk.from == from
                && chunk.joined == joined
                && (chunk.to == self.log.len() || chunk.to - from >= CHUNK)
        });
        let chunk = if let Some(chunk) = known {
            Rc::clone(chunk)
        } else {
            let chunk = Rc::new(self.encode(from, joined, encoding));
            self.chunk = Some(Rc::clone(&chunk));
            chunk
        };
        cursor.next = chunk.to;
        let mut announced = 0;
        out.extend_from_slice(&chunk.withdrawals);
        for part in &chunk.parts {
            if part.source == peer {
                out.extend_from_slice(&part.withdrawals);
            } else {
                out.extend_from_slice(&part.announcements);
                announced += part.prefixes;
            }
        }
        announced
    }

    fn encode(&self, from: usize, joined: usize, encoding: Encoding) -> Chunk {
        let to = self.log.len().min(from + CHUNK);
        let mut withdrawn = Vec::new();
        // In the order of first appearance, so that the same run gives the same bytes.
        let mut order: Vec<Lot<'_>> = Vec::new();
        let mut lots: HashMap<(*const Outgoing, PeerId), usize> = HashMap::new();
        for (place, slot) in self.log[from..to].iter().enumerate() {
            if *slot == HOLE {
                continue;
            }
            let entry = &self.entries[*slot as usize];
            let nlri = entry.nlri;
            let Some(route) = &entry.route else {
                if from + place >= joined {
                    withdrawn.push(nlri);
                }
                continue;
            };
            let key = (Rc::as_ptr(route), entry.source);
            let lot = *lots.entry(key).or_insert_with(|| {
                order.push(Lot {
                    route,
                    source: entry.source,
                    all: Vec::new(),
                    changed: Vec::new(),
                });
                order.len() - 1
            });
            order[lot].all.push(nlri);
            if entry.changed_hands {
                order[lot].changed.push(nlri);
            }
        }
        let parts = order.into_iter().map(|lot| {
            let Lot {
                route,
                source,
                all,
                changed,
            } = lot;
            let messages = announce(&route.encoded, route.next_hop, &all, encoding);
            Part {
                source,
                prefixes: if messages.is_ok() { all.len() } else { 0 },
                // Attributes that fill a message by themselves cannot be announced (RFC 4271 9.2): what was before goes.
                announcements: messages.unwrap_or_else(|_| withdraw(&all, encoding)).concat(),
                withdrawals: withdraw(&changed, encoding).concat(),
            }
        });
        Chunk {
            from,
            to,
            joined,
            parts: parts.collect(),
            withdrawals: withdraw(&withdrawn, encoding).concat(),
        }
    }
}

/// Routes that go into the same messages.
struct Lot<'a> {
    route: &'a Outgoing,
    source: PeerId,
    all: Vec<Nlri>,
    /// Those whose source may have been told another.
    changed: Vec<Nlri>,
}

/// What sets one group apart from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupKey {
    pub(super) family: Family,
    pub(super) encoding: Encoding,
    pub(super) local_as: u32,
    pub(super) client: bool,
    pub(super) next_hop: super::config::NextHopMode,
    pub(super) own_address: std::net::IpAddr,
    pub(super) policy: Option<Arc<crate::policy::Policy>>,
}

#[cfg(test)]
mod tests;
