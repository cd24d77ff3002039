// SPDX-License-Identifier: Apache-2.0
//! How an embedded store is opened, and what opening it found.

use std::{fmt, path::PathBuf, time::Duration};

/// How to open an [`super::EmbeddedStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Reading and writing, or looking only.
    pub access: Access,
    /// How long a write, and an open that has to repair something, wait for another process to finish.
    pub patience: Duration,
    /// Allows network and FUSE file systems, whose locks and shared memory cannot be relied on. For tests in virtual
    /// machines whose root is shared by the host, where all users of the store are in one machine.
    pub any_file_system: bool,
    /// How soon after the last checkpoint writes count as a burst, which is not to wait for the disk: then the log may
    /// become longer.
    pub burst: Duration,
    /// How many changes are remembered for watches that are behind; an eighth more may be.
    pub history: u32,
    /// How many journal lines are kept; an eighth more may be.
    pub journal: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            access: Access::ReadWrite,
            patience: Duration::from_secs(10),
            any_file_system: false,
            burst: Duration::from_secs(1),
            history: 10_000,
            journal: 10_000,
        }
    }
}

impl OpenOptions {
    /// Looks only: creates nothing, repairs nothing, changes nothing.
    pub fn read_only() -> Self {
        Self {
            access: Access::ReadOnly,
            ..Self::default()
        }
    }
}

/// What a process may do with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Creates the store if there is none, replaces it if it is damaged.
    ReadWrite,
    /// Leaves everything as it is.
    ReadOnly,
}

/// What opening a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The store that was last written here.
    Existing,
    /// There was none; a new, empty one was made.
    Created,
    /// The file was damaged or missing; a new, empty store is in its place.
    Replaced {
        /// Where the damaged file is now; `None` if there was none to keep.
        moved_to: Option<PathBuf>,
        /// What was wrong with it.
        reason: String,
    },
    /// The file is sound, but not the one last written here: an older copy, or changed by another program. It is used
    /// as it is.
    Restored {
        /// How that was noticed.
        reason: String,
    },
    /// Only with [`Access::ReadOnly`]: what a writer would find restored or replace.
    Suspect {
        /// How that was noticed.
        reason: String,
    },
}

/// One life of a store. It changes whenever the store is created, replaced or restored, and only then: whoever keeps
/// facts about containers in it checks them against the containers once per incarnation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub(super) [u8; 16]);

impl Incarnation {
    /// Reads the form that `Display` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}
