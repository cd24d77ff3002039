// SPDX-License-Identifier: Apache-2.0
//! One call of a plugin: the environment, and what each verb is given of it, checked (specification, section
//! "Parameters"; table and order of the reference library).

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    args::Args,
    config::{NetworkConfig, UnreadableResult},
    error::{Code, Error},
    identifier::{ContainerId, InterfaceName},
    version::Version,
};

/// The environment, as a value, so that nothing below reads the process's own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
}

#[derive(Clone, Debug)]
struct Variable {
    text: String,
    /// Name and value as they are, where they are not UTF-8: delegates get these.
    original: Option<(OsString, OsString)>,
}

impl Environment {
    /// The process's own environment.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable; empty is as good as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(|variable| variable.text.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A copy with one variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.extend([(name.to_owned(), value.to_owned())]);
        self
    }

    /// What a child process inherits.
    pub(crate) fn inherited(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables
            .iter()
            .map(|(name, variable)| match &variable.original {
                Some((name, value)) => (name.as_os_str(), value.as_os_str()),
                None => (name.as_ref(), variable.text.as_ref()),
            })
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    /// Variables that are not UTF-8 are read with replacement characters, so that checks refuse them by name.
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(pairs: I) -> Self {
        let variable = |(name, value): (OsString, OsString)| {
            let text = |text: &OsStr| text.to_string_lossy().into_owned();
            let (key, text) = (text(&name), text(&value));
            let is_utf8 = name.to_str().is_some() && value.to_str().is_some();
            let original = (!is_utf8).then_some((name, value));
            (key, Variable { text, original })
        };
        Self {
            variables: pairs.into_iter().map(variable).collect(),
        }
    }
}

impl Extend<(String, String)> for Environment {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, pairs: I) {
        let variable = |(name, text)| (name, Variable { text, original: None });
        self.variables.extend(pairs.into_iter().map(variable));
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut environment = Self::default();
        environment.extend(pairs);
        environment
    }
}

/// The verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Make an attachment.
    Add,
    /// Undo one.
    Del,
    /// Compare one with what it should be.
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Say whether ADD could be served.
    Status,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    /// As `CNI_COMMAND` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The first version of the specification that has the verb.
    pub(crate) fn since(self) -> Version {
        match self {
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
        }
    }

    pub(crate) fn unreadable_result(self) -> UnreadableResult {
        match self {
            Self::Add | Self::Check => UnreadableResult::Fails,
            Self::Del | Self::Gc | Self::Status | Self::Version => UnreadableResult::IsAbsent,
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let all = [
            Self::Add,
            Self::Del,
            Self::Check,
            Self::Gc,
            Self::Status,
            Self::Version,
        ];
        all.into_iter().find(|command| command.name() == text).ok_or_else(|| {
            let message = format!("environment variable CNI_COMMAND: {text:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION");
            Error::new(Code::InvalidEnvironment, message)
        })
    }
}

/// What every verb but VERSION is given.
#[derive(Clone, Debug)]
pub struct Call {
    /// The verb.
    pub command: Command,
    /// The configuration.
    pub config: NetworkConfig,
    /// Where delegates are looked for.
    pub path: Vec<PathBuf>,
    /// All variables, for delegates and for settings that come by environment.
    pub environment: Environment,
}

/// What ADD, CHECK and DEL are given besides.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The container.
    pub container_id: ContainerId,
    /// Its network namespace; only DEL may come without.
    pub netns: Option<PathBuf>,
    /// The interface inside.
    pub interface: InterfaceName,
    /// `CNI_ARGS`.
    pub args: Args,
}

/// The checked variables of one call, before its configuration is read.
#[derive(Clone, Debug)]
pub(crate) struct Variables {
    pub(crate) command: Command,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) path: Vec<PathBuf>,
}

impl Variables {
    /// Checks the variables a verb needs: a malformed one is reported at once, all missing ones together.
    pub(crate) fn check(command: Command, environment: &Environment) -> Result<Self, Error> {
        let is_attachment = matches!(command, Command::Add | Command::Check | Command::Del);
        let mut missing = Vec::new();
        let mut required = |name: &'static str, needed: bool| {
            let value = environment.get(name);
            if value.is_none() && needed {
                missing.push(name);
            }
            value
        };
        let container = required("CNI_CONTAINERID", is_attachment);
        let netns = required("CNI_NETNS", is_attachment && command != Command::Del);
        let interface = required("CNI_IFNAME", is_attachment);
        let path = required("CNI_PATH", command != Command::Version);
        let attached = if is_attachment {
            let container = container.map(|text| parse("CNI_CONTAINERID", text)).transpose()?;
            let interface = interface.map(|text| parse("CNI_IFNAME", text)).transpose()?;
            container.zip(interface)
        } else {
            None
        };
        if !missing.is_empty() {
            return Err(missing_variables(&missing));
        }
        let attachment = match attached {
            None => None,
            Some((container_id, interface)) => Some(Attachment {
                container_id,
                netns: netns.map(PathBuf::from),
                interface,
                args: Args::parse(environment.get("CNI_ARGS").unwrap_or_default())?,
            }),
        };
        Ok(Self {
            command,
            attachment,
            path: path
                .map(|path| std::env::split_paths(path).collect())
                .unwrap_or_default(),
        })
    }

    /// Refuses the plugin's own network namespace: everything done "inside" would hit the host. Called before
    /// anything is done.
    pub(crate) fn refuse_own_namespace(&self, environment: &Environment) -> Result<(), Error> {
        let overridden = environment.get("CNI_NETNS_OVERRIDE");
        let netns = self
            .attachment
            .as_ref()
            .and_then(|attachment| attachment.netns.as_deref());
        let checked = matches!(self.command, Command::Add | Command::Del);
        match netns {
            Some(netns)
                if checked
                    && !overridden
                        .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
                    && is_own_namespace(netns) =>
            {
                let message = format!(
                    "CNI_NETNS {} is the network namespace of the plugin itself",
                    netns.display()
                );
                Err(Error::new(Code::OwnNamespace, message)
                    .details("give the container's namespace, or set CNI_NETNS_OVERRIDE=1 if this is meant"))
            }
            _ => Ok(()),
        }
    }
}

/// The error for variables that are needed and absent, in the order of the specification's table.
pub(crate) fn missing_variables(names: &[&str]) -> Error {
    Error::new(
        Code::InvalidEnvironment,
        format!("required env variables [{}] missing", names.join(",")),
    )
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| {
        Error::new(
            Code::InvalidEnvironment,
            format!("environment variable {name} is not valid"),
        )
        .details(error.to_string())
    })
}

/// Whether a path names the namespace of the calling thread. A path that cannot be opened does not.
fn is_own_namespace(netns: &Path) -> bool {
    let identity = |path: &Path| {
        fs::metadata(path)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()))
    };
    identity(netns).is_some_and(|found| Some(found) == identity(Path::new("/proc/thread-self/ns/net")))
}
