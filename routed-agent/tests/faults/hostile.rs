// SPDX-License-Identifier: Apache-2.0
//! Peers whose messages are right and whose routes are not: too many, too fast, the agent's own, and ones that would cut
//! the host off.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::{
    polite::{until, until_row},
    stage::{AGENT_AS, AS, HOSTILE, Stage, offer},
    wire::{
        Line, OPTIONAL, Offer, announce, as_path, attribute, next_hop, numbered, origin, prefixes, update,
        v4net, withdraw,
    },
    world::v4,
};

/// An answer of the agent's may take so long while it is busy.
const SLOWEST: Duration = Duration::from_secs(1);

/// Memory in use by the agent, in bytes.
fn memory(stage: &Stage) -> Result<u64> {
    let pid = stage.agent().pid().context("the agent runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("VmRSS")?
        .parse()?;
    Ok(kibibytes * 1024)
}

/// Sends while the agent is asked for its status all the time and the well-behaved peer looked at; the slowest answer.
fn while_asked(
    stage: &Stage,
    line: &mut Line,
    send: impl FnOnce(&mut Line) -> Result<()> + Send,
) -> Result<Duration> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = send(line);
            done.store(true, Ordering::Relaxed);
            sent
        });
        let mut slowest = Duration::ZERO;
        while !done.load(Ordering::Relaxed) {
            let begun = Instant::now();
            stage.agent().ask("/v1/status")?;
            slowest = slowest.max(begun.elapsed());
            stage.unharmed()?;
        }
        sending
            .join()
            .map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        Ok(slowest)
    })
}

/// The same few prefixes over and over, each time with other attributes.
#[test]
fn a_flood_of_updates_costs_neither_peers_nor_memory() -> Result<()> {
    const UPDATES: u32 = 100_000;
    const PREFIXES: u32 = 500;
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let mut line = stage.establish(&offer())?;
    let flood = |line: &mut Line, first: u32, count: u32| -> Result<()> {
        let mut bytes = Vec::new();
        for number in first..first + count {
            let prefix = numbered([20, 8, 0, 0], number % PREFIXES);
            if number % 3 == 0 {
                bytes.extend(withdraw(&[prefix]));
            } else {
                bytes.extend(announce(&[AS, number + 1], v4(HOSTILE), &[prefix]));
            }
            if bytes.len() > 60_000 {
                line.send(&bytes)?;
                bytes.clear();
            }
        }
        line.send(&bytes)
    };
    // What the first tenth takes is what there is to take.
    let arrived = |stage: &Stage, count: u32| {
        until_row(stage.agent(), HOSTILE, |row| {
            row["counters"]["updatesIn"] == count
        })
        .map(drop)
    };
    flood(&mut line, 0, UPDATES / 10)?;
    arrived(&stage, UPDATES / 10)?;
    let before = memory(&stage)?;
    let slowest = while_asked(&stage, &mut line, |line| {
        flood(line, UPDATES / 10, UPDATES - UPDATES / 10)
    })?;
    arrived(&stage, UPDATES)?;
    ensure!(slowest < SLOWEST, "an answer took {slowest:?}");
    let after = memory(&stage)?;
    ensure!(
        after < before + (32 << 20),
        "memory has grown from {before} to {after} bytes"
    );
    stage.unharmed()?;
    // What was said last holds.
    let last = announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]);
    line.send(&last)?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    let wanted = (UPDATES - PREFIXES..UPDATES)
        .filter(|number| number % 3 != 0)
        .count();
    let count = || -> Result<usize> {
        let routes = stage.agent().routes()?;
        Ok(routes.iter().filter(|route| route.starts_with("20.8.")).count())
    };
    until(stage.agent(), "routes are left or missing", || {
        (count().ok()? == wanted).then_some(())
    })?;
    drop(line);
    until(stage.agent(), "routes are left", || {
        (count().ok()? == 0).then_some(())
    })?;
    stage.unharmed()
}

/// More prefixes than a peer may have end its session, and it does not come back at once.
#[test]
fn a_flood_of_prefixes_ends_at_the_limit() -> Result<()> {
    const LIMIT: u32 = 20_000;
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let mut line = stage.establish(&offer())?;
    let slowest = while_asked(&stage, &mut line, |line| {
        for first in (0..100_000).step_by(500) {
            let list: Vec<Ipv4Net> = (first..first + 500)
                .map(|number| numbered([30, 0, 0, 0], number))
                .collect();
            if line.send(&announce(&[AS], v4(HOSTILE), &list)).is_err() {
                // It has had enough.
                break;
            }
        }
        Ok(())
    })?;
    ensure!(slowest < SLOWEST, "an answer took {slowest:?}");
    let row = until_row(stage.agent(), HOSTILE, |row| row["session"] != "Established")?;
    ensure!(row["lastDown"]["reason"].to_string().contains("6/1"), "{row:#}");
    ensure!(
        row["counters"]["announcedIn"]
            .as_u64()
            .is_some_and(|count| count <= u64::from(LIMIT) + 500),
        "{row:#}"
    );
    // What had come with the one too many is not kept either.
    ensure!(
        row["families"][0]["received"].as_u64().unwrap_or_default() == 0,
        "{row:#}"
    );
    until(stage.agent(), "routes are left", || {
        let routes = stage.agent().routes().ok()?;
        (!routes.iter().any(|route| route.starts_with("30."))).then_some(())
    })?;
    let mut again = stage.dial()?;
    let refusal = again.refusal(SLOWEST)?;
    ensure!((refusal.code, refusal.subcode) == (6, 5), "{refusal:?}");
    stage.unharmed()
}

/// What the agent says of the paths to a prefix by the hostile peer.
fn paths(stage: &Stage, prefix: &str) -> Result<Vec<Value>> {
    let answer = stage.agent().ask(&format!("/v1/routes?prefix={prefix}"))?;
    let all = answer["routes"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|path| path["peer"] != "own").collect())
}

/// The routes of the agent's host through the hostile peer.
fn through_hostile(stage: &Stage) -> Result<Vec<String>> {
    let routes = stage.agent().routes()?;
    let through = format!("via {}", v4(HOSTILE));
    Ok(routes
        .into_iter()
        .filter(|route| route.contains(&through))
        .collect())
}

#[test]
fn the_agents_own_routes_and_as_do_not_come_back() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let own = stage.agent().blocks()?.into_iter().find_map(|block| match block {
        ipnet::IpNet::V4(block) => Some(block),
        ipnet::IpNet::V6(_) => None,
    });
    let own = own.context("an IPv4 block")?;
    let mut line = stage.establish(&offer())?;
    // The own AS anywhere in the path; the own address as the next hop; addresses that are nobody's.
    let hops = [[10, 1, 0, 11], [127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1]];
    for (number, path) in [&[AS, AGENT_AS][..], &[AS, 1, AGENT_AS, 2]]
        .into_iter()
        .enumerate()
    {
        line.send(&announce(
            path,
            v4(HOSTILE),
            &[numbered([20, 3, 0, 0], u32::try_from(number)?)],
        ))?;
    }
    for (number, hop) in (2..).zip(hops) {
        line.send(&announce(&[AS], hop.into(), &[numbered([20, 3, 0, 0], number)]))?;
    }
    line.send(&announce(&[AS, AGENT_AS], v4(HOSTILE), &[own]))?;
    // Prefixes that lead nowhere, whoever says so.
    let nowhere = [
        "127.0.0.0/8",
        "224.0.0.0/4",
        "239.1.0.0/16",
        "0.0.0.0/8",
        "240.0.0.0/4",
        "255.255.255.255/32",
    ];
    let list: Vec<Ipv4Net> = nowhere.map(v4net).into();
    line.send(&announce(&[AS], v4(HOSTILE), &list))?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    let mut all: Vec<String> = (0..6)
        .map(|number| numbered([20, 3, 0, 0], number).to_string())
        .collect();
    all.extend(nowhere.map(str::to_owned));
    all.push(own.to_string());
    for prefix in &all {
        let found = paths(&stage, prefix)?;
        ensure!(
            found.len() == 1 && found[0]["refused"] == true && found[0]["used"] == false,
            "{prefix}: {found:#?}"
        );
    }
    let row = stage.row()?;
    ensure!(
        row["session"] == "Established" && row["families"][0]["refused"] == all.len(),
        "{row:#}"
    );
    let through = through_hostile(&stage)?;
    ensure!(through.len() == 1, "{through:#?}");
    stage.agent().until_route(&format!("blackhole {own}"))?;
    stage.unharmed()
}

/// An internal peer that reflects what the agent has said.
#[test]
fn reflected_own_routes_are_ignored() -> Result<()> {
    let Some(stage) = Stage::with_peer_as(AGENT_AS, &[])? else {
        return Ok(());
    };
    let mut line = stage.establish(&Offer::new(AGENT_AS, 90, [10, 1, 0, HOSTILE]))?;
    let status = stage.agent().ask("/v1/status")?;
    let identifier: std::net::Ipv4Addr = serde_json::from_value(status["identifier"].clone())?;
    let originator = attribute(OPTIONAL, 9, &identifier.octets());
    let cluster = attribute(OPTIONAL, 10, &[10, 1, 0, HOSTILE]);
    let attributes = [origin(), as_path(&[]), next_hop(v4(HOSTILE)), originator, cluster];
    line.send(&update(
        &[],
        &attributes.concat(),
        &prefixes(&[v4net("20.3.0.0/28")]),
    ))?;
    line.send(&announce(&[], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    let found = paths(&stage, "20.3.0.0/28")?;
    ensure!(found.len() == 1 && found[0]["refused"] == true, "{found:#?}");
    ensure!(
        through_hostile(&stage)?.len() == 1,
        "{:#?}",
        through_hostile(&stage)?
    );
    stage.unharmed()
}

/// Routes that would take away what the host depends on are refused with a reason; what stood before stays.
#[test]
fn routes_that_would_cut_the_host_off_are_refused_with_a_reason() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    stage.run("ip", "route add default via 10.1.0.1")?;
    stage.run("ip", "route add 172.30.0.0/16 via 10.1.0.1")?;
    let own = stage
        .agent()
        .blocks()?
        .into_iter()
        .find(|block| block.addr().is_ipv4());
    let own = own.context("an IPv4 block")?;
    let inside = ipnet::IpNet::new(own.addr(), 30)?;
    let container = ipnet::IpNet::from(own.hosts().nth(1).context("an address")?);
    let before = stage.agent().routes()?;
    let cases = [
        (own.to_string(), "overlaps-own-block"),
        (inside.to_string(), "overlaps-own-block"),
        (container.to_string(), "overlaps-own-block"),
        // Own address, gateway, peers.
        ("10.1.0.11/32".to_owned(), "covers-needed-address"),
        ("10.1.0.1/32".to_owned(), "covers-needed-address"),
        ("10.1.0.0/25".to_owned(), "covers-needed-address"),
        ("10.1.0.2/32".to_owned(), "covers-needed-address"),
        ("10.1.0.2/31".to_owned(), "covers-needed-address"),
        // What is there already.
        ("10.1.0.0/24".to_owned(), "covers-needed-address"),
        ("172.30.0.0/16".to_owned(), "foreign-route"),
        ("0.0.0.0/0".to_owned(), "covers-needed-address"),
    ];
    let mut line = stage.establish(&offer())?;
    let list: Vec<Ipv4Net> = cases.iter().map(|(prefix, _)| v4net(prefix)).collect();
    line.send(&announce(&[AS], v4(HOSTILE), &list))?;
    for (prefix, code) in &cases {
        for path in ["/v1/status", "/v1/plan"] {
            let answer = stage.agent().until(path, |answer| {
                let list = if path == "/v1/plan" {
                    &answer["refused"]
                } else {
                    &answer["routes"]["refused"]
                };
                let found = |row: &Value| row["prefix"] == prefix.as_str();
                list.as_array().is_some_and(|list| list.iter().any(found))
            });
            let answer = answer.with_context(|| prefix.clone())?;
            let list = if path == "/v1/plan" {
                &answer["refused"]
            } else {
                &answer["routes"]["refused"]
            };
            let row = list
                .as_array()
                .and_then(|list| list.iter().find(|row| row["prefix"] == prefix.as_str()));
            let row = row.context("a row")?;
            ensure!(
                row["code"] == *code && row["text"].as_str().is_some_and(|text| !text.is_empty()),
                "{prefix} on {path}: {row:#} instead of {code}"
            );
        }
    }
    let through = through_hostile(&stage)?;
    ensure!(through.is_empty(), "{through:#?}");
    for route in &before {
        ensure!(stage.agent().routes()?.contains(route), "{route} is gone");
    }
    stage.unharmed()?;
    // Taken back, they are not listed any more.
    line.send(&withdraw(&list))?;
    stage.agent().until("/v1/status", |status| {
        status["routes"]["refused"].as_array().is_some_and(Vec::is_empty)
    })?;
    stage.unharmed()
}
