// SPDX-License-Identifier: Apache-2.0
//! One command in a guest of its own, from the boot to its exit status.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::exchange::{self, Exchange};
use super::qemu::{Parts, Turn};
use crate::process::eventually;

/// Names the folder that comes back, for the command; see [`Output::scratch`].
pub const SCRATCH: &str = "TESTBED_SCRATCH";
/// Set for every command in a guest.
pub(super) const INSIDE: &str = "TESTBED_VM";
/// For a command that is given none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Folders of this machine that the guest has empty ones for.
const HIDDEN: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/var/run", "/var/tmp"];

/// What a command answered.
#[derive(Debug)]
pub struct Output {
    /// Its exit status; of one that a signal ended, 128 and the signal's number.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From the start of the emulator to that of the command.
    pub boot: Duration,
    /// From the start of the emulator to its end.
    pub total: Duration,
    exchange: Exchange,
}

impl Output {
    /// The scratch folder, with what the command left in it; goes with this value. Owners and modes of its files are those of
    /// plain files.
    pub fn scratch(&self) -> PathBuf {
        self.exchange.scratch()
    }
}

/// Boots a stock kernel and runs a command as root under it, in the calling process's working directory, with this environment and
/// no more than `PATH`, `HOME`, [`SCRATCH`] beside it. A failing command is no error; one that has not ended `deadline` after the boot
/// began is, with what it said. Waits first while too many guests run.
///
/// The command has this machine's files as they are (but `/run`, `/var/tmp` and the like empty), may write everywhere, and
/// all of that is gone at its end but the scratch folder. Its guest is killed when the calling thread ends.
pub fn run<A: AsRef<OsStr>, K: AsRef<OsStr>, V: AsRef<OsStr>>(
    command: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
    env: impl IntoIterator<Item = (K, V)>,
    deadline: Duration,
) -> Result<Output> {
    let parts = Parts::find()?;
    let command = command.as_ref();
    let folder = env::current_dir().context("find the working directory")?;
    for path in [Path::new(command), &folder] {
        let hidden = HIDDEN.iter().find(|hidden| path.starts_with(hidden));
        if let Some(hidden) = hidden {
            bail!(
                "{} is below {hidden}, of which a guest has its own",
                path.display()
            );
        }
    }
    let mut words = vec![command.to_owned()];
    words.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    let mut environment: Vec<(OsString, OsString)> =
        vec![("PATH".into(), PATH.into()), ("HOME".into(), "/root".into())];
    // Of two with one name, the later counts.
    environment.extend(
        env.into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())),
    );
    environment.push((INSIDE.into(), "1".into()));
    environment.push((SCRATCH.into(), format!("{}/scratch", exchange::IN_GUEST).into()));

    let exchange = Exchange::create()?;
    exchange.give("command", &exchange::script(&folder, &environment, &words))?;
    exchange.give("modules", parts.kernel().modules().as_os_str().as_encoded_bytes())?;
    let turn = Turn::wait()?;
    let start = Instant::now();
    let mut running = parts.boot(&exchange)?;
    let mut boot = None;
    let ended = eventually(deadline, || {
        if boot.is_none() && exchange.has_started() {
            boot = Some(start.elapsed());
        }
        (!running.is_alive()).then_some(())
    });
    // Killed and reaped, if it has not ended by itself.
    drop(running);
    drop(turn);
    let total = start.elapsed();
    let what = command.display();
    let (stdout, stderr) = (exchange.take("stdout"), exchange.take("stderr"));
    let said = || format!("{stdout}{stderr}{}", exchange.said());
    let Some(boot) = boot.or_else(|| exchange.has_started().then_some(total)) else {
        bail!("the guest for {what} did not boot within {total:?}:\n{}", said());
    };
    ensure!(
        ended.is_some(),
        "{what} did not end within {deadline:?} and was killed with its guest:\n{}",
        said()
    );
    let code = exchange.take("status");
    let code = code.trim().parse();
    let code = code.with_context(|| format!("the guest ended without {what}:\n{}", said()))?;
    Ok(Output {
        code,
        stdout,
        stderr,
        boot,
        total,
        exchange,
    })
}
