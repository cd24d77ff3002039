// SPDX-License-Identifier: Apache-2.0
//! Each rule of a block broken on its own, and each named.

use proptest::prelude::*;

use super::*;

/// Breaks one rule.
type Damage = fn(&mut IpamBlock);

fn sound() -> IpamBlock {
    let owner = "host:node1".parse().unwrap();
    let mut block = IpamBlock::new("10.9.0.4/30".parse().unwrap(), Some(owner), None, 7).unwrap();
    block.allocations[0] = Some(0);
    block.unallocated.remove(0);
    block.attributes.push(AllocationAttribute {
        handle_id: Some("net.4f1c".into()),
        ..Default::default()
    });
    block.sequence_number_for_allocation.insert(0, 6);
    block
}

#[test]
fn a_sound_block_has_no_defect() {
    assert_eq!(sound().validate(Some(Timestamp::from_unix(0, 0))), []);
    for length in [20, 26, 32] {
        let cidr = IpNet::new("10.128.0.0".parse().unwrap(), length).unwrap();
        assert_eq!(IpamBlock::new(cidr, None, None, 0).unwrap().validate(None), []);
    }
}

#[test]
fn every_defect_is_named() {
    let break_it: [(Damage, &[BlockDefect]); 11] = [
        (
            |block| block.cidr = "10.0.0.0/19".parse().unwrap(),
            &[BlockDefect::PrefixLength { length: 19 }],
        ),
        (
            |block| block.cidr = "10.9.0.5/30".parse().unwrap(),
            &[BlockDefect::NotCanonical],
        ),
        (
            |block| {
                block.allocations.pop();
                block.unallocated.pop();
            },
            &[BlockDefect::AllocationsLength {
                found: 3,
                expected: 4,
            }],
        ),
        (
            |block| {
                block.allocations[1] = Some(1);
                block.unallocated.remove(0);
            },
            &[BlockDefect::AttributeMissing {
                ordinal: 1,
                attribute: 1,
            }],
        ),
        (
            |block| block.attributes.push(AllocationAttribute::default()),
            &[BlockDefect::AttributeUnused { attribute: 1 }],
        ),
        (
            |block| block.attributes[0].released_at = Some(Timestamp::from_unix(101, 0)),
            &[BlockDefect::ReleasedInFuture {
                attribute: 0,
                released_at: Timestamp::from_unix(101, 0),
            }],
        ),
        (
            |block| block.unallocated.push(4),
            &[BlockDefect::FreeOutOfRange { ordinal: 4 }],
        ),
        (
            |block| block.unallocated.push(2),
            &[BlockDefect::FreeTwice { ordinal: 2 }],
        ),
        (
            |block| block.unallocated.push(0),
            &[BlockDefect::FreeAndAllocated { ordinal: 0 }],
        ),
        (
            |block| {
                block.unallocated.pop();
            },
            &[BlockDefect::Lost { ordinal: 3 }],
        ),
        (
            |block| {
                block.sequence_number_for_allocation.insert(4, 1);
            },
            &[BlockDefect::SequenceOutOfRange { ordinal: 4 }],
        ),
    ];
    for (damage, expected) in break_it {
        let mut block = sound();
        damage(&mut block);
        assert_eq!(block.validate(Some(Timestamp::from_unix(100, 0))), expected);
    }
}

#[test]
fn addresses_and_ordinals() {
    let block = sound();
    assert_eq!(block.address(3), Some("10.9.0.7".parse().unwrap()));
    assert_eq!(block.address(4), None);
    assert_eq!(block.ordinal("10.9.0.6".parse().unwrap()), Some(2));
    assert_eq!(block.ordinal("10.9.0.8".parse().unwrap()), None);
}

/// Blocks as damaged as their JSON can express.
fn any_block() -> impl Strategy<Value = IpamBlock> {
    let attribute = (
        prop::option::of("[a-z.\\r]{0,6}"),
        prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,6}", 0..3),
        prop::option::of(0_i64..4_000_000_000),
    )
        .prop_map(|(handle_id, secondary, released)| AllocationAttribute {
            handle_id,
            secondary,
            released_at: released.map(|seconds| Timestamp::from_unix(seconds, 0)),
            ..Default::default()
        });
    (
        (any::<[u8; 4]>(), 0_u8..=32),
        prop::option::of("[a-z.-]{1,8}"),
        prop::collection::vec(prop::option::of(0_usize..6), 0..9),
        prop::collection::vec(0_usize..9, 0..9),
        prop::collection::vec(attribute, 0..4),
        any::<u64>(),
        prop::collection::btree_map(0_usize..9, any::<u64>(), 0..4),
        any::<bool>(),
    )
        .prop_map(
            |(
                (address, length),
                node,
                allocations,
                unallocated,
                attributes,
                sequence,
                sequences,
                deleted,
            )| {
                IpamBlock {
                    cidr: IpNet::new(address.into(), length).expect("at most 32"),
                    affinity: node.map(AffinityOwner::Host),
                    affinity_claim_time: Some(Timestamp::from_unix(0, 0)),
                    allocations,
                    unallocated,
                    attributes,
                    sequence_number: sequence,
                    sequence_number_for_allocation: sequences,
                    deleted,
                    extra: Extra::new(),
                }
            },
        )
}

proptest! {
    #[test]
    fn any_block_is_written_and_read_back(block in any_block()) {
        let text = serde_json::to_string(&block).unwrap();
        prop_assert_eq!(serde_json::from_str::<IpamBlock>(&text).unwrap(), block);
    }

    /// No defect means that walking the block by its own indexes cannot fail.
    #[test]
    fn no_block_panics_and_sound_ones_hold_together(block in any_block()) {
        if block.validate(Some(Timestamp::from_unix(0, 0))).is_empty() {
            let free = (0..block.allocations.len()).filter(|ordinal| block.attribute(*ordinal).is_none());
            prop_assert_eq!(free.count(), block.unallocated.len());
            prop_assert!(block.unallocated.iter().all(|ordinal| block.address(*ordinal).is_some()));
        }
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\",:0-9a-z.null]{0,60}") {
        let _ = serde_json::from_str::<IpamBlock>(&text);
    }
}
