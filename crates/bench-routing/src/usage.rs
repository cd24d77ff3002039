// SPDX-License-Identifier: Apache-2.0
//! What a process uses, from `/proc`: processor time of all its threads in nanoseconds, memory in bytes.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Between two looks.
const TICK: Duration = Duration::from_millis(10);
/// A process that uses less than this share of a core rests.
const RESTING: f64 = 0.03;
/// Resting for so long means that it is through.
const THROUGH: Duration = Duration::from_millis(600);

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Watched(pub u32);

impl Watched {
    /// Processor time since its start, of all threads that live.
    pub fn cpu(self) -> Result<Duration> {
        let folder = format!("/proc/{}/task", self.0);
        let mut nanos = 0;
        for thread in fs::read_dir(&folder).with_context(|| folder.clone())?.flatten() {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let first = text.split(' ').next().unwrap_or_default();
            nanos += first.parse::<u64>().unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Most memory that it has had.
    pub fn peak_memory(self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Memory that it has.
    pub fn resident(self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(self, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.0);
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.with_context(|| format!("{path} has no {field}"))? * 1024)
    }

    /// Waits until it has done something and then rests; when it did the last of it, and the processor time since `from`.
    pub fn until_through(self, from: Duration, limit: Duration) -> Result<(Instant, Duration)> {
        let begin = Instant::now();
        let (mut last_cpu, mut last_look) = (self.cpu()?, begin);
        let mut busy_at: Option<Instant> = None;
        while begin.elapsed() < limit {
            std::thread::sleep(TICK);
            let (cpu, now) = (self.cpu()?, Instant::now());
            let share = cpu.saturating_sub(last_cpu).as_secs_f64() / (now - last_look).as_secs_f64();
            if share > RESTING {
                busy_at = Some(now);
            }
            if let Some(busy_at) = busy_at.filter(|at| at.elapsed() > THROUGH) {
                return Ok((busy_at, cpu.saturating_sub(from)));
            }
            (last_cpu, last_look) = (cpu, now);
        }
        bail!("process {} is not through after {} s", self.0, limit.as_secs())
    }
}
