// SPDX-License-Identifier: Apache-2.0
//! One plugin, one call: found in the path, given its environment and configuration, ended when it takes too long, and its
//! answer read (specification, section "Execution protocol").

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::place::Place;
use crate::process::Program;

/// A failed call of a plugin.
#[derive(Debug, Clone, thiserror::Error)]
#[error("plugin {plugin} {verb}: {message}{}{details}", if details.is_empty() { "" } else { "; " })]
pub struct PluginError {
    /// Its `type`.
    pub plugin: String,
    /// `ADD`, `DEL`, ...
    pub verb: &'static str,
    /// The code it gave; `None` where it gave none that can be read.
    pub code: Option<u32>,
    /// What it said.
    pub message: String,
    /// What else it said.
    pub details: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// One call.
pub(super) struct Execution<'a> {
    pub(super) place: &'a Place,
    pub(super) path: &'a [PathBuf],
    pub(super) plugin: &'a str,
    pub(super) verb: &'static str,
    pub(super) variables: &'a [(String, String)],
    pub(super) config: &'a Map<String, Value>,
    pub(super) limit: Duration,
}

impl Execution<'_> {
    /// What the plugin printed on success, as JSON; null for nothing.
    pub(super) fn run(&self) -> Result<Value, PluginError> {
        let program = find(self.plugin, self.path).ok_or_else(|| {
            let folders: Vec<String> = self
                .path
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            self.failed(format!("failed to find plugin in path [{}]", folders.join(" ")))
        })?;
        let path = std::env::join_paths(self.path).unwrap_or_default();
        let config = Value::Object(self.config.clone()).to_string();
        let answer = Program::new(self.place, program)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("CNI_COMMAND", self.verb)
            .env("CNI_PATH", path)
            .input(config)
            .answer(self.limit)
            .map_err(|error| self.failed(format!("{error:#}")))?;
        let output: Result<Value, _> = match answer.stdout.trim() {
            "" => Ok(Value::Null),
            text => serde_json::from_str(text),
        };
        match output {
            Ok(output) if answer.status.success() => Ok(output),
            Err(error) if answer.status.success() => Err(PluginError {
                details: answer.stdout,
                stderr: answer.stderr,
                ..self.failed(format!("its result is not JSON: {error}"))
            }),
            Ok(Value::Object(error)) => {
                let text = |name: &str| {
                    error
                        .get(name)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                let code = error.get("code").and_then(Value::as_u64);
                Err(PluginError {
                    code: code.and_then(|code| u32::try_from(code).ok()),
                    details: text("details"),
                    stderr: answer.stderr,
                    ..self.failed(text("msg"))
                })
            }
            _ => Err(PluginError {
                details: answer.stdout,
                stderr: answer.stderr.clone(),
                ..self.failed(format!("{}: {}", answer.status, answer.stderr.trim()))
            }),
        }
    }

    fn failed(&self, message: String) -> PluginError {
        PluginError {
            plugin: self.plugin.to_owned(),
            verb: self.verb,
            code: None,
            message,
            details: String::new(),
            stderr: String::new(),
        }
    }
}

/// The first folder with a regular file of that name.
fn find(plugin: &str, path: &[PathBuf]) -> Option<PathBuf> {
    if plugin.is_empty() || plugin.contains('/') {
        return None;
    }
    let candidates = path.iter().map(|folder: &PathBuf| folder.join(plugin));
    candidates
        .into_iter()
        .find(|candidate: &PathBuf| Path::is_file(candidate))
}
