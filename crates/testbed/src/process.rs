// SPDX-License-Identifier: Apache-2.0
//! Processes: started in a place, waited for with a deadline, ended for certain.
//!
//! Nothing here outlives its owner: a [`Running`] is killed and reaped when dropped, and what a program started beside
//! itself is found by its network namespace.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kernel::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;

/// How long a well-behaved program may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(10);
/// Between two looks at something that cannot be waited for.
const POLL: Duration = Duration::from_millis(2);

/// A program to be run in a place.
#[derive(Debug)]
pub struct Program {
    place: Place,
    command: Command,
    input: Vec<u8>,
}

/// What a program answered.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    what: String,
}

impl Program {
    /// A program to be run somewhere.
    pub fn new(place: &Place, program: impl AsRef<OsStr>) -> Self {
        Self {
            place: place.clone(),
            command: Command::new(program),
            input: Vec::new(),
        }
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// What it reads from standard input; nothing if not given.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it to its end. One that takes longer than `limit` is killed, which is an error; a failing one is not.
    pub fn answer(mut self, limit: Duration) -> Result<Answer> {
        let what = self.to_string();
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self
            .place
            .spawn(&mut self.command)
            .with_context(|| format!("start {what}"))?;
        let mut running = Running { child, what };
        let (sender, receiver) = mpsc::channel();
        if let Some(stdin) = running.child.stdin.take() {
            feed(stdin, std::mem::take(&mut self.input));
        }
        collect(running.child.stdout.take(), &sender, true);
        collect(running.child.stderr.take(), &sender, false);
        drop(sender);
        let deadline = Instant::now() + limit;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for _ in 0..2 {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((true, text)) => stdout = text,
                Ok((false, text)) => stderr = text,
                Err(_) => bail!("{} did not end within {limit:?} and was killed", running.what),
            }
        }
        // Both pipes are closed: it is ending.
        let status = running.child.wait()?;
        let what = running.what.clone();
        Ok(Answer {
            status,
            stdout,
            stderr,
            what,
        })
    }

    /// Runs it to its end and returns its standard output; a failing program is an error with all it said.
    pub fn succeed(self, limit: Duration) -> Result<String> {
        let answer = self.answer(limit)?;
        answer.checked()?;
        Ok(answer.stdout)
    }

    /// Starts it and lets it run. Its standard error goes to `log`, its standard output is the caller's to read, and
    /// its standard input stays open until the [`Running`] is dropped.
    pub fn start(mut self, log: Stdio) -> Result<Running> {
        let what = self.to_string();
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let child = self
            .place
            .spawn(&mut self.command)
            .with_context(|| format!("start {what}"))?;
        Ok(Running { child, what })
    }
}

/// As a shell would show it, without the environment.
impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.command.get_program().display())?;
        self.command
            .get_args()
            .try_for_each(|arg| write!(formatter, " {}", arg.display()))
    }
}

impl Answer {
    /// An error with all the program said, unless it succeeded.
    pub fn checked(&self) -> Result<()> {
        if !self.status.success() {
            let Self {
                status,
                stdout,
                stderr,
                what,
            } = self;
            bail!("{what}: {status}\n{stdout}{stderr}");
        }
        Ok(())
    }
}

/// A process that lives as long as this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
}

impl Running {
    /// Takes a child that was started otherwise.
    pub(crate) fn of(child: Child, what: &str) -> Self {
        Self {
            child,
            what: what.to_owned(),
        }
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for one line of its standard output, as daemons print when they are ready. Call once.
    pub fn wait_for_line(&mut self, limit: Duration) -> Result<String> {
        let Some(stdout) = self.child.stdout.take() else {
            bail!("the standard output of {} was read before", self.what);
        };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut line = String::new();
            let read = lines.read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
            // Read on, so that it never waits for us.
            let _ = std::io::copy(&mut lines, &mut std::io::sink());
        });
        match receiver.recv_timeout(limit) {
            Ok(Ok(line)) if !line.is_empty() => Ok(line.trim_end().to_owned()),
            Ok(_) => bail!("{} ended before it was ready", self.what),
            Err(_) => bail!("{} was not ready within {limit:?}", self.what),
        }
    }

    /// Ends it by a signal, which it may answer in its own time, and waits until it has ended.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), signal)?;
        if eventually(PATIENCE, || (!self.is_alive()).then_some(())).is_none() {
            bail!("{} does not end by {signal}", self.what);
        }
        Ok(())
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn feed(mut stdin: ChildStdin, input: Vec<u8>) {
    // A program that does not read what it is given closes the pipe; that is its right.
    thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
}

fn collect(pipe: Option<impl Read + Send + 'static>, sender: &mpsc::Sender<(bool, String)>, is_stdout: bool) {
    let sender = sender.clone();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send((is_stdout, String::from_utf8_lossy(&bytes).into_owned()));
    });
}

/// Waits until `condition` holds; `None` after `limit`.
pub fn eventually<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Kills every process whose network namespace is this one, and waits until they are gone.
pub(crate) fn end_all_in(namespace: &Namespace) {
    let Ok(id) = namespace.id() else { return };
    let members = || -> Vec<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != std::process::id()))
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|found| (found.dev(), found.ino()) == (id.device, id.inode))
            })
            .collect()
    };
    eventually(DEATH, || {
        let left = members();
        for pid in &left {
            // Gone meanwhile is what we want.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        left.is_empty().then_some(())
    });
}

/// Removes the control groups that runtimes made below a name, in every hierarchy.
pub(crate) fn remove_control_groups(name: &str) {
    const ROOT: &str = "/sys/fs/cgroup";
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten();
    let mut roots: Vec<_> = hierarchies.map(|entry| entry.path()).collect();
    roots.push(ROOT.into());
    for root in roots {
        remove_group(&root.join(name));
    }
}

/// Control groups go by `rmdir`, the inner ones first; their files go with them.
fn remove_group(group: &Path) {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_group(&entry.path());
    }
    let _ = fs::remove_dir(group);
}
