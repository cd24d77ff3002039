// SPDX-License-Identifier: Apache-2.0
//! What an agent says of changes as they happen, and afterwards; also when it has been restarted in between.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::IpAddr,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use model::Kind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{Container, PATIENCE, Program, cluster::Member, eventually, peers};

use crate::support::{Cluster, possible};

/// The stream of an agent's changes.
struct Changes {
    lines: BufReader<UnixStream>,
    seen: Vec<Value>,
}

impl Changes {
    fn of(member: &Member, parameters: &str) -> Result<Self> {
        let socket = member.host().folders().run().join("agent.sock");
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /v1/changes{parameters} HTTP/1.0\r\nHost: agent\r\n\r\n"
        )?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            ensure!(lines.read_line(&mut line)? > 0, "no answer");
        }
        let mut changes = Self {
            lines,
            seen: Vec::new(),
        };
        let begin = changes.next()?;
        ensure!(begin["kind"] == "begin" && begin["sequence"].is_u64(), "{begin}");
        Ok(changes)
    }

    fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.lines.read_line(&mut line)? > 0, "the stream has ended");
        Ok(serde_json::from_str(&line)?)
    }

    /// Reads on until a line is as wanted.
    fn until(&mut self, kind: &str, change: &str, object: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(line) = self.next() else { break };
            self.seen.push(line.clone());
            let fits = |name: &str, wanted: &str| line[name] == wanted;
            if fits("kind", kind) && fits("change", change) && fits("object", object) {
                ensure!(
                    line["time"].as_str().is_some_and(|time| time.ends_with('Z')),
                    "{line}"
                );
                return Ok(line);
            }
        }
        bail!("no {kind} {change} {object} in {:#?}", self.seen)
    }
}

fn pair() -> Result<(Cluster, Vec<(Container, IpAddr)>)> {
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    Ok((cluster, containers))
}

fn ip(member: &Member, arguments: &str) -> Result<String> {
    let ip = peers::find_program("ip").context("no program ip")?;
    Program::new(member.host().place(), ip)
        .args(arguments.split(' '))
        .succeed(PATIENCE)
}

#[test]
fn each_change_has_its_line_with_time_object_and_cause() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (mut cluster, containers) = pair()?;
    let block = cluster.members[1].blocks()?[0];
    cluster.members[0].until_route(&format!("{block} "))?;
    let mut changes = Changes::of(&cluster.members[0], "")?;
    // Somebody deletes a route.
    ip(&cluster.members[0], &format!("route del {block}"))?;
    let line = changes.until("repair", "repaired", &block.to_string())?;
    ensure!(
        line["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("put right")),
        "{line}"
    );
    // The other agent pauses and comes back: nothing of its routes changes.
    cluster.members[1].end(Signal::SIGTERM)?;
    let down = changes.until("session", "down", "Mesh_10_1_0_12")?;
    ensure!(down["peer"] == "10.1.0.12", "{down}");
    ensure!(
        down["cause"].as_str().is_some_and(|cause| cause.contains("kept")),
        "{down}"
    );
    cluster.members[1].start()?;
    changes.until("session", "up", "Mesh_10_1_0_12")?;
    changes.until("session", "complete", "Mesh_10_1_0_12")?;
    let lost = |line: &&Value| line["kind"] == "route" && line["change"] == "withdrawn";
    ensure!(
        !changes.seen.iter().any(|line| lost(&line)),
        "{:#?}",
        changes.seen
    );
    // It leaves: its routes go, and it is said why.
    cluster.members[1].agent_command(["leave"]).succeed(PATIENCE)?;
    cluster.members[1].until_ended()?;
    let gone = changes.until("selection", "withdrawn", &block.to_string())?;
    let route = changes.until("route", "withdrawn", &block.to_string())?;
    for line in [&gone, &route] {
        let cause = line["cause"].as_str().unwrap_or_default();
        ensure!(
            line["peer"] == "10.1.0.12" && cause.contains("Mesh_10_1_0_12"),
            "{line}"
        );
    }
    cluster.members[1].start()?;
    let line = changes.until("selection", "added", &block.to_string())?;
    ensure!(
        line["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("next hop 10.1.0.12")),
        "{line}"
    );
    changes.until("route", "added", &block.to_string())?;
    drop(containers);
    Ok(())
}

#[test]
fn the_journal_outlives_the_agent_and_answers_since_when_and_why() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (mut cluster, _containers) = pair()?;
    let block = cluster.members[1].blocks()?[0];
    cluster.members[0].until_route(&format!("{block} "))?;
    let journal = |member: &Member, arguments: &str| -> Result<String> {
        let all: Vec<&str> = std::iter::once("journal")
            .chain(arguments.split(' ').filter(|word| !word.is_empty()))
            .collect();
        member.agent_command(all).succeed(PATIENCE)
    };
    let about = format!("--prefix {block} --kind route");
    let added = format!("added      {block} [10.1.0.12]");
    let found = eventually(PATIENCE, || {
        let text = journal(&cluster.members[0], &about).ok()?;
        text.contains(&added).then_some(text)
    });
    let before = found.context("the route is in the journal")?;
    // The other's container's own block is another prefix.
    let others: Vec<IpNet> = cluster.members[0].blocks()?;
    ensure!(!before.contains(&others[0].to_string()), "{before}");
    cluster.members[0].end(Signal::SIGKILL)?;
    // As if the machine had died while it wrote.
    let file = cluster.members[0].host().folders().state().join("journal/routes");
    let mut torn = fs::read(&file)?;
    torn.extend_from_slice(b"{\"sequence\":77,\"time\":\"2026-0");
    fs::write(&file, torn)?;
    cluster.members[0].start()?;
    cluster.members[0].until_peers(1)?;
    let after = journal(&cluster.members[0], &about)?;
    ensure!(after.starts_with(&before), "before: {before}\nafter: {after}");
    let status = cluster.members[0].ask("/v1/status")?;
    ensure!(status["journal"]["unreadable"] == 1, "{:#}", status["journal"]);
    ensure!(status["journal"]["unwritten"] == 0, "{:#}", status["journal"]);
    let sessions = journal(&cluster.members[0], "--peer 10.1.0.12 --kind session --since 1h")?;
    ensure!(sessions.matches(" up ").count() == 2, "{sessions}");
    let json = journal(&cluster.members[0], "--kind session --limit 1 --output json")?;
    let json: Value = serde_json::from_str(&json)?;
    ensure!(
        json["journal"].as_array().is_some_and(|lines| lines.len() == 1),
        "{json:#}"
    );
    ensure!(
        json["leftOut"].as_u64().is_some_and(|count| count > 1),
        "{json:#}"
    );
    let refused = cluster.members[0]
        .agent_command(["journal", "--since", "soon"])
        .answer(PATIENCE)?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("10m"),
        "{}",
        refused.stderr
    );
    Ok(())
}

#[test]
fn the_command_prints_changes_and_readers_are_bounded() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (cluster, _containers) = pair()?;
    let member = &cluster.members[0];
    let block = cluster.members[1].blocks()?[0];
    member.until_route(&format!("{block} "))?;
    let mut watch = member
        .agent_command(["watch", "--kind", "repair"])
        .start(std::process::Stdio::inherit())?;
    member.until("/v1/status", |status| status["journal"]["readers"] == 1)?;
    ensure!(watch.wait_for_line(PATIENCE)?.contains("changes after number"));
    let mut readers = Vec::new();
    for _ in 1..16 {
        readers.push(Changes::of(member, "")?);
    }
    let refused = member.agent_command(["watch"]).answer(PATIENCE)?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("16 readers"),
        "{}",
        refused.stderr
    );
    // Places become free when readers go.
    drop(readers);
    drop(watch);
    member.until("/v1/status", |status| status["journal"]["readers"] == 0)?;
    Ok(())
}

/// `watch` with its output in a file, since a test can wait for one line of a pipe only.
#[test]
fn the_command_prints_a_repair() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (cluster, _containers) = pair()?;
    let member = &cluster.members[0];
    let block = cluster.members[1].blocks()?[0];
    member.until_route(&format!("{block} "))?;
    let file = cluster.folder().join("watched");
    let agent = testbed::binaries::agent()?;
    let socket = member.host().folders().run();
    let _watch = Program::new(member.host().place(), "/bin/sh")
        .args(["-c", "exec \"$0\" watch --output json --prefix \"$1\" >\"$2\""])
        .args([agent.as_os_str(), block.to_string().as_ref(), file.as_os_str()])
        .env("CALICO_RUN_DIR", socket)
        .start(std::process::Stdio::inherit())?;
    member.until("/v1/status", |status| status["journal"]["readers"] == 1)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    ip(member, &format!("route del {block}"))?;
    let mut text = String::new();
    while !text.contains("\"kind\":\"repair\",\"change\":\"repaired\"") {
        ensure!(Instant::now() < deadline, "{text}");
        std::thread::yield_now();
        text = fs::read_to_string(&file)?;
    }
    Ok(())
}

#[test]
fn devices_far_ends_and_the_firewall_have_lines_too() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_VXLAN", "Always"),
        ],
    )?;
    cluster.start()?;
    let _containers = cluster.containers()?;
    let block = cluster.members[1].blocks()?[0];
    let wanted = [
        ("device", "added", "vxlan.calico".to_owned()),
        ("encapsulation", "added", "10.1.0.12 by vxlan.calico".to_owned()),
        ("firewall", "added", "table inet calico".to_owned()),
        ("route", "added", block.to_string()),
    ];
    cluster.members[0].until("/v1/journal", |answer| {
        let lines = answer["journal"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let is_there = |(kind, change, object): &(&str, &str, String)| {
            let fits = |line: &Value| {
                line["kind"] == *kind && line["change"] == *change && line["object"] == *object
            };
            lines.iter().any(fits)
        };
        wanted.iter().all(is_there)
    })?;
    // A route that the store decides names no peer.
    let about = cluster.members[0].ask(&format!("/v1/journal?kind=route&prefix={block}"))?;
    ensure!(about["journal"][0]["peer"].is_null(), "{about:#}");
    let mut changes = Changes::of(&cluster.members[0], "?kind=device")?;
    cluster.apply(
        Kind::IpPool,
        "default-ipv4-ippool",
        &json!({ "cidr": "192.168.0.0/16", "vxlanMode": "Never", "ipipMode": "Never" }),
    )?;
    let gone = changes.until("device", "withdrawn", "vxlan.calico")?;
    ensure!(gone["cause"].is_string(), "{gone}");
    Ok(())
}
