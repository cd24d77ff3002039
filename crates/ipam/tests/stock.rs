// SPDX-License-Identifier: Apache-2.0
//! A node's stock: what is counted, when a block is claimed ahead of need, when one is given back.

mod support;

use std::time::Duration;

use ipam::{AffinityRelease, ClaimAhead, Family, ShortReason};
use model::{AffinityState, ip_pool::AssignmentMode};
use support::{Cluster, both_modes, net, pool};

#[test]
fn a_block_is_claimed_where_a_node_has_none_and_counted() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 28, &["a", "b"]);
        cluster.reserve("keep", &["10.0.0.0/24"]);
        let engine = cluster.engine();
        // Everything is reserved: there is nothing that a container could get.
        assert_eq!(
            engine.claim_ahead("a", Family::V4, "ahead").unwrap(),
            ClaimAhead::NothingToSpare
        );
        cluster.delete(&model::Key::resource(model::Kind::IpReservation, "keep"));
        assert_eq!(engine.stock("a", Family::V4).unwrap().free(), 0);
        let ClaimAhead::Claimed(block) = engine.claim_ahead("a", Family::V4, "ahead").unwrap() else {
            panic!("no block");
        };
        assert_eq!(
            cluster.affinity("a", &block.to_string()),
            Some(AffinityState::Confirmed)
        );
        let first = block.network();
        cluster.reserve("one", &[&format!("{first}/32")]);
        let stock = engine.stock("a", Family::V4).unwrap();
        assert_eq!(
            (stock.free(), stock.blocks.len()),
            (15, 1),
            "the reserved address does not count"
        );
        assert!(stock.blocks[0].empty && stock.blocks[0].usable);
        assert_eq!(engine.stock("b", Family::V4).unwrap().blocks, []);
        assert_eq!(engine.stock("a", Family::V6).unwrap().free(), 0);
    }
}

#[test]
fn nothing_is_claimed_ahead_where_blocks_are_scarce() {
    // Four blocks: two nodes want two each before the first may take one ahead.
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/26", 28, &["a", "b"]);
    let engine = cluster.engine();
    assert!(matches!(
        engine.claim_ahead("a", Family::V4, "ahead"),
        Ok(ClaimAhead::Claimed(_))
    ));
    assert_eq!(
        engine.claim_ahead("b", Family::V4, "ahead").unwrap(),
        ClaimAhead::NothingToSpare
    );
    // Nodes that the pool does not select need none of it.
    cluster.edit_pool("pool", |spec| spec.node_selector = "has(big)".into());
    cluster.put_node("b", &[("big", "")]);
    assert!(matches!(
        engine.claim_ahead("b", Family::V4, "ahead"),
        Ok(ClaimAhead::Claimed(_))
    ));
    assert_eq!(
        engine.claim_ahead("a", Family::V4, "ahead").unwrap(),
        ClaimAhead::NothingToSpare
    );
}

#[test]
fn the_rules_of_the_cluster_hold() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/16", 28, &["a"]);
    let engine = cluster.engine();
    cluster.configure(|config| {
        config.strict_affinity = true;
        config.max_blocks_per_host = 1;
    });
    assert!(matches!(
        engine.claim_ahead("a", Family::V4, "ahead"),
        Ok(ClaimAhead::Claimed(_))
    ));
    assert!(matches!(
        engine.claim_ahead("a", Family::V4, "ahead"),
        Ok(ClaimAhead::Refused(ShortReason::BlockLimit { limit: 1, .. }))
    ));
    cluster.configure(|config| {
        config.max_blocks_per_host = 0;
        config.auto_allocate_blocks = false;
    });
    assert!(matches!(
        engine.claim_ahead("a", Family::V4, "ahead"),
        Ok(ClaimAhead::Refused(ShortReason::AutoAllocateOff { .. }))
    ));
    cluster.configure(|config| config.auto_allocate_blocks = true);
    for edit in [
        (|spec| spec.assignment_mode = AssignmentMode::Manual) as fn(&mut model::ip_pool::IpPoolSpec),
        |spec| spec.disabled = true,
        |spec| spec.namespace_selector = "kind == 'x'".into(),
    ] {
        cluster.put_pool("pool", pool("10.0.0.0/16"));
        cluster.edit_pool("pool", edit);
        assert_eq!(
            engine.claim_ahead("a", Family::V4, "ahead").unwrap(),
            ClaimAhead::NothingToSpare
        );
        let stock = engine.stock("a", Family::V4).unwrap();
        assert_eq!(
            (stock.free(), stock.blocks.len()),
            (0, 1),
            "what no container gets is no stock"
        );
    }
    assert!(engine.claim_ahead("nobody", Family::V4, "ahead").is_err());
}

#[test]
fn a_block_goes_back_only_while_it_is_as_it_was_seen() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/16", 28, &["a"]);
        let engine = cluster.engine();
        let ClaimAhead::Claimed(block) = engine.claim_ahead("a", Family::V4, "ahead").unwrap() else {
            panic!("no block");
        };
        let seen = engine.stock("a", Family::V4).unwrap().blocks[0].sequence;
        let address = cluster.assign_one("a", "h").address;
        cluster.clock.advance(Duration::from_secs(1));
        assert_eq!(
            engine.give_back("a", block, seen, "idle").unwrap(),
            AffinityRelease::Changed
        );
        cluster.release("h");
        assert!(block.contains(&address));
        assert_eq!(
            engine.give_back("a", block, seen, "idle").unwrap(),
            AffinityRelease::Changed
        );
        let now = engine.stock("a", Family::V4).unwrap().blocks[0].sequence;
        assert_eq!(
            engine.give_back("a", block, now, "idle").unwrap(),
            AffinityRelease::Released
        );
        assert_eq!(cluster.block(&block.to_string()), None);
        assert_eq!(cluster.affinity("a", &block.to_string()), None);
        assert!(net("10.0.0.0/16").contains(&block));
    }
}
