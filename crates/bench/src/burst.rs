// SPDX-License-Identifier: Apache-2.0
//! Many ADDs started at once, as after a reboot of a full node.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::contender::{Contender, Verb};
use crate::invocation;
use crate::machine::{Container, Machine};
use crate::sample::Sample;
use crate::turns;

/// How often each contender has its burst.
pub const ROUNDS: usize = 5;

/// The bursts of one contender, by round.
#[derive(Debug, Default)]
pub struct Burst {
    /// From the start until the last is done.
    pub total: Sample,
    /// The slowest single ADD.
    pub slowest: Sample,
}

/// Measures all contenders in turns, each with `count` containers. The DELs between are not timed.
pub fn measure(machine: &mut Machine, contenders: &[Contender], count: usize) -> Result<Vec<Burst>> {
    let mut bursts: Vec<Burst> = contenders.iter().map(|_| Burst::default()).collect();
    for contender in contenders {
        turns::warm_up(machine, contender)?;
    }
    let containers = machine.containers(count * contenders.len())?;
    for round in 0..ROUNDS {
        for turn in 0..contenders.len() {
            let position = (turn + round) % contenders.len();
            let (contender, own) = (&contenders[position], &containers[position * count..][..count]);
            let (total, slowest) = all_at_once(contender, Verb::Add, own)?;
            bursts[position].total.push(total);
            bursts[position].slowest.push(slowest);
            all_at_once(contender, Verb::Del, own)?;
        }
    }
    Ok(bursts)
}

/// Starts one program per container at the same moment, from a thread each. Total time and the longest of one.
fn all_at_once(contender: &Contender, verb: Verb, containers: &[Container]) -> Result<(Duration, Duration)> {
    let gate = Barrier::new(containers.len() + 1);
    thread::scope(|scope| {
        let waiting: Vec<_> = containers
            .iter()
            .map(|container| {
                scope.spawn(|| {
                    let command = contender.command(verb, container);
                    gate.wait();
                    invocation::time(command?)
                        .with_context(|| format!("{verb:?} by {} in a burst", contender.name))
                })
            })
            .collect();
        gate.wait();
        let start = Instant::now();
        let mut slowest = Duration::ZERO;
        for thread in waiting {
            let took = thread
                .join()
                .map_err(|_| anyhow!("a thread of the burst panicked"))??;
            slowest = slowest.max(took);
        }
        Ok((start.elapsed(), slowest))
    })
}
