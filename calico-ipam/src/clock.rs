// SPDX-License-Identifier: Apache-2.0
//! The system's clocks, and patience, for the IPAM engine.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use ipam::Clock;
use model::Timestamp;

/// The clocks of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn back_off(&self, attempt: u32) {
        // The process ID and the clock's lowest digits spread contenders without a random generator.
        let spread = u64::from(std::process::id()) ^ u64::from(self.started.elapsed().subsec_nanos());
        let limit = 100 * u64::from(attempt.min(30));
        thread::sleep(Duration::from_micros(50 + spread % limit.max(1)));
    }
}
