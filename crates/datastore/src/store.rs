// SPDX-License-Identifier: Apache-2.0
//! The [`Store`] trait: what engines and programs know of a datastore, whatever holds it.
//!
//! Compare-and-swap by revision is the only way to change an object. A [`Batch`] is one transaction where the
//! backend has them ([`Store::atomic`]); elsewhere its writes are applied in the given order and may be cut off
//! between any two, so a caller puts them in an order that is safe when cut off anywhere.

use std::time::Duration;

use model::{Key, KeyRange};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{DecodeError, StoreError};

/// A point in a store's history. Revisions of one store grow with every change; 0 is "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// One stored object: its JSON text and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which object.
    pub key: Key,
    /// When it last changed; the token for compare-and-swap.
    pub revision: Revision,
    /// JSON.
    pub value: String,
}

impl Entry {
    /// Decodes the value; the error names the key.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        serde_json::from_str(&self.value).map_err(|source| DecodeError {
            key: self.key.clone(),
            source,
        })
    }
}

/// What a list returns: the objects in key order, and the revision the list was taken at.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// In key order.
    pub entries: Vec<Entry>,
    /// A watch from here misses nothing and repeats nothing.
    pub revision: Revision,
}

/// One conditional change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The object must not exist.
    Create {
        /// Which object.
        key: Key,
        /// JSON.
        value: String,
    },
    /// The object must be at this revision.
    Update {
        /// Which object.
        key: Key,
        /// JSON.
        value: String,
        /// Compare-and-swap token.
        revision: Revision,
    },
    /// The object must be at this revision.
    Delete {
        /// Which object.
        key: Key,
        /// Compare-and-swap token.
        revision: Revision,
    },
    /// Changes nothing: the object must be at this revision (or, with `None`, absent) for the batch to apply.
    Check {
        /// Which object.
        key: Key,
        /// Compare-and-swap token; `None` means absent.
        revision: Option<Revision>,
    },
}

impl Write {
    /// A [`Write::Create`] of an encoded value.
    pub fn create<T: Serialize>(key: Key, value: &T) -> Self {
        Self::Create {
            key,
            value: encode(value),
        }
    }

    /// A [`Write::Update`] of an encoded value.
    pub fn update<T: Serialize>(key: Key, value: &T, revision: Revision) -> Self {
        Self::Update {
            key,
            value: encode(value),
            revision,
        }
    }

    /// The object concerned.
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. }
            | Self::Update { key, .. }
            | Self::Delete { key, .. }
            | Self::Check { key, .. } => key,
        }
    }
}

/// Encodes a model value. Model types have string keys and no fallible serializers, so this cannot fail.
fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("model values serialize: string keys, no fallible implementations")
}

/// One line of the history that `since when` and `why` are answered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// What happened: `assign`, `release`, `claim`, `adopt`, ...
    pub event: &'static str,
    /// The address, prefix or object concerned.
    pub subject: String,
    /// Handle, container or owner.
    pub handle: String,
    /// Why: `ADD`, `DEL`, `GC`, `recovery`, ...
    pub cause: String,
    /// How long the operation had taken when it was written.
    pub duration: Duration,
}

/// A journal line as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Grows by one with each line; gaps only where old lines were dropped.
    pub sequence: u64,
    /// Wall-clock time, microseconds since the Unix epoch.
    pub time_us: i64,
    /// See [`JournalEntry::event`].
    pub event: String,
    /// See [`JournalEntry::subject`].
    pub subject: String,
    /// See [`JournalEntry::handle`].
    pub handle: String,
    /// See [`JournalEntry::cause`].
    pub cause: String,
    /// See [`JournalEntry::duration`].
    pub duration: Duration,
}

/// Writes that belong together, and the journal lines that go with them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Applied in this order; each key at most once.
    pub writes: Vec<Write>,
    /// Kept by the backends that have a journal (embedded, memory); dropped by others.
    pub journal: Vec<JournalEntry>,
}

impl Batch {
    /// Refuses a batch that names a key twice, which no backend can apply. Every backend calls it first.
    pub(crate) fn check_keys(&self) -> Result<(), StoreError> {
        for (index, write) in self.writes.iter().enumerate() {
            if self.writes[..index]
                .iter()
                .any(|earlier| earlier.key() == write.key())
            {
                return Err(StoreError::Refused {
                    store: "the batch".to_owned(),
                    reason: format!(
                        "{} is in it twice; a batch names each key at most once",
                        write.key()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// A filter that an indexed backend may use to return less. Backends may ignore it: callers check again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Only blocks with this `affinity` text (`host:<node>`).
    pub affinity: Option<String>,
    /// Only blocks with at least one ordinal in `unallocated`.
    pub with_room: bool,
    /// At most this many entries, if the backend applied the other hints.
    pub limit: Option<usize>,
    /// Only keys and revisions matter to the caller: values may be left empty.
    pub keys_only: bool,
}

/// One change seen by a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object was created or updated.
    Put(Entry),
    /// The object was deleted at this revision.
    Deleted {
        /// Which object.
        key: Key,
        /// When.
        revision: Revision,
    },
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Changes in revision order. Several changes of one key may be merged into its last.
    Changes(Vec<Change>),
    /// The history no longer reaches back to where this watch stood, or the store was replaced: list again. The watch
    /// goes on from here: the list and what it delivers next miss nothing, though they may overlap.
    Relist,
}

/// A stream of changes. Blocking; meant for a thread of its own.
pub trait Watch: Send {
    /// Waits at most `timeout` for changes; `None` when nothing changed in that time.
    fn next(&mut self, timeout: Duration) -> Result<Option<WatchEvent>, StoreError>;
}

/// A datastore. Implementations are safe to use from several threads.
pub trait Store: Send + Sync {
    /// One object, or `None`.
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// All objects of a range, in key order, as one consistent snapshot.
    fn list(&self, range: &KeyRange) -> Result<Listing, StoreError> {
        self.list_hinted(range, &Hint::default())
    }

    /// As [`Store::list`], with leave to omit what the hint excludes.
    fn list_hinted(&self, range: &KeyRange, hint: &Hint) -> Result<Listing, StoreError>;

    /// Whether this backend applies every hint, so that a hinted list costs what it returns. Elsewhere a hinted
    /// list may cost, and return, the whole range: callers then read single objects where they can.
    fn applies_hints(&self) -> bool {
        false
    }

    /// Does what the next list of blocks and the next commit need and what can be done before: for a caller that is
    /// about to take a lock of its own and wants to hold it for a short time.
    fn make_ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Applies a batch. The result has the new revision of each write (for a check: the one it matched, or 0).
    fn commit(&self, batch: &Batch) -> Result<Vec<Revision>, StoreError>;

    /// Whether a batch is applied wholly or not at all.
    fn atomic(&self) -> bool;

    /// Watches a range for changes after `from`.
    fn watch(&self, range: &KeyRange, from: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// The newest `limit` journal lines, newest first. Empty where the backend has no journal.
    fn journal(&self, limit: usize) -> Result<Vec<JournalRecord>, StoreError>;
}
