// SPDX-License-Identifier: Apache-2.0
//! The configuration one plugin gets on standard input: what the contract says of it, typed, and the whole tree for
//! the plugin's own keys and for delegates, which must see what they need even if we do not know it.

use serde_json::{Map, Value};

use crate::{
    error::{Code, Error},
    fields::{Fields, excerpt},
    identifier::NetworkName,
    lookup::lookup,
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
    text: Vec<u8>,
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

/// What a `prevResult`, `runtimeConfig` or `dns` that cannot be read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnreadableResult {
    /// An error: ADD continues it, CHECK compares with it.
    Fails,
    /// The same as none: a clean-up must not fail because of it.
    IsAbsent,
}

impl NetworkConfig {
    /// Reads the text of standard input. Fails with code 6 if it is no JSON object or has no readable version, with
    /// code 7 if the name or a well-known key is not valid.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let document = Document::parse(text.to_vec())?;
        document.name()?;
        let cni_version = document.version()?;
        document.config(cni_version, UnreadableResult::Fails)
    }

    /// The plugin's own keys.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.tree, "")
    }

    /// The whole configuration as it came, unknown keys included.
    pub fn tree(&self) -> &Map<String, Value> {
        &self.tree
    }

    /// The bytes as they came, for delegates.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The `ipam.type`, if there is an `ipam` section with one.
    pub fn ipam_type(&self) -> Result<Option<&str>, Error> {
        self.fields().object("ipam")?.text("type")
    }
}

/// A configuration whose JSON is read and no more: the checks have an order, with the version gate between them.
#[derive(Debug)]
pub(crate) struct Document {
    text: Vec<u8>,
    tree: Map<String, Value>,
}

impl Document {
    pub(crate) fn parse(text: Vec<u8>) -> Result<Self, Error> {
        match serde_json::from_slice(&text) {
            Ok(Value::Object(tree)) => Ok(Self { text, tree }),
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

    /// `cniVersion` as it is spelled; absent is the oldest version.
    pub(crate) fn version_text(&self) -> Result<&str, Error> {
        match lookup(&self.tree, "cniVersion") {
            None | Some(Value::Null) => Ok("0.1.0"),
            Some(Value::String(text)) if text.is_empty() => Ok("0.1.0"),
            Some(Value::String(text)) => Ok(text),
            Some(other) => {
                let message = format!(
                    "network configuration: \"cniVersion\": {} is not a string",
                    excerpt(other)
                );
                Err(Error::new(Code::Decoding, message))
            }
        }
    }

    pub(crate) fn version(&self) -> Result<Version, Error> {
        self.version_text()?.parse().map_err(|error| {
            let message = format!("network configuration: \"cniVersion\": {error}");
            Error::new(Code::Decoding, message)
        })
    }

    pub(crate) fn name(&self) -> Result<NetworkName, Error> {
        let name = Fields::new(&self.tree, "").text("name")?.ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "network configuration: \"name\" is missing; give the network a name",
            )
        })?;
        name.parse().map_err(|error| {
            let message = format!("network configuration: \"name\": {error}");
            Error::new(Code::InvalidConfig, message)
        })
    }

    pub(crate) fn config(
        self,
        cni_version: Version,
        unreadable_result: UnreadableResult,
    ) -> Result<NetworkConfig, Error> {
        let name = self.name()?;
        let fields = Fields::new(&self.tree, "");
        // What only ADD uses must not keep a DEL from its work.
        let lenient = unreadable_result == UnreadableResult::IsAbsent;
        let runtime = match fields
            .object("runtimeConfig")
            .and_then(|fields| RuntimeConfig::read(&fields))
        {
            Err(_) if lenient => RuntimeConfig::default(),
            read => read?,
        };
        let dns = match Dns::from_json(fields.value("dns")) {
            Err(_) if lenient => Dns::default(),
            read => read.map_err(|mut error| {
                error.code = Code::InvalidConfig;
                error.context("network configuration: \"dns\"")
            })?,
        };
        let prev_result = fields
            .value("prevResult")
            .map(|value| AddResult::from_json(value, cni_version))
            .transpose();
        let prev_result = match prev_result {
            Err(_) if unreadable_result == UnreadableResult::IsAbsent => None,
            read => read.map_err(|error| error.context("network configuration: \"prevResult\""))?,
        };
        let valid_attachments = valid_attachments(&self.tree)?;
        Ok(NetworkConfig {
            name,
            cni_version,
            runtime,
            dns,
            prev_result,
            valid_attachments,
            text: self.text,
            tree: self.tree,
        })
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
