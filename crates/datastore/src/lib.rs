// SPDX-License-Identifier: Apache-2.0
//! The [`Store`] trait and its implementations.
//!
//! - [`store`](Store): what engines and programs know of a datastore. Start there.
//! - [`memory`]: for tests; several clients on one content, with injectable faults.

mod error;
pub mod memory;
mod projection;
mod store;

pub use error::{DecodeError, StoreError};
pub use memory::{MemoryOptions, MemoryStore};
pub use store::{
    Batch, Change, Entry, Hint, JournalEntry, JournalRecord, Listing, Revision, Store, Watch, WatchEvent,
    Write,
};
