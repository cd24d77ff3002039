// SPDX-License-Identifier: Apache-2.0
//! The [`Store`] trait and its implementations.
//!
//! - [`Store`] and the types beside it: what engines and programs know of a datastore. Start there.
//! - [`embedded`]: one local SQLite file, for the node store and for clusters of one machine.
//! - [`memory`]: for tests; several clients on one content, with injectable faults.
//!
//! What every implementation must do is in `conformance`, as cases that its tests run.

#[cfg(test)]
pub(crate) mod conformance;
pub mod embedded;
mod error;
pub mod memory;
mod projection;
mod store;

pub use embedded::{EmbeddedStore, Incarnation, OpenOptions, Opened, Provenance};
pub use error::{DecodeError, StoreError};
pub use memory::{MemoryOptions, MemoryStore};
pub use store::{
    Batch, Change, Entry, Hint, JournalEntry, JournalRecord, Listing, Revision, Store, Watch, WatchEvent,
    Write,
};
