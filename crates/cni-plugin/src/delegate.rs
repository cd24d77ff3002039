// SPDX-License-Identifier: Apache-2.0
//! Running another plugin for a part of the work (specification, section "Plugin Delegation"): the same environment,
//! the same complete configuration, the same verb; its error is ours.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    call::{Call, Command},
    error::{Code, Error},
    exchange::{ExchangeError, Finished, exchange},
    result::AddResult,
};

/// How often a busy executable (being replaced) is tried again.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// A plugin to run for part of a call.
#[derive(Clone, Debug)]
pub struct Delegate<'a> {
    plugin: PathBuf,
    name: &'a str,
    call: &'a Call,
    input: Vec<u8>,
    arguments: Option<String>,
    limit: Duration,
}

impl<'a> Delegate<'a> {
    /// Finds a plugin in the call's path. `limit` bounds each run of it.
    pub fn find(call: &'a Call, name: &'a str, limit: Duration) -> Result<Self, Error> {
        Ok(Self {
            plugin: find(name, &call.path)?,
            name,
            call,
            input: call.config.text().to_vec(),
            arguments: None,
            limit,
        })
    }

    /// Gives the plugin another configuration than ours.
    #[must_use]
    pub fn config(mut self, config: Map<String, Value>) -> Self {
        self.input = Value::Object(config).to_string().into_bytes();
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
        let added = self.execute(Command::Add).and_then(|output| self.result(&output));
        if added.is_err() {
            let _ = self.execute(Command::Del);
        }
        added
    }

    fn result(&self, output: &[u8]) -> Result<AddResult, Error> {
        let value = serde_json::from_slice(output).map_err(|error| {
            let message = format!("plugin {:?} succeeded, but its result is not JSON", self.name);
            Error::new(Code::Decoding, message).details(format!("{error}: {}", quote(output)))
        })?;
        AddResult::from_json(&value, self.call.config.cni_version)
            .map_err(|error| error.context(format_args!("plugin {:?}", self.name)))
    }

    /// Any verb without a result.
    pub fn run(&self, command: Command) -> Result<(), Error> {
        self.execute(command).map(drop)
    }

    fn execute(&self, command: Command) -> Result<Vec<u8>, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            let (name, plugin) = (self.name, self.plugin.display());
            format!("plugin {name:?} ({plugin}), {}: {error}", command.name())
        };
        let child = self
            .spawn(command)
            .map_err(|error| Error::new(Code::Io, failed(&error)))?;
        let finished = exchange(child, &self.input, self.limit).map_err(|error| {
            let code = match error {
                ExchangeError::TimedOut(_) => Code::TryAgainLater,
                ExchangeError::TooMuchOutput => Code::Decoding,
                ExchangeError::Io(_) => Code::Io,
            };
            Error::new(code, failed(&error))
        })?;
        if finished.status.success() {
            Ok(finished.stdout)
        } else {
            Err(self.failure(&finished))
        }
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let mut environment = self.call.environment.clone().with("CNI_COMMAND", command.name());
        if let Some(arguments) = &self.arguments {
            environment = environment.with("CNI_ARGS", arguments);
        }
        let mut tries = 0;
        loop {
            let spawned = Program::new(&self.plugin)
                .env_clear()
                .envs(environment.inherited())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
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
    fn failure(&self, finished: &Finished) -> Error {
        let (name, status) = (self.name, finished.status);
        if finished.stdout.trim_ascii().is_empty() {
            let message = match quote(&finished.stderr) {
                said if said.is_empty() => format!("plugin {name:?} failed without saying why ({status})"),
                said => format!("plugin {name:?} failed ({status}): {said}"),
            };
            return Error::new(Code::Internal, message);
        }
        let parsed = serde_json::from_slice(&finished.stdout).ok();
        parsed.as_ref().and_then(Error::from_json).unwrap_or_else(|| {
            let message = format!("plugin {name:?} failed ({status}) and its error cannot be read");
            Error::new(Code::Internal, message).details(quote(&finished.stdout))
        })
    }
}

/// What a plugin printed, as one line short enough for a message.
fn quote(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(500).collect()
}

/// The first folder of the path with a regular file of that name, links followed. Empty entries of the path are no
/// folders: they would mean whatever folder the runtime works in.
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
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(name))
        .find(|candidate| is_file(candidate));
    found.ok_or_else(|| {
        let folders: Vec<String> = path.iter().map(|folder| folder.display().to_string()).collect();
        let message = format!("failed to find plugin {name:?} in path [{}]", folders.join(" "));
        Error::new(Code::InvalidConfig, message)
    })
}
