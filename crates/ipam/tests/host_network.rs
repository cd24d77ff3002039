// SPDX-License-Identifier: Apache-2.0
//! The host's own network and the nodes: what is never claimed, borrowed from or assigned, and what the errors say.

mod support;

use std::sync::atomic::Ordering;

use datastore::Store;
use ipam::{
    AdoptError, AdoptOutcome, AdoptRequest, AssignError, AssignSpecificError, Engine, ErrorClass, Notice,
    ShortReason,
};
use model::{
    AffinityState, Key, Kind, Node,
    node::{NodeBgp, NodeSpec},
};
use support::*;

fn occupy(cluster: &Cluster, prefixes: &[&str]) {
    *cluster.network.occupied.lock().unwrap() = prefixes.iter().map(|prefix| net(prefix)).collect();
}

#[test]
fn a_block_over_a_network_of_the_host_is_never_claimed() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "192.168.0.0/28", 30, &["node1"]);
        occupy(&cluster, &["192.168.0.0/29", "192.168.0.13/32", "10.0.0.0/8"]);
        let all = cluster.assign("node1", "h", 4, 0).unwrap().addresses;
        assert!(all.iter().all(|assigned| assigned.block == net("192.168.0.8/30")));
        let error = cluster.assign("node1", "more", 1, 0).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Exhausted);
        let text = error.to_string();
        assert!(
            text.contains("192.168.0.0/29 (on-link prefix of eth0)") || text.contains("192.168.0.13/32"),
            "{text}"
        );
        assert!(
            text.contains("create an IPPool whose CIDR no network here uses"),
            "{text}"
        );
        let report = cluster
            .engine()
            .claim_affinities(&host("node1"), net("192.168.0.0/28"), "test")
            .unwrap();
        assert_eq!(report.claimed, [net("192.168.0.8/30")]);
        assert_eq!(report.refused.len(), 3);
        let error = cluster.assign_address("node1", "h2", "192.168.0.1").unwrap_err();
        assert!(matches!(error, AssignSpecificError::Collision { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Configuration);
        cluster.check();
    }
}

/// A whole pool under the LAN, as `192.168.0.0/16` is at many homes, and a pool of 2^58 blocks under an on-link /64.
#[test]
fn a_pool_that_collides_as_a_whole_is_passed_over_at_once() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "192.168.0.0/16", 26, &["node1"]);
        cluster.put_pool("six", pool("fd00:1::/64"));
        occupy(&cluster, &["192.168.0.0/16", "fd00:1::/64"]);
        for (v4, v6) in [(1, 0), (0, 1)] {
            let AssignError::Short(shortfalls) = cluster.assign("node1", "h", v4, v6).unwrap_err() else {
                panic!()
            };
            assert!(
                shortfalls[0]
                    .reasons
                    .iter()
                    .any(|reason| matches!(reason, ShortReason::Collision { .. }))
            );
        }
        // With another pool there is nothing to complain about.
        cluster.put_pool("zzz", pool("10.0.0.0/24"));
        let assigned = cluster.assign_one("node1", "h");
        assert!(net("10.0.0.0/24").contains(&assigned.address));
    }
}

#[test]
fn the_host_is_asked_only_when_a_block_is_claimed() {
    let cluster = Cluster::with_pool(both_modes()[0], "10.0.0.0/24", 26, &["node1"]);
    cluster.assign_one("node1", "a");
    assert_eq!(cluster.network.asked.load(Ordering::SeqCst), 1);
    cluster.assign_one("node1", "b");
    cluster.release("a");
    assert_eq!(cluster.network.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn addresses_of_registered_nodes_are_respected() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/28", 30, &["node1"]);
        let node = |name: &str, address: &str, tunnel: Option<&str>| {
            let bgp = NodeBgp {
                ipv4_address: Some(net(address)),
                ipv4_ipip_tunnel_addr: tunnel.map(ip),
                ..NodeBgp::default()
            };
            let spec = NodeSpec {
                bgp: Some(bgp),
                ..NodeSpec::default()
            };
            cluster.put(Key::resource(Kind::Node, name), &Node::new(name, spec));
        };
        node("node1", "10.0.0.1/24", Some("10.0.0.9"));
        node("node2", "10.0.0.5/24", Some("10.0.0.13"));
        // Of four blocks the first two have nodes in them, the last another's tunnel address. The third has our own.
        let all = cluster.assign("node1", "h", 4, 0).unwrap().addresses;
        assert!(
            all.iter().all(|assigned| assigned.block == net("10.0.0.8/30")),
            "{all:?}"
        );
        cluster.assign("node1", "more", 1, 0).unwrap_err();
    }
}

#[test]
fn nothing_is_borrowed_from_a_block_over_a_network_of_the_host() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1", "node2"]);
        cluster.assign_one("node2", "h");
        occupy(&cluster, &["10.0.0.3/32"]);
        cluster.assign("node1", "h2", 1, 0).unwrap_err();
        occupy(&cluster, &[]);
        cluster.assign("node1", "h2", 1, 0).unwrap();
    }
}

#[test]
fn an_affinity_whose_block_is_gone_is_not_used_to_claim_a_block_that_collides() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/29", 30, &["node1"]);
        cluster.put_affinity("node1", "10.0.0.0/30", AffinityState::Confirmed);
        occupy(&cluster, &["10.0.0.2/32"]);
        assert_eq!(cluster.assign_one("node1", "h").block, net("10.0.0.4/30"));
        assert_eq!(cluster.affinity("node1", "10.0.0.0/30"), None);
    }
}

#[test]
fn an_address_in_use_here_is_passed_over_and_said_so() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/30", 30, &["node1"]);
        cluster.network.in_use.lock().unwrap().insert(ip("10.0.0.0"));
        let notices = Notices::default();
        let listener = notices.listener();
        let engine = Engine {
            notices: &listener,
            ..cluster.engine()
        };
        let assigned = assign_with(&engine, "node1", "h", 1, 0).unwrap().addresses[0];
        assert_eq!(assigned.address, ip("10.0.0.1"));
        assert_eq!(
            notices.all(),
            [Notice::InUseLocally {
                address: ip("10.0.0.0"),
                what: "route to it on eth9".to_owned()
            }]
        );
        assert_eq!(
            cluster.block("10.0.0.0/30").unwrap().unallocated,
            [0, 2, 3],
            "it keeps its place"
        );
        let journal = cluster.store.journal(10).unwrap();
        let skip = journal
            .iter()
            .find(|line| line.event == "skip")
            .expect("a line in the journal");
        assert_eq!(
            (skip.subject.as_str(), skip.handle.as_str(), skip.cause.as_str()),
            ("10.0.0.0", "h", "test")
        );
        let error = cluster.assign_address("node1", "h", "10.0.0.0").unwrap_err();
        assert!(
            matches!(error, AssignSpecificError::InUseLocally { .. }),
            "{error}"
        );
        let error = cluster.assign("node1", "h", 3, 0).unwrap_err();
        assert!(error.to_string().contains("in use on this host"), "{error}");
    }
}

fn adoption(handle: &str, addresses: &[&str], replace: bool) -> AdoptRequest {
    AdoptRequest {
        node: "node1".to_owned(),
        handle: handle.to_owned(),
        attributes: [("node".to_owned(), "node1".to_owned())].into(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        replace,
        cause: "recovery".to_owned(),
    }
}

#[test]
fn adopting_rebuilds_a_lost_store_and_changes_nothing_the_second_time() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &["node1"]);
        cluster.put_pool("six", pool("fd00::/112"));
        // The container's addresses are in use, of course, and strict affinity and limits do not matter.
        *cluster.network.in_use.lock().unwrap() = [ip("10.0.0.70"), ip("fd00::5")].into();
        cluster.configure(|config| config.strict_affinity = true);
        let wanted = adoption("h", &["10.0.0.70", "fd00::5"], false);
        let adopted = cluster.engine().adopt(&wanted, &mut no_writes).unwrap();
        assert!(
            adopted
                .iter()
                .all(|adopted| adopted.outcome == AdoptOutcome::Adopted)
        );
        assert_eq!(cluster.affinities("node1").len(), 2);
        cluster.check();
        let before = cluster.store.counts().writes;
        let again = cluster.engine().adopt(&wanted, &mut no_writes).unwrap();
        assert!(
            again
                .iter()
                .all(|adopted| adopted.outcome == AdoptOutcome::AlreadyOurs)
        );
        assert_eq!(again[0].assigned, adopted[0].assigned);
        assert_eq!(cluster.store.counts().writes, before);
        // A handle that was lost alone comes back.
        cluster.delete(&Key::Handle("h".to_owned()));
        cluster.engine().adopt(&wanted, &mut no_writes).unwrap();
        assert_eq!(cluster.counted("h"), 2);
        assert_eq!(cluster.release("h").released.len(), 2);
    }
}

#[test]
fn adopting_takes_an_address_away_only_when_told() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &["node1", "node2"]);
        let stale = cluster.assign_one("node2", "stale");
        let address = stale.address.to_string();
        let error = cluster
            .engine()
            .adopt(&adoption("h", &[&address], false), &mut no_writes)
            .unwrap_err();
        assert!(
            matches!(&error, AdoptError::Taken { handle: Some(handle), .. } if handle == "stale"),
            "{error}"
        );
        let adopted = cluster
            .engine()
            .adopt(&adoption("h", &[&address], true), &mut no_writes)
            .unwrap();
        let previous = Some("stale".to_owned());
        assert_eq!(adopted[0].outcome, AdoptOutcome::Replaced { previous });
        assert!(adopted[0].assigned.sequence > stale.sequence);
        assert_eq!((cluster.handle("stale"), cluster.counted("h")), (None, 1));
        cluster.check();
        let error = cluster
            .engine()
            .adopt(&adoption("h", &["172.16.0.1"], true), &mut no_writes)
            .unwrap_err();
        assert!(matches!(error, AdoptError::NotInPool { .. }), "{error}");
    }
}

#[test]
fn adopting_under_a_network_of_the_host_takes_the_address_without_claiming() {
    for mode in both_modes() {
        let cluster = Cluster::with_pool(mode, "10.0.0.0/24", 26, &["node1"]);
        occupy(&cluster, &["10.0.0.1/32"]);
        cluster
            .engine()
            .adopt(&adoption("h", &["10.0.0.20"], false), &mut no_writes)
            .unwrap();
        assert_eq!(cluster.block("10.0.0.0/26").unwrap().affinity, None);
        assert_eq!(cluster.affinities("node1"), []);
        assert_eq!(cluster.release("h").released, [ip("10.0.0.20")]);
        assert_eq!(
            cluster.block("10.0.0.0/26"),
            None,
            "it goes with its last address"
        );
    }
}

/// A pool that was created again with another block size must not lead to blocks that overlap (section 12).
#[test]
fn blocks_of_another_size_are_never_overlapped() {
    for mode in both_modes() {
        for (old, new) in [(28, 26), (26, 28)] {
            let cluster = Cluster::with_pool(mode, "10.0.0.0/25", old, &["node1", "node2"]);
            let before = cluster.assign_one("node2", "old");
            cluster.edit_pool("pool", |spec| spec.block_size = Some(new));
            let mut all = request("node1", "h", 200, 0);
            all.all_or_nothing = false;
            let assigned = cluster
                .engine()
                .auto_assign(&all, &mut no_writes)
                .unwrap()
                .addresses;
            assert!(!assigned.is_empty());
            assert!(assigned.iter().all(|assigned| assigned.address != before.address));
            cluster.check();
            let report = cluster
                .engine()
                .claim_affinities(&host("node1"), net("10.0.0.0/25"), "test")
                .unwrap();
            assert!(!report.refused.is_empty());
            // An address of the old block is found there, and one beside it is refused.
            let error = cluster
                .assign_address("node1", "h2", &before.address.to_string())
                .unwrap_err();
            assert!(matches!(error, AssignSpecificError::Taken { .. }), "{error}");
            assert_eq!(cluster.release("old").released, [before.address]);
            cluster.check();
        }
    }
}
