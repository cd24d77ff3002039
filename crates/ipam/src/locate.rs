// SPDX-License-Identifier: Apache-2.0
//! Which stored block an address is in: the one its pool's block size says, or, where there is none (a pool that
//! is gone, or that had another block size), whichever existing block contains it.

use std::{cell::OnceCell, collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use model::{IpamBlock, prefix};

use crate::{
    error::AccessError,
    family::Family,
    operation::{Operation, Stored},
};

/// Finds blocks of addresses; lists the existing blocks of a version at most once.
pub(crate) struct Locator<'o, 'a> {
    operation: &'o Operation<'a>,
    v4: OnceCell<BTreeSet<IpNet>>,
    v6: OnceCell<BTreeSet<IpNet>>,
}

impl<'o, 'a> Locator<'o, 'a> {
    pub(crate) fn new(operation: &'o Operation<'a>) -> Self {
        Self {
            operation,
            v4: OnceCell::new(),
            v6: OnceCell::new(),
        }
    }

    /// The block that an address is in; `Damaged` if that block is not sound.
    pub(crate) fn block_of(&self, address: IpAddr) -> Result<Option<Stored<IpamBlock>>, AccessError> {
        match self.prefix_of(address)? {
            Some(cidr) => self.operation.block(cidr),
            None => Ok(None),
        }
    }

    /// The prefix of the stored block that an address is in, whatever its condition.
    pub(crate) fn prefix_of(&self, address: IpAddr) -> Result<Option<IpNet>, AccessError> {
        if let Some(expected) = self.expected(address)?
            && self
                .operation
                .engine
                .store
                .get(&model::Key::Block(expected))?
                .is_some()
        {
            return Ok(Some(expected));
        }
        let contains = |block: &&IpNet| block.contains(&address);
        let existing = self.existing(Family::of_address(address))?;
        Ok(existing
            .iter()
            .filter(contains)
            .max_by_key(|block| block.prefix_len())
            .copied())
    }

    /// The block that the address's pool, enabled or not, would have for it.
    pub(crate) fn expected(&self, address: IpAddr) -> Result<Option<IpNet>, AccessError> {
        let pool = self.operation.pool_containing(&address.into())?;
        Ok(pool.and_then(|pool| prefix::block_containing(address, pool.spec.effective_block_size())))
    }

    /// An existing block of another size that overlaps this prefix.
    pub(crate) fn overlapping(&self, block: &IpNet) -> Result<Option<IpNet>, AccessError> {
        Ok(overlapping(self.existing(Family::of(block))?, block))
    }

    fn existing(&self, family: Family) -> Result<&BTreeSet<IpNet>, AccessError> {
        let cell = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        if let Some(prefixes) = cell.get() {
            return Ok(prefixes);
        }
        let prefixes = self.operation.block_prefixes(family)?;
        Ok(cell.get_or_init(|| prefixes))
    }
}

/// A member of `existing` that overlaps `block` without being equal to it.
pub(crate) fn overlapping(existing: &BTreeSet<IpNet>, block: &IpNet) -> Option<IpNet> {
    let first = IpNet::new(block.network(), 0).ok()?;
    let last = IpNet::new(block.broadcast(), prefix::address_bits(block)).ok()?;
    let inside = existing
        .range(first..=last)
        .find(|found| *found != block && prefix::overlaps(found, block));
    let around = || {
        let supernet = |length| IpNet::new(block.network(), length).ok().map(|net| net.trunc());
        (0..block.prefix_len())
            .rev()
            .filter_map(supernet)
            .find(|supernet| existing.contains(supernet))
    };
    inside.copied().or_else(around)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found_in_both_directions() {
        let nets = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<BTreeSet<IpNet>>()
        };
        let existing = nets(&[
            "10.0.0.0/26",
            "10.0.1.0/28",
            "10.0.1.240/28",
            "10.0.2.0/24",
            "fd00::/122",
        ]);
        let find = |text: &str| overlapping(&existing, &text.parse().unwrap()).map(|net| net.to_string());
        assert_eq!(find("10.0.0.0/26"), None, "the block itself does not count");
        assert_eq!(find("10.0.0.64/26"), None);
        assert_eq!(find("10.0.1.192/26").as_deref(), Some("10.0.1.240/28"));
        assert_eq!(find("10.0.1.0/26").as_deref(), Some("10.0.1.0/28"));
        assert_eq!(find("10.0.2.64/26").as_deref(), Some("10.0.2.0/24"));
        assert_eq!(find("10.0.0.0/24").as_deref(), Some("10.0.0.0/26"));
        assert_eq!(find("fd00::/124").as_deref(), Some("fd00::/122"));
    }
}
