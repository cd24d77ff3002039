// SPDX-License-Identifier: Apache-2.0
//! Time and patience, which the engine has none of: callers hand them in, so that tests decide both.

use std::time::Duration;

use model::Timestamp;

/// What an operation asks of its caller's clocks.
pub trait Clock {
    /// Wall-clock time: claim times, release times, and the sequence numbers of new blocks.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, unaffected by changes of the wall clock: durations in the journal.
    fn monotonic(&self) -> Duration;

    /// Waits before an operation is tried again because somebody else changed an object first. `attempt` counts
    /// from 1. Wait a random time that grows with it, from about 100 µs to a few milliseconds, so that many
    /// contenders do not meet again in step.
    fn back_off(&self, attempt: u32);
}
