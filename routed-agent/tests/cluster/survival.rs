// SPDX-License-Identifier: Apache-2.0
//! Agents come and go; packets do not notice.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt},
};
use testbed::{Container, PORT, binaries, cluster::Member, eventually};

use crate::support::{Cluster, possible};

/// How often everything is done: `make soak` does it more often.
fn rounds() -> usize {
    let asked = std::env::var("SOAK_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Packets per second.
const RATE: u64 = 1000;
/// Most packets in half a millisecond.
const BURST: u64 = 2;

/// Sends numbered packets to a container's echo for as long as `action` takes; how many came back late or not at all.
fn lost_during(from: &Container, to: SocketAddr, action: impl FnOnce() -> Result<()>) -> Result<(u64, u64)> {
    let socket = from.place().run(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        // A machine that is busy for a moment is no loss of the network's.
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
        Ok(socket)
    })??;
    let (stop, sent, received) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let due = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) * RATE / 1000;
                // Where this thread was not let run for a while, it catches up slowly: bursts overflow queues by themselves.
                for _ in 0..BURST.min(due.saturating_sub(sent.load(Ordering::Relaxed))) {
                    // A full buffer of the socket is a packet lost.
                    let _ = socket.send(&sent.load(Ordering::Relaxed).to_be_bytes());
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; 64];
            let mut quiet = 0;
            while quiet < 5 {
                match socket.recv(&mut buffer) {
                    Ok(_) => {
                        received.fetch_add(1, Ordering::Relaxed);
                        quiet = 0;
                    }
                    Err(_) if stop.load(Ordering::Relaxed) => quiet += 1,
                    Err(_) => {}
                }
            }
        });
        let done = action();
        stop.store(true, Ordering::Relaxed);
        done
    })?;
    let sent = sent.load(Ordering::Relaxed);
    Ok((sent, sent - received.load(Ordering::Relaxed).min(sent)))
}

fn two_subnets() -> Result<Cluster> {
    Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
            ("node3", "10.2.0.13/24", "lan1"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPV4POOL_VXLAN", "CrossSubnet"),
        ],
    )
}

#[test]
fn restarts_and_kills_lose_no_packet() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = two_subnets()?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    lose_nothing(&mut cluster, &containers, rounds(), 500)
}

/// Stops and kills each agent under load, towards a neighbour and through the tunnel, so many times each. It comes back
/// from another file each time, as after an upgrade. A machine that cannot send `least` packets in a second is too slow.
pub(crate) fn lose_nothing(
    cluster: &mut Cluster,
    containers: &[(Container, IpAddr)],
    rounds: usize,
    least: u64,
) -> Result<()> {
    let versions = ["agent-1", "agent-2"].map(|name| cluster.folder().join(name));
    for version in &versions {
        fs::copy(binaries::agent()?, version)?;
    }
    let mut next = versions.iter().cycle();
    for target in [1, 2].map(|other| SocketAddr::new(containers[other].1, PORT)) {
        // The load by itself loses nothing.
        let quiet = || {
            std::thread::sleep(Duration::from_secs(1));
            Ok(())
        };
        let (sent, lost) = lost_during(&containers[0].0, target, quiet)?;
        ensure!(
            sent > least && lost == 0,
            "{lost} of {sent} lost without a restart"
        );
        let signals = [Signal::SIGTERM, Signal::SIGKILL];
        for signal in signals.into_iter().cycle().take(2 * rounds) {
            for place in [0, 1, 2] {
                let version = next.next().context("a version")?.clone();
                let member = &mut cluster.members[place];
                let (sent, lost) =
                    lost_during(&containers[0].0, target, || restart(member, signal, version))?;
                ensure!(
                    lost == 0,
                    "{lost} of {sent} lost to {target} with {signal} at {}: {}",
                    member.name(),
                    member.log()
                );
            }
        }
    }
    Ok(())
}

/// Ends an agent, starts another version of it, and waits until its peers and it have told each other everything.
fn restart(member: &mut Member, signal: Signal, version: PathBuf) -> Result<()> {
    member.end(signal)?;
    std::thread::sleep(Duration::from_millis(300));
    member.use_program(version);
    member.start()?;
    member.until_peers(2)?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

#[test]
fn who_leaves_is_gone_within_a_second_and_clean_up_leaves_nothing() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = two_subnets()?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let block = cluster.members[1].blocks()?[0];
    cluster.members[1]
        .agent_command(["leave"])
        .succeed(Duration::from_secs(5))?;
    cluster.members[1].until_ended()?;
    for member in [0, 2] {
        let status = cluster.members[member].ask("/v1/routes")?;
        let routes = status["routes"].as_array().context("routes")?;
        ensure!(
            routes.iter().all(|route| route["prefix"] != block.to_string()),
            "{status:#}"
        );
    }
    // What leaves keeps its own routes, so that what still runs there goes on.
    cluster.members[1].until_route(&format!("blackhole {block}"))?;
    cluster.members[2]
        .agent_command(["cleanup"])
        .succeed(Duration::from_secs(5))?;
    cluster.members[2].until_ended()?;
    let left = cluster.members[2].routes()?;
    ensure!(left.iter().all(|route| !route.contains("proto 80")), "{left:?}");
    let links = testbed::view::links(cluster.members[2].host().place())?;
    ensure!(links.iter().all(|link| link.name != "vxlan.calico"), "{links:?}");
    Ok(())
}

#[test]
fn what_others_break_is_put_right() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = two_subnets()?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let direct = cluster.members[1].blocks()?[0];
    let tunnelled = cluster.members[2].blocks()?[0];
    let member = &cluster.members[0];
    let own = member.blocks()?[0];
    let ip = testbed::peers::find_program("ip").context("no program ip")?;
    let damage = |arguments: &str| {
        testbed::Program::new(member.host().place(), &ip)
            .args(arguments.split(' '))
            .succeed(Duration::from_secs(5))
            .map(drop)
    };
    for (break_it, route) in [
        (
            format!("route del {direct}"),
            format!("{direct} via 10.1.0.12 dev eth1 proto 80"),
        ),
        (
            format!("route replace {direct} via 10.1.0.1"),
            format!("{direct} via 10.1.0.12 dev eth1 proto 80"),
        ),
        (
            format!("route del blackhole {own}"),
            format!("blackhole {own} proto 80"),
        ),
        (
            format!("route del {}", containers[0].1),
            format!("{} dev cali", containers[0].1),
        ),
        ("link del vxlan.calico".to_owned(), format!("{tunnelled} via")),
        (
            "link set vxlan.calico down".to_owned(),
            format!("{tunnelled} via"),
        ),
        (
            "addr flush dev vxlan.calico".to_owned(),
            format!("{tunnelled} via"),
        ),
    ] {
        damage(&break_it)?;
        let broken = Instant::now();
        let repaired = eventually(Duration::from_secs(5), || {
            let routes = member.routes().ok()?;
            routes
                .iter()
                .any(|found| found.starts_with(&route))
                .then_some(broken.elapsed())
        });
        let time = repaired.with_context(|| {
            format!(
                "{break_it}: not repaired\n{}\n{}",
                member.routes().unwrap_or_default().join("\n"),
                member.log()
            )
        })?;
        // A loaded machine may take longer than the 200 ms of a quiet one.
        ensure!(
            time < Duration::from_secs(2),
            "{break_it}: repaired after {time:?}"
        );
        for (_, address) in &containers[1..] {
            let reached = eventually(Duration::from_secs(3), || containers[0].0.ping(*address).ok());
            reached.with_context(|| format!("{address} after {break_it}"))?;
        }
    }
    let journal = member.ask("/v1/journal")?;
    ensure!(journal.to_string().contains("put right"), "{journal:#}");
    Ok(())
}

/// Routes that BIRD and Felix have left are taken over in place; beside a living one the agent does not start.
#[test]
fn predecessors_are_taken_over_without_a_gap_and_living_ones_respected() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = two_subnets()?;
    cluster.members[1].start()?;
    cluster.members[2].start()?;
    cluster.members[1].until_peers(1)?;
    let containers: Vec<(Container, IpAddr)> = [1, 2]
        .map(|place| -> Result<(Container, IpAddr)> {
            let container = Container::start("c")?;
            let address = cluster.members[place].add(&container)?[0];
            Ok((container, address))
        })
        .into_iter()
        .collect::<Result<_>>()?;
    let block = cluster.members[1].blocks()?[0];
    let ip = testbed::peers::find_program("ip").context("no program ip")?;
    let place = cluster.members[0].host().place().clone();
    let run = |arguments: &str| {
        testbed::Program::new(&place, &ip)
            .args(arguments.split(' '))
            .succeed(Duration::from_secs(5))
    };
    run(&format!("route add {block} via 10.1.0.12 dev eth1 proto bird"))?;
    run("route add 192.168.99.0/26 via 10.1.0.12 dev eth1 proto bird")?;
    run("route add blackhole 192.168.98.0/26 proto 80")?;
    // Another program of a rival's name, in the same place.
    let folder = tempfile::tempdir()?;
    let sleep = testbed::peers::find_program("sleep").context("no program sleep")?;
    let felix = folder.path().join("calico-felix");
    fs::copy(sleep, &felix)?;
    let rival = testbed::Program::new(&place, &felix)
        .args(["60"])
        .start(std::process::Stdio::null())?;
    let refused = cluster.members[0]
        .agent_command(["run"])
        .answer(Duration::from_secs(10))?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("calico-felix"),
        "{}",
        refused.stderr
    );
    drop(rival);
    eventually(testbed::PATIENCE, || containers[0].0.ping(containers[1].1).ok()).context("before")?;
    let (sent, lost) = lost_during(&containers[0].0, SocketAddr::new(containers[1].1, PORT), || {
        cluster.members[0].start()?;
        cluster.members[0].until_peers(2)?;
        cluster.members[0].until_route(&format!("{block} via 10.1.0.12 dev eth1 proto 80"))?;
        cluster.members[0].until_no_route("192.168.99.0/26")?;
        cluster.members[0].until_no_route("blackhole 192.168.98.0/26")
    })?;
    ensure!(lost == 0, "{lost} of {sent}");
    Ok(())
}
