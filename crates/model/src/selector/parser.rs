// SPDX-License-Identifier: Apache-2.0
//! Reads selectors. A recursive descent on the text itself: what a word means depends on whether it follows a label
//! (so that a label may be called `in` or `all`), and the grammar knows that best.
//!
//! ```text
//! operation := "==" string | "!=" string | "in" set | "not in" set | "notin" set
//!            | "contains" string | "starts with" string | "ends with" string
//! set       := "{" [ string { "," string } [","] ] "}"
//! string    := "'" [^']* "'" | '"' [^"]* '"'          (no escapes)
//! label     := [a-zA-Z0-9_./-]{1,512}
//! ```
//! Only space and tab are blanks. `has(`, `all(`, `global(` have none before the parenthesis.

use std::collections::BTreeSet;

use super::{
    error::{MAX_LABEL_LENGTH, MAX_NESTING, Problem, SelectorError},
    expression::{Comparison, Expression},
};

pub(super) fn parse(text: &str) -> Result<Expression, SelectorError> {
    let mut parser = Parser {
        rest: text,
        nesting: 0,
    };
    parser.selector().map_err(|problem| SelectorError {
        selector: text.to_owned(),
        position: text[..text.len() - parser.rest.len()].chars().count() + 1,
        problem,
    })
}

struct Parser<'a> {
    /// What is not read yet; where it starts when an error occurs is where the error is.
    rest: &'a str,
    /// Parentheses open around `rest`.
    nesting: usize,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<Expression, Problem> {
        self.skip_blanks();
        if self.rest.is_empty() {
            return Ok(Expression::All);
        }
        let expression = self.or()?;
        if self.rest.is_empty() {
            Ok(expression)
        } else {
            Err(Problem::TrailingContent)
        }
    }

    fn or(&mut self) -> Result<Expression, Problem> {
        self.joined('|', Problem::ExpectedOr, Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression, Problem> {
        self.joined('&', Problem::ExpectedAnd, Self::unary, Expression::And)
    }

    /// Operands joined by a doubled `sign`; one alone stays as it is. Ends behind the blanks that follow.
    fn joined(
        &mut self,
        sign: char,
        single: Problem,
        operand: fn(&mut Self) -> Result<Expression, Problem>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, Problem> {
        let mut operands = vec![operand(self)?];
        self.skip_blanks();
        while self.rest.starts_with(sign) {
            if !self.rest[1..].starts_with(sign) {
                return Err(single);
            }
            self.rest = &self.rest[2..];
            operands.push(operand(self)?);
            self.skip_blanks();
        }
        Ok(if operands.len() == 1 {
            operands.swap_remove(0)
        } else {
            join(operands)
        })
    }

    fn unary(&mut self) -> Result<Expression, Problem> {
        let mut negated = false;
        self.skip_blanks();
        while self.accept("!") {
            negated = !negated;
            self.skip_blanks();
        }
        // `!(!a)` becomes `a` as `!!a` does, so that the canonical text reads back as the same tree.
        Ok(match (negated, self.operand()?) {
            (false, operand) => operand,
            (true, Expression::Not(operand)) => *operand,
            (true, operand) => Expression::Not(Box::new(operand)),
        })
    }

    fn operand(&mut self) -> Result<Expression, Problem> {
        if self.accept("(") {
            return self.parenthesised();
        }
        if self.accept("has(") {
            self.skip_blanks();
            let label = self.label()?;
            self.close_function("has")?;
            return Ok(Expression::Has { label });
        }
        if self.accept("all(") {
            self.close_function("all")?;
            return Ok(Expression::All);
        }
        if self.accept("global(") {
            self.close_function("global")?;
            return Ok(Expression::Global);
        }
        let label = self.label()?;
        self.skip_blanks();
        self.operation(label)
    }

    fn parenthesised(&mut self) -> Result<Expression, Problem> {
        if self.nesting == MAX_NESTING {
            return Err(Problem::NestedTooDeeply);
        }
        self.nesting += 1;
        let expression = self.or()?;
        self.nesting -= 1;
        if self.accept(")") {
            Ok(expression)
        } else {
            Err(Problem::ExpectedClosingParenthesis)
        }
    }

    fn operation(&mut self, label: String) -> Result<Expression, Problem> {
        if self.accept("==") {
            self.compare(label, Comparison::Equal)
        } else if self.accept("!=") {
            self.compare(label, Comparison::NotEqual)
        } else if self.rest.starts_with('=') {
            Err(Problem::ExpectedEqual)
        } else if self.accept_words(&["contains"]) {
            self.compare(label, Comparison::Contains)
        } else if self.accept_words(&["starts", "with"]) {
            self.compare(label, Comparison::StartsWith)
        } else if self.accept_words(&["ends", "with"]) {
            self.compare(label, Comparison::EndsWith)
        } else if self.accept_words(&["in"]) {
            Ok(Expression::In {
                label,
                values: self.set()?,
            })
        } else if self.accept_words(&["not", "in"]) {
            Ok(Expression::NotIn {
                label,
                values: self.set()?,
            })
        } else {
            Err(Problem::ExpectedOperator { label })
        }
    }

    fn compare(&mut self, label: String, comparison: Comparison) -> Result<Expression, Problem> {
        self.skip_blanks();
        let value = self.string()?.ok_or(Problem::ExpectedString)?;
        Ok(Expression::Compare {
            label,
            comparison,
            value,
        })
    }

    fn set(&mut self) -> Result<BTreeSet<String>, Problem> {
        self.skip_blanks();
        if !self.accept("{") {
            return Err(Problem::ExpectedSet);
        }
        let mut values = BTreeSet::new();
        loop {
            self.skip_blanks();
            let Some(value) = self.string()? else { break };
            values.insert(value);
            self.skip_blanks();
            if !self.accept(",") {
                break;
            }
        }
        if self.accept("}") {
            Ok(values)
        } else {
            Err(Problem::ExpectedClosingBrace)
        }
    }

    /// `None` if no string starts here.
    fn string(&mut self) -> Result<Option<String>, Problem> {
        let Some(quote) = self
            .rest
            .chars()
            .next()
            .filter(|first| matches!(first, '"' | '\''))
        else {
            return Ok(None);
        };
        let (value, rest) = self.rest[1..]
            .split_once(quote)
            .ok_or(Problem::UnterminatedString)?;
        self.rest = rest;
        Ok(Some(value.to_owned()))
    }

    fn label(&mut self) -> Result<String, Problem> {
        let length = self.rest.bytes().take_while(|byte| is_label_byte(*byte)).count();
        match length {
            0 => Err(self.no_operand()),
            1..=MAX_LABEL_LENGTH => {
                let (label, rest) = self.rest.split_at(length);
                self.rest = rest;
                Ok(label.to_owned())
            }
            _ => Err(Problem::LabelTooLong),
        }
    }

    /// What to say where a label or anything else that an expression starts with is missing.
    fn no_operand(&self) -> Problem {
        let mut signs = self.rest.chars();
        match (signs.next(), signs.next()) {
            (Some('='), second) if second != Some('=') => Problem::ExpectedEqual,
            (Some('&'), second) if second != Some('&') => Problem::ExpectedAnd,
            (Some('|'), second) if second != Some('|') => Problem::ExpectedOr,
            _ => Problem::ExpectedIdentifier,
        }
    }

    fn close_function(&mut self, function: &'static str) -> Result<(), Problem> {
        self.skip_blanks();
        if self.accept(")") {
            Ok(())
        } else {
            Err(Problem::UnclosedFunction { function })
        }
    }

    /// Accepts words in this order, blanks between them optional, if a word boundary follows the last one.
    fn accept_words(&mut self, words: &[&str]) -> bool {
        let start = self.rest;
        let all = words.iter().all(|word| {
            self.skip_blanks();
            self.accept(word)
        });
        let accepted = all && !self.rest.bytes().next().is_some_and(is_label_byte);
        if !accepted {
            self.rest = start;
        }
        accepted
    }

    fn accept(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}
