// SPDX-License-Identifier: Apache-2.0
//! The routing information base: every path that peers have sent and the speaker has of its own (Adj-RIB-In), and which
//! of them are used (Loc-RIB, RFC 4271 3.2), in one table. Attributes are kept once for all routes that share them.

mod index;
mod intern;
mod table;

pub(crate) use intern::{Interner, Shared};
pub use table::PathFlags;
pub(crate) use table::{BATCH, Entry, Path, Put, Slot, Table};

/// A peer, as its owner calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl PeerId {
    /// Stands for the speaker itself as the source of a path.
    pub(crate) const OWN: Self = Self(u32::MAX);
}
