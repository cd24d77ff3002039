// SPDX-License-Identifier: Apache-2.0
//! Calico's selector language: boolean expressions over labels, with which pools choose nodes and namespaces, and
//! policy chooses endpoints.
//!
//! ```text
//! selector := "" | or
//! or       := and { "||" and }
//! and      := unary { "&&" unary }
//! unary    := { "!" } ( "(" or ")" | "all()" | "global()" | "has(" label ")" | label operation )
//! ```
//!
//! A label that is missing makes `==`, `in`, `contains`, `starts with`, `ends with` and `has` false, and `!=` and
//! `not in` true. `parser` reads text (the grammar of operations is there), `expression` evaluates and writes the
//! canonical text.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha224};

use crate::base_encoding::base64_url;

mod error;
mod expression;
mod labels;
mod parser;
#[cfg(test)]
mod tests;

pub use error::{MAX_LABEL_LENGTH, MAX_NESTING, Problem, SelectorError};
use expression::Expression;
pub use labels::Labels;

/// A parsed selector. `Display` writes the canonical text, equal for all spellings of one expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector(Expression);

impl Selector {
    /// The selector that matches everything.
    pub fn all() -> Self {
        Self(Expression::All)
    }

    /// Whether something with these labels is selected.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.0.matches(labels)
    }

    /// The identity that Calico gives the selector, from its canonical text.
    pub fn identity(&self) -> String {
        let digest = Sha224::digest(format!("s:{self}").as_bytes());
        format!("s:{}", base64_url(&digest))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text).map(Self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
