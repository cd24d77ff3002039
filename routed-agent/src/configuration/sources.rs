// SPDX-License-Identifier: Apache-2.0
//! The sources of settings: the environment, the file, and the stored objects that apply to this node.

use std::{collections::BTreeMap, ffi::OsString};

use cni_plugin::Environment;
use model::{BgpConfiguration, FelixConfiguration, Selector, selector::Labels};
use serde_json::{Map, Value as Json};

use super::file::{File, unquoted};

/// The environment, with the names in it: Felix takes its own in any case.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// As found, by [`key_of`]; of two spellings the first in byte order counts, so capitals before small letters.
    names: BTreeMap<String, String>,
    values: Environment,
}

impl Variables {
    /// The process's own environment.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Name as found and value of a variable; in any case if it is one of Felix. Quotes around a value go: `docker
    /// --env-file` hands over what a shell or systemd would have removed. Empty is as good as absent.
    pub(super) fn get(&self, name: &str) -> Option<(&str, &str)> {
        let found = self.names.get(&key_of(name))?;
        let value = unquoted(self.values.get(found)?);
        (!value.is_empty()).then_some((found.as_str(), value))
    }

    /// The first of some variables that has a value, with its name as found.
    pub fn first(&self, names: &[&str]) -> Option<(String, String)> {
        let found = names.iter().find_map(|name| self.get(name))?;
        Some((found.0.to_owned(), found.1.to_owned()))
    }

    /// The names of all variables of Felix that have a value.
    pub(super) fn felix(&self) -> impl Iterator<Item = &str> {
        let names = self.names.values().map(String::as_str);
        names.filter(|name| is_felix(name) && self.get(name).is_some())
    }
}

/// Whether a variable is one of Felix.
fn is_felix(name: &str) -> bool {
    let prefix = name.as_bytes().get(..6);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"FELIX_"))
}

/// What a variable is found by: only Felix' names are the same in all cases.
fn key_of(name: &str) -> String {
    if is_felix(name) {
        name.to_ascii_uppercase()
    } else {
        name.to_owned()
    }
}

impl FromIterator<(OsString, OsString)> for Variables {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let mut variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        variables.sort();
        let mut names = BTreeMap::new();
        for (name, _) in &variables {
            let name = name.to_string_lossy().into_owned();
            names.entry(key_of(&name)).or_insert(name);
        }
        Self {
            names,
            values: variables.into_iter().collect(),
        }
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        variables
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect()
    }
}

/// The `spec` of a FelixConfiguration or BGPConfiguration, as JSON: a member that cannot be used must not cost the
/// others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Its name: `default`, `node.<name>`, or any other.
    pub name: String,
    /// Its members.
    pub spec: Map<String, Json>,
}

impl Object {
    /// A member, its name in any case as Go reads it. `null` and an empty text are as good as absent.
    pub(super) fn get(&self, member: &str) -> Option<&Json> {
        let exact = self.spec.get(member);
        let value = exact.or_else(|| {
            let other = self.spec.iter();
            other
                .filter(|(name, _)| name.eq_ignore_ascii_case(member))
                .map(|(_, value)| value)
                .next_back()
        })?;
        says_something(value).then_some(value)
    }

    /// Whether it is for one node.
    pub(super) fn of_one_node(&self) -> bool {
        self.name.starts_with("node.")
    }
}

/// Whether a member is more than absent.
pub(super) fn says_something(value: &Json) -> bool {
    !matches!(value, Json::Null) && value.as_str().is_none_or(|text| !text.trim().is_empty())
}

/// Members of a value that is an object when it is written as JSON.
fn members<T: serde::Serialize>(spec: &T) -> Map<String, Json> {
    match serde_json::to_value(spec) {
        Ok(Json::Object(members)) => members,
        _ => Map::new(),
    }
}

impl From<&FelixConfiguration> for Object {
    fn from(configuration: &FelixConfiguration) -> Self {
        Self {
            name: configuration.metadata.name.clone(),
            spec: members(&configuration.spec),
        }
    }
}

impl From<&BgpConfiguration> for Object {
    fn from(configuration: &BgpConfiguration) -> Self {
        Self {
            name: configuration.metadata.name.clone(),
            spec: members(&configuration.spec),
        }
    }
}

/// Everything that settings come from. Objects stand in the order in which they count.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The environment.
    pub environment: Variables,
    /// The file.
    pub file: File,
    /// FelixConfigurations: of the node, of its labels, of all.
    pub felix: Vec<Object>,
    /// BGPConfigurations: of the node, of all.
    pub bgp: Vec<Object>,
}

/// The FelixConfigurations that apply to a node, in the order in which they count: `node.<name>`, then the oldest of
/// those whose nodeSelector selects it, then `default`. One with a selector that cannot be read selects nothing.
pub fn felix_for_node(all: &[FelixConfiguration], node: &str, labels: &impl Labels) -> Vec<Object> {
    let special = |name: &str| name == "default" || name.starts_with("node.");
    let selects = |configuration: &&FelixConfiguration| {
        let selector = &configuration.spec.node_selector;
        !special(&configuration.metadata.name)
            && !selector.is_empty()
            && selector
                .parse::<Selector>()
                .is_ok_and(|selector| selector.matches(labels))
    };
    let age = |configuration: &&FelixConfiguration| {
        let metadata = &configuration.metadata;
        // One without a time is younger than all that have one; the name decides among equals.
        let time = metadata.creation_timestamp;
        (time.is_none(), time, metadata.name.clone())
    };
    let named = |name: &str| {
        all.iter()
            .find(|configuration| configuration.metadata.name == name)
    };
    let selected = all.iter().filter(selects).min_by_key(age);
    let own = named(&format!("node.{node}"));
    let in_order = [own, selected, named("default")];
    in_order.into_iter().flatten().map(Object::from).collect()
}

/// The BGPConfigurations that apply to a node, in the order in which they count: `node.<name>`, then `default`.
pub fn bgp_for_node(all: &[BgpConfiguration], node: &str) -> Vec<Object> {
    let named = |name: String| {
        all.iter()
            .find(|configuration| configuration.metadata.name == name)
    };
    let in_order = [named(format!("node.{node}")), named("default".to_owned())];
    in_order.into_iter().flatten().map(Object::from).collect()
}
