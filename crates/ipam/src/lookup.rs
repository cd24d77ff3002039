// SPDX-License-Identifier: Apache-2.0
//! Reading allocations back: who has an address, and what a handle has. For CHECK, garbage collection, the tunnel
//! addresses and the command line.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use model::{IpamBlock, names::effective_handle};

use crate::{
    block,
    engine::Engine,
    error::AccessError,
    locate::Locator,
    operation::Operation,
    release_by_handle::{HandleSearch, blocks_naming},
    request::{Allocation, Assigned},
};

impl Engine<'_> {
    /// Who has an address; `None` if it is free, or in no block.
    pub fn allocation(&self, address: IpAddr) -> Result<Option<Allocation>, AccessError> {
        let operation = Operation::new(*self, "lookup");
        let stored = Locator::new(&operation).block_of(address)?;
        Ok(stored.and_then(|stored| describe(&stored.value, stored.value.ordinal(address)?)))
    }

    /// The addresses of a handle, IPv4 first, ascending. Damaged blocks are left out, with a notice.
    pub fn allocations_by_handle(
        &self,
        handle: &str,
        search: HandleSearch,
    ) -> Result<Vec<Allocation>, AccessError> {
        let operation = Operation::new(*self, "lookup");
        let id = effective_handle(handle);
        let stored = operation.handle(id)?;
        let mut blocks: BTreeSet<IpNet> = stored
            .map(|stored| stored.value.block.into_keys().collect())
            .unwrap_or_default();
        if search == HandleSearch::Thorough {
            blocks.extend(blocks_naming(&operation, id)?);
        }
        let mut allocations = Vec::new();
        for cidr in blocks {
            if let Some(Some(stored)) = operation.unless_damaged(operation.block(cidr))? {
                let ordinals = block::ordinals_of(&stored.value, id);
                allocations.extend(
                    ordinals
                        .into_iter()
                        .filter_map(|ordinal| describe(&stored.value, ordinal)),
                );
            }
        }
        Ok(allocations)
    }
}

fn describe(block: &IpamBlock, ordinal: usize) -> Option<Allocation> {
    let attribute = block.attribute(ordinal)?;
    Some(Allocation {
        assigned: Assigned {
            address: block.address(ordinal)?,
            block: block.cidr,
            sequence: block::sequence_of(block, ordinal),
        },
        handle: attribute.handle_id.clone(),
        attributes: attribute.secondary.clone(),
        cooling: attribute.released_at.is_some(),
        affinity: block.affinity.clone(),
    })
}
