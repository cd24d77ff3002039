// SPDX-License-Identifier: Apache-2.0
//! Which backend a store in memory stands in for.

/// How a [`super::MemoryStore`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Whether batches are applied wholly or not at all. If not, write by write in the given order.
    pub atomic: bool,
    /// Whether hints are applied; if not, hinted lists return everything.
    pub hints: bool,
    /// How many changes are remembered for watches that are behind.
    pub history: usize,
    /// How many journal lines are kept.
    pub journal: usize,
}

impl MemoryOptions {
    /// Behaves as the embedded store.
    pub const fn embedded() -> Self {
        Self {
            atomic: true,
            hints: true,
            history: 10_000,
            journal: 10_000,
        }
    }

    /// Behaves as a Kubernetes API server: one write at a time, no hints.
    pub const fn kubernetes() -> Self {
        Self {
            atomic: false,
            hints: false,
            ..Self::embedded()
        }
    }
}
