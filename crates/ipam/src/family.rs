// SPDX-License-Identifier: Apache-2.0
//! The two IP versions, as a request and an error name them.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use model::{AffinityOwner, KeyRange};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The version of a prefix.
    pub fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// The version of an address.
    pub fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// All blocks of this version.
    pub(crate) fn blocks(self) -> KeyRange {
        KeyRange::Blocks { v6: self == Self::V6 }
    }

    /// All affinities of one owner in this version.
    pub(crate) fn affinities(self, owner: &AffinityOwner) -> KeyRange {
        KeyRange::Affinities {
            owner: owner.clone(),
            v6: self == Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
