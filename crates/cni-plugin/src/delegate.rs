// SPDX-License-Identifier: Apache-2.0
//! Running another plugin for a part of the work (specification, section "Plugin Delegation"): the same environment,
//! the same complete configuration, the same verb; its error is ours.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use crate::{
    call::{Call, Command, Environment},
    error::{Code, Error},
    result::AddResult,
};

/// How often a busy executable (being replaced) is tried again.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// More output than this is no answer of a plugin.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// A plugin to run for part of a call.
#[derive(Clone, Debug)]
pub struct Delegate<'a> {
    plugin: PathBuf,
    name: &'a str,
    call: &'a Call,
    config: Map<String, Value>,
    arguments: Option<String>,
    deadline: Instant,
}

impl<'a> Delegate<'a> {
    /// Finds a plugin in the call's path. `limit` bounds each run of it.
    pub fn find(call: &'a Call, name: &'a str, limit: Duration) -> Result<Self, Error> {
        Ok(Self {
            plugin: find(name, &call.path)?,
            name,
            call,
            config: call.config.tree().clone(),
            arguments: None,
            deadline: Instant::now() + limit,
        })
    }

    /// Gives the plugin another configuration than ours.
    #[must_use]
    pub fn config(mut self, config: Map<String, Value>) -> Self {
        self.config = config;
        self
    }

    /// Gives the plugin other `CNI_ARGS` than ours.
    #[must_use]
    pub fn arguments(mut self, arguments: String) -> Self {
        self.arguments = Some(arguments);
        self
    }

    /// ADD. After a failure the plugin's DEL is run, as the specification asks, and its own error is dropped.
    pub fn add(&self) -> Result<AddResult, Error> {
        let added = self.execute(Command::Add).and_then(|output| {
            let value = match output.trim_ascii() {
                b"" => Value::Null,
                text => serde_json::from_slice(text).map_err(|error| {
                    let message = format!("plugin {:?}: its result is not JSON", self.name);
                    Error::new(Code::Decoding, message).details(error.to_string())
                })?,
            };
            AddResult::from_json(&value, self.call.config.cni_version)
                .map_err(|error| error.context(format_args!("plugin {:?}", self.name)))
        });
        if added.is_err() {
            let _ = self.execute(Command::Del);
        }
        added
    }

    /// Any verb without a result.
    pub fn run(&self, command: Command) -> Result<(), Error> {
        self.execute(command).map(drop)
    }

    fn execute(&self, command: Command) -> Result<Vec<u8>, Error> {
        let failed = |error: io::Error| {
            Error::new(
                Code::Io,
                format!(
                    "cannot run plugin {:?} ({}): {error}",
                    self.name,
                    self.plugin.display()
                ),
            )
        };
        let input = Value::Object(self.config.clone()).to_string();
        let mut child = self.spawn(command).map_err(failed)?;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        // Written beside reading: neither side may wait for the other's full pipe.
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                // A plugin that answers without reading closes the pipe; its answer counts.
                stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()))
            });
            read_until(stdout, self.deadline)
        });
        let Ok(output) = output else {
            let _ = child.kill();
            let _ = child.wait();
            let message = format!(
                "plugin {:?} did not answer {} in time and was ended",
                self.name,
                command.name()
            );
            return Err(Error::new(Code::TryAgainLater, message));
        };
        let status = child.wait().map_err(failed)?;
        if status.success() {
            return Ok(output);
        }
        Err(self.failure(&output, &status.to_string()))
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let mut environment: Environment = self.call.environment.clone().with("CNI_COMMAND", command.name());
        if let Some(arguments) = &self.arguments {
            environment = environment.with("CNI_ARGS", arguments);
        }
        let mut tries = 0;
        loop {
            let spawned = Program::new(&self.plugin)
                .env_clear()
                .envs(environment.iter())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .spawn();
            match spawned {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                    tries += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// The plugin's own error where it gave one, else what can be said about its silence.
    fn failure(&self, output: &[u8], status: &str) -> Error {
        let text = String::from_utf8_lossy(output);
        if text.trim().is_empty() {
            let message = format!("plugin {:?} failed without saying why ({status})", self.name);
            return Error::new(Code::Internal, message)
                .details("what it wrote to stderr is in the runtime's log");
        }
        let parsed = serde_json::from_str(&text)
            .ok()
            .as_ref()
            .and_then(Error::from_json);
        parsed.unwrap_or_else(|| {
            let quoted: String = text.trim().chars().take(500).collect();
            let message = format!(
                "plugin {:?} failed ({status}) and its error cannot be read",
                self.name
            );
            Error::new(Code::Internal, message).details(quoted)
        })
    }
}

/// Reads to the end, waiting at most until the deadline.
fn read_until(stdout: Option<std::process::ChildStdout>, deadline: Instant) -> io::Result<Vec<u8>> {
    let Some(mut stdout) = stdout else {
        return Ok(Vec::new());
    };
    let (mut output, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        let timeout = nix::poll::PollTimeout::try_from(timeout).unwrap_or(nix::poll::PollTimeout::MAX);
        let mut ready = [nix::poll::PollFd::new(
            stdout.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        match nix::poll::poll(&mut ready, timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match stdout.read(&mut chunk)? {
            0 => return Ok(output),
            length => output.extend_from_slice(&chunk[..length]),
        }
        if u64::try_from(output.len()).unwrap_or(u64::MAX) > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// The first folder of the path with a regular file of that name, links followed.
fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf, Error> {
    if name.is_empty() || name.contains('/') {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("invalid plugin name: {name:?}"),
        ));
    }
    let is_file = |candidate: &Path| fs::metadata(candidate).is_ok_and(|metadata| metadata.is_file());
    let found = path
        .iter()
        .map(|folder| folder.join(name))
        .find(|candidate| is_file(candidate));
    found.ok_or_else(|| {
        let folders: Vec<String> = path.iter().map(|folder| folder.display().to_string()).collect();
        let message = format!("failed to find plugin {name:?} in path [{}]", folders.join(" "));
        Error::new(Code::InvalidConfig, message)
    })
}
