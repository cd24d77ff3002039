// SPDX-License-Identifier: Apache-2.0
//! When a node claims a block ahead of need, and when it gives one back.
//!
//! It wants so many free addresses that a burst of containers finds them: a quarter of a block, at most 16. It gives a
//! block back that has been empty, and untouched, for several looks, if twice that stock remains without it; so a node
//! that starts and stops the same containers keeps its blocks. Empty blocks that its containers do not get without asking
//! (the pool is disabled, or does not select the node any more) go back in any case.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use calico_ipam::session::Session;
use ipam::{AffinityRelease, ClaimAhead, Family, Stock, StockBlock};
use ipnet::IpNet;

use super::StockLine;

/// Most free addresses that are wanted ahead.
const STOCK: usize = 16;
/// A block goes back after it was found empty and untouched so many times.
const LOOKS: u32 = 6;

/// What was seen at earlier looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Empty blocks, by what they were like and how often.
    empty: BTreeMap<IpNet, (u64, u32)>,
}

impl Watch {
    /// Looks at the blocks of this node and does what is due.
    pub(super) fn look(
        &mut self,
        session: &Session<'_>,
        families: &[Family],
        report: &dyn Fn(String),
    ) -> Result<Vec<StockLine>> {
        let node = &session.node;
        let mut lines = Vec::new();
        let mut seen = BTreeMap::new();
        for &family in families {
            let mut stock = session.with_engine(|engine| engine.stock(node, family))?;
            let mut short = None;
            if stock.free() < wanted(&stock) {
                // Under the host's lock: a container that starts right now may claim one, and then it is enough.
                let _lock = session.lock().map_err(|problem| anyhow!("{problem}"))?;
                stock = session.with_engine(|engine| engine.stock(node, family))?;
                if stock.free() < wanted(&stock) {
                    match session.with_engine(|engine| engine.claim_ahead(node, family, "claim ahead"))? {
                        ClaimAhead::Claimed(block) => {
                            report(format!(
                                "block {block} claimed ahead: {} addresses were left",
                                stock.free()
                            ));
                            stock = session.with_engine(|engine| engine.stock(node, family))?;
                        }
                        ClaimAhead::NothingToSpare => {
                            short = Some("no pool has two free blocks for each node".to_owned());
                        }
                        ClaimAhead::Refused(reason) => short = Some(reason.to_string()),
                    }
                }
            }
            self.remember(&stock, &mut seen);
            for block in surplus(&stock, &seen) {
                let (cidr, sequence) = (block.cidr, block.sequence);
                let outcome =
                    session.with_engine(|engine| engine.give_back(node, cidr, sequence, "empty block"))?;
                if outcome == AffinityRelease::Released {
                    report(format!(
                        "block {cidr} given back: it has been empty for {LOOKS} looks"
                    ));
                }
                seen.remove(&cidr);
            }
            lines.push(StockLine {
                family: family.to_string(),
                blocks: stock.blocks.len(),
                free: stock.free(),
                short,
            });
        }
        self.empty = seen;
        Ok(lines)
    }

    fn remember(&self, stock: &Stock, seen: &mut BTreeMap<IpNet, (u64, u32)>) {
        for block in stock.blocks.iter().filter(|block| block.empty) {
            let before = self.empty.get(&block.cidr);
            let times = before.map_or(
                0,
                |(sequence, times)| {
                    if *sequence == block.sequence { *times } else { 0 }
                },
            );
            seen.insert(block.cidr, (block.sequence, times.saturating_add(1)));
        }
    }
}

/// How many free addresses are wanted.
fn wanted(stock: &Stock) -> usize {
    let size = |block: &StockBlock| model::prefix::block_size(&block.cidr).unwrap_or(0);
    let usable = stock.blocks.iter().filter(|block| block.usable);
    let largest = usable.map(size).max().unwrap_or(0);
    (largest / 4).clamp(1, STOCK)
}

/// Empty blocks that are to go.
fn surplus<'s>(stock: &'s Stock, seen: &BTreeMap<IpNet, (u64, u32)>) -> Vec<&'s StockBlock> {
    let mut free = stock.free();
    let enough = 2 * wanted(stock);
    let mut surplus = Vec::new();
    // The last one goes first: containers are given addresses of the first.
    for block in stock.blocks.iter().rev().filter(|block| block.empty) {
        let is_old = seen
            .get(&block.cidr)
            .is_some_and(|(sequence, times)| *sequence == block.sequence && *times >= LOOKS);
        if !is_old {
            continue;
        }
        if !block.usable {
            surplus.push(block);
        } else if free - block.free >= enough {
            free -= block.free;
            surplus.push(block);
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, free: usize, empty: bool) -> StockBlock {
        StockBlock {
            cidr: cidr.parse().unwrap(),
            free,
            empty,
            sequence: 7,
            claimed: None,
            usable: true,
        }
    }

    fn stock(blocks: Vec<StockBlock>) -> Stock {
        Stock { blocks }
    }

    fn seen(blocks: &[&str], times: u32) -> BTreeMap<IpNet, (u64, u32)> {
        blocks
            .iter()
            .map(|block| (block.parse().unwrap(), (7, times)))
            .collect()
    }

    fn goes(stock: &Stock, seen: &BTreeMap<IpNet, (u64, u32)>) -> Vec<String> {
        surplus(stock, seen)
            .iter()
            .map(|block| block.cidr.to_string())
            .collect()
    }

    #[test]
    fn a_quarter_of_a_block_is_wanted_and_never_none() {
        assert_eq!(wanted(&stock(vec![])), 1);
        assert_eq!(wanted(&stock(vec![block("10.0.0.0/26", 0, false)])), 16);
        assert_eq!(wanted(&stock(vec![block("10.0.0.0/20", 0, false)])), 16);
        assert_eq!(wanted(&stock(vec![block("10.0.0.0/28", 0, false)])), 4);
        assert_eq!(wanted(&stock(vec![block("10.0.0.0/32", 0, false)])), 1);
    }

    #[test]
    fn the_last_empty_block_goes_while_enough_is_left() {
        let twice = seen(&["10.0.0.64/26", "10.0.0.128/26"], LOOKS);
        let busy = block("10.0.0.0/26", 10, false);
        let (second, third) = (block("10.0.0.64/26", 64, true), block("10.0.0.128/26", 64, true));
        // 10 and 64 are enough without the third; 10 are not enough without the second.
        let all = stock(vec![busy.clone(), second.clone(), third.clone()]);
        assert_eq!(goes(&all, &twice), ["10.0.0.128/26"]);
        let idle = stock(vec![block("10.0.0.0/26", 40, false), second.clone(), third]);
        assert_eq!(goes(&idle, &twice), ["10.0.0.128/26", "10.0.0.64/26"]);
        assert_eq!(
            goes(&stock(vec![second]), &twice),
            [""; 0],
            "a node keeps its only block"
        );
    }

    #[test]
    fn a_block_that_was_not_seen_often_or_was_written_stays() {
        let all = stock(vec![
            block("10.0.0.0/26", 60, false),
            block("10.0.0.64/26", 64, true),
        ]);
        assert_eq!(goes(&all, &seen(&["10.0.0.64/26"], LOOKS - 1)), [""; 0]);
        let mut written = all.clone();
        written.blocks[1].sequence = 8;
        assert_eq!(goes(&written, &seen(&["10.0.0.64/26"], LOOKS)), [""; 0]);
        let watch = Watch {
            empty: seen(&["10.0.0.64/26"], 3),
        };
        for (stock, times) in [(&all, 4), (&written, 1)] {
            let mut now = BTreeMap::new();
            watch.remember(stock, &mut now);
            assert_eq!(now.values().next().unwrap().1, times);
        }
    }

    #[test]
    fn what_no_container_gets_goes_even_if_it_is_the_only_one() {
        let mut only = block("10.0.0.64/26", 64, true);
        only.usable = false;
        assert_eq!(
            goes(&stock(vec![only]), &seen(&["10.0.0.64/26"], LOOKS)),
            ["10.0.0.64/26"]
        );
    }
}
