// SPDX-License-Identifier: Apache-2.0
//! Tests that need IPIP: where the running kernel lacks it, the same test once more under a stock kernel.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kernel::Namespace;

use super::guest::{INSIDE, Output, run};
use crate::peers::SKIPS;
use crate::{Place, Program};

/// How long a test may take in a guest, its boot included. Emulation is some ten times slower than this machine.
const DEADLINE: Duration = Duration::from_secs(300);
/// In the scratch folder: tests that were left out in the guest.
const SKIPPED: &str = "skipped";

/// Whether the running kernel has IPIP, or a module for it. Needs root; without, the answer is no.
pub fn has_ipip() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // In a namespace that goes with it.
        let Ok(namespace) = Namespace::create() else {
            return false;
        };
        let device = ["link", "add", "probe", "type", "ipip", "local", "192.0.2.1"];
        Program::new(&Place::new(namespace), "ip")
            .args(device)
            .succeed(crate::PATIENCE)
            .is_ok()
    })
}

/// The first line of a test that needs IPIP: whether to go on here. If not, the test has passed in a guest, or was left out
/// visibly because this machine lacks a part for that; if it failed there, that is the error, with all it said.
///
/// `test_name` is the test's name as `cargo test -- --list` shows it, with the modules in front.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// if !testbed::vm::under_ipip("packets_pass_the_tunnel")? {
///     return Ok(());
/// }
/// # Ok(()) }
/// ```
///
/// # Panics
///
/// Where `CI=true` and a part is missing.
pub fn under_ipip(test_name: &str) -> Result<bool> {
    if has_ipip() {
        return Ok(true);
    }
    if env::var_os(INSIDE).is_some() {
        bail!("the stock kernel lacks IPIP too, or program ip is missing: install package iproute2");
    }
    if !super::available() {
        return Ok(false);
    }
    let program = env::current_exe().context("find the running test program")?;
    let args = ["--exact", test_name, "--include-ignored", "--nocapture"];
    // The guest cannot write to the file of this machine; what it adds is fetched.
    let own = env::vars_os().filter(|(name, _)| name != SKIPS);
    let skipped = OsString::from(format!("{}/scratch/{SKIPPED}", super::exchange::IN_GUEST));
    let output = run(program, args, own.chain([(SKIPS.into(), skipped)]), DEADLINE)?;
    report(test_name, &output)?;
    Ok(false)
}

/// Shows what the test said, and fails as it did.
fn report(test_name: &str, output: &Output) -> Result<()> {
    let Output {
        code,
        stdout,
        stderr,
        boot,
        total,
        ..
    } = output;
    ensure!(
        *code == 0,
        "{test_name} failed under a stock kernel, exit status {code}:\n{stdout}{stderr}"
    );
    // A name that fits no test is a success for the test program.
    ensure!(
        stdout.contains("\nrunning 1 test\n"),
        "no test is called {test_name:?}: give the name that `cargo test -- --list` shows"
    );
    eprintln!("{test_name} under a stock kernel: {total:.1?}, of which {boot:.1?} to boot");
    eprint!("{stdout}{stderr}");
    let skipped = fs::read(output.scratch().join(SKIPPED)).unwrap_or_default();
    if let Some(path) = env::var_os(SKIPS).filter(|_| !skipped.is_empty()) {
        // They were shown; the file is a second place.
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(&skipped));
    }
    Ok(())
}
