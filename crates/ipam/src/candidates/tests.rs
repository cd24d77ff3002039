// SPDX-License-Identifier: Apache-2.0
//! The walk visits every block exactly once, whatever the sizes, and its jumps lose nothing.

use std::collections::BTreeSet;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn fnv1_matches_the_documented_vector() {
    assert_eq!(fnv1(b"node1"), 3_957_252_814);
}

/// Section 11, line 15.
#[test]
fn every_block_is_visited_exactly_once() {
    for (pool, lengths) in [("10.1.0.0/20", 20..=32), ("fd00::/116", 116..=128)] {
        for length in lengths {
            for host in ["node1", "a", ""] {
                let blocks: Vec<IpNet> = BlockWalk::new(net(pool), length, host, 12_345).collect();
                let distinct: BTreeSet<IpNet> = blocks.iter().copied().collect();
                assert_eq!(
                    blocks.len(),
                    distinct.len(),
                    "{pool} /{length}: a block came twice"
                );
                assert_eq!(
                    blocks.len() as u128,
                    prefix::block_count(&net(pool), length),
                    "{pool} /{length}"
                );
                assert!(
                    blocks
                        .iter()
                        .all(|block| net(pool).contains(block) && block.prefix_len() == length)
                );
            }
        }
    }
}

#[test]
fn a_pool_smaller_than_a_block_has_none() {
    assert_eq!(BlockWalk::new(net("10.0.0.0/28"), 26, "node1", 0).count(), 0);
}

#[test]
fn huge_pools_do_not_overflow() {
    for (pool, length) in [("::/0", 128), ("::/0", 122), ("fd00::/8", 116), ("0.0.0.0/0", 32)] {
        let mut walk = BlockWalk::new(net(pool), length, "node1", u64::MAX);
        assert!(walk.next().is_some());
        let last = walk.next().unwrap();
        let around = IpNet::new(last.network(), net(pool).prefix_len() + 1)
            .unwrap()
            .trunc();
        walk.skip_past(&around);
        assert!(
            walk.next().is_some_and(|block| !around.contains(&block)),
            "{pool} /{length}"
        );
        let everything = IpNet::new(net(pool).network(), 0).unwrap();
        walk.skip_past(&everything);
        walk.skip_past(&everything);
        assert_eq!(walk.next(), None, "{pool} /{length}");
    }
}

#[test]
fn jumping_leaves_out_exactly_what_is_skipped() {
    let pool = net("10.0.0.0/22");
    for skipped in [
        "10.0.0.0/24",
        "10.0.1.64/26",
        "10.0.3.0/24",
        "10.0.0.0/22",
        "10.0.2.0/23",
        "10.0.1.70/32",
    ] {
        let skipped = net(skipped);
        for host in ["node1", "node2", "a", "b", "c", "d"] {
            let mut walk = BlockWalk::new(pool, 26, host, 0);
            let mut visited = BTreeSet::new();
            while let Some(block) = walk.next() {
                if prefix::overlaps(&block, &skipped) {
                    walk.skip_past(&skipped);
                } else {
                    assert!(visited.insert(block), "{block} came twice");
                }
            }
            let all = (0..16).filter_map(|index| prefix::nth_block(&pool, 26, index));
            let expected: BTreeSet<IpNet> = all.filter(|block| !prefix::overlaps(block, &skipped)).collect();
            assert_eq!(visited, expected, "skipping {skipped} as {host}");
        }
    }
}

#[test]
fn distance_is_the_order_of_the_walk() {
    let walk = BlockWalk::new(net("10.0.0.0/20"), 26, "node2", 0);
    let distances: Vec<u128> = walk.clone().map(|block| walk.distance(&block).unwrap()).collect();
    assert_eq!(distances, (0..64).collect::<Vec<u128>>());
}
