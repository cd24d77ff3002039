// SPDX-License-Identifier: Apache-2.0
//! Which addresses a node's containers and tunnels were given, and which they gave back, between two snapshots.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use model::{AllocationAttribute, IpamBlock};

use super::{Snapshot, difference::differing_blocks};

/// An address that was given out or given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The address.
    pub address: IpAddr,
    /// Given out; otherwise given back.
    pub assigned: bool,
    /// Whose it is or was: the handle, and the pod where there is one.
    pub holder: String,
}

impl Snapshot {
    /// Addresses that a node was given or gave back since an earlier snapshot, in order of blocks. One that went from one
    /// holder to another is there twice. An address that cools down has been given back.
    pub fn assignments_since(&self, earlier: &Self, node: &str) -> Vec<Assignment> {
        let mut found = Vec::new();
        for block in differing_blocks(self, earlier) {
            add(&block, self, earlier, node, &mut found);
        }
        found
    }
}

fn add(block: &IpNet, now: &Snapshot, earlier: &Snapshot, node: &str, found: &mut Vec<Assignment>) {
    let was = earlier.blocks.get(block).map(Arc::as_ref);
    let is = now.blocks.get(block).map(Arc::as_ref);
    let ordinals = [was, is]
        .into_iter()
        .flatten()
        .map(|block| block.allocations.len());
    for ordinal in 0..ordinals.max().unwrap_or_default() {
        let before = was.and_then(|block| holder(block, ordinal, node));
        let after = is.and_then(|block| holder(block, ordinal, node));
        if before == after {
            continue;
        }
        for (holder, assigned) in [(before, false), (after, true)] {
            let address = is.or(was).and_then(|block| block.address(ordinal));
            if let (Some(holder), Some(address)) = (holder, address) {
                let holder = text(holder);
                found.push(Assignment {
                    address,
                    assigned,
                    holder,
                });
            }
        }
    }
}

/// What is known of whoever has an address on a node.
fn holder<'b>(block: &'b IpamBlock, ordinal: usize, node: &str) -> Option<&'b AllocationAttribute> {
    let attribute = block.attribute(ordinal)?;
    let is_here = attribute.secondary.get("node").is_some_and(|found| found == node);
    (is_here && attribute.released_at.is_none()).then_some(attribute)
}

fn text(attribute: &AllocationAttribute) -> String {
    let handle = attribute.handle_id.as_deref().unwrap_or("no handle");
    let of = |key: &str| attribute.secondary.get(key).map(String::as_str);
    match (of("namespace"), of("pod")) {
        (Some(namespace), Some(pod)) => format!("{handle}, pod {namespace}/{pod}"),
        _ => handle.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datastore::{Change, Entry, Revision};
    use model::{Key, Timestamp};

    use super::*;

    fn attribute(handle: &str, node: &str) -> AllocationAttribute {
        let secondary = [("node", node), ("namespace", "shop"), ("pod", "till")];
        AllocationAttribute {
            handle_id: Some(handle.to_owned()),
            secondary: secondary
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..AllocationAttribute::default()
        }
    }

    fn with(attributes: BTreeMap<usize, AllocationAttribute>) -> Snapshot {
        let prefix: IpNet = "192.168.1.0/29".parse().unwrap();
        let mut block = IpamBlock::new(prefix, None, None, 1).unwrap();
        for (ordinal, attribute) in attributes {
            block.allocations[ordinal] = Some(block.attributes.len());
            block.unallocated.retain(|free| *free != ordinal);
            block.attributes.push(attribute);
        }
        let mut snapshot = Snapshot::default();
        snapshot.apply(Change::Put(Entry {
            key: Key::Block(prefix),
            revision: Revision(1),
            value: serde_json::to_string(&block).unwrap(),
        }));
        assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
        snapshot
    }

    #[test]
    fn what_this_node_was_given_and_gave_back_is_found() {
        let before = with(
            [
                (0, attribute("stays", "here")),
                (1, attribute("goes", "here")),
                (2, attribute("cools", "here")),
                (3, attribute("old", "here")),
                (4, attribute("theirs", "there")),
            ]
            .into(),
        );
        let cooling = AllocationAttribute {
            released_at: Some(Timestamp::from(std::time::SystemTime::UNIX_EPOCH)),
            ..attribute("cools", "here")
        };
        let after = with(
            [
                (0, attribute("stays", "here")),
                (2, cooling),
                (3, attribute("new", "here")),
                (5, attribute("comes", "here")),
                (6, attribute("their-new", "there")),
            ]
            .into(),
        );
        let short = |later: &Snapshot, earlier: &Snapshot| -> Vec<String> {
            let all = later.assignments_since(earlier, "here");
            let sign = |assigned| if assigned { '+' } else { '-' };
            all.iter()
                .map(|found| format!("{}{} {}", sign(found.assigned), found.address, found.holder))
                .collect()
        };
        let pod = ", pod shop/till";
        assert_eq!(
            short(&after, &before),
            [
                format!("-192.168.1.1 goes{pod}"),
                format!("-192.168.1.2 cools{pod}"),
                format!("-192.168.1.3 old{pod}"),
                format!("+192.168.1.3 new{pod}"),
                format!("+192.168.1.5 comes{pod}"),
            ]
        );
        assert!(short(&after, &after).is_empty());
        // The whole block may go.
        assert_eq!(short(&Snapshot::default(), &after).len(), 3);
    }
}
