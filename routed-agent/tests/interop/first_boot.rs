// SPDX-License-Identifier: Apache-2.0
//! A node that starts for the first time tells its blocks at once, however many of its peers are dead, and claims no restart.

use std::{
    fs,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use model::Kind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{Container, Host, PATIENCE, Program, cluster::Member, eventually, peers};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    world::{World, v4},
};

/// To other nodes from the start, to daemons from when the session is up.
const LIMIT: Duration = Duration::from_secs(1);
/// Nodes that start at the same moment: enough pairs of them for two connections to meet somewhere.
const NODES: u8 = 4;
/// How often they do, and how often at most if no two connections have met by then.
const ROUNDS: [usize; 2] = [3, 10];
/// The host that is there and does not speak BGP.
const MUTE: u8 = 30;

/// Addresses of the subnet.
fn on_link(numbers: std::ops::Range<u8>) -> impl Iterator<Item = IpAddr> {
    numbers.map(v4)
}

/// Peers that never answer: nobody is there, connections are refused, segments are dropped, no route leads there.
fn add_dead_peers(world: &World) -> Result<Host> {
    let mute = Host::new("mute")?;
    world.attach(&mute, MUTE)?;
    let run = |program: &str, arguments: &str, input: &str| -> Result<()> {
        let found = peers::find_program(program).with_context(|| format!("no program {program}"))?;
        let arguments: Vec<&str> = arguments.split(' ').collect();
        Program::new(mute.place(), found)
            .args(arguments)
            .input(input)
            .succeed(PATIENCE)
            .map(drop)
    };
    let (absent, refusing, dropping) = (100..108, 130..136, 140..143);
    for address in on_link(refusing.clone()).chain(on_link(dropping.clone())) {
        run("ip", &format!("address add {address}/24 dev eth1"), "")?;
    }
    let rules = "table inet mute { chain input { type filter hook input priority 0;\n ip daddr 10.1.0.140-10.1.0.142 drop\n }\n }\n";
    run("nft", "-f -", rules)?;
    let far = (1..4).map(|number| IpAddr::from([10, 99, 0, number]));
    let dead = on_link(absent).chain(on_link(refusing)).chain(on_link(dropping));
    let dead: Vec<IpAddr> = dead.chain(far).collect();
    ensure!(dead.len() == 20);
    for address in dead {
        let spec = json!({ "peerIP": address.to_string(), "asNumber": 64512 });
        world.apply(Kind::BgpPeer, &format!("dead-{address}"), &spec)?;
    }
    Ok(mute)
}

/// A container on each host, by the plugins alone: blocks are there before any agent has run.
fn add_containers(world: &mut World) -> Result<Vec<IpNet>> {
    let mut blocks = Vec::new();
    for member in &world.agents {
        let container = Container::start(member.name())?;
        let address = member.add(&container)?[0];
        blocks.push(IpNet::new(address, 26)?.trunc());
        world.containers.push(container);
    }
    Ok(blocks)
}

fn count(agent: &Member, wanted: impl Fn(&Value) -> bool) -> Result<usize> {
    let answer = agent.ask("/v1/peers")?;
    let peers = answer["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(peers.iter().filter(|peer| wanted(peer)).count())
}

/// Starts all agents; how long it took from the last start until each had the others' blocks in the kernel.
fn start_all(world: &mut World, blocks: &[IpNet]) -> Result<Duration> {
    for agent in &mut world.agents {
        agent.start()?;
    }
    let began = Instant::now();
    let routes: Vec<String> = (11..)
        .zip(blocks)
        .map(|(number, block)| format!("{block} via {}", v4(number)))
        .collect();
    let has_all = |number: usize| {
        let there = world.agents[number].routes().ok()?;
        let mut others = (0..).zip(&routes).filter(|(other, _)| *other != number);
        let is_there = |route: &String| there.iter().any(|found| found.starts_with(route));
        others.all(|(_, route)| is_there(route)).then_some(())
    };
    let all = eventually(SOON, || {
        (0..blocks.len()).try_for_each(has_all)?;
        Some(began.elapsed())
    });
    all.with_context(|| logs(world))
}

fn logs(world: &World) -> String {
    world.agents.iter().map(Member::log).collect()
}

/// Whether one of two connections has been given up, as who was told so says.
fn have_collided(world: &World) -> Result<bool> {
    let mut found = false;
    for agent in &world.agents {
        let journal = agent.ask("/v1/journal?kind=session")?;
        found |= journal
            .to_string()
            .contains("cease: connection collision resolution");
    }
    Ok(found)
}

/// Nodes that start at the same moment dial each other, and one of two connections is given up.
#[test]
fn nodes_have_each_others_blocks_within_a_second_of_their_first_start() -> Result<()> {
    if !peers::available(&[peers::Peer::Root, peers::Peer::Ipv6]) {
        return Ok(());
    }
    let mut world = World::new(NODES, &[("CALICO_IPV4POOL_BLOCK_SIZE", "26")])?;
    world.apply(
        Kind::BgpConfiguration,
        "default",
        &json!({ "nodeToNodeMeshEnabled": true }),
    )?;
    let _mute = add_dead_peers(&world)?;
    let blocks = add_containers(&mut world)?;
    let [least, most] = ROUNDS;
    let mut met = false;
    for round in 1..=most {
        let took = start_all(&mut world, &blocks)?;
        ensure!(took <= LIMIT, "round {round}, {took:?}: {}", logs(&world));
        for agent in &world.agents {
            // One session for each family, up once and for all.
            let others = 2 * usize::from(NODES - 1);
            agent.until_peers(others)?;
            ensure!(count(agent, |peer| peer["counters"]["ups"] == 1)? == others);
            ensure!(count(agent, |peer| peer["session"] != "Established")? == 20);
        }
        met |= have_collided(&world)?;
        // As if neither had ever run.
        for agent in &world.agents {
            agent.agent_command(["cleanup"]).succeed(PATIENCE)?;
        }
        for agent in &mut world.agents {
            agent.until_ended()?;
        }
        if met && round >= least {
            break;
        }
    }
    ensure!(met, "there never were two connections");
    Ok(())
}

/// Waits for the session and then for the block, as BIRD sees them; how long the latter took.
fn time_to_block(daemon: &Daemon, block: IpNet) -> Result<Duration> {
    let up = eventually(SOON, || daemon.is_up(v4(11)).ok()?.then(Instant::now));
    let up = up.with_context(|| daemon.site.log())?;
    let seen = eventually(SOON, || daemon.seen(block).ok()?.map(|_| up.elapsed()));
    seen.with_context(|| daemon.site.log())
}

#[test]
fn bird_has_the_blocks_of_a_first_boot_within_a_second_and_is_told_of_no_restart() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(1, &[("CALICO_IPV4POOL_BLOCK_SIZE", "26")])?;
    let setup = Setup {
        number: 2,
        local_as: 64600,
        neighbours: vec![Neighbour {
            address: v4(11),
            peer_as: 64512,
            password: None,
            client: false,
        }],
        routes: Vec::new(),
        refused: Vec::new(),
        more: String::new(),
    };
    let daemon = Daemon::start(&world, Make::Bird, setup)?;
    let spec = json!({ "peerIP": v4(2).to_string(), "asNumber": 64600 });
    world.apply(Kind::BgpPeer, "bird", &spec)?;
    let _mute = add_dead_peers(&world)?;
    let block = add_containers(&mut world)?[0];
    world.agents[0].start()?;
    let first_boot = |world: &World, what: &str| -> Result<()> {
        let took = time_to_block(&daemon, block)?;
        ensure!(took <= LIMIT, "{what}, {took:?}: {}", daemon.site.log());
        world.agents[0].until_peers(1)?;
        ensure!(
            !daemon.said_restarted(v4(11))?,
            "{what} is no restart: {}",
            world.agents[0].log()
        );
        ensure!(count(&world.agents[0], |peer| peer["session"] != "Established")? == 20);
        Ok(())
    };
    first_boot(&world, "the first start")?;
    // That it would be seen.
    world.agents[0].end(Signal::SIGKILL)?;
    daemon.until_up(v4(11), false)?;
    world.agents[0].start()?;
    daemon.until_up(v4(11), true)?;
    ensure!(daemon.said_restarted(v4(11))?, "a second start is a restart");
    // Power goes and comes back: what is in the run directory is gone, and the kernel's routes.
    world.agents[0].end(Signal::SIGKILL)?;
    daemon.until_up(v4(11), false)?;
    let run = world.agents[0].host().folders().run();
    for entry in fs::read_dir(run)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    let ip = peers::find_program("ip").context("no program ip")?;
    Program::new(world.agents[0].host().place(), ip)
        .args(["route", "flush", "proto", "80"])
        .succeed(PATIENCE)?;
    world.agents[0].start()?;
    first_boot(&world, "a start after a boot")?;
    // Who has left has nothing to come back to.
    world.agents[0].agent_command(["leave"]).succeed(PATIENCE)?;
    world.agents[0].until_ended()?;
    daemon.until_gone(block)?;
    world.agents[0].start()?;
    first_boot(&world, "a start after leaving")
}
