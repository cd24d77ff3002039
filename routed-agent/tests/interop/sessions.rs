// SPDX-License-Identifier: Apache-2.0
//! Sessions of every kind with one daemon twice: as a router of the same AS, and of another AS with passwords; AS numbers
//! of four octets, large communities both ways, filters on both sides, ROUTE-REFRESH.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use kernel::Family;
use model::Kind;
use serde_json::{Value, json};
use testbed::{eventually, view};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    support::net,
    world::{World, v4, v6},
};

/// Ours, beyond two octets.
const OWN: u32 = 4_200_000_011;
/// A pool whose blocks the external peer does not take.
const EXTRA: &str = "10.77.0.0/24";
/// The external peer's.
const OTHER: u32 = 4_200_000_003;

fn setup(number: u8, local_as: u32, password: Option<&'static str>, routes: &[&str]) -> Setup {
    let neighbour = |address: IpAddr| Neighbour {
        address,
        peer_as: OWN,
        password,
        client: false,
    };
    Setup {
        number,
        local_as,
        neighbours: vec![neighbour(v4(11)), neighbour(v6(11))],
        routes: routes.iter().map(|prefix| net(prefix)).collect(),
        refused: Vec::new(),
        more: String::new(),
    }
}

/// A peer's row of the agent.
fn row(world: &World, address: IpAddr) -> Result<Value> {
    let answer = world.agents[0].ask("/v1/peers")?;
    let peers = answer["peers"].as_array().cloned().unwrap_or_default();
    let found = peers
        .into_iter()
        .find(|peer| peer["address"] == address.to_string());
    Ok(found.unwrap_or_default())
}

fn until_kernel_route(world: &World, start: &str) -> Result<()> {
    let family = if start.contains("fd00") {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let mut last = Vec::new();
    let found = eventually(SOON, || {
        last = view::routes(world.agents[0].host().place(), family).ok()?;
        last.iter().any(|route| route.starts_with(start)).then_some(())
    });
    ensure!(
        found.is_some(),
        "no {start}: {last:#?}\n{}",
        world.agents[0].log()
    );
    Ok(())
}

/// Passwords, communities, and the filter of ours.
fn configure(world: &mut World) -> Result<()> {
    let secrets = world.folder("secrets/bgp")?;
    std::fs::write(secrets.join("key"), "sesame\n")?;
    std::fs::write(secrets.join("other"), "open\n")?;
    let secrets = world.folder("secrets")?.display().to_string();
    for agent in &mut world.agents {
        agent.set("CALICO_SECRETS_DIR", &secrets);
    }
    world.apply(
        Kind::BgpFilter,
        "edge",
        &json!({ "importV4": [{ "action": "Reject", "matchOperator": "Equal", "cidr": "172.29.0.0/16" }] }),
    )?;
    world.apply(
        Kind::BgpConfiguration,
        "default",
        &json!({
            "nodeToNodeMeshEnabled": false,
            "prefixAdvertisements": [
                { "cidr": "192.168.0.0/16", "communities": [format!("{OWN}:9:9")] },
                { "cidr": "fd00:c0::/112", "communities": [format!("{OWN}:9:9")] },
            ],
        }),
    )?;
    Ok(())
}

/// The first node's sessions with a daemon, one of each family.
fn peer_with(world: &World, daemon: &Daemon, peer_as: u32, password: Option<&str>) -> Result<()> {
    for address in daemon.addresses() {
        let family = if address.is_ipv4() { "v4" } else { "v6" };
        let mut spec = json!({
            "node": "node1", "peerIP": address.to_string(), "asNumber": peer_as, "filters": ["edge"],
        });
        if let Some(key) = password {
            spec["password"] = json!({ "secretKeyRef": { "name": "bgp", "key": key } });
        }
        world.apply(Kind::BgpPeer, &format!("peer{}{family}", daemon.number), &spec)?;
    }
    Ok(())
}

fn all_kinds(make: Make) -> Result<()> {
    if !make.is_here() {
        return Ok(());
    }
    let mut world = World::new(2, &[("AS", &OWN.to_string())])?;
    configure(&mut world)?;
    let internal = Daemon::start(
        &world,
        make,
        setup(2, OWN, None, &["172.30.0.0/16", "fd00:30::/64"]),
    )?;
    let mut external = setup(
        3,
        OTHER,
        Some("sesame"),
        &["172.31.0.0/16", "172.29.0.0/16", "fd00:31::/64"],
    );
    external.refused.push(net(EXTRA));
    // The second node will have another password.
    let stranger = Neighbour {
        address: v4(12),
        ..external.neighbours[0].clone()
    };
    external.neighbours.push(stranger);
    let external = Daemon::start(&world, make, external)?;
    peer_with(&world, &internal, OWN, None)?;
    peer_with(&world, &external, OTHER, Some("key"))?;
    world.apply(
        Kind::BgpPeer,
        "stranger",
        &json!({
            "node": "node2", "peerIP": v4(3).to_string(), "asNumber": OTHER,
            "password": { "secretKeyRef": { "name": "bgp", "key": "other" } },
        }),
    )?;
    world.start()?;
    let blocks = exchange(&world, &[&internal, &external])?;
    // The daemon's: its twin of our AS takes what it does not.
    let extra = world.extra(0, EXTRA)?;
    internal.until_seen(extra, |_| true)?;
    ensure!(external.seen(extra)?.is_none(), "filtered by the daemon");
    refreshes(&world, &[&internal, &external], &blocks)?;
    // Nobody was told the AS number that nodes have by default, not even while the Node was new.
    for daemon in [&internal, &external] {
        ensure!(!daemon.site.log().contains("64512"), "{}", daemon.site.log());
    }
    // Nobody comes in with another password.
    let stranger = world.agents[1].until("/v1/peers", |answer| {
        answer["peers"][0]["counters"]["failures"].as_u64() > Some(0)
    })?;
    ensure!(stranger["peers"][0]["counters"]["ups"] == 0, "{stranger:#}");
    ensure!(!external.is_up(v4(12))?, "another password is taken");
    Ok(())
}

/// Each side has the other's routes, with what belongs to them; our blocks.
fn exchange(world: &World, daemons: &[&Daemon]) -> Result<[IpNet; 2]> {
    let agent = &world.agents[0];
    agent.until_peers(4)?;
    let blocks: [IpNet; 2] = [world.block(0, true)?, world.block(0, false)?];
    for daemon in daemons {
        for (block, own) in blocks.iter().zip([v4(11), v6(11)]) {
            daemon.until_up(own, true)?;
            let seen = daemon.until_seen(*block, |seen| seen.large == format!("{OWN}:9:9"))?;
            ensure!(seen.next_hop == own.to_string(), "{seen:?}");
            let path: &[u32] = if daemon.number == 2 { &[] } else { &[OWN] };
            ensure!(seen.as_path == path, "{seen:?}");
        }
    }
    until_kernel_route(world, "172.30.0.0/16 via 10.1.0.2 dev eth1")?;
    until_kernel_route(world, "172.31.0.0/16 via 10.1.0.3 dev eth1")?;
    until_kernel_route(world, "fd00:30::/64 via fd00:1::2 dev eth1")?;
    until_kernel_route(world, "fd00:31::/64 via fd00:1::3 dev eth1")?;
    for (prefix, path, number) in [
        ("172.30.0.0/16", String::new(), OWN),
        ("fd00:30::/64", String::new(), OWN),
        ("172.31.0.0/16", OTHER.to_string(), OTHER),
        ("fd00:31::/64", OTHER.to_string(), OTHER),
    ] {
        let answer = agent.ask(&format!("/v1/routes?prefix={prefix}"))?;
        let route = &answer["routes"][0];
        ensure!(
            route["asPath"] == path && route["largeCommunities"][0] == format!("{number}:1:2"),
            "{answer:#}"
        );
    }
    // Filters: ours keeps a route out of the kernel.
    let refused = agent.ask("/v1/routes?prefix=172.29.0.0/16")?;
    ensure!(refused["routes"][0]["used"] == false, "{refused:#}");
    ensure!(
        !agent.routes()?.iter().any(|route| route.starts_with("172.29.")),
        "filtered"
    );
    Ok(blocks)
}

/// Each daemon asks for the routes again, and gets them; no session notices.
fn refreshes(world: &World, daemons: &[&Daemon], blocks: &[IpNet]) -> Result<()> {
    for daemon in daemons {
        for ((address, own), block) in daemon.addresses().into_iter().zip([v4(11), v6(11)]).zip(blocks) {
            let (before, received) = (row(world, address)?, daemon.received(own)?);
            let sent = |row: &Value| row["counters"]["announcedOut"].as_u64();
            if daemon.refresh(own)? {
                let again = eventually(SOON, || {
                    let now = row(world, address).ok()?;
                    let more = sent(&now) > sent(&before) && daemon.received(own).ok()? > received;
                    more.then_some(())
                });
                ensure!(
                    again.is_some(),
                    "{address} did not get the routes again: {before:#} {:#} {received} {:?}",
                    row(world, address)?,
                    daemon.received(own)
                );
            }
            daemon.until_seen(*block, |_| true)?;
            ensure!(daemon.is_up(own)?, "the session stays");
            let after = row(world, address)?;
            ensure!(
                after["counters"]["ups"] == before["counters"]["ups"],
                "{before:#} {after:#}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_kind_of_session_with_bird() -> Result<()> {
    all_kinds(Make::Bird)
}

#[test]
fn every_kind_of_session_with_frr() -> Result<()> {
    all_kinds(Make::Frr)
}

#[test]
fn every_kind_of_session_with_gobgp() -> Result<()> {
    all_kinds(Make::GoBgp)
}
