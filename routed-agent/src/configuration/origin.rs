// SPDX-License-Identifier: Apache-2.0
//! Where a value comes from, and what is said about values that are not used.

use std::{fmt, ops::Deref};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This environment variable.
    Environment(String),
    /// This key of the configuration file, in this line (from 1).
    File {
        /// As written; empty where the line has none.
        key: String,
        /// Line.
        line: usize,
    },
    /// The FelixConfiguration of this name.
    FelixConfiguration(String),
    /// The BGPConfiguration of this name.
    BgpConfiguration(String),
    /// An object of another kind.
    Object {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Nobody has said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment variable {}", Shown(name)),
            Self::File { key, line } if key.is_empty() => write!(f, "configuration file line {line}"),
            Self::File { key, line } => write!(f, "configuration file line {line}, {}", Shown(key)),
            Self::FelixConfiguration(name) => write!(f, "FelixConfiguration {}", Shown(name)),
            Self::BgpConfiguration(name) => write!(f, "BGPConfiguration {}", Shown(name)),
            Self::Object { kind, name } => write!(f, "{kind} {}", Shown(name)),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

impl<T> Deref for Sourced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Something that an operator has written and that does not have the effect that was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}{}: {problem}", Member(field))]
pub struct Warning {
    /// Where it stands.
    pub origin: Origin,
    /// The member of an object; empty where the origin says it all.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with something that an operator has written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value that the setting cannot have.
    #[error("{value} cannot be used: write {accepted}; {instead} is used instead")]
    Unusable {
        /// As found, quoted and cut; not the value where that may be a secret.
        value: String,
        /// What would be accepted.
        accepted: String,
        /// The value that counts, and its origin.
        instead: String,
    },
    /// Known, but without effect in this version.
    #[error("has no effect: {0}")]
    NotActedOn(&'static str),
    /// Not known at all.
    #[error("is not known, and has no effect{}", Hint(.0))]
    Unknown(Option<String>),
    /// Only the object for the whole cluster may say it.
    #[error("has no effect in the object of one node: move it to the object default")]
    ForAllNodesOnly,
    /// Two places must say the same and do not.
    #[error("{value} differs from {other}: set both to one value; {value} is used")]
    Differs {
        /// What counts.
        value: String,
        /// The other, with its origin.
        other: String,
    },
    /// A community that is neither a name nor a value.
    #[error("{0} is neither a name in communities nor a value such as 64512:100, and is left out")]
    UnknownCommunity(String),
    /// A line of the file, or the file, that cannot be read.
    #[error("{0}")]
    Unreadable(&'static str),
    /// The same key once more.
    #[error("is set again in line {0}, which counts")]
    Repeated(usize),
}

impl Warning {
    /// About the whole of an origin.
    pub fn of(origin: Origin, problem: Problem) -> Self {
        Self {
            origin,
            field: String::new(),
            problem,
        }
    }
}

struct Member<'a>(&'a str);

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " {}", Shown(self.0))
    }
}

struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, ": write {name}"),
            None => f.write_str(": check the spelling"),
        }
    }
}

/// Longest part of a foreign text that is shown, in characters.
const MAX_SHOWN: usize = 80;

/// A name from outside: cut, and without anything that a terminal or a log would act on.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars().take(MAX_SHOWN) {
            let plain = character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
            if plain {
                write!(f, "{character}")?;
            } else {
                write!(f, "{}", character.escape_default())?;
            }
        }
        if self.0.chars().nth(MAX_SHOWN).is_some() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

/// A value from outside, quoted and cut, for messages.
pub fn quoted(text: &str) -> String {
    let end = text.char_indices().nth(MAX_SHOWN).map(|(end, _)| end);
    match end {
        Some(end) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
