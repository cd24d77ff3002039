// SPDX-License-Identifier: Apache-2.0
//! The verbs of a runtime over a network list: order, previous results, what is remembered, garbage collection.
//! Follows `libcni` 1.3 (`AddNetworkList`, `CheckNetworkList`, `DelNetworkList`, `GCNetworkList`, `GetStatusNetworkList`), errors
//! included; that containerd, CRI-O and podman behave alike comes from all of them linking it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni_plugin::{AddResult, Version};
use serde_json::{Map, Value, json};

use super::cache::AttachmentCache;
use super::execution::{Execution, PluginError};
use super::list::NetworkList;
use super::target::Target;
use crate::place::Place;

/// How long a plugin may take unless told otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A plugin did.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The list's version has no such verb.
    #[error("network list {network}: version {version} does not support {verb}")]
    Version {
        /// Network name.
        network: String,
        /// The version in use.
        version: Version,
        /// The verb.
        verb: &'static str,
    },
    /// What is remembered of the attachment is missing or cannot be used.
    #[error("cached attachment {}: {problem}", path.display())]
    Cache {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Garbage collection went on past these.
    #[error("garbage collection: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Self>),
}

impl RuntimeError {
    /// The code a plugin gave, if a plugin gave one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Plugin(error) => error.code,
            _ => None,
        }
    }
}

/// The result of ADD.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// As the last plugin printed it.
    pub json: Value,
    /// The same, read.
    pub result: AddResult,
    /// How long each plugin took, process included, in the list's order.
    pub durations: Vec<(String, Duration)>,
}

/// A runtime in a place.
#[derive(Debug, Clone)]
pub struct CniRuntime {
    place: Place,
    path: Vec<PathBuf>,
    cache: AttachmentCache,
    environment: Vec<(String, String)>,
    limit: Duration,
}

impl CniRuntime {
    /// A runtime that finds plugins in `path` and remembers attachments below `cache`.
    pub fn new(place: Place, path: Vec<PathBuf>, cache: impl AsRef<Path>) -> Self {
        Self {
            place,
            path,
            cache: AttachmentCache::new(cache.as_ref()),
            environment: Vec::new(),
            limit: LIMIT,
        }
    }

    /// Adds variables to what plugins inherit.
    #[must_use]
    pub fn with_environment<K: Into<String>, V: AsRef<Path>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let text = |value: V| value.as_ref().display().to_string();
        self.environment.extend(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), text(value))),
        );
        self
    }

    /// Gives each call of a plugin this long.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What it remembers.
    pub fn cache(&self) -> &AttachmentCache {
        &self.cache
    }

    /// ADD through the list: each plugin gets the result of the one before. The first failure ends it; as in `libcni`, undoing is
    /// then the caller's task, with DEL.
    pub fn add(&self, list: &NetworkList, target: &Target) -> Result<Added, RuntimeError> {
        let mut previous = None;
        let mut durations = Vec::new();
        for plugin in &list.plugins {
            let config = list.plugin_config(plugin, previous.as_ref(), &target.capability_args);
            let start = Instant::now();
            previous = Some(self.call("ADD", &config, target)?);
            durations.push((kind(&config).to_owned(), start.elapsed()));
        }
        let json = previous.unwrap_or_default();
        let cache_error = |problem: String| RuntimeError::Cache {
            path: self.cache.file(&list.name, target),
            problem,
        };
        self.cache
            .store(&list.name, &list.text, target, &json)
            .map_err(|error| cache_error(error.to_string()))?;
        let result = AddResult::from_json(&json, list.version).map_err(|error| cache_error(error.message))?;
        Ok(Added {
            json,
            result,
            durations,
        })
    }

    /// CHECK through the list, with the remembered result.
    pub fn check(&self, list: &NetworkList, target: &Target) -> Result<(), RuntimeError> {
        if list.version < Version::V0_4_0 {
            return Err(unsupported(list, "CHECK"));
        }
        if list.disable_check {
            return Ok(());
        }
        let previous = self.remembered(list, target)?;
        for plugin in &list.plugins {
            let config = list.plugin_config(plugin, previous.as_ref(), &target.capability_args);
            self.call("CHECK", &config, target)?;
        }
        Ok(())
    }

    /// DEL through the list backwards, with the remembered result if there is one. The first failure ends it.
    pub fn del(&self, list: &NetworkList, target: &Target) -> Result<(), RuntimeError> {
        let previous = if list.version >= Version::V0_4_0 {
            // What cannot be read is as good as forgotten.
            self.remembered(list, target).unwrap_or_default()
        } else {
            None
        };
        for plugin in list.plugins.iter().rev() {
            let config = list.plugin_config(plugin, previous.as_ref(), &target.capability_args);
            self.call("DEL", &config, target)?;
        }
        self.cache.forget(&list.name, target);
        Ok(())
    }

    /// STATUS of each plugin; the first failure ends it.
    pub fn status(&self, list: &NetworkList) -> Result<(), RuntimeError> {
        if list.version < Version::V1_1_0 {
            return Ok(());
        }
        for plugin in &list.plugins {
            let config = list.plugin_config(plugin, None, &Map::new());
            self.call("STATUS", &config, &Target::default())?;
        }
        Ok(())
    }

    /// GC: DEL of every remembered attachment of the network that is not in `valid` (container ID, interface), then GC of every
    /// plugin. `None` sends no list at all, as `cnitool gc` does. Goes on past failures.
    pub fn gc(&self, list: &NetworkList, valid: Option<&[(String, String)]>) -> Result<(), RuntimeError> {
        if list.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        let is_valid = |container: &str, interface: &str| {
            let pairs = valid.unwrap_or_default();
            pairs
                .iter()
                .any(|(id, name)| id == container && name == interface)
        };
        for cached in self.cache.all() {
            if cached.network_name == list.name && !is_valid(&cached.container_id, &cached.if_name) {
                errors.extend(self.del(list, &cached.target()).err());
            }
        }
        if list.version >= Version::V1_1_0 {
            for plugin in &list.plugins {
                let mut config = list.plugin_config(plugin, None, &Map::new());
                if let Some(valid) = valid {
                    let entry = |(id, name): &(String, String)| json!({"containerID": id, "ifname": name});
                    let entries: Value = valid.iter().map(entry).collect();
                    // The specification once used the second name.
                    config.insert("cni.dev/attachments".to_owned(), entries.clone());
                    config.insert("cni.dev/valid-attachments".to_owned(), entries);
                }
                errors.extend(self.call("GC", &config, &Target::default()).err());
            }
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(RuntimeError::Several(errors)),
        }
    }

    /// One plugin's reply to VERSION.
    pub fn version(&self, plugin: &str) -> Result<Value, RuntimeError> {
        let config = json!({"type": plugin, "cniVersion": "1.1.0"});
        let config = config.as_object().cloned().unwrap_or_default();
        // `libcni` fills these with placeholders.
        let target = Target::eth0("", Path::new("dummy"));
        self.call("VERSION", &config, &target)
    }

    /// The remembered result, in the list's version.
    fn remembered(&self, list: &NetworkList, target: &Target) -> Result<Option<Value>, RuntimeError> {
        let unusable = |problem: String| RuntimeError::Cache {
            path: self.cache.file(&list.name, target),
            problem,
        };
        let cached = self
            .cache
            .load(&list.name, target)
            .map_err(|error| unusable(error.to_string()))?;
        let Some(cached) = cached else { return Ok(None) };
        let own = cached.result.get("cniVersion").and_then(Value::as_str);
        if own == Some(list.version.to_string().as_str()) {
            return Ok(Some(cached.result));
        }
        let converted = AddResult::from_json(&cached.result, list.version)
            .and_then(|result| result.to_json(list.version))
            .map_err(|error| unusable(error.message))?;
        Ok(Some(converted))
    }

    fn call(
        &self,
        verb: &'static str,
        config: &Map<String, Value>,
        target: &Target,
    ) -> Result<Value, RuntimeError> {
        let mut variables = self.environment.clone();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        let args: Vec<String> = target
            .args
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        set("CNI_CONTAINERID", target.container_id.clone());
        set("CNI_NETNS", target.netns.display().to_string());
        set("CNI_IFNAME", target.interface.clone());
        set("CNI_ARGS", args.join(";"));
        let execution = Execution {
            place: &self.place,
            path: &self.path,
            plugin: kind(config),
            verb,
            variables: &variables,
            config,
            limit: self.limit,
        };
        Ok(execution.run()?)
    }
}

/// A plugin's `type`; lists without one are refused when they are read.
fn kind(config: &Map<String, Value>) -> &str {
    config.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn unsupported(list: &NetworkList, verb: &'static str) -> RuntimeError {
    RuntimeError::Version {
        network: list.name.clone(),
        version: list.version,
        verb,
    }
}
