// SPDX-License-Identifier: Apache-2.0
//! What admission says about one field of an object: where, what was found, what is wrong, what to do.

use crate::selector::Selector;

/// A field with a value that is not acceptable, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} {problem}; {remedy}")]
pub struct FieldError {
    /// Path inside `spec`, for example `blockSize`.
    pub field: String,
    /// As found.
    pub value: String,
    /// What is wrong, continuing a sentence that starts with the value.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl FieldError {
    /// An error about one field.
    pub fn new(
        field: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Reads a field that holds a selector.
pub(crate) fn parse_selector(field: &str, text: &str) -> Result<Selector, FieldError> {
    text.parse::<Selector>().map_err(|error| {
        FieldError::new(
            field,
            text,
            format!(
                "is not a selector: {} (at character {})",
                error.problem, error.position
            ),
            "write for example all() or zone == 'a'",
        )
    })
}
