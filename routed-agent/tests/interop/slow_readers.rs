// SPDX-License-Identifier: Apache-2.0
//! Tens of thousands of routes while somebody follows the changes without reading them.

use std::{
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

/// More lines than the agent keeps for a reader and the socket holds.
const LINES: u64 = 40_000;

/// A reader of the changes, and the number of the line before its first.
fn follow(agent: &Member) -> Result<(BufReader<UnixStream>, u64)> {
    let mut stream = UnixStream::connect(agent.host().folders().run().join("agent.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /v1/changes HTTP/1.0\r\nHost: agent\r\n\r\n")?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("\"begin\"") {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "no answer");
    }
    let begin: Value = serde_json::from_str(&line)?;
    Ok((lines, begin["sequence"].as_u64().context("a number")?))
}

/// Resident memory of the agent, in KiB.
fn memory(agent: &Member) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid().context("it runs")?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("VmRSS")?.parse()?)
}

/// A BIRD whose protocol `flood` has the routes once it is enabled.
fn flooder(world: &World) -> Result<Daemon> {
    let mut more = String::from("protocol static flood { disabled; ipv4;\n");
    for number in 0..ROUTES {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + number * 16);
        writeln!(more, "route {address}/28 blackhole;")?;
    }
    more.push_str("}\n");
    Daemon::start(
        world,
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
    )
}

/// Reads on from the line after `seen` to the newest; how many lines it was told it has lost.
fn catch_up(lines: &mut BufReader<UnixStream>, seen: &mut u64, newest: u64) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let mut lost = 0;
    while *seen < newest {
        let mut line = String::new();
        ensure!(
            lines.read_line(&mut line)? > 0 && Instant::now() < deadline,
            "ends at {seen} of {newest}"
        );
        let line: Value = serde_json::from_str(&line)?;
        if let Some(count) = line["lost"].as_u64() {
            (*seen, lost) = (*seen + count, lost + count);
        } else {
            *seen += 1;
            ensure!(line["sequence"] == *seen, "{line} in place of {seen}");
        }
    }
    Ok(lost)
}

/// On disk a flood is a few lines, and they say how many routes came and went.
fn assert_told_on_disk(agent: &Member, floods: u64) -> Result<()> {
    let file = fs::read_to_string(agent.host().folders().state().join("journal/routes"))?;
    let lines = file.lines().count() as u64;
    ensure!(lines < 1500 * floods, "{lines} lines on disk");
    let mut told = 0;
    for line in file.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["kind"] == "route" {
            told += line["count"].as_u64().unwrap_or(1);
        }
    }
    let passed = u64::from(ROUTES) * (2 * floods - 1);
    ensure!(
        (passed..passed + 100).contains(&told),
        "{told} of {passed} routes in {lines} lines"
    );
    Ok(())
}

#[test]
fn who_does_not_read_is_told_what_is_lost_and_holds_up_nothing() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(1, &[("CALICO_BGP_EBGP_MAX_PREFIXES", "200000")])?;
    world.start()?;
    let daemon = flooder(&world)?;
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
    // Of each flood only so many lines a second are single ones.
    let newest = || -> Result<u64> {
        let status = agent.ask("/v1/status")?;
        status["journal"]["sequence"].as_u64().context("a number")
    };
    let (deadline, mut floods) = (Instant::now() + PATIENCE, 1_u64);
    while floods < 3 || newest()? < LINES {
        ensure!(
            Instant::now() < deadline,
            "{floods} floods are {} lines",
            newest()?
        );
        bird("disable")?;
        until(0)?;
        bird("enable")?;
        until(ROUTES)?;
        floods += 1;
    }
    let grown = memory(agent)?.saturating_sub(before);
    ensure!(slowest < PROMPT, "an answer took {slowest:?}");
    // What all readers are owed is 16 times 10 MB.
    ensure!(grown < 64 * 1024, "{grown} KiB more than before");
    // Each one that begins to read is told what it has missed, and has the latest.
    let newest = newest()?;
    for (lines, seen) in &mut readers {
        let lost = catch_up(lines, seen, newest)?;
        ensure!(lost > newest / 4, "{lost} of {newest} lost");
    }
    // Nothing more comes, and no line was doubled or cut.
    let mut rest = [0; 1];
    ensure!(
        readers[0].0.read(&mut rest).is_err(),
        "more after the newest line"
    );
    assert_told_on_disk(agent, floods)?;
    let peers = agent.ask("/v1/peers")?;
    ensure!(peers["peers"][0]["counters"]["downs"] == 0, "{peers:#}");
    Ok(())
}
