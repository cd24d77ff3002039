// SPDX-License-Identifier: Apache-2.0
//! What both kinds of release share: freeing ordinals of one block in memory, telling afterwards whether a write
//! without reply did it, leaving out the caller's writes that are made already, and giving an empty block back.

use std::{collections::BTreeSet, net::IpAddr};

use datastore::Write;
use ipnet::IpNet;
use model::{AffinityOwner, IpamBlock};

use crate::{
    affinity::ReleaseRules,
    block,
    error::AccessError,
    notice::Notice,
    operation::{Event, Operation, Stored},
    pool_selection::selects_node,
};

/// The change of one block.
#[derive(Debug)]
pub(crate) struct BlockRelease {
    pub(crate) write: Write,
    /// The block as it will be; `None` if it is deleted.
    pub(crate) after: Option<IpamBlock>,
    /// What becomes free.
    pub(crate) freed: Vec<Freed>,
}

/// One address that becomes free, as it was.
#[derive(Clone, Debug)]
pub(crate) struct Freed {
    pub(crate) address: IpAddr,
    pub(crate) block: IpNet,
    ordinal: usize,
    pub(crate) handle: Option<String>,
    sequence: u64,
}

impl Freed {
    /// Whether a block still has the allocation.
    pub(crate) fn is_in(&self, block: &IpamBlock) -> bool {
        let attribute = block.attribute(self.ordinal);
        attribute.is_some_and(|found| found.released_at.is_none() && found.handle_id == self.handle)
            && block::sequence_of(block, self.ordinal) == self.sequence
    }

    /// The line for the journal.
    pub(crate) fn event(&self) -> Event {
        Event::new("release", &self.address, self.handle.clone().unwrap_or_default())
    }
}

/// Frees ordinals of a block in memory.
pub(crate) fn free(
    operation: &Operation<'_>,
    stored: Stored<IpamBlock>,
    ordinals: &BTreeSet<usize>,
) -> Result<BlockRelease, AccessError> {
    let Stored { mut value, revision } = stored;
    let freed = |ordinal: &usize| {
        Some(Freed {
            address: value.address(*ordinal)?,
            block: value.cidr,
            ordinal: *ordinal,
            handle: value
                .attribute(*ordinal)
                .and_then(|attribute| attribute.handle_id.clone()),
            sequence: block::sequence_of(&value, *ordinal),
        })
    };
    let freed: Vec<Freed> = ordinals.iter().filter_map(freed).collect();
    let now = operation.clock().now();
    block::release(&mut value, ordinals, now);
    block::normalise(&mut value, operation.cooldown()?, now);
    let key = value.key();
    if block::is_empty(&value) && value.affinity.is_none() {
        let write = Write::Delete { key, revision };
        return Ok(BlockRelease {
            write,
            after: None,
            freed,
        });
    }
    block::advance(&mut value);
    Ok(BlockRelease {
        write: Write::update(key, &value, revision),
        after: Some(value),
        freed,
    })
}

/// The caller's writes that still have to be made; `partly` says that an earlier attempt may have made some.
pub(crate) fn left_to_apply(
    operation: &Operation<'_>,
    writes: Vec<Write>,
    partly: bool,
) -> Result<Vec<Write>, AccessError> {
    if !partly {
        return Ok(writes);
    }
    let mut left = Vec::new();
    for write in writes {
        let stored = operation.engine.store.get(write.key())?;
        let applied = match &write {
            Write::Create { value, .. } | Write::Update { value, .. } => {
                stored.is_some_and(|stored| stored.value == *value)
            }
            Write::Delete { .. } => stored.is_none(),
            Write::Check { .. } => false,
        };
        if !applied {
            left.push(write);
        }
    }
    Ok(left)
}

/// Gives a block that has become empty back if its owner should not have it any more: a node that the block's pool
/// no longer selects, or the virtual owner of load balancer addresses, which keeps no empty blocks.
pub(crate) fn settle_empty(operation: &Operation<'_>, cidr: IpNet, owner: &AffinityOwner) {
    let result = unwanted(operation, cidr, owner).and_then(|unwanted| {
        if unwanted {
            operation.release_affinity(owner, cidr, ReleaseRules::EMPTY)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        operation.notice(&Notice::Postponed {
            step: "giving back an empty block",
            object: cidr.to_string(),
            reason: error.to_string(),
        });
    }
}

fn unwanted(operation: &Operation<'_>, cidr: IpNet, owner: &AffinityOwner) -> Result<bool, AccessError> {
    let AffinityOwner::Host(name) = owner else {
        return Ok(true);
    };
    let Some(pool) = operation.pool_containing(&cidr)? else {
        return Ok(false);
    };
    if matches!(pool.spec.node_selector.trim(), "" | "all()") {
        return Ok(false);
    }
    let Some(node) = operation.node(name)? else {
        return Ok(false);
    };
    // A selector that cannot be read is no reason to take a block away.
    Ok(!selects_node(pool, &node).unwrap_or(true))
}
