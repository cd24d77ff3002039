// SPDX-License-Identifier: Apache-2.0
//! Which attachment a verb concerns, and what the runtime says about it beyond the network list.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// What a verb concerns.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Container ID.
    pub container_id: String,
    /// Path of the namespace; may be empty for DEL.
    pub netns: PathBuf,
    /// Interface inside.
    pub interface: String,
    /// `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// Values for capabilities, handed to the plugins that declare them.
    pub capability_args: Map<String, Value>,
}

impl Target {
    /// The interface `eth0` of a container, without arguments.
    pub fn eth0(container_id: impl Into<String>, netns: &Path) -> Self {
        Self {
            container_id: container_id.into(),
            netns: netns.to_owned(),
            interface: "eth0".to_owned(),
            ..Self::default()
        }
    }

    /// With one pair for `CNI_ARGS`.
    #[must_use]
    pub fn arg(mut self, key: &str, value: &str) -> Self {
        self.args.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a value for a capability.
    #[must_use]
    pub fn capability(mut self, name: &str, value: Value) -> Self {
        self.capability_args.insert(name.to_owned(), value);
        self
    }

    /// On another interface.
    #[must_use]
    pub fn interface(mut self, name: &str) -> Self {
        name.clone_into(&mut self.interface);
        self
    }
}
