// SPDX-License-Identifier: Apache-2.0
//! What a path carries, once for all paths that carry the same.

use std::{hash::BuildHasher, rc::Rc};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::{attributes::Attributes, message::NextHop};

/// Attributes and next hop of a path; `None` for a route of the speaker's own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Carried {
    pub(crate) attributes: Attributes,
    pub(crate) next_hop: Option<NextHop>,
}

/// What many paths share; equal ones from one [`Interner`] are the same.
pub(crate) type Shared = Rc<Carried>;

/// Keeps one of each.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    known: HashTable<(u64, Shared)>,
    hasher: DefaultHashBuilder,
    /// Unused ones are looked for when there are so many.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

impl Interner {
    /// The one that is equal to this.
    pub(crate) fn intern(&mut self, attributes: Attributes, next_hop: Option<NextHop>) -> Shared {
        let carried = Carried { attributes, next_hop };
        let hash = self.hash(&carried);
        if let Some((_, found)) = self
            .known
            .find(hash, |(of, known)| *of == hash && **known == carried)
        {
            return Rc::clone(found);
        }
        if self.known.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.sweep();
        }
        let shared = Rc::new(carried);
        self.known
            .insert_unique(hash, (hash, Rc::clone(&shared)), |(hash, _)| *hash);
        shared
    }

    fn hash(&self, carried: &Carried) -> u64 {
        self.hasher.hash_one(carried)
    }

    /// Forgets what nobody has any more.
    fn sweep(&mut self) {
        self.known.retain(|(_, shared)| Rc::strong_count(shared) > 1);
        self.sweep_at = self.known.len() * 2;
        self.known.shrink_to(self.sweep_at, |(hash, _)| *hash);
    }
}
