// SPDX-License-Identifier: Apache-2.0
//! Whole speakers in a simulated network: whatever happens, they agree in the end, and a restart loses nothing.

mod simulation;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bgp::{PeerId, Speaker, speaker::PeerStatus};
use ipnet::IpNet;
use simulation::{MS, Network, Node, address};

const SECOND: Duration = Duration::from_secs(1);

fn prefix(node: usize, number: usize) -> IpNet {
    format!("192.168.{node}.{}/26", number * 64)
        .parse()
        .expect("a prefix")
}

fn node(asn: u32, neighbours: impl IntoIterator<Item = usize>) -> Node {
    Node {
        asn,
        cluster: None,
        neighbours: neighbours.into_iter().map(|other| (other, false)).collect(),
        passive: BTreeSet::new(),
        routes: BTreeSet::new(),
        several: false,
    }
}

/// Every node knows every other; each has two blocks.
fn mesh(count: usize) -> Vec<Node> {
    let others = |this: usize| (0..count).filter(move |other| *other != this);
    let mut nodes: Vec<Node> = (0..count).map(|this| node(64_512, others(this))).collect();
    for (number, node) in nodes.iter_mut().enumerate() {
        node.routes = [prefix(number, 0), prefix(number, 1)].into();
    }
    nodes
}

/// Two reflectors of one cluster each, everybody else a client of both.
fn reflected(count: usize) -> Vec<Node> {
    let mut nodes = mesh(count);
    for (number, node) in nodes.iter_mut().enumerate() {
        if number < 2 {
            let cluster = u8::try_from(number + 1).expect("small");
            node.cluster = Some(Ipv4Addr::new(244, 0, 0, cluster));
            node.neighbours
                .iter_mut()
                .for_each(|(other, client)| *client = *other > 1);
        } else {
            node.neighbours.retain(|(other, _)| *other < 2);
        }
    }
    nodes
}

/// The same with nodes that send several paths where they can.
fn several(mut nodes: Vec<Node>) -> Vec<Node> {
    for node in &mut nodes {
        node.several = true;
    }
    nodes
}

/// Each in its own AS, in a row.
fn row(count: usize) -> Vec<Node> {
    let mut nodes = mesh(count);
    for (number, node) in nodes.iter_mut().enumerate() {
        node.asn = 65_000 + u32::try_from(number).expect("small");
        node.neighbours.retain(|(other, _)| other.abs_diff(number) == 1);
    }
    nodes
}

/// What a node is to know: everything that the others have, where there is a way.
fn assert_complete(network: &Network, seed: u64) {
    for this in 0..network.nodes.len() {
        let others = (0..network.nodes.len()).filter(|other| *other != this);
        let all: BTreeSet<IpNet> = others
            .filter(|other| network.speakers[*other].is_some())
            .flat_map(|other| network.nodes[other].routes.iter().copied())
            .collect();
        if network.speakers[this].is_some() {
            assert_eq!(
                network.learned(this),
                all,
                "seed {seed}, node {this}: {:#?}",
                network.describe()
            );
        }
        // Nobody is left waiting for a signal that has been forgotten.
        for (id, peer) in network.speakers[this].iter().flat_map(everybody) {
            let all_told = peer.families.iter().all(|family| family.told);
            assert!(
                all_told || peer.negotiated.is_none(),
                "seed {seed}, node {this} owes {id:?}: {:#?}",
                network.describe()
            );
        }
    }
}

fn everybody(speaker: &Speaker) -> impl Iterator<Item = (PeerId, PeerStatus<'_>)> {
    let ids = speaker.peer_ids();
    ids.filter_map(|id| Some((id, speaker.peer(id)?)))
}

#[test]
fn all_topologies_converge_within_a_second_of_simulated_time() {
    for seed in 0..200 {
        for nodes in [
            mesh(5),
            reflected(6),
            row(4),
            several(mesh(5)),
            several(reflected(6)),
        ] {
            let mut network = Network::new(nodes, seed);
            network.run(3 * SECOND);
            assert_complete(&network, seed);
        }
    }
}

#[test]
fn whatever_happens_they_agree_in_the_end() {
    for seed in 0..400 {
        let shape = seed % 3;
        let nodes = match shape {
            0 => mesh(4),
            1 => reflected(6),
            _ => row(4),
        };
        let count = nodes.len() as u64;
        let nodes = if seed % 2 == 0 { nodes } else { several(nodes) };
        let mut network = Network::new(nodes, seed);
        for _ in 0..30 {
            let pick = |network: &mut Network| usize::try_from(network.random(count)).expect("small");
            let (one, other) = (pick(&mut network), pick(&mut network));
            match network.random(10) {
                0 if network.speakers[one].is_some() => {
                    let silently = network.random(4) == 0;
                    network.kill(one, silently);
                }
                0 | 1 if network.speakers[one].is_none() => network.start(one, true),
                2 => network.break_connections(one, other, false),
                3 => network.break_connections(one, other, true),
                4 => {
                    let pair = (one.min(other), one.max(other));
                    if !network.cut.remove(&pair) {
                        network.cut.insert(pair);
                    }
                }
                5 | 6 => {
                    let number = usize::try_from(network.random(4)).expect("small");
                    let there = network.random(2) == 0;
                    network.set_route(one, prefix(one, number), there);
                }
                _ => {}
            }
            let pause = network.random(8000);
            network.run(MS * u32::try_from(pause).expect("small"));
        }
        network.cut.clear();
        for this in 0..network.nodes.len() {
            if network.speakers[this].is_none() {
                network.start(this, true);
            }
        }
        // Half-open connections are found by hold time.
        network.run(400 * SECOND);
        assert_complete(&network, seed);
        for (this, node) in network.nodes.iter().enumerate() {
            for (other, _) in &node.neighbours {
                assert!(network.is_up(this, *other), "seed {seed}: {this} and {other}");
            }
        }
    }
}

#[test]
fn a_restart_loses_no_route_anywhere() {
    for seed in 0..150 {
        for (shape, nodes) in [mesh(4), reflected(6), several(reflected(6))]
            .into_iter()
            .enumerate()
        {
            let mut network = Network::new(nodes, seed);
            network.run(5 * SECOND);
            network.lost.clear();
            for victim in [0, 3] {
                network.kill(victim, false);
                network.run(MS * (1 + 97 * u32::try_from(seed).expect("small")));
                network.start(victim, true);
                network.run(40 * SECOND);
            }
            assert_complete(&network, seed);
            assert_eq!(
                network.lost,
                [],
                "seed {seed}, shape {shape}: {:#?}",
                network.describe()
            );
        }
    }
}

#[test]
fn a_second_death_in_the_middle_of_coming_back_loses_nothing_at_our_own_peers() {
    for seed in 0..150 {
        let mut network = Network::new(mesh(3), seed);
        network.run(5 * SECOND);
        network.lost.clear();
        for _ in 0..4 {
            network.kill(1, false);
            network.run(200 * MS);
            network.start(1, true);
            let moment = network.random(120);
            network.run(MS * u32::try_from(moment).expect("small"));
        }
        network.run(60 * SECOND);
        assert_complete(&network, seed);
        assert_eq!(network.lost, [], "seed {seed}: {:#?}", network.describe());
    }
}

#[test]
fn who_stays_away_is_forgotten_after_the_restart_time_and_who_leaves_at_once() {
    let mut network = Network::new(mesh(3), 1);
    network.run(5 * SECOND);
    network.kill(1, false);
    network.run(115 * SECOND);
    assert!(network.learned(0).contains(&prefix(1, 0)), "kept for 120 s");
    network.run(10 * SECOND);
    assert!(!network.learned(0).contains(&prefix(1, 0)), "and not longer");
    network.leave(2);
    network.run(SECOND);
    assert_eq!(network.learned(0), BTreeSet::new());
}

#[test]
fn a_route_given_up_during_a_restart_is_gone_after_it() {
    for seed in 0..50 {
        let mut network = Network::new(mesh(3), seed);
        network.run(5 * SECOND);
        network.kill(1, false);
        network.nodes[1].routes = [prefix(1, 1), prefix(1, 2)].into();
        network.run(SECOND);
        network.start(1, true);
        network.run(5 * SECOND);
        assert_complete(&network, seed);
    }
}

#[test]
fn one_seed_is_one_run() {
    let record = || {
        let mut network = Network::new(reflected(5), 7);
        network.run(10 * SECOND);
        network.kill(0, false);
        network.run(SECOND);
        network.start(0, true);
        network.run(10 * SECOND);
        (network.log, network.now)
    };
    assert_eq!(record(), record());
}

#[test]
fn own_blocks_are_known_a_second_after_the_start_even_with_many_dead_peers() {
    let mut nodes = mesh(3);
    // Neighbours that are configured and never there.
    let dead: Vec<usize> = (3..60).collect();
    for other in &dead {
        nodes.push(node(64_512, []));
        nodes[0].neighbours.push((*other, false));
    }
    let mut network = Network::new(nodes, 3);
    for other in dead {
        network.kill(other, true);
    }
    network.run(SECOND);
    assert_eq!(
        network.learned(1),
        BTreeSet::from([prefix(0, 0), prefix(0, 1), prefix(2, 0), prefix(2, 1)])
    );
}

/// A prefix that several nodes have.
fn shared() -> IpNet {
    "192.168.250.0/26".parse().expect("a prefix")
}

/// The ways that a client is to know: by each reflector to each node that has the prefix.
fn assert_all_ways(network: &Network, client: usize, owners: &[usize], seed: u64) {
    let ways = network.ways(client, &shared());
    let found: BTreeSet<(usize, IpAddr)> = ways.iter().map(|(by, _, to)| (*by, *to)).collect();
    let own = |owner: &&usize| **owner != client;
    let wanted: BTreeSet<(usize, IpAddr)> = (owners.iter().filter(own))
        .flat_map(|owner| [0, 1].map(|reflector| (reflector, IpAddr::V4(address(*owner)))))
        .collect();
    assert_eq!(
        found,
        wanted,
        "seed {seed}, client {client}: {:#?}",
        network.describe()
    );
    let identifiers: BTreeSet<(usize, u32)> = ways.iter().map(|(by, number, _)| (*by, *number)).collect();
    assert_eq!(
        identifiers.len(),
        found.len(),
        "seed {seed}, client {client}: {ways:?}"
    );
}

#[test]
fn clients_of_reflectors_know_every_way_and_one_that_goes_leaves_the_others_alone() {
    for seed in 0..100 {
        let mut nodes = several(reflected(6));
        for owner in [2, 3, 4] {
            nodes[owner].routes.insert(shared());
        }
        let mut network = Network::new(nodes, seed);
        network.run(5 * SECOND);
        assert_all_ways(&network, 5, &[2, 3, 4], seed);
        // An owner is not told its own, and knows the others.
        assert_all_ways(&network, 2, &[2, 3, 4], seed);
        let before = network.ways(5, &shared());
        network.lost.clear();
        network.set_route(3, shared(), false);
        network.run(SECOND);
        assert_all_ways(&network, 5, &[2, 4], seed);
        assert!(
            network.ways(5, &shared()).is_subset(&before),
            "seed {seed}: others have changed"
        );
        // One that leaves takes its way along; one that pauses does not.
        network.leave(4);
        network.run(SECOND);
        assert_all_ways(&network, 5, &[2], seed);
        network.set_route(3, shared(), true);
        network.kill(2, false);
        network.run(SECOND);
        assert_all_ways(&network, 5, &[2, 3], seed);
        network.start(2, true);
        network.run(5 * SECOND);
        assert_all_ways(&network, 5, &[2, 3], seed);
        let lost: Vec<_> = network
            .lost
            .iter()
            .filter(|(node, prefix)| *node == 5 && *prefix == shared())
            .collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    }
}

#[test]
fn clients_know_every_way_after_whatever_has_happened() {
    for seed in 0..200 {
        let mut network = Network::new(several(reflected(7)), seed);
        for _ in 0..25 {
            let pick = usize::try_from(network.random(7)).expect("small");
            match network.random(6) {
                0 if network.speakers[pick].is_some() => {
                    let silently = network.random(4) == 0;
                    network.kill(pick, silently);
                }
                0 | 1 if network.speakers[pick].is_none() => network.start(pick, true),
                2 => {
                    let other = usize::try_from(network.random(2)).expect("small");
                    network.break_connections(pick, other, seed % 2 == 0);
                }
                _ if pick > 1 => {
                    let there = network.random(2) == 0;
                    network.set_route(pick, shared(), there);
                }
                _ => {}
            }
            let pause = network.random(5000);
            network.run(MS * u32::try_from(pause).expect("small"));
        }
        for this in 0..network.nodes.len() {
            if network.speakers[this].is_none() {
                network.start(this, true);
            }
        }
        network.run(400 * SECOND);
        let owners: Vec<usize> = (2..7)
            .filter(|node| network.nodes[*node].routes.contains(&shared()))
            .collect();
        for client in 2..7 {
            assert_all_ways(&network, client, &owners, seed);
        }
    }
}

#[test]
fn who_becomes_a_reflector_tells_every_way_without_a_new_session() {
    for seed in 0..50 {
        let mut nodes: Vec<Node> = (0..5).map(|_| node(64_512, [0])).collect();
        nodes[0] = node(64_512, 1..5);
        for owner in [1, 2] {
            nodes[owner].routes.insert(shared());
        }
        let mut network = Network::new(several(nodes), seed);
        network.run(5 * SECOND);
        let hops = |network: &Network, node: usize| -> Vec<IpAddr> {
            let mut hops: Vec<IpAddr> = (network.ways(node, &shared()).iter())
                .map(|(_, _, to)| *to)
                .collect();
            hops.sort();
            hops
        };
        let both = [1, 2].map(|owner| IpAddr::V4(address(owner)));
        for _ in 0..2 {
            assert!(hops(&network, 3).is_empty(), "seed {seed}: nobody reflects");
            network.set_reflector(0, Some(Ipv4Addr::new(244, 0, 0, 1)));
            network.run(SECOND);
            assert_eq!(hops(&network, 3), both, "seed {seed}: {:#?}", network.describe());
            assert_eq!(hops(&network, 4), both, "seed {seed}");
            assert_eq!(hops(&network, 1), both[1..], "seed {seed}: one's own is not told");
            network.set_reflector(0, None);
            network.run(SECOND);
        }
        assert_eq!(network.ups(0, 3), 1, "seed {seed}");
    }
}
