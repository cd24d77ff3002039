// SPDX-License-Identifier: Apache-2.0
//! A node as route reflector for daemons of all makes and a node: it is stopped and killed again and again, and none of its
//! clients loses what it has from the others (RFC 4456, RFC 4724).

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use model::Kind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{PATIENCE, Place, cluster::Member, eventually};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Seen, Setup},
    restarts::always,
    support::net,
    world::{World, v4},
};

const CLUSTER: &str = "244.0.0.9";

/// Who announces what.
struct Announced {
    prefix: IpNet,
    by: IpAddr,
}

struct Clients {
    world: World,
    daemons: Vec<Daemon>,
    /// Of all clients.
    routes: Vec<Announced>,
}

fn client(world: &World, make: Make, number: u8, prefix: IpNet) -> Result<Daemon> {
    let setup = Setup {
        number,
        local_as: 64512,
        neighbours: vec![Neighbour {
            address: v4(11),
            peer_as: 64512,
            password: None,
            client: false,
        }],
        routes: vec![prefix],
        refused: Vec::new(),
        more: String::new(),
    };
    Daemon::start(world, make, setup)
}

/// The reflector's mark, and whose the route is.
fn is_reflected(seen: &Seen, by: IpAddr) -> bool {
    seen.originator == by.to_string() && seen.clusters == [CLUSTER] && seen.next_hop == by.to_string()
}

/// What of others a daemon has to have, as it has to be.
fn check_daemon(daemon: &Daemon, routes: &[Announced]) -> Result<()> {
    for route in routes.iter().filter(|route| route.by != v4(daemon.number)) {
        let seen = daemon.seen(route.prefix)?;
        ensure!(
            seen.as_ref().is_some_and(|seen| is_reflected(seen, route.by)),
            "{} at {}: {seen:?}",
            route.prefix,
            daemon.number
        );
    }
    Ok(())
}

/// What of others a node's kernel has to have.
fn check_kernel(place: &Place, own: IpAddr, routes: &[Announced]) -> Result<()> {
    let there = testbed::view::routes(place, kernel::Family::Ipv4)?;
    for route in routes.iter().filter(|route| route.by != own) {
        let start = format!("{} via {} dev eth1", route.prefix, route.by);
        ensure!(
            there.iter().any(|found| found.starts_with(&start)),
            "{own} has no {start}: {there:#?}"
        );
    }
    Ok(())
}

/// Looks at each daemon all the time, by a thread of its own, while something goes on.
fn watch_all(daemons: &[Daemon], routes: &[Announced], action: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    match daemons.split_first() {
        None => action(),
        Some((daemon, others)) => always(
            || check_daemon(daemon, routes),
            || watch_all(others, routes, action),
        ),
    }
}

impl Clients {
    fn start(makes: &[Make]) -> Result<Self> {
        let mut world = World::new(2, &[("CALICO_IPV4POOL_BLOCK_SIZE", "26")])?;
        world.agents[0].set("CALICO_ROUTE_REFLECTOR_CLUSTER_ID", CLUSTER);
        let mut daemons = Vec::new();
        let mut routes = Vec::new();
        for (number, make) in (2..).zip(makes) {
            // Inside the pool, so that the reflector passes it on.
            let prefix = net(&format!("192.168.{}.0/24", 250 + number));
            daemons.push(client(&world, *make, number, prefix)?);
            let by = v4(number);
            routes.push(Announced { prefix, by });
        }
        for address in daemons.iter().map(|daemon| v4(daemon.number)).chain([v4(12)]) {
            let address = address.to_string();
            let spec = json!({ "node": "node1", "peerIP": address, "asNumber": 64512 });
            world.apply(Kind::BgpPeer, &format!("client-{address}"), &spec)?;
        }
        let spec = json!({ "node": "node2", "peerIP": v4(11).to_string(), "asNumber": 64512 });
        world.apply(Kind::BgpPeer, "reflector", &spec)?;
        world.start()?;
        let prefix = world.block(1, true)?;
        routes.push(Announced { prefix, by: v4(12) });
        let clients = Self {
            world,
            daemons,
            routes,
        };
        clients.settle()?;
        Ok(clients)
    }

    /// Waits until both sides of each session are through, and all have all.
    fn settle(&self) -> Result<()> {
        let [reflector, node] = [0, 1].map(|number| &self.world.agents[number]);
        reflector.until_peers(self.daemons.len() + 1)?;
        node.until_peers(1)?;
        for daemon in &self.daemons {
            daemon.until_up(v4(11), true)?;
            for route in self.routes.iter().filter(|route| route.by != v4(daemon.number)) {
                daemon.until_seen(route.prefix, |seen| is_reflected(seen, route.by))?;
            }
        }
        for (agent, own) in [(reflector, v4(11)), (node, v4(12))] {
            let place = agent.host().place();
            if eventually(SOON, || check_kernel(place, own, &self.routes).ok()).is_none() {
                check_kernel(place, own, &self.routes).with_context(|| agent.log())?;
            }
        }
        Ok(())
    }

    /// Withdrawals of everything at each daemon, and what the node was told in all.
    fn withdrawals(&self) -> Result<(Vec<usize>, Value)> {
        let all = self
            .daemons
            .iter()
            .flat_map(|daemon| self.routes.iter().map(|route| daemon.withdrawals(route.prefix)));
        let answer = self.world.agents[1].ask("/v1/peers")?;
        let at_node = answer["peers"][0]["counters"]["withdrawnIn"].clone();
        ensure!(at_node.is_u64(), "{answer:#}");
        Ok((all.collect::<Result<_>>()?, at_node))
    }

    fn logs(&self) -> String {
        let daemons = self.daemons.iter().map(|daemon| daemon.site.log());
        let agents = self.world.agents.iter().map(Member::log);
        agents.chain(daemons).collect::<Vec<_>>().join("\n-----\n")
    }

    /// The reflector goes and comes back, while everybody is looked at all the time, each by a thread of its own.
    fn reflector_restarts(&mut self, signal: Signal) -> Result<()> {
        let places = [0, 1].map(|number: usize| self.world.agents[number].host().place().clone());
        let (routes, daemons) = (&self.routes, &self.daemons);
        let reflector = &mut self.world.agents[0];
        let watched = always(
            || {
                check_kernel(&places[0], v4(11), routes)?;
                check_kernel(&places[1], v4(12), routes)
            },
            || {
                watch_all(daemons, routes, &mut || {
                    reflector.end(signal)?;
                    for daemon in daemons {
                        daemon.until_up(v4(11), false)?;
                    }
                    reflector.start()?;
                    reflector.until_peers(daemons.len() + 1)?;
                    daemons
                        .iter()
                        .try_for_each(|daemon| daemon.until_up(v4(11), true))
                })
            },
        );
        watched.with_context(|| format!("{signal}: {}", self.logs()))?;
        for daemon in &self.daemons {
            ensure!(
                daemon.said_restarted(v4(11))?,
                "{} was not told of a restart",
                daemon.number
            );
        }
        self.settle()
    }
}

/// Each signal in turn, so many times; all are through with each other before the next.
fn nothing_is_withdrawn(makes: &[Make], signals: &[Signal]) -> Result<()> {
    if !makes.iter().all(|make| make.is_here()) {
        return Ok(());
    }
    let mut clients = Clients::start(makes)?;
    for daemon in &clients.daemons {
        ensure!(!daemon.said_restarted(v4(11))?, "a first start is no restart");
    }
    let before = clients.withdrawals()?;
    for (round, signal) in signals.iter().enumerate() {
        clients.reflector_restarts(*signal)?;
        let after = clients.withdrawals()?;
        ensure!(
            before == after,
            "{signal}, round {round}: {before:?} {after:?}\n{}",
            clients.logs()
        );
    }
    // What is withdrawn is seen to be: a client leaves.
    let gone = clients.routes.last().context("a route")?.prefix;
    clients.world.agents[1]
        .agent_command(["leave"])
        .succeed(PATIENCE)?;
    clients.world.agents[1].until_ended()?;
    for daemon in &clients.daemons {
        daemon.until_gone(gone)?;
        let counted = eventually(SOON, || (daemon.withdrawals(gone).ok()? > 0).then_some(()));
        counted.with_context(|| format!("{} counts no withdrawal", daemon.number))?;
    }
    Ok(())
}

const ALL: [Make; 3] = [Make::Bird, Make::Frr, Make::GoBgp];

// GoBGP takes no connection for 5 s after the end of a session: with it, stopping and killing are two tests.

#[test]
fn a_reflector_stopped_again_and_again_withdraws_nothing() -> Result<()> {
    nothing_is_withdrawn(&ALL, &[Signal::SIGTERM; 2])
}

#[test]
fn a_reflector_killed_again_and_again_withdraws_nothing() -> Result<()> {
    nothing_is_withdrawn(&ALL, &[Signal::SIGKILL; 2])
}

#[test]
fn a_reflector_stopped_and_killed_in_quick_succession_withdraws_nothing() -> Result<()> {
    let signals = [Signal::SIGTERM, Signal::SIGKILL].repeat(3);
    nothing_is_withdrawn(&[Make::Bird, Make::Frr], &signals)
}
