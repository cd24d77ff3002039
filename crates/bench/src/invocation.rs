// SPDX-License-Identifier: Apache-2.0
//! One run of one program: timed from before it is spawned until it is reaped and its answer read.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Runs it. A failure carries what the program said.
pub fn time(mut command: Command) -> Result<Duration> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().display().to_string();
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("start {program}"))?;
    let output = child.wait_with_output()?;
    let took = start.elapsed();
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!(
            "{program}: {}: {}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(took)
}
