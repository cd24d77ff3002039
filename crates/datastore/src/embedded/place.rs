// SPDX-License-Identifier: Apache-2.0
//! Where a store is and how it was asked for: what every part of this backend is handed.

use super::{
    failure,
    files::Paths,
    options::OpenOptions,
    write_lock::{self, WriteGuard},
};
use crate::error::StoreError;

/// Files and options of one store.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) paths: Paths,
    pub(super) options: OpenOptions,
}

impl Place {
    /// The store as errors name it.
    pub(super) fn name(&self) -> String {
        self.paths.database.display().to_string()
    }

    /// Waits for the write lock.
    pub(super) fn lock(&self) -> Result<WriteGuard, StoreError> {
        write_lock::acquire(&self.paths.lock, self.options.patience)
            .map_err(|problem| failure::from_lock(problem, &self.paths))
    }
}
