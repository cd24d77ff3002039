// SPDX-License-Identifier: Apache-2.0
//! Tens of thousands of routes while somebody follows the changes without reading them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::{Value, json};
use testbed::{PATIENCE, cluster::Member, eventually};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    world::{World, v4},
};

const ROUTES: u32 = 30_000;
/// A status may take so long.
const PROMPT: Duration = Duration::from_secs(1);

fn follow(agent: &Member) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(agent.host().folders().run().join("agent.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /v1/changes HTTP/1.0\r\nHost: agent\r\n\r\n")?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("\"begin\"") {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "no answer");
    }
    Ok(lines)
}

/// Resident memory of the agent, in KiB.
fn memory(agent: &Member) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid().context("it runs")?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("VmRSS")?.parse()?)
}

#[test]
fn who_does_not_read_is_told_what_is_lost_and_holds_up_nothing() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(1, &[("CALICO_BGP_EBGP_MAX_PREFIXES", "200000")])?;
    let mut more = String::from("protocol static flood { disabled; ipv4;\n");
    for number in 0..ROUTES {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + number * 16);
        writeln!(more, "route {address}/28 blackhole;")?;
    }
    more.push_str("}\n");
    world.start()?;
    let daemon = Daemon::start(
        &world,
        Make::Bird,
        Setup {
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
            more,
        },
    )?;
    world.apply(
        Kind::BgpPeer,
        "flood",
        &json!({ "peerIP": v4(2).to_string(), "asNumber": 64600 }),
    )?;
    let agent = &world.agents[0];
    agent.until_peers(1)?;
    // All places are taken by readers that do not read.
    let mut readers = (0..16).map(|_| follow(agent)).collect::<Result<Vec<_>>>()?;
    let bird = |what: &str| {
        daemon
            .site
            .ask("birdc", &["-s", &daemon.site.file("ctl"), what, "flood"])
    };
    let mut slowest = Duration::ZERO;
    let mut until = |count: u32| -> Result<()> {
        let reached = eventually(3 * SOON, || {
            let began = Instant::now();
            let status = agent.ask("/v1/status").ok();
            slowest = slowest.max(began.elapsed());
            let in_kernel = agent.routes().ok()?;
            let in_kernel = in_kernel.iter().filter(|route| route.starts_with("20.")).count();
            let planned = status?["routes"]["bgp"] == count;
            (planned && in_kernel == count as usize).then_some(())
        });
        reached.with_context(|| format!("not {count} routes: {}", agent.log()))
    };
    bird("enable")?;
    until(ROUTES)?;
    let before = memory(agent)?;
    for _ in 0..2 {
        bird("disable")?;
        until(0)?;
        bird("enable")?;
        until(ROUTES)?;
    }
    let grown = memory(agent)?.saturating_sub(before);
    ensure!(slowest < PROMPT, "an answer took {slowest:?}");
    // Some 300,000 lines have passed. What all readers are owed is 16 times 70 MB.
    ensure!(grown < 64 * 1024, "{grown} KiB more than before");
    // Each one that begins to read is told what it has missed, and has the latest.
    let newest = agent.ask("/v1/status")?["journal"]["sequence"].clone();
    for lines in &mut readers {
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut line = String::new();
            ensure!(
                lines.read_line(&mut line)? > 0 && Instant::now() < deadline,
                "{kinds:?}"
            );
            let line: Value = serde_json::from_str(&line)?;
            let count = line["lost"].as_u64().unwrap_or(1);
            *kinds.entry(line["kind"].to_string()).or_default() += count;
            if line["sequence"] == newest {
                break;
            }
        }
        ensure!(
            kinds.get("\"lost\"").is_some_and(|count| *count > 100_000),
            "{kinds:?}"
        );
    }
    // Nothing more comes, and no line was doubled or cut.
    let mut rest = [0; 1];
    ensure!(readers[0].read(&mut rest).is_err(), "more after the newest line");
    // On disk, four floods are a few lines each.
    let file = agent.host().folders().state().join("journal/routes");
    let lines = fs::read_to_string(file)?.lines().count();
    ensure!(lines < 5000, "{lines} lines on disk");
    let peers = agent.ask("/v1/peers")?;
    ensure!(peers["peers"][0]["counters"]["downs"] == 0, "{peers:#}");
    Ok(())
}
