// SPDX-License-Identifier: Apache-2.0
//! The three names of an attachment, checked once (specification, section "Parameters").

use std::{fmt, str::FromStr};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdentifierError;

            fn from_str(text: &str) -> Result<Self, IdentifierError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(IdentifierError { value: text.to_owned(), rule: $rule })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// The runtime's name of a container or sandbox.
    ContainerId,
    is_word,
    "it must start with a letter or digit and have only letters, digits, '_', '.' and '-'"
);
identifier!(
    /// The name of a network.
    NetworkName,
    is_word,
    "it must start with a letter or digit and have only letters, digits, '_', '.' and '-'"
);
identifier!(
    /// The name of an interface inside a container: what the kernel accepts.
    InterfaceName,
    is_interface_name,
    "it must have 1 to 15 bytes, none of them '/', ':', '%' or a blank, and must not be '.', '..', 'all' or 'default'"
);

/// A text that is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not valid: {rule}")]
pub struct IdentifierError {
    /// As given.
    pub value: String,
    /// What is allowed.
    pub rule: &'static str,
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`
fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes()
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

fn is_interface_name(text: &str) -> bool {
    // The kernel makes a number of `%d`; `all` and `default` are no interfaces among its settings.
    let forbidden =
        |character: char| matches!(character, '/' | ':' | '%' | '\0') || character.is_whitespace();
    let reserved = [".", "..", "all", "default"].contains(&text);
    (1..=15).contains(&text.len()) && !reserved && !text.contains(forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        for text in ["a", "A9", "4f1c_.-", &"x".repeat(300)] {
            assert!(text.parse::<ContainerId>().is_ok(), "{text}");
        }
        for text in ["", "some-%%id", "-a", ".a", "a/b", "a b", "ü"] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
            assert!(text.parse::<NetworkName>().is_err(), "{text}");
        }
        for text in ["eth0", "a-b.c", "123456789012345", "ü"] {
            assert!(text.parse::<InterfaceName>().is_ok(), "{text}");
        }
        for text in [
            "",
            "1234567890123456",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\u{a0}b",
            "eth%d",
            "all",
            "default",
        ] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
    }
}
