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

/// Starts one program per container at the same moment, from a thread each. Time from the first start to the last end,
/// and the longest of one.
fn all_at_once(contender: &Contender, verb: Verb, containers: &[Container]) -> Result<(Duration, Duration)> {
    let gate = Barrier::new(containers.len());
    let run = |container| {
        let command = contender.command(verb, container);
        gate.wait();
        let begin = Instant::now();
        let took = invocation::time(command?)?;
        anyhow::Ok((begin, took))
    };
    let runs: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = containers
            .iter()
            .map(|container| scope.spawn(|| run(container)))
            .collect();
        let results = threads.into_iter().map(|thread| {
            let result = thread
                .join()
                .map_err(|_| anyhow!("a thread of the burst panicked"))?;
            result.with_context(|| format!("{verb:?} by {} in a burst", contender.name))
        });
        results.collect::<Result<_>>()
    })?;
    let begin = runs
        .iter()
        .map(|(begin, _)| *begin)
        .min()
        .context("a burst of none")?;
    let end = runs
        .iter()
        .map(|(begin, took)| *begin + *took)
        .max()
        .context("a burst of none")?;
    let slowest = runs
        .iter()
        .map(|(_, took)| *took)
        .max()
        .context("a burst of none")?;
    Ok((end - begin, slowest))
}
