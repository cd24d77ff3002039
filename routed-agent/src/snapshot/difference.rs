// SPDX-License-Identifier: Apache-2.0
//! What differs between two snapshots, coarse where it is rare and fine where it is frequent: containers come and go
//! all the time, and with them addresses in blocks; everything else hardly ever changes.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;

use super::Snapshot;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Settings, nodes, pools or peers: anything may follow from that.
    Anything,
    /// Only these blocks, their owners or their addresses; and maybe containers.
    Only(BTreeSet<IpNet>),
}

impl Snapshot {
    /// What differs from an earlier one.
    pub fn since(&self, earlier: &Self) -> Difference {
        let is_same = same(&self.nodes, &earlier.nodes)
            && same(&self.pools, &earlier.pools)
            && same(&self.bgp_peers, &earlier.bgp_peers)
            && same(&self.bgp_filters, &earlier.bgp_filters)
            && same(&self.bgp_configurations, &earlier.bgp_configurations)
            && same(&self.felix_configurations, &earlier.felix_configurations)
            && self.cluster == earlier.cluster
            && self.unreadable == earlier.unreadable;
        if !is_same {
            return Difference::Anything;
        }
        let mut blocks = BTreeSet::new();
        differing(&self.blocks, &earlier.blocks, &mut blocks);
        differing(&self.affinities, &earlier.affinities, &mut blocks);
        Difference::Only(blocks)
    }
}

/// Blocks that are in one of two snapshots only, or are others there.
pub(super) fn differing_blocks(one: &Snapshot, other: &Snapshot) -> BTreeSet<IpNet> {
    let mut blocks = BTreeSet::new();
    differing(&one.blocks, &other.blocks, &mut blocks);
    blocks
}

fn same<K: PartialEq, V: ?Sized>(one: &BTreeMap<K, Arc<V>>, other: &BTreeMap<K, Arc<V>>) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|((a, x), (b, y))| Arc::ptr_eq(x, y) && a == b)
}

/// Collects keys that are in one map only, or have another value.
fn differing<V>(one: &BTreeMap<IpNet, Arc<V>>, other: &BTreeMap<IpNet, Arc<V>>, found: &mut BTreeSet<IpNet>) {
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        match order {
            Ordering::Less => found.extend(left.next().map(|(key, _)| *key)),
            Ordering::Greater => found.extend(right.next().map(|(key, _)| *key)),
            Ordering::Equal => {
                if let (Some((key, x)), Some((_, y))) = (left.next(), right.next())
                    && !Arc::ptr_eq(x, y)
                {
                    found.insert(*key);
                }
            }
        }
    }
}
