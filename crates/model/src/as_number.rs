// SPDX-License-Identifier: Apache-2.0
//! AS numbers as Calico's users write them: a number, a string with a number, or `high.low` (RFC 5396 asdot+).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An autonomous system number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsNumber(pub u32);

/// A text that is not an AS number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an AS number: write 0 to 4294967295, or two numbers of 0 to 65535 such as 1.10")]
pub struct AsNumberError(String);

impl FromStr for AsNumber {
    type Err = AsNumberError;

    fn from_str(text: &str) -> Result<Self, AsNumberError> {
        let parsed = match text.split_once('.') {
            Some((high, low)) => high
                .parse::<u16>()
                .and_then(|high| Ok((u32::from(high) << 16) + u32::from(low.parse::<u16>()?))),
            None => text.parse(),
        };
        parsed.map(Self).map_err(|_| AsNumberError(text.to_owned()))
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for AsNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsNumberVisitor;

        impl de::Visitor<'_> for AsNumberVisitor {
            type Value = AsNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number, also as a string or as high.low")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<AsNumber, E> {
                u32::try_from(number)
                    .map(AsNumber)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AsNumber, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(AsNumberVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_to_write_one() {
        for (json, number) in [
            ("64512", 64512),
            ("\"64512\"", 64512),
            ("\"1.10\"", 65_546),
            ("4294967295", u32::MAX),
        ] {
            let read: AsNumber = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(read, AsNumber(number));
            assert_eq!(serde_json::to_string(&read).unwrap(), number.to_string());
        }
        for json in [
            "-1",
            "4294967296",
            "1.5",
            "\"1.65536\"",
            "\"1.2.3\"",
            "\"\"",
            "\"as1\"",
            "true",
        ] {
            assert!(serde_json::from_str::<AsNumber>(json).is_err(), "{json}");
        }
    }
}
