// SPDX-License-Identifier: Apache-2.0
//! The [`Store`] trait and its implementations.

mod error;
mod store;

pub use error::{DecodeError, StoreError};
pub use store::{
    Batch, Change, Entry, Hint, JournalEntry, JournalRecord, Listing, Revision, Store, Watch, WatchEvent,
    Write,
};
