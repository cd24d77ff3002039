// SPDX-License-Identifier: Apache-2.0
//! The configuration one plugin gets on standard input: what the contract says of it, typed, and the whole tree for
//! the plugin's own keys and for delegates, which must see what they need even if we do not know it.

use serde_json::{Map, Value};

use crate::{
    error::{Code, Error},
    fields::{Fields, lookup},
    identifier::NetworkName,
    result::{AddResult, Dns},
    runtime_config::RuntimeConfig,
    version::Version,
};

/// A network configuration.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Network name.
    pub name: NetworkName,
    /// The version to answer in.
    pub cni_version: Version,
    /// What the runtime added for the capabilities the plugin declares.
    pub runtime: RuntimeConfig,
    /// Well-known key `dns`.
    pub dns: Dns,
    /// The result of the plugins before this one (ADD), or of the whole chain (CHECK, DEL).
    pub prev_result: Option<AddResult>,
    /// For GC, the attachments that are still valid. `None`: the key is missing, which is not the same as an empty list.
    pub valid_attachments: Option<Vec<ValidAttachment>>,
    tree: Map<String, Value>,
}

/// An attachment that GC must leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValidAttachment {
    /// Container ID.
    pub container_id: String,
    /// Interface name.
    pub interface: String,
}

impl NetworkConfig {
    /// Reads the text of standard input. Fails with code 6 if it is no JSON object or has no readable version, with
    /// code 7 if the name or a well-known key is not valid.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let tree = Self::parse_tree(text)?;
        let cni_version = Self::version_of(&tree)?;
        Self::from_tree(tree, cni_version)
    }

    /// The first half of parsing: the tree, so that errors of the second half can be told in the right version.
    pub(crate) fn parse_tree(text: &[u8]) -> Result<Map<String, Value>, Error> {
        match serde_json::from_slice(text) {
            Ok(Value::Object(tree)) => Ok(tree),
            Ok(_) => Err(Error::new(
                Code::Decoding,
                "the network configuration is not a JSON object",
            )),
            Err(error) => Err(
                Error::new(Code::Decoding, "the network configuration is not valid JSON")
                    .details(error.to_string()),
            ),
        }
    }

    pub(crate) fn version_of(tree: &Map<String, Value>) -> Result<Version, Error> {
        let text = match lookup(tree, "cniVersion") {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(other) => {
                let message = format!("network configuration: \"cniVersion\": {other} is not a string");
                return Err(Error::new(Code::Decoding, message));
            }
        };
        text.parse().map_err(|error| {
            Error::new(
                Code::Decoding,
                format!("network configuration: \"cniVersion\": {error}"),
            )
        })
    }

    pub(crate) fn name_of(tree: &Map<String, Value>) -> Result<NetworkName, Error> {
        let name = Fields::new(tree, "").text("name")?.ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "network configuration: \"name\" is missing; give the network a name",
            )
        })?;
        name.parse().map_err(|error| {
            Error::new(
                Code::InvalidConfig,
                format!("network configuration: \"name\": {error}"),
            )
        })
    }

    pub(crate) fn from_tree(tree: Map<String, Value>, cni_version: Version) -> Result<Self, Error> {
        let name = Self::name_of(&tree)?;
        let fields = Fields::new(&tree, "");
        let runtime = RuntimeConfig::read(&fields.object("runtimeConfig")?)?;
        let dns = Dns::from_json(fields.value("dns")).map_err(|mut error| {
            error.code = Code::InvalidConfig;
            error.context("network configuration: \"dns\"")
        })?;
        let prev_result = match fields.value("prevResult") {
            None => None,
            Some(value) => Some(
                AddResult::from_json(value, cni_version)
                    .map_err(|error| error.context("network configuration: \"prevResult\""))?,
            ),
        };
        let valid_attachments = valid_attachments(&tree)?;
        Ok(Self {
            name,
            cni_version,
            runtime,
            dns,
            prev_result,
            valid_attachments,
            tree,
        })
    }

    /// The plugin's own keys.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.tree, "")
    }

    /// The whole configuration as it came, unknown keys included.
    pub fn tree(&self) -> &Map<String, Value> {
        &self.tree
    }

    /// The `ipam.type`, if there is an `ipam` section with one.
    pub fn ipam_type(&self) -> Result<Option<&str>, Error> {
        self.fields().object("ipam")?.text("type")
    }
}

/// The valid attachments of GC: the current key, or its older name; `null` is an empty list.
fn valid_attachments(tree: &Map<String, Value>) -> Result<Option<Vec<ValidAttachment>>, Error> {
    const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let Some((key, value)) = KEYS.iter().find_map(|key| Some((*key, lookup(tree, key)?))) else {
        return Ok(None);
    };
    if value.is_null() {
        return Ok(Some(Vec::new()));
    }
    let read = |item: &Value| {
        let item = item.as_object()?;
        let text = |key| lookup(item, key).and_then(Value::as_str).map(str::to_owned);
        Some(ValidAttachment {
            container_id: text("containerID")?,
            interface: text("ifname")?,
        })
    };
    let expected = "a list of {\"containerID\": ..., \"ifname\": ...}";
    Fields::new(tree, "").list(key, expected, read).map(Some)
}
