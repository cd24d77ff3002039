// SPDX-License-Identifier: Apache-2.0
//! ADD and DEL one by one, all contenders in turns.

use anyhow::{Context as _, Result};

use crate::contender::{Contender, Verb};
use crate::invocation;
use crate::machine::Machine;
use crate::sample::Sample;

/// Rounds before the clock counts: files are cached, the store and its first block exist.
const WARM_UP: usize = 10;

/// The times of one contender, by round.
#[derive(Debug, Default)]
pub struct Times {
    /// Of ADD.
    pub add: Sample,
    /// Of DEL.
    pub del: Sample,
}

impl Times {
    /// ADD and DEL of a container together.
    pub fn both(&self) -> Sample {
        self.add.sums(&self.del)
    }
}

/// Measures all contenders, each with a fresh namespace per round. In a round every contender's container is added, then
/// every one is deleted; who is first changes from round to round.
pub fn measure(machine: &mut Machine, contenders: &[Contender], rounds: usize) -> Result<Vec<Times>> {
    for contender in contenders {
        for _ in 0..WARM_UP {
            warm_up(machine, contender)?;
        }
    }
    let containers = machine.containers(rounds * contenders.len())?;
    let mut times: Vec<Times> = contenders.iter().map(|_| Times::default()).collect();
    for (round, containers) in containers.chunks(contenders.len()).enumerate() {
        for verb in [Verb::Add, Verb::Del] {
            for turn in 0..contenders.len() {
                let position = (turn + round) % contenders.len();
                let command = contenders[position].command(verb, &containers[position])?;
                let took = invocation::time(command)
                    .with_context(|| format!("{verb:?} by {}", contenders[position].name))?;
                let times = &mut times[position];
                match verb {
                    Verb::Add => times.add.push(took),
                    Verb::Del => times.del.push(took),
                }
            }
        }
    }
    Ok(times)
}

/// One ADD and DEL, untimed.
pub fn warm_up(machine: &mut Machine, contender: &Contender) -> Result<()> {
    let container = machine.container()?;
    for verb in [Verb::Add, Verb::Del] {
        let command = contender.command(verb, &container)?;
        invocation::time(command).with_context(|| format!("first {verb:?} by {}", contender.name))?;
    }
    Ok(())
}
