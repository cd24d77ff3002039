// SPDX-License-Identifier: Apache-2.0
//! In which order the blocks of a pool are tried: from a place that depends on the host, once round the pool, so
//! that hosts spread out instead of racing for the same block.
//!
//! The place is FNV-1 of the host's name modulo the number of blocks. Calico seeds Go's generator with the same
//! hash; the draw differs, which both sides tolerate: any spread that is the same each time for a host is correct.

use ipnet::IpNet;
use model::prefix;

/// A walk once round the blocks of a pool. It can jump, so that it ends soon even in pools of 2^70 blocks.
#[derive(Clone, Debug)]
pub(crate) struct BlockWalk {
    pool: IpNet,
    length: u8,
    start: u128,
    /// Index of the next block; `None` when the walk is over.
    next: Option<u128>,
    wrapped: bool,
}

impl BlockWalk {
    /// A walk over the blocks of `length` in `pool`. `fallback_seed` spreads hosts over pools whose blocks are
    /// single addresses, where a fixed place would have every restart collide with what it used before.
    pub(crate) fn new(pool: IpNet, length: u8, host: &str, fallback_seed: u64) -> Self {
        let count = prefix::block_count(&pool, length);
        let seed = if length == prefix::address_bits(&pool) {
            u128::from(fallback_seed)
        } else {
            u128::from(fnv1(host.as_bytes()))
        };
        let start = seed.checked_rem(count).unwrap_or(0);
        Self {
            pool,
            length,
            start,
            next: (count > 0).then_some(start),
            wrapped: false,
        }
    }

    /// Goes on behind this prefix, which overlaps the block returned last and of which no block is of interest.
    pub(crate) fn skip_past(&mut self, skipped: &IpNet) {
        let last = prefix::block_index(&self.pool, self.length, skipped.broadcast());
        let covers_end = skipped.contains(&self.pool.broadcast());
        match last {
            _ if covers_end => self.wrap(),
            Some(last) if self.next.is_some_and(|next| next <= last) => self.go_to(last + 1),
            _ => {}
        }
    }

    /// How far behind the start of the walk a block lies: the key to sort stored blocks by.
    pub(crate) fn distance(&self, block: &IpNet) -> Option<u128> {
        let index = prefix::block_index(&self.pool, self.length, block.network())?;
        let count = prefix::block_count(&self.pool, self.length);
        Some(if index >= self.start {
            index - self.start
        } else {
            count - self.start + index
        })
    }

    fn go_to(&mut self, index: u128) {
        if index >= prefix::block_count(&self.pool, self.length) {
            self.wrap();
        } else {
            self.next = Some(index).filter(|index| !self.wrapped || *index < self.start);
        }
    }

    fn wrap(&mut self) {
        self.next = (!self.wrapped && self.start > 0).then_some(0);
        self.wrapped = true;
    }
}

impl Iterator for BlockWalk {
    type Item = IpNet;

    fn next(&mut self) -> Option<IpNet> {
        let index = self.next?;
        self.go_to(index.saturating_add(1));
        prefix::nth_block(&self.pool, self.length, index)
    }
}

/// FNV-1 in 32 bits (not 1a): multiply, then exclusive-or.
fn fnv1(bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte);
    bytes.iter().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests;
