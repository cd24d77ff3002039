// SPDX-License-Identifier: Apache-2.0
//! Arithmetic on prefixes: canonical form, overlap, and the blocks a pool is cut into
//! (`/20`..`/32` in IPv4, `/116`..`/128` in IPv6: at most 4096 addresses each).
//!
//! Ordinals number the addresses of a block from 0. All arithmetic is in 128 bits and checked, so that a pool as
//! large as `::/0` cannot overflow.

use std::net::IpAddr;

use ipnet::IpNet;

#[cfg(test)]
mod tests;

/// More host bits than this and a prefix cannot be a block.
const MAX_BLOCK_HOST_BITS: u8 = 12;

/// How many bits an address of this prefix's family has.
pub fn address_bits(prefix: &IpNet) -> u8 {
    prefix.max_prefix_len()
}

/// Whether no bit behind the prefix length is set.
pub fn is_canonical(prefix: &IpNet) -> bool {
    *prefix == prefix.trunc()
}

/// Whether two prefixes share an address. Never across families.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The prefix that holds exactly this address.
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// Reads a prefix, or an address as the prefix that holds just it. Blanks around it are ignored.
pub fn parse_prefix_or_address(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse().ok().map(host_prefix))
}

/// Whether a prefix may be an allocation block, by its length: 20..=32 or 116..=128.
pub fn is_block_length(block: &IpNet) -> bool {
    address_bits(block) - block.prefix_len() <= MAX_BLOCK_HOST_BITS
}

/// How many addresses a block has; `None` if the prefix is too large for a block.
pub fn block_size(block: &IpNet) -> Option<usize> {
    is_block_length(block).then(|| 1 << (address_bits(block) - block.prefix_len()))
}

/// The address with this ordinal in a block; `None` beyond its end.
pub fn ordinal_to_address(block: &IpNet, ordinal: usize) -> Option<IpAddr> {
    if ordinal >= block_size(block)? {
        return None;
    }
    nth_address(&block.trunc(), u128::try_from(ordinal).ok()?)
}

/// The ordinal of an address in a block; `None` if it is outside.
pub fn address_to_ordinal(block: &IpNet, address: IpAddr) -> Option<usize> {
    if !is_block_length(block) || !block.contains(&address) {
        return None;
    }
    usize::try_from(number(address) - number(block.network())).ok()
}

/// The block of this length that contains an address; `None` for a length the family does not have.
pub fn block_containing(address: IpAddr, block_length: u8) -> Option<IpNet> {
    IpNet::new(address, block_length).ok().map(|block| block.trunc())
}

/// How many blocks of this length a pool has: 0 when the pool is smaller than one block, and `u128::MAX` for the
/// one number that does not fit (all /128 of `::/0`).
pub fn block_count(pool: &IpNet, block_length: u8) -> u128 {
    if block_length > address_bits(pool) {
        return 0;
    }
    match block_length.checked_sub(pool.prefix_len()) {
        Some(bits) => 1_u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX),
        None => 0,
    }
}

/// The block with this index in a pool, counted from its lowest address; `None` beyond its end.
pub fn nth_block(pool: &IpNet, block_length: u8, index: u128) -> Option<IpNet> {
    if index >= block_count(pool, block_length) {
        return None;
    }
    let host_bits = u32::from(address_bits(pool) - block_length);
    // An index below the count fits in the bits between the two lengths; a shift by 128 happens only for index 0.
    let offset = index.checked_shl(host_bits).unwrap_or(0);
    IpNet::new(nth_address(&pool.trunc(), offset)?, block_length).ok()
}

/// The index in its pool of the block that contains an address; `None` if the address is outside the pool.
pub fn block_index(pool: &IpNet, block_length: u8, address: IpAddr) -> Option<u128> {
    if !pool.contains(&address) || block_count(pool, block_length) == 0 {
        return None;
    }
    let host_bits = u32::from(address_bits(pool) - block_length);
    Some(
        (number(address) - number(pool.network()))
            .checked_shr(host_bits)
            .unwrap_or(0),
    )
}

/// Whether an address is of the same family as a prefix.
pub fn same_family(prefix: &IpNet, address: IpAddr) -> bool {
    matches!(
        (prefix, address),
        (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), IpAddr::V6(_))
    )
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn nth_address(base: &IpNet, offset: u128) -> Option<IpAddr> {
    match base.addr() {
        IpAddr::V4(address) => {
            let address = u32::from(address).checked_add(u32::try_from(offset).ok()?)?;
            Some(IpAddr::V4(address.into()))
        }
        IpAddr::V6(address) => Some(IpAddr::V6(u128::from(address).checked_add(offset)?.into())),
    }
}
