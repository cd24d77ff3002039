// SPDX-License-Identifier: Apache-2.0
//! What the owner's documents show.

use anyhow::{Context as _, Result, bail, ensure};
use model::Kind;
use serde_json::json;
use testbed::{PATIENCE, Program, eventually, peers};

use crate::support::{Cluster, possible};

/// Two hosts on one subnet, which is inside the pool; no encapsulation. Routes, status and TTL as in the document.
#[test]
fn two_hosts_inside_their_own_pool() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("node1", "192.168.33.11/24", "lan0"),
            ("node2", "192.168.33.12/24", "lan0"),
        ],
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    for (place, (other, gateway)) in [(0, (1, "192.168.33.12")), (1, (0, "192.168.33.11"))] {
        let member = &cluster.members[place];
        for block in cluster.members[other].blocks()? {
            let route = member.until_route(&format!("{block} "))?;
            ensure!(route.contains(&format!("via {gateway} dev eth1")), "{route}");
        }
        for block in member.blocks()? {
            member.until_route(&format!("blackhole {block}"))?;
        }
        let address = containers[place].1;
        let own = member.until_route(&format!("{address} dev cali"))?;
        ensure!(own.contains("scope link"), "{own}");
        let status = member.agent_command(["status"]).succeed(PATIENCE)?;
        let row = status
            .lines()
            .find(|line| line.contains(gateway))
            .context("the peer is in the table")?;
        ensure!(
            row.contains("node-to-node mesh") && row.contains("| up ") && row.contains("Established"),
            "{status}"
        );
        // Where the document's readers look for logs.
        let log =
            |name: &str| std::fs::read_to_string(member.host().folders().log().join(name).join("current"));
        let (felix, bird) = (log("felix")?, log("bird")?);
        ensure!(
            bird.contains("Established") && !felix.contains("Established"),
            "{bird}"
        );
        ensure!(felix.contains(&format!("node {} has", member.name())), "{felix}");
        // The hosts still have their own subnet, which is inside the pool.
        let ground = member.until_route("192.168.33.0/24")?;
        ensure!(
            ground.contains("dev eth1") && ground.contains("proto kernel"),
            "{ground}"
        );
    }
    // Levels change while it runs.
    ensure!(
        !cluster.members[1].log().contains("[DEBUG]"),
        "no debugging unless asked for"
    );
    cluster.apply(
        Kind::FelixConfiguration,
        "default",
        &json!({ "logSeverityScreen": "Debug" }),
    )?;
    // By Calico's rule the second one dials.
    let [other, member] = cluster.members.as_mut_slice() else {
        bail!("two hosts");
    };
    member.until("/v1/journal", |journal| {
        journal.to_string().contains("log_severity_screen has changed")
    })?;
    other.end(nix::sys::signal::Signal::SIGTERM)?;
    eventually(PATIENCE, || member.log().contains("[DEBUG]").then_some(()))
        .context("debugging after it was asked for")?;
    let ping = peers::find_program("ping").context("no program ping")?;
    let answer = Program::new(containers[0].0.place(), ping)
        .args(["-c", "1", "-W", "2", &containers[1].1.to_string()])
        .succeed(PATIENCE)?;
    ensure!(answer.contains("ttl=62"), "{answer}");
    Ok(())
}

/// Three hosts in two subnets: direct inside, VXLAN across the router, as the pool says; then the pool changes.
#[test]
fn vxlan_across_subnets_and_direct_within() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
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
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let near = &cluster.members[1].blocks()?[0];
    let far = &cluster.members[2].blocks()?[0];
    let member = &cluster.members[0];
    let direct = member.until_route(&format!("{near} "))?;
    ensure!(direct.contains("via 10.1.0.12 dev eth1"), "{direct}");
    let tunnelled = member.until_route(&format!("{far} "))?;
    ensure!(tunnelled.contains("dev vxlan.calico"), "{tunnelled}");
    let explained = member
        .agent_command([
            "explain",
            "--from",
            &containers[0].1.to_string(),
            "--to",
            &containers[2].1.to_string(),
        ])
        .succeed(PATIENCE)?;
    for words in [
        "10.2.0.13 of node node3 is outside 10.1.0.0/24 of 10.1.0.11/24",
        "MTU           1450",
        "outer header  10.1.0.11 -> 10.2.0.13, VXLAN 4096 over UDP port 4789",
    ] {
        ensure!(explained.contains(words), "{words:?} in:\n{explained}");
    }
    let mtu = std::fs::read_to_string(member.host().folders().state().join("mtu"))?;
    ensure!(mtu.trim() == "1450", "{mtu}");
    Ok(())
}
