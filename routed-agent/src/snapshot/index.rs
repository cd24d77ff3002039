// SPDX-License-Identifier: Apache-2.0
//! What makes questions to a snapshot quick that are asked for every route: which lengths prefixes have, and whose an
//! address is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
};

use ipnet::IpNet;
use model::Node;

/// How many prefixes of each length there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths {
    v4: BTreeMap<u8, usize>,
    v6: BTreeMap<u8, usize>,
}

impl Lengths {
    fn of(&mut self, prefix: &IpNet) -> &mut BTreeMap<u8, usize> {
        match prefix {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }

    pub(super) fn add(&mut self, prefix: &IpNet) {
        *self.of(prefix).entry(prefix.prefix_len()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, prefix: &IpNet) {
        let lengths = self.of(prefix);
        if let Some(count) = lengths.get_mut(&prefix.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&prefix.prefix_len());
            }
        }
    }

    /// What can contain a prefix, or be it, the longest first.
    pub(super) fn around(&self, prefix: IpNet) -> impl Iterator<Item = IpNet> + '_ {
        let lengths = match prefix {
            IpNet::V4(_) => &self.v4,
            IpNet::V6(_) => &self.v6,
        };
        lengths
            .range(..=prefix.prefix_len())
            .rev()
            .filter_map(move |(length, _)| Some(IpNet::new(prefix.addr(), *length).ok()?.trunc()))
    }
}

/// The nodes by their addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses(BTreeMap<IpAddr, BTreeSet<Arc<str>>>);

impl Addresses {
    /// A node is another than before, or is not there any more.
    pub(super) fn replace(&mut self, name: &str, before: Option<&Node>, after: Option<&Node>) {
        for address in before.into_iter().flat_map(addresses) {
            if let Some(names) = self.0.get_mut(&address) {
                names.remove(name);
                if names.is_empty() {
                    self.0.remove(&address);
                }
            }
        }
        for address in after.into_iter().flat_map(addresses) {
            self.0.entry(address).or_default().insert(name.into());
        }
    }

    /// The node with an address; the first by name where several claim it.
    pub(super) fn node(&self, address: IpAddr) -> Option<&str> {
        self.0.get(&address)?.first().map(|name| &**name)
    }

    /// All addresses inside a prefix.
    pub(super) fn within<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> + use<'a> {
        self.0.range(all_of(prefix)).map(|(address, _)| *address)
    }
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let bgp = node.spec.bgp.as_ref();
    let both = bgp.map(|bgp| [bgp.ipv4_address, bgp.ipv6_address]);
    both.into_iter().flatten().flatten().map(|prefix| prefix.addr())
}

fn all_of(prefix: &IpNet) -> RangeInclusive<IpAddr> {
    prefix.network()..=prefix.broadcast()
}
