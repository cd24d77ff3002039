// SPDX-License-Identifier: Apache-2.0
//! Programs that the dataplane runs: for a bounded time, with all they say.

use std::{
    io::{self, Read as _, Write as _},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs one, in this network namespace; what it printed, or why it failed.
pub(super) fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|problem| {
            if problem.kind() == io::ErrorKind::NotFound {
                format!("the program {program} is not installed; NAT and the protection of tunnels need nft (package nftables)")
            } else {
                format!("cannot run {program}: {problem}")
            }
        })?;
    let input = input.unwrap_or_default().to_owned();
    let stdin = child.stdin.take();
    let feeder = thread::spawn(move || {
        // One that does not read says why on its standard error.
        let _ = stdin.map(|mut stdin| stdin.write_all(input.as_bytes()));
    });
    let drain = |stream: Option<Box<dyn io::Read + Send>>| {
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stream.map(|mut stream| stream.read_to_string(&mut text));
            text
        })
    };
    let output = drain(
        child
            .stdout
            .take()
            .map(|stream| Box::new(stream) as Box<dyn io::Read + Send>),
    );
    let errors = drain(
        child
            .stderr
            .take()
            .map(|stream| Box::new(stream) as Box<dyn io::Read + Send>),
    );
    let deadline = Instant::now() + LIMIT;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} took longer than {} s", LIMIT.as_secs()));
            }
        }
    };
    let _ = feeder.join();
    let (output, errors) = (
        output.join().unwrap_or_default(),
        errors.join().unwrap_or_default(),
    );
    if status.success() {
        Ok(output)
    } else {
        let said = errors.lines().next().unwrap_or("it said nothing");
        Err(format!("{program} {}: {said}", arguments.join(" ")))
    }
}
