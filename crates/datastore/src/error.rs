// SPDX-License-Identifier: Apache-2.0
//! Errors of stores. They carry plain values only.

use model::Key;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A create found the object existing.
    #[error("{key} already exists")]
    AlreadyExists {
        /// Which object.
        key: Key,
        /// How many earlier writes of the batch are applied all the same (0 where batches are atomic).
        applied: usize,
    },
    /// An update, delete or check found the object changed or gone.
    #[error("{key} was changed by someone else")]
    Conflict {
        /// Which object.
        key: Key,
        /// How many earlier writes of the batch are applied all the same (0 where batches are atomic).
        applied: usize,
    },
    /// The reply was lost: the batch may or may not be applied, wholly or in part. Read before writing again.
    #[error("the outcome of a write is unknown: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The store cannot be reached or is locked for too long; nothing was changed. Trying again may help.
    #[error("{store} is not available: {reason}")]
    Unavailable {
        /// Path or address.
        store: String,
        /// What happened.
        reason: String,
    },
    /// The store refuses to work as it is; trying again will not help. The text contains the remedy.
    #[error("{store} cannot be used: {reason}")]
    Refused {
        /// Path or address.
        store: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// There is no store yet, and it was opened for reading only.
    #[error("there is no store at {store} yet; the first writer creates it")]
    Missing {
        /// Path.
        store: String,
    },
    /// The store was replaced or restored from a copy, now or since this process opened it. Nothing was changed. Facts
    /// about what runs on this machine have to be brought into it first: open it anew.
    #[error("{store} is not the store that was opened: {reason}; try again")]
    Replaced {
        /// Path.
        store: String,
        /// What happened to it.
        reason: String,
    },
    /// The disk is full; nothing was changed.
    #[error("{store}: no space left on the device; free some and try again")]
    Full {
        /// Path.
        store: String,
    },
    /// The disk or file is read-only; nothing was changed.
    #[error("{store} is on a read-only file system or may not be written")]
    ReadOnly {
        /// Path.
        store: String,
    },
    /// The content is damaged.
    #[error("{store} is damaged: {reason}")]
    Corrupt {
        /// Path.
        store: String,
        /// What was found.
        reason: String,
    },
}

impl StoreError {
    /// Whether somebody else changed an object first: read again and retry.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::AlreadyExists { .. })
    }
}

/// A stored value that is not what its key says.
#[derive(Debug, thiserror::Error)]
#[error("stored object {key} cannot be read: {source}")]
pub struct DecodeError {
    /// Which object.
    pub key: Key,
    /// What is wrong with it.
    pub source: serde_json::Error,
}
