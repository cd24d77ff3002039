// SPDX-License-Identifier: Apache-2.0
//! A node as route reflector, with a node and a daemon as its clients.

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;
use testbed::{PATIENCE, eventually};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    support::net,
    world::{World, v4},
};

fn node_reflects_for(make: Make) -> Result<()> {
    if !make.is_here() {
        return Ok(());
    }
    let mut world = World::new(2, &[("CALICO_IPV4POOL_BLOCK_SIZE", "26")])?;
    world.agents[0].set("CALICO_ROUTE_REFLECTOR_CLUSTER_ID", "244.0.0.9");
    // Inside the pool, so that the reflector passes it on.
    let daemon = Daemon::start(
        &world,
        make,
        Setup {
            number: 2,
            local_as: 64512,
            neighbours: vec![Neighbour {
                address: v4(11),
                peer_as: 64512,
                password: None,
                client: false,
            }],
            routes: vec![net("192.168.250.0/24")],
            refused: Vec::new(),
            more: String::new(),
        },
    )?;
    world.apply(
        Kind::BgpPeer,
        "daemon",
        &json!({ "node": "node1", "peerIP": v4(2).to_string(), "asNumber": 64512 }),
    )?;
    world.apply(
        Kind::BgpPeer,
        "node",
        &json!({ "node": "node1", "peerIP": v4(12).to_string(), "asNumber": 64512 }),
    )?;
    world.apply(
        Kind::BgpPeer,
        "reflector",
        &json!({ "node": "node2", "peerIP": v4(11).to_string(), "asNumber": 64512 }),
    )?;
    world.start()?;
    world.agents[0].until_peers(2)?;
    world.agents[1].until_peers(1)?;
    daemon.until_up(v4(11), true)?;
    let (own, client) = (world.block(0, true)?, world.block(1, true)?);
    let seen = daemon.until_seen(own, |_| true)?;
    ensure!(
        seen.next_hop == v4(11).to_string() && seen.clusters.is_empty(),
        "{seen:?}"
    );
    let seen = daemon.until_seen(client, |_| true)?;
    ensure!(
        seen.next_hop == v4(12).to_string(),
        "reflectors leave the next hop alone: {seen:?}"
    );
    ensure!(seen.originator == v4(12).to_string(), "{seen:?}");
    ensure!(seen.clusters == ["244.0.0.9"], "{seen:?}");
    // The other way: the daemon's route is at the other client.
    let route = world.agents[1].until_route("192.168.250.0/24")?;
    ensure!(route.contains("via 10.1.0.2 dev eth1"), "{route}");
    // A client that leaves is gone at the other.
    world.agents[1].agent_command(["leave"]).succeed(PATIENCE)?;
    world.agents[1].until_ended()?;
    daemon.until_gone(client)?;
    let stays = eventually(SOON, || daemon.seen(own).ok()?);
    stays.context("the reflector's own block stays")?;
    Ok(())
}

#[test]
fn a_node_reflects_for_bird() -> Result<()> {
    node_reflects_for(Make::Bird)
}

#[test]
fn a_node_reflects_for_frr() -> Result<()> {
    node_reflects_for(Make::Frr)
}

#[test]
fn a_node_reflects_for_gobgp() -> Result<()> {
    node_reflects_for(Make::GoBgp)
}
