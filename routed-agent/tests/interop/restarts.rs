// SPDX-License-Identifier: Apache-2.0
//! A daemon as reflector between two nodes, and restarts of either side: nobody's routes go meanwhile (RFC 4724).

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kernel::Family;
use model::Kind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{PATIENCE, Place, cluster::Member, eventually, view};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    support::net,
    world::{World, v4, v6},
};

/// Two nodes that only know the daemon, over sessions of one family.
struct Pair {
    world: World,
    daemon: Daemon,
    blocks: [IpNet; 2],
    ground: Ground,
}

/// What each node's kernel has to have, all the time.
#[derive(Clone)]
struct Ground {
    family: Family,
    routes: [Vec<String>; 2],
}

/// What has been seen of withdrawals of the first node's block: in the daemon's log, and at the second node.
type Withdrawals = (usize, Value);

impl Ground {
    fn check(&self, place: &Place, node: usize) -> Result<()> {
        let routes = view::routes(place, self.family)?;
        for start in &self.routes[node] {
            ensure!(
                routes.iter().any(|route| route.starts_with(start)),
                "node {} has no {start}: {routes:#?}",
                node + 1
            );
        }
        Ok(())
    }
}

/// How often is looked at least, where what goes on is over in no time.
const LOOKS: u32 = 10;

/// Looks all the time while something goes on; the first thing that was not as it should be.
pub(crate) fn always(
    look: impl Fn() -> Result<()> + Sync,
    action: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| -> Result<()> {
            let mut looks = 0;
            while looks < LOOKS || !stop.load(Ordering::Relaxed) {
                look()?;
                looks += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        let done = action();
        stop.store(true, Ordering::Relaxed);
        let watched = watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        done.and(watched)
    })
}

impl Pair {
    fn address(&self, node: usize) -> IpAddr {
        address(self.ground.family, [11, 12][node])
    }

    fn start(make: Make, family: Family) -> Result<Self> {
        let mut world = World::new(2, &[])?;
        let client = |number: u8| Neighbour {
            address: address(family, number),
            peer_as: 64512,
            password: None,
            client: true,
        };
        let own = net(if family == Family::Ipv4 {
            "172.30.0.0/16"
        } else {
            "fd00:30::/64"
        });
        let reflector = address(family, 2);
        let daemon = Daemon::start(
            &world,
            make,
            Setup {
                number: 2,
                local_as: 64512,
                neighbours: vec![client(11), client(12)],
                routes: vec![own],
                refused: Vec::new(),
                more: String::new(),
            },
        )?;
        world.apply(
            Kind::BgpPeer,
            "reflector",
            &json!({ "peerIP": reflector.to_string(), "asNumber": 64512 }),
        )?;
        world.start()?;
        let is_v4 = family == Family::Ipv4;
        let blocks = [world.block(0, is_v4)?, world.block(1, is_v4)?];
        let routes = [(1, 12), (0, 11)].map(|(other, number)| {
            vec![
                format!("{own} via {reflector} dev eth1"),
                format!("{} via {} dev eth1", blocks[other], address(family, number)),
            ]
        });
        Ok(Self {
            world,
            daemon,
            blocks,
            ground: Ground { family, routes },
        })
    }

    /// Waits until all know all.
    fn settle(&self) -> Result<()> {
        for (node, agent) in self.world.agents.iter().enumerate() {
            agent.until_peers(1)?;
            let own = self.address(node);
            self.daemon.until_up(own, true)?;
            self.daemon
                .until_seen(self.blocks[node], |seen| seen.next_hop == own.to_string())?;
            let place = agent.host().place();
            if eventually(SOON, || self.ground.check(place, node).ok()).is_none() {
                self.ground.check(place, node).with_context(|| agent.log())?;
            }
        }
        Ok(())
    }

    fn withdrawals(&self) -> Result<Withdrawals> {
        let answer = self.world.agents[1].ask("/v1/peers")?;
        let at_node = answer["peers"][0]["counters"]["withdrawnIn"].clone();
        Ok((self.daemon.withdrawals(self.blocks[0])?, at_node))
    }

    /// The first node's agent restarts: neither the daemon nor who is behind it, nor any kernel, loses anything.
    fn agent_restarts(&mut self, signal: Signal) -> Result<()> {
        let before = self.withdrawals()?;
        let own = self.address(0);
        let places: Vec<Place> = self
            .world
            .agents
            .iter()
            .map(|agent| agent.host().place().clone())
            .collect();
        let (daemon, ground, block) = (&self.daemon, &self.ground, self.blocks[0]);
        let agent: &mut Member = &mut self.world.agents[0];
        let watched = always(
            || {
                ensure!(daemon.seen(block)?.is_some(), "the daemon has lost {block}");
                ground.check(&places[0], 0)?;
                ground.check(&places[1], 1)
            },
            || {
                agent.end(signal)?;
                daemon.until_up(own, false)?;
                agent.start()?;
                agent.until_peers(1)?;
                daemon.until_up(own, true)
            },
        );
        watched
            .with_context(|| format!("{signal}: {}\n{}", self.world.agents[0].log(), daemon.site.log()))?;
        ensure!(
            self.daemon.said_restarted(own)?,
            "the daemon was not told of a restart"
        );
        self.settle()?;
        let after = self.withdrawals()?;
        ensure!(
            before == after,
            "{signal}: {before:?} {after:?}\n{}",
            self.daemon.site.log()
        );
        Ok(())
    }

    /// The daemon restarts: our kernels' routes from it stay, and nothing stale is left at the end.
    fn daemon_restarts(&mut self) -> Result<()> {
        let mut ground = self.ground.clone();
        if !self.daemon.keeps_own_routes() {
            for routes in &mut ground.routes {
                routes.remove(0);
            }
        }
        let agents = &self.world.agents;
        let daemon = &mut self.daemon;
        let watched = always(
            || {
                ground.check(agents[0].host().place(), 0)?;
                ground.check(agents[1].host().place(), 1)
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
                agents.iter().try_for_each(|agent| agent.until_peers(1).map(drop))
            },
        );
        watched.with_context(|| format!("{}\n{}", agents[0].log(), agents[1].log()))?;
        self.settle()?;
        for agent in &self.world.agents {
            let routes = agent.ask("/v1/routes")?;
            let routes = routes["routes"].as_array().context("routes")?;
            ensure!(routes.iter().all(|route| route["stale"] == false), "{routes:#?}");
        }
        Ok(())
    }

    /// What leaves is seen to go: the same counts show it.
    fn agent_leaves(&mut self) -> Result<()> {
        let before = self.withdrawals()?;
        self.world.agents[0].agent_command(["leave"]).succeed(PATIENCE)?;
        self.world.agents[0].until_ended()?;
        self.daemon.until_gone(self.blocks[0])?;
        let more = eventually(SOON, || {
            let after = self.withdrawals().ok()?;
            (before.0 < after.0 && before.1 != after.1).then_some(())
        });
        more.with_context(|| format!("{before:?} {:?}", self.withdrawals().ok()))
    }
}

fn address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::Ipv4 => v4(number),
        Family::Ipv6 => v6(number),
    }
}

fn between_two_nodes(make: Make, family: Family) -> Result<()> {
    if !make.is_here() {
        return Ok(());
    }
    let mut pair = Pair::start(make, family)?;
    pair.settle()?;
    let path = format!("/v1/routes?prefix={}", pair.blocks[0]);
    let reflected = pair.world.agents[1].ask(&path)?;
    ensure!(
        reflected["routes"][0]["nextHop"] == pair.address(0).to_string(),
        "{reflected:#}"
    );
    let first = pair.daemon.said_restarted(pair.address(0))?;
    ensure!(!first, "a first start is no restart");
    pair.agent_restarts(Signal::SIGTERM)?;
    pair.agent_restarts(Signal::SIGKILL)?;
    pair.daemon_restarts()?;
    pair.agent_leaves()
}

#[test]
fn bird_reflects_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::Bird, Family::Ipv4)
}

#[test]
fn bird_reflects_ipv6_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::Bird, Family::Ipv6)
}

#[test]
fn frr_reflects_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::Frr, Family::Ipv4)
}

#[test]
fn frr_reflects_ipv6_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::Frr, Family::Ipv6)
}

#[test]
fn gobgp_reflects_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::GoBgp, Family::Ipv4)
}

#[test]
fn gobgp_reflects_ipv6_and_restarts_go_unnoticed() -> Result<()> {
    between_two_nodes(Make::GoBgp, Family::Ipv6)
}
