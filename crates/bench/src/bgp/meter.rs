// SPDX-License-Identifier: Apache-2.0
//! What a process has used, read from outside: CPU time, memory; and when it has come to rest.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// How often a process is looked at. Reading its clock costs a microsecond, and nothing at all in the process.
const LOOK: Duration = Duration::from_millis(2);
/// Less than this between two looks is rest: timers and garbage collectors never stop entirely.
const REST: Duration = Duration::from_micros(300);
/// So long a rest is the end, if what was to be done is done.
const QUIET: Duration = Duration::from_millis(300);

/// A process that is measured.
#[derive(Debug)]
pub struct Meter {
    pid: u32,
    clock: ClockId,
}

/// What something took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// From the beginning until the process came to rest.
    pub wall: Duration,
    /// CPU time of the process, user and system, all threads.
    pub cpu: Duration,
}

impl Meter {
    /// Of a process that is there.
    pub fn of(pid: u32) -> Result<Self> {
        let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into()?))
            .with_context(|| format!("CPU clock of process {pid}"))?;
        Ok(Self { pid, clock })
    }

    /// CPU time so far: user and system, of all threads.
    pub fn cpu(&self) -> Result<Duration> {
        let now = self.clock.now().with_context(|| {
            let pid = self.pid;
            format!("CPU clock of process {pid}: it has ended")
        })?;
        Ok(now.into())
    }

    /// The most memory it has had resident (`VmHWM`), in millions of bytes.
    pub fn peak_memory(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// Memory it has resident (`VmRSS`), in millions of bytes.
    pub fn memory(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.pid);
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        let kibibytes = number.with_context(|| format!("{path} has no {name}"))?;
        Ok(kibibytes * 1024.0 / 1e6)
    }

    /// Waits until the process rests and `is_done` says so; what it took since `began`, when its clock was `before`.
    /// `is_done` is asked only of a resting process; what the last answer costs is not counted.
    pub fn until_quiet(
        &self,
        (began, before): (Instant, Duration),
        limit: Duration,
        mut is_done: impl FnMut() -> Result<bool>,
    ) -> Result<Spent> {
        let mut spent = Spent::default();
        let (mut last, mut last_change) = (before, began);
        loop {
            thread::sleep(LOOK);
            let (now, cpu) = (Instant::now(), self.cpu()?);
            if cpu.saturating_sub(last) > REST {
                last_change = now;
                spent = Spent {
                    wall: now - began,
                    cpu: cpu.saturating_sub(before),
                };
            } else if now - last_change > QUIET {
                if is_done()? {
                    return Ok(spent);
                }
                // It waits for something; the asking is no sign that it goes on.
                (last, last_change) = (self.cpu()?, Instant::now());
                if last_change - began > limit {
                    bail!("process {} was not done within {limit:?}", self.pid);
                }
                continue;
            }
            if now - began > limit {
                bail!("process {} did not come to rest within {limit:?}", self.pid);
            }
            last = cpu;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_and_then_rests() {
        let script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo; exec sleep 30";
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let meter = Meter::of(child.id()).unwrap();
        let began = (Instant::now(), meter.cpu().unwrap());
        let mut asked = 0;
        let spent = meter.until_quiet(began, Duration::from_secs(20), || {
            asked += 1;
            Ok(asked == 2)
        });
        let peak = meter.peak_memory().unwrap();
        let now = meter.memory().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let spent = spent.unwrap();
        assert!(spent.cpu > Duration::from_millis(5), "{spent:?}");
        assert!(spent.wall > spent.cpu / 2, "{spent:?}");
        assert!(peak >= now && now > 0.1, "{peak} {now}");
        assert!(meter.cpu().is_err() || meter.peak_memory().is_err());
    }
}
