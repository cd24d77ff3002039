// SPDX-License-Identifier: Apache-2.0
//! The addresses that IPReservations keep out of automatic assignment, joined into disjoint prefixes.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reserved addresses of both versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Disjoint and ascending; neighbours are joined, so that a block is wholly reserved exactly when one of
    /// them contains it.
    prefixes: Vec<IpNet>,
}

impl Reserved {
    pub(crate) fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let listed: Vec<IpNet> = prefixes.into_iter().collect();
        let mut prefixes = IpNet::aggregate(&listed);
        prefixes.sort_unstable();
        Self { prefixes }
    }

    /// Whether one address is reserved.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.covering(&IpNet::from(address)).is_some()
    }

    /// The reserved prefix that contains the whole of this one.
    pub(crate) fn covering(&self, prefix: &IpNet) -> Option<&IpNet> {
        let after = self
            .prefixes
            .partition_point(|reserved| reserved.network() <= prefix.network());
        self.prefixes[..after]
            .last()
            .filter(|reserved| reserved.contains(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(texts: &[&str]) -> Reserved {
        Reserved::new(texts.iter().map(|text| text.parse::<IpNet>().unwrap()))
    }

    #[test]
    fn halves_of_a_block_cover_it() {
        let reserved = reserved(&["10.0.0.32/27", "10.0.0.0/27", "10.0.0.0/28"]);
        assert!(reserved.covering(&"10.0.0.0/26".parse().unwrap()).is_some());
        assert!(reserved.covering(&"10.0.0.0/25".parse().unwrap()).is_none());
        assert!(reserved.contains("10.0.0.63".parse().unwrap()));
        assert!(!reserved.contains("10.0.0.64".parse().unwrap()));
    }

    #[test]
    fn versions_do_not_mix() {
        let reserved = reserved(&["0.0.0.0/0", "fd00::/120"]);
        assert!(reserved.contains("192.0.2.1".parse().unwrap()));
        assert!(reserved.contains("fd00::5".parse().unwrap()));
        assert!(!reserved.contains("fd00::1:5".parse().unwrap()));
        assert!(!reserved.contains("::1".parse().unwrap()));
    }
}
