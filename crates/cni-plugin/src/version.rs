// SPDX-License-Identifier: Apache-2.0
//! CNI specification versions: parsing, order, and which of them a plugin here speaks.

use std::{fmt, str::FromStr};

/// A version of the CNI specification: one to three numbers, missing ones being 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The first one; also what an absent `cniVersion` means.
    pub const V0_1_0: Self = Self::new(0, 1, 0);
    /// Adds VERSION.
    pub const V0_2_0: Self = Self::new(0, 2, 0);
    /// Adds `interfaces`, several addresses and chaining.
    pub const V0_3_0: Self = Self::new(0, 3, 0);
    /// Corrects the spelling of `ips`.
    pub const V0_3_1: Self = Self::new(0, 3, 1);
    /// Adds CHECK, and `prevResult` for DEL.
    pub const V0_4_0: Self = Self::new(0, 4, 0);
    /// Drops `ips[].version`.
    pub const V1_0_0: Self = Self::new(1, 0, 0);
    /// Adds GC and STATUS.
    pub const V1_1_0: Self = Self::new(1, 1, 0);

    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

/// Every version this library speaks, oldest first.
pub const SUPPORTED_VERSIONS: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

/// A text that is not one to three numbers with dots between them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a CNI version; write for example 1.0.0")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.is_empty() {
            return Ok(Self::V0_1_0);
        }
        let mut numbers = [0; 3];
        let mut parts = text.split('.');
        for number in &mut numbers {
            let Some(part) = parts.next() else { break };
            let decimal = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            *number = part
                .parse()
                .ok()
                .filter(|_| decimal)
                .ok_or_else(|| VersionError(text.to_owned()))?;
        }
        match parts.next() {
            None => Ok(Self::new(numbers[0], numbers[1], numbers[2])),
            Some(_) => Err(VersionError(text.to_owned())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The versions as the texts of messages and of `supportedVersions`.
pub(crate) fn texts(versions: &[Version]) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("0.10.0") > version("0.9.0"));
        assert!(version("1.1.0") > version("1.0.0"));
        assert_eq!(version("1"), version("1.0.0"));
        assert_eq!(version(""), Version::V0_1_0);
        assert_eq!(version("0.3.1").to_string(), "0.3.1");
        for text in [
            "1.2.3.4",
            "a",
            "1.",
            ".1",
            "1.x",
            "+1.0",
            "1.0.99999999999",
            " 1.0",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert!(SUPPORTED_VERSIONS.is_sorted());
    }
}
