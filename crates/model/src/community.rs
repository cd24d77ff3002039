// SPDX-License-Identifier: Apache-2.0
//! BGP communities as configuration writes them: `aa:nn` (RFC 1997) and `aa:nn:mm` (large, RFC 8092).

use std::{fmt, str::FromStr};

/// A community value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Community {
    /// RFC 1997: two parts of 16 bits.
    Standard(u16, u16),
    /// RFC 8092: three parts of 32 bits.
    Large(u32, u32, u32),
}

/// A text that is not a community value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a community: write two numbers of 0 to 65535 as in 64512:100, or three of 0 to 4294967295 as in \
     64512:1:2"
)]
pub struct CommunityError(String);

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let parts: Vec<&str> = text.split(':').collect();
        let parsed = match parts[..] {
            [high, low] => (|| Some(Self::Standard(number(high)?, number(low)?)))(),
            [global, first, second] => {
                (|| Some(Self::Large(number(global)?, number(first)?, number(second)?)))()
            }
            _ => None,
        };
        parsed.ok_or_else(|| CommunityError(text.to_owned()))
    }
}

/// Decimal digits only: a sign, which `parse` would take, is no part of a community.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(high, low) => write!(f, "{high}:{low}"),
            Self::Large(global, first, second) => write!(f, "{global}:{first}:{second}"),
        }
    }
}

json_text!(Community);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let cases = [
            ("64512:100", Community::Standard(64512, 100)),
            ("0:65535", Community::Standard(0, 65535)),
            ("4294967295:0:7", Community::Large(u32::MAX, 0, 7)),
        ];
        for (text, community) in cases {
            assert_eq!(text.parse(), Ok(community));
            assert_eq!(community.to_string(), text);
        }
        for text in [
            "",
            "1",
            "65536:1",
            "1:",
            "+1:2",
            "1:2:3:4",
            "4294967296:1:1",
            "a:b",
        ] {
            let error = text.parse::<Community>().expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("{text:?} is not a community")),
                "{error}"
            );
        }
    }
}
