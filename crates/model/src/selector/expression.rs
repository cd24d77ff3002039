// SPDX-License-Identifier: Apache-2.0
//! The tree behind a selector: evaluation and canonical text. Its depth is bounded by the parser.

use std::{collections::BTreeSet, fmt};

use super::labels::Labels;

/// One node of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Expression {
    /// `all()`
    All,
    /// `global()`: as `all()` for evaluation; only policy tells them apart.
    Global,
    /// `has(label)`
    Has { label: String },
    /// `label == "value"` and its like.
    Compare {
        label: String,
        comparison: Comparison,
        value: String,
    },
    /// `label in {"a", "b"}`
    In { label: String, values: BTreeSet<String> },
    /// `label not in {"a", "b"}`
    NotIn { label: String, values: BTreeSet<String> },
    /// `!operand`
    Not(Box<Self>),
    /// `(a && b)`, at least two.
    And(Vec<Self>),
    /// `(a || b)`, at least two.
    Or(Vec<Self>),
}

/// Comparison of a label's value with a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
}

impl Comparison {
    fn operator(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Contains => "contains",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
        }
    }

    fn holds(self, found: Option<&str>, value: &str) -> bool {
        match self {
            Self::Equal => found == Some(value),
            Self::NotEqual => found != Some(value),
            Self::Contains => found.is_some_and(|found| found.contains(value)),
            Self::StartsWith => found.is_some_and(|found| found.starts_with(value)),
            Self::EndsWith => found.is_some_and(|found| found.ends_with(value)),
        }
    }
}

impl Expression {
    pub(super) fn matches(&self, labels: &impl Labels) -> bool {
        match self {
            Self::All | Self::Global => true,
            Self::Has { label } => labels.label(label).is_some(),
            Self::Compare {
                label,
                comparison,
                value,
            } => comparison.holds(labels.label(label), value),
            Self::In { label, values } => labels.label(label).is_some_and(|found| values.contains(found)),
            Self::NotIn { label, values } => labels.label(label).is_none_or(|found| !values.contains(found)),
            Self::Not(operand) => !operand.matches(labels),
            Self::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has { label } => write!(f, "has({label})"),
            Self::Compare {
                label,
                comparison,
                value,
            } => {
                write!(f, "{label} {} {}", comparison.operator(), Quoted(value))
            }
            Self::In { label, values } => write_set(f, label, "in", values),
            Self::NotIn { label, values } => write_set(f, label, "not in", values),
            Self::Not(operand) => write!(f, "!{operand}"),
            Self::And(operands) => write_joined(f, operands, " && "),
            Self::Or(operands) => write_joined(f, operands, " || "),
        }
    }
}

/// A string in double quotes, or in single ones if it contains a double one (it never contains both).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

fn write_set(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    operator: &str,
    values: &BTreeSet<String>,
) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (index, value) in values.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{}", Quoted(value))?;
    }
    f.write_str("}")
}

fn write_joined(f: &mut fmt::Formatter<'_>, operands: &[Expression], operator: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, operand) in operands.iter().enumerate() {
        let separator = if index == 0 { "" } else { operator };
        write!(f, "{separator}{operand}")?;
    }
    f.write_str(")")
}
