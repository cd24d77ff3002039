// SPDX-License-Identifier: Apache-2.0
//! What the programs weigh: on disk, and in memory while they run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};

use crate::contender::{Contender, Verb};
use crate::invocation;
use crate::machine::Machine;

/// Size of a file, in millions of bytes.
pub fn megabytes(path: &Path) -> Result<f64> {
    let length = fs::metadata(path)
        .with_context(|| format!("examine {}", path.display()))?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "programs are below 2^52 bytes")]
    Ok(length as f64 / 1e6)
}

/// The most memory a contender's program has resident during one ADD, in millions of bytes.
pub fn peak_memory(machine: &mut Machine, contender: &Contender) -> Result<f64> {
    let container = machine.container()?;
    // A child's peak begins with its parent's, so a small process has to be in between: this program again.
    let own = std::env::current_exe().context("find the running program")?;
    let mut command = contender.command_through(&own, "--peak-memory", Verb::Add, &container)?;
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let kibibytes: f64 = match text.trim().parse() {
        Ok(number) if output.status.success() => number,
        _ => bail!(
            "measuring the memory of {} failed: {}",
            contender.name,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    };
    invocation::time(contender.command(Verb::Del, &container)?)?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// Runs the program with this process' own environment and input, and prints its peak in KiB.
pub fn print_peak_memory(program: &Path) -> Result<()> {
    let output = Command::new(program).stdin(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "{} {}: {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim()
        );
    }
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}
