// SPDX-License-Identifier: Apache-2.0
//! Why a text is not a selector, in the words that Calico's users know.

/// A text that is not a selector: what was wrong and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector {selector:?}: {problem} (at character {position})")]
pub struct SelectorError {
    /// The whole text.
    pub selector: String,
    /// In characters from the start, counted from 1.
    pub position: usize,
    /// What was wrong there.
    pub problem: Problem,
}

/// What was wrong at a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A quote without its partner.
    #[error("unterminated string")]
    UnterminatedString,
    /// A single `=`.
    #[error("expected ==")]
    ExpectedEqual,
    /// A single `&`.
    #[error("expected &&")]
    ExpectedAnd,
    /// A single `|`.
    #[error("expected ||")]
    ExpectedOr,
    /// A label followed by something that is no operator.
    #[error("expected operator after label {label:?}")]
    ExpectedOperator {
        /// The label.
        label: String,
    },
    /// A function that is not closed.
    #[error("no closing ')' after {function}(")]
    UnclosedFunction {
        /// `has`, `all` or `global`.
        function: &'static str,
    },
    /// Neither a label nor anything else that may stand here.
    #[error("expected identifier")]
    ExpectedIdentifier,
    /// More than [`MAX_LABEL_LENGTH`] characters.
    #[error("label too long: at most {MAX_LABEL_LENGTH} characters")]
    LabelTooLong,
    /// A parenthesis without its partner.
    #[error("expected )")]
    ExpectedClosingParenthesis,
    /// A set that is not closed, or has a comma missing.
    #[error("expected }}")]
    ExpectedClosingBrace,
    /// An operator that needs a string.
    #[error("expected string")]
    ExpectedString,
    /// `in` or `not in` without a set.
    #[error("expected set literal")]
    ExpectedSet,
    /// The text goes on behind a complete selector.
    #[error("unexpected content at end of selector")]
    TrailingContent,
    /// More than [`MAX_NESTING`] parentheses inside each other.
    #[error("nested too deeply: at most {MAX_NESTING} parentheses inside each other")]
    NestedTooDeeply,
}

/// Longest label name.
pub const MAX_LABEL_LENGTH: usize = 512;

/// How deep parentheses may nest. Ours, not Calico's: what keeps hostile input from exhausting the stack.
pub const MAX_NESTING: usize = 128;
