// SPDX-License-Identifier: Apache-2.0
//! A daemon as reflector between two nodes, and restarts of either side: nobody's routes go meanwhile (RFC 4724).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{PATIENCE, cluster::Member};

use crate::{
    daemon::{Daemon, Make, Neighbour, Setup},
    support::net,
    world::{World, v4},
};

/// Withdrawals that an agent has had from its only peer.
fn withdrawn(agent: &Member) -> Result<Value> {
    let answer = agent.ask("/v1/peers")?;
    Ok(answer["peers"][0]["counters"]["withdrawnIn"].clone())
}

/// Looks all the time while something goes on; the first thing that was not as it should be.
fn always(look: impl Fn() -> Result<()> + Sync, action: impl FnOnce() -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| -> Result<u32> {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                look()?;
                looks += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(looks)
        });
        let done = action();
        stop.store(true, Ordering::Relaxed);
        let looks = watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        done?;
        ensure!(looks? > 5, "hardly looked");
        Ok(())
    })
}

fn has_routes(agent: &Member, wanted: &[String]) -> Result<()> {
    let routes = agent.routes()?;
    for start in wanted {
        ensure!(
            routes.iter().any(|route| route.starts_with(start)),
            "{} lost {start}: {routes:#?}\n{}",
            agent.name(),
            agent.log()
        );
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn between_two_nodes(make: Make) -> Result<()> {
    if !make.is_here() {
        return Ok(());
    }
    let mut world = World::new(2, &[])?;
    let client = |number: u8| Neighbour {
        address: v4(number),
        peer_as: 64512,
        password: None,
        client: true,
    };
    let mut daemon = Daemon::start(
        &world,
        make,
        Setup {
            number: 2,
            local_as: 64512,
            neighbours: vec![client(11), client(12)],
            routes: vec![net("172.30.0.0/16")],
            refused: Vec::new(),
            more: String::new(),
        },
    )?;
    world.apply(
        Kind::BgpPeer,
        "reflector",
        &json!({ "peerIP": v4(2).to_string(), "asNumber": 64512 }),
    )?;
    world.start()?;
    let blocks = [world.block(0, true)?, world.block(1, true)?];
    let wanted = |own: usize| {
        let other = 1 - own;
        let number = [11, 12][other];
        vec![
            "172.30.0.0/16 via 10.1.0.2 dev eth1".to_owned(),
            format!("{} via {} dev eth1", blocks[other], v4(number)),
        ]
    };
    let settle = |world: &World, daemon: &Daemon| -> Result<()> {
        for (own, agent) in world.agents.iter().enumerate() {
            agent.until_peers(1)?;
            daemon.until_up(v4([11, 12][own]), true)?;
            daemon.until_seen(blocks[own], |seen| seen.next_hop == v4([11, 12][own]).to_string())?;
            for route in wanted(own) {
                agent.until_route(&route)?;
            }
        }
        Ok(())
    };
    settle(&world, &daemon)?;
    let reflected = world.agents[1].ask(&format!("/v1/routes?prefix={}", blocks[0]))?;
    ensure!(
        reflected["routes"][0]["nextHop"] == v4(11).to_string(),
        "{reflected:#}"
    );
    // The agent restarts: the daemon and whoever is behind it see nothing of it.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let before = (daemon.withdrawals(blocks[0])?, withdrawn(&world.agents[1])?);
        let (restarting, other) = world.agents.split_at_mut(1);
        let (agent, other) = (&mut restarting[0], &other[0]);
        let place = agent.host().place().clone();
        always(
            || {
                ensure!(
                    daemon.seen(blocks[0])?.is_some(),
                    "the daemon has lost {}",
                    blocks[0]
                );
                has_routes(other, &wanted(1))?;
                let routes = testbed::view::routes(&place, kernel::Family::Ipv4)?;
                for start in wanted(0) {
                    ensure!(
                        routes.iter().any(|route| route.starts_with(&start)),
                        "lost {start}"
                    );
                }
                Ok(())
            },
            || {
                agent.end(signal)?;
                daemon.until_up(v4(11), false)?;
                agent.start()?;
                agent.until_peers(1)?;
                daemon.until_up(v4(11), true)
            },
        )
        .with_context(|| format!("{signal}: {}\n{}", world.agents[0].log(), daemon.site.log()))?;
        settle(&world, &daemon)?;
        let after = (daemon.withdrawals(blocks[0])?, withdrawn(&world.agents[1])?);
        ensure!(
            before == after,
            "{signal}: {before:?} {after:?}\n{}",
            daemon.site.log()
        );
    }
    // The daemon restarts: our kernels' routes from it stay.
    let agents = &world.agents;
    let first = usize::from(!daemon.keeps_own_routes());
    always(
        || {
            has_routes(&agents[0], &wanted(0)[first..])?;
            has_routes(&agents[1], &wanted(1)[first..])
        },
        || {
            daemon.restart(|| {
                for agent in agents {
                    agent.until("/v1/peers", |answer| {
                        answer["peers"][0]["session"] != "Established"
                    })?;
                }
                Ok(())
            })?;
            for agent in agents {
                agent.until_peers(1)?;
            }
            Ok(())
        },
    )
    .with_context(|| format!("{}\n{}", world.agents[0].log(), world.agents[1].log()))?;
    settle(&world, &daemon)?;
    for agent in &world.agents {
        let routes = agent.ask("/v1/routes")?;
        let routes = routes["routes"].as_array().context("routes")?;
        ensure!(routes.iter().all(|route| route["stale"] == false), "{routes:#?}");
    }
    // What leaves is seen to go: the counts above would have shown it.
    let before = (daemon.withdrawals(blocks[0])?, withdrawn(&world.agents[1])?);
    world.agents[0].agent_command(["leave"]).succeed(PATIENCE)?;
    world.agents[0].until_ended()?;
    daemon.until_gone(blocks[0])?;
    world.agents[1].until_no_route(&blocks[0].to_string())?;
    let after = (daemon.withdrawals(blocks[0])?, withdrawn(&world.agents[1])?);
    ensure!(
        before.0 < after.0 && before.1 != after.1,
        "{before:?} {after:?}\n{}",
        daemon.site.log()
    );
    Ok(())
}

#[test]
fn bird_reflects_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::Bird)
}

#[test]
fn frr_reflects_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::Frr)
}

#[test]
fn gobgp_reflects_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::GoBgp)
}
