// SPDX-License-Identifier: Apache-2.0
//! A network configuration list: what the administrator wrote, the version chosen among those it offers, and the
//! object each plugin is given (specification, section "Deriving runtime configuration").

use std::fs;
use std::path::{Path, PathBuf};

use cni_plugin::Version;
use serde_json::{Map, Value};

/// Why a text is no network list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("read network list {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not JSON.
    #[error("network list: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A member is missing or of another type than it should be.
    #[error("network list: \"{member}\" {problem}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The runtime knows none of the versions that the list offers.
    #[error("network list: none of its versions is known; the oldest it offers is {0}")]
    Version(Version),
}

/// A list in use.
#[derive(Debug, Clone)]
pub struct NetworkList {
    /// Network name.
    pub name: String,
    /// The version every plugin is asked to speak.
    pub version: Version,
    /// CHECK does nothing.
    pub disable_check: bool,
    /// GC does nothing.
    pub disable_gc: bool,
    /// The plugins as written, in order.
    pub plugins: Vec<Map<String, Value>>,
    /// The list as written.
    pub text: Vec<u8>,
}

impl NetworkList {
    /// Reads a file; see [`parse`](Self::parse).
    pub fn read(path: &Path, newest: Version) -> Result<Self, ListError> {
        let text = fs::read(path).map_err(|source| ListError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(text, newest)
    }

    /// Parses a list for a runtime whose newest version is `newest`. A runtime older than 1.1.0 does not know
    /// `cniVersions` and takes `cniVersion` as it is.
    pub fn parse(text: impl Into<Vec<u8>>, newest: Version) -> Result<Self, ListError> {
        let text = text.into();
        let tree: Map<String, Value> = serde_json::from_slice(&text)?;
        let plugins = tree.get("plugins").and_then(Value::as_array);
        let plugins = plugins.ok_or_else(|| member("plugins", "is not a list"))?;
        let as_object = |plugin: &Value| plugin.as_object().cloned();
        let plugins: Option<Vec<_>> = plugins.iter().map(as_object).collect();
        let plugins = plugins.ok_or_else(|| member("plugins", "has an element that is not an object"))?;
        if plugins.is_empty() {
            return Err(member("plugins", "is empty"));
        }
        if !plugins
            .iter()
            .all(|plugin| plugin.get("type").is_some_and(Value::is_string))
        {
            return Err(member("plugins", "has an element without a \"type\""));
        }
        let name = tree
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        Ok(Self {
            name: name.ok_or_else(|| member("name", "is missing"))?.to_owned(),
            version: choose(&tree, newest)?,
            disable_check: flag(&tree, "disableCheck")?,
            disable_gc: flag(&tree, "disableGC")?,
            plugins,
            text,
        })
    }

    /// What one plugin is given: its object, the list's name and version, the previous result, and of
    /// `capability_arguments` those it declares.
    pub(super) fn plugin_config(
        &self,
        plugin: &Map<String, Value>,
        previous: Option<&Value>,
        capability_arguments: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut config = plugin.clone();
        config.insert("name".to_owned(), self.name.clone().into());
        config.insert("cniVersion".to_owned(), self.version.to_string().into());
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        let declared = |capability: &str| {
            let capabilities = plugin.get("capabilities");
            capabilities.and_then(|capabilities| capabilities.get(capability)) == Some(&Value::Bool(true))
        };
        let given: Map<String, Value> = capability_arguments
            .iter()
            .filter(|(capability, _)| declared(capability))
            .map(|(capability, value)| (capability.clone(), value.clone()))
            .collect();
        if !given.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(given));
        }
        config
    }
}

/// The highest known version among `cniVersion` and `cniVersions`.
fn choose(tree: &Map<String, Value>, newest: Version) -> Result<Version, ListError> {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<Version>().ok());
    let base = match tree.get("cniVersion") {
        None => Version::V0_1_0,
        Some(value) => parse(value).ok_or_else(|| member("cniVersion", "is not a version"))?,
    };
    let mut offered = vec![base];
    if let Some(versions) = tree.get("cniVersions").filter(|_| newest >= Version::V1_1_0) {
        let versions = versions
            .as_array()
            .ok_or_else(|| member("cniVersions", "is not a list"))?;
        let versions: Option<Vec<Version>> = versions.iter().map(parse).collect();
        offered
            .extend(versions.ok_or_else(|| member("cniVersions", "has an element that is not a version"))?);
    }
    let known = offered.iter().copied().filter(|version| *version <= newest);
    let oldest = offered.iter().copied().min().unwrap_or(base);
    known.max().ok_or(ListError::Version(oldest))
}

/// A flag; the words "true" and "false" count too.
fn flag(tree: &Map<String, Value>, name: &'static str) -> Result<bool, ListError> {
    match tree.get(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(member(name, "is neither true nor false")),
    }
}

fn member(member: &'static str, problem: &'static str) -> ListError {
    ListError::Member { member, problem }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(extra: &Value, newest: Version) -> Result<NetworkList, ListError> {
        let mut tree =
            json!({"name": "n", "plugins": [{"type": "a", "capabilities": {"mac": true, "ips": false}}]});
        let tree_members = tree.as_object_mut().unwrap();
        tree_members.extend(extra.as_object().unwrap().clone());
        NetworkList::parse(tree.to_string(), newest)
    }

    #[test]
    fn the_highest_known_version_is_chosen() {
        let offered = json!({"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "1.0.0", "9.0.0"]});
        for (newest, chosen) in [
            (Version::V1_1_0, Version::V1_1_0),
            // Older runtimes do not look at `cniVersions`.
            (Version::V1_0_0, Version::V0_4_0),
            (Version::V0_4_0, Version::V0_4_0),
        ] {
            assert_eq!(list(&offered, newest).unwrap().version, chosen, "{newest}");
        }
        let none = list(&json!({"cniVersion": "1.0.0"}), Version::V0_4_0);
        assert!(
            matches!(none, Err(ListError::Version(Version::V1_0_0))),
            "{none:?}"
        );
        let empty = list(
            &json!({"cniVersion": "1.0.0", "cniVersions": []}),
            Version::V1_1_0,
        );
        assert_eq!(empty.unwrap().version, Version::V1_0_0);
        assert_eq!(
            list(&json!({}), Version::V1_1_0).unwrap().version,
            Version::V0_1_0
        );
    }

    #[test]
    fn only_declared_capabilities_arrive() {
        let list = list(&json!({"cniVersion": "1.0.0"}), Version::V1_1_0).unwrap();
        let arguments = json!({"mac": "c2:11:22:33:44:55", "ips": ["10.0.0.1"], "aliases": {}});
        let config = list.plugin_config(&list.plugins[0], None, arguments.as_object().unwrap());
        assert_eq!(config["runtimeConfig"], json!({"mac": "c2:11:22:33:44:55"}));
        assert_eq!(config["name"], "n");
        assert!(!config.contains_key("prevResult"));
        let without = list.plugin_config(&list.plugins[0], None, &Map::new());
        assert!(!without.contains_key("runtimeConfig"));
    }

    #[test]
    fn a_bad_list_is_refused_by_member() {
        for (extra, named) in [
            (json!({"plugins": []}), "plugins"),
            (json!({"plugins": [{}]}), "plugins"),
            (json!({"name": ""}), "name"),
            (json!({"disableGC": "maybe"}), "disableGC"),
            (json!({"cniVersion": "one"}), "cniVersion"),
            (json!({"cniVersions": "1.0.0"}), "cniVersions"),
        ] {
            let error = list(&extra, Version::V1_1_0).unwrap_err().to_string();
            assert!(error.contains(named), "{extra}: {error}");
        }
        let disabled = list(&json!({"disableGC": "TRUE"}), Version::V1_1_0).unwrap();
        assert!(disabled.disable_gc && !disabled.disable_check);
    }
}
