// SPDX-License-Identifier: Apache-2.0
//! Blocks and ordinals at every size and at the ends of the address space.

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn blocks_of_pools() {
    let cases: [(&str, u8, u128, u128, Option<&str>); 14] = [
        ("10.244.0.0/16", 26, 1024, 0, Some("10.244.0.0/26")),
        ("10.244.0.0/16", 26, 1024, 666, Some("10.244.166.128/26")),
        ("10.244.0.0/16", 26, 1024, 1023, Some("10.244.255.192/26")),
        ("10.244.0.0/16", 26, 1024, 1024, None),
        ("10.9.0.4/30", 30, 1, 0, Some("10.9.0.4/30")),
        ("10.9.0.4/30", 29, 0, 0, None),
        (
            "0.0.0.0/0",
            32,
            1 << 32,
            (1 << 32) - 1,
            Some("255.255.255.255/32"),
        ),
        ("255.255.255.255/32", 32, 1, 0, Some("255.255.255.255/32")),
        ("fd00:10:244::/64", 122, 1 << 58, 1, Some("fd00:10:244::40/122")),
        ("::/0", 128, u128::MAX, 0, Some("::/128")),
        (
            "::/0",
            128,
            u128::MAX,
            u128::MAX - 1,
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/128"),
        ),
        (
            "::/0",
            116,
            1 << 116,
            (1 << 116) - 1,
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:f000/116"),
        ),
        ("::/0", 0, 1, 0, Some("::/0")),
        ("10.0.0.0/8", 33, 0, 0, None),
    ];
    for (pool, length, count, index, block) in cases {
        let pool = net(pool);
        assert_eq!(block_count(&pool, length), count, "{pool} in /{length}");
        let found = nth_block(&pool, length, index);
        assert_eq!(found, block.map(net), "block {index} of {pool} in /{length}");
        if let Some(found) = found {
            assert_eq!(block_index(&pool, length, found.broadcast()), Some(index));
        }
    }
}

/// Every block size that Calico allows, over a pool of eight blocks: each once, in order, without gap.
#[test]
fn enumeration_visits_every_block_once() {
    let sizes = (20..=32)
        .map(|length| ("10.128.0.0", length))
        .chain((116..=128).map(|length| ("fd00::", length)));
    for (base, length) in sizes {
        let pool = net(&format!("{base}/{}", length - 3));
        let count = block_count(&pool, length);
        assert_eq!(count, 8);
        let mut expected = pool.network();
        for index in 0..count {
            let block = nth_block(&pool, length, index).unwrap();
            assert_eq!((block.network(), block.prefix_len()), (expected, length));
            let last = block_size(&block).unwrap() - 1;
            assert_eq!(ordinal_to_address(&block, last), Some(block.broadcast()));
            expected = nth_address(&host_prefix(block.broadcast()), 1).unwrap();
        }
        assert!(!pool.contains(&expected));
    }
}

#[test]
fn ordinals() {
    let block = net("10.9.0.4/30");
    assert_eq!(block_size(&block), Some(4));
    assert_eq!(ordinal_to_address(&block, 3), Some("10.9.0.7".parse().unwrap()));
    assert_eq!(ordinal_to_address(&block, 4), None);
    assert_eq!(address_to_ordinal(&block, "10.9.0.4".parse().unwrap()), Some(0));
    assert_eq!(address_to_ordinal(&block, "10.9.0.8".parse().unwrap()), None);
    assert_eq!(address_to_ordinal(&block, "fd00::4".parse().unwrap()), None);
    assert_eq!(block_size(&net("10.0.0.0/20")), Some(4096));
    assert_eq!(block_size(&net("10.0.0.0/19")), None);
    assert_eq!(block_size(&net("::/0")), None);
    assert_eq!(address_to_ordinal(&net("::/0"), "::1".parse().unwrap()), None);
}

#[test]
fn overlap_and_form() {
    assert!(overlaps(&net("10.0.0.0/8"), &net("10.1.0.0/16")));
    assert!(overlaps(&net("10.1.0.0/16"), &net("10.0.0.0/8")));
    assert!(!overlaps(&net("10.0.0.0/16"), &net("10.1.0.0/16")));
    assert!(!overlaps(&net("0.0.0.0/0"), &net("::/0")));
    assert!(is_canonical(&net("10.0.0.0/8")));
    assert!(!is_canonical(&net("10.0.0.1/8")));
    assert_eq!(parse_prefix_or_address(" 10.0.0.1 "), Some(net("10.0.0.1/32")));
    assert_eq!(parse_prefix_or_address("fd00::/64"), Some(net("fd00::/64")));
    assert_eq!(parse_prefix_or_address("10.0.0.1/33"), None);
    assert_eq!(
        block_containing("10.244.166.200".parse().unwrap(), 26),
        Some(net("10.244.166.192/26"))
    );
    assert_eq!(block_containing("10.0.0.1".parse().unwrap(), 33), None);
    assert!(same_family(&net("::/0"), "::1".parse().unwrap()));
    assert!(!same_family(&net("::/0"), "10.0.0.1".parse().unwrap()));
}

proptest! {
    #[test]
    fn index_and_block_agree(bits: u128, pool_length in 0_u8..=128, block_length in 0_u8..=128, pick: u128) {
        let pool = IpNet::new(IpAddr::V6(bits.into()), pool_length).unwrap().trunc();
        let count = block_count(&pool, block_length);
        let block = nth_block(&pool, block_length, pick.checked_rem(count).unwrap_or(0));
        prop_assert_eq!(block.is_some(), count > 0);
        if let Some(block) = block {
            prop_assert!(pool.contains(&block));
            prop_assert_eq!(block_index(&pool, block_length, block.network()), Some(pick % count));
            prop_assert_eq!(block_containing(block.broadcast(), block_length), Some(block));
        }
    }
}
