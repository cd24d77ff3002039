// SPDX-License-Identifier: Apache-2.0
//! A real dockerd and a real firewalld on the host of an agent: what they drop is answered, or reported until the
//! administrator has accepted it, and nothing is left of it afterwards.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{
    Container, PATIENCE, Program, SeparateRoot,
    distribution::Unpacked,
    dockerd::{self, DOCKERD, Dockerd},
    eventually,
    firewalld::{self, FIREWALLD, Firewalld},
    peers,
};

use crate::support::{Cluster, answers};

/// How long packets may get lost after somebody has changed a firewall.
const SOON: Duration = Duration::from_secs(5);
/// Readiness code while firewalld rejects.
const FIREWALLD_CODE: &str = "forward-dropped-by-inet-firewalld";
/// How firewalld is told to accept what comes from and goes to containers, as `docs/operations.md` has it.
const ACCEPTING: [&str; 6] = [
    "--permanent --zone=trusted --add-interface=cali+",
    "--permanent --new-policy=containers",
    "--permanent --policy=containers --set-target=ACCEPT",
    "--permanent --policy=containers --add-ingress-zone=ANY",
    "--permanent --policy=containers --add-egress-zone=trusted",
    "--reload",
];

/// Hosts on a subnet, of which the first one has a place with programs of others; nothing runs yet.
fn cluster(others: &[Unpacked]) -> Result<Option<(Cluster, SeparateRoot)>> {
    let mut folders = Vec::new();
    for program in others {
        let Some(folder) = program.available() else {
            return Ok(None);
        };
        folders.push(folder);
    }
    let cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )?;
    let root = SeparateRoot::on(cluster.members[0].host(), &folders)?;
    Ok(Some((cluster, root)))
}

/// What a program prints on the host of the daemons.
fn run(cluster: &Cluster, program: &str, arguments: &str) -> Result<String> {
    let path = peers::find_program(program).with_context(|| format!("no program {program}"))?;
    Program::new(cluster.members[0].host().place(), path)
        .args(arguments.split(' '))
        .succeed(PATIENCE)
}

/// Waits until containers reach each other, each having been the first to speak.
fn until_reachable(cluster: &Cluster, containers: &[(Container, IpAddr)], when: &str) -> Result<()> {
    let [(one, first), (other, second)] = containers else {
        anyhow::bail!("two containers")
    };
    let reachable = eventually(SOON, || {
        answers(one, *second).ok()?;
        answers(other, *first).ok()
    });
    reachable.with_context(|| {
        let rules = run(cluster, "nft", "list ruleset").unwrap_or_default();
        format!("{when}: {rules}\n{}", cluster.members[0].log())
    })?;
    Ok(())
}

/// Waits until the agent beside the daemons says that it is ready, or that it is not for a certain reason.
fn until_ready(cluster: &Cluster, unless: Option<&str>) -> Result<()> {
    cluster.members[0].until("/readyz", |ready| match unless {
        Some(code) => ready["reasons"].to_string().contains(code),
        None => ready["ready"] == true,
    })?;
    Ok(())
}

/// Waits until the journal beside the daemons has a line that contains this.
fn until_noted(cluster: &Cluster, text: &str) -> Result<()> {
    let lines = |journal: &Value| journal.to_string().contains(text);
    cluster.members[0].until("/v1/journal", lines)?;
    Ok(())
}

/// Cleans up, after which neither `iptables` nor `nft` has anything of the agent.
fn assert_cleaned_up(cluster: &mut Cluster) -> Result<()> {
    cluster.members[0].agent_command(["cleanup"]).succeed(PATIENCE)?;
    cluster.members[0].until_ended()?;
    for (program, arguments) in [("iptables", "-S"), ("ip6tables", "-S"), ("nft", "list ruleset")] {
        let left = run(cluster, program, arguments)?;
        ensure!(
            !left.contains("calico") && !left.contains("cali+") && !left.contains("\"cali*\""),
            "{left}"
        );
    }
    Ok(())
}

#[test]
fn containers_reach_each_other_beside_dockerd() -> Result<()> {
    if !peers::available(&dockerd::NEEDS) {
        return Ok(());
    }
    let Some((mut cluster, root)) = cluster(&[DOCKERD])? else {
        return Ok(());
    };
    // As at a boot: dockerd is first, switches forwarding on, and drops by policy.
    let mut dockerd = Dockerd::start(&root)?;
    let rules = run(&cluster, "iptables", "-S")?;
    ensure!(
        rules.contains("-P FORWARD DROP") && rules.contains("-A FORWARD -j DOCKER-USER"),
        "{rules}"
    );
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let answered = "chain FORWARD of table ip filter drops forwarded packets; iptables accepts those from and to containers in DOCKER-USER";
    until_noted(&cluster, answered)?;
    cluster.members[0].until("/v1/status", |status| {
        status["answeredDrops"]["ip filter"] == answered
    })?;
    let said = cluster.members[0].agent_command(["status"]).succeed(PATIENCE)?;
    ensure!(said.contains(&format!("ANSWERED: {answered}")), "{said}");
    until_ready(&cluster, None)?;
    for round in 0..3 {
        dockerd.restart()?;
        until_reachable(
            &cluster,
            &containers,
            &format!("after restart {round} of dockerd"),
        )?;
        let rules = run(&cluster, "iptables", "-S DOCKER-USER")?;
        for side in ["-i", "-o"] {
            let rule = format!("-A DOCKER-USER {side} cali+ -m comment --comment calico -j ACCEPT");
            ensure!(rules.matches(&rule).count() == 1, "{rules}");
        }
    }
    // As an old dockerd, or a script of the administrator's, does.
    for damage in ["-F DOCKER-USER", "-F FORWARD"] {
        run(&cluster, "iptables", damage)?;
        dockerd.restart()?;
        until_reachable(&cluster, &containers, &format!("iptables {damage}"))?;
    }
    until_noted(&cluster, "rules of iptables in DOCKER-USER for containers")?;
    // The agent goes and comes beside it.
    cluster.members[0].end(Signal::SIGKILL)?;
    dockerd.restart()?;
    containers[0].0.ping(containers[1].1)?;
    cluster.members[0].start()?;
    cluster.members[0].until_peers(1)?;
    until_reachable(&cluster, &containers, "after a death of the agent")?;
    dockerd.stop()?;
    until_reachable(&cluster, &containers, "after the end of dockerd")?;
    assert_cleaned_up(&mut cluster)?;
    let left = run(&cluster, "iptables", "-S")?;
    ensure!(
        left.contains("-P FORWARD DROP") && left.contains("-A DOCKER-USER -j RETURN"),
        "{left}"
    );
    Ok(())
}

#[test]
fn what_firewalld_rejects_is_reported_until_it_is_told_to_accept() -> Result<()> {
    if !peers::available(&firewalld::NEEDS) {
        return Ok(());
    }
    let Some((mut cluster, root)) = cluster(&[FIREWALLD])? else {
        return Ok(());
    };
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    until_ready(&cluster, None)?;
    let mut firewalld = Firewalld::start(&root)?;
    until_ready(&cluster, Some(FIREWALLD_CODE))?;
    until_noted(&cluster, FIREWALLD_CODE)?;
    cluster.members[0].until("/v1/status", |status| {
        status["failures"][FIREWALLD_CODE].is_string()
    })?;
    // It is true.
    for (from, to) in [(0, 1), (1, 0)] {
        let answer = answers(&containers[from].0, containers[to].1);
        ensure!(answer.is_err(), "{answer:?}");
    }
    // Accepting one direction is not enough.
    firewalld.command("--zone=trusted --add-interface=cali+")?;
    until_ready(&cluster, Some(FIREWALLD_CODE))?;
    let answer = answers(&containers[1].0, containers[0].1);
    ensure!(answer.is_err(), "{answer:?}");
    for command in ACCEPTING {
        firewalld.command(command)?;
    }
    until_reachable(&cluster, &containers, "after accepting")?;
    until_ready(&cluster, None)?;
    firewalld.command("--reload")?;
    until_reachable(&cluster, &containers, "after a reload")?;
    firewalld.restart()?;
    until_reachable(&cluster, &containers, "after a restart of firewalld")?;
    until_ready(&cluster, None)?;
    cluster.members[0].until_peers(1)?;
    firewalld.stop()?;
    until_reachable(&cluster, &containers, "after the end of firewalld")?;
    assert_cleaned_up(&mut cluster)
}

#[test]
fn a_reload_of_firewalld_beside_dockerd_is_survived() -> Result<()> {
    if !peers::available(&dockerd::NEEDS) || !peers::available(&firewalld::NEEDS) {
        return Ok(());
    }
    let Some((mut cluster, root)) = cluster(&[DOCKERD, FIREWALLD])? else {
        return Ok(());
    };
    let firewalld = Firewalld::start(&root)?;
    for command in ACCEPTING {
        firewalld.command(command)?;
    }
    // It finds firewalld, and has its rules made by it.
    let dockerd = Dockerd::start(&root)?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    for _ in 0..2 {
        firewalld.command("--reload")?;
        // Hears of it, and drops by policy again.
        let drops = || {
            run(&cluster, "iptables", "-S")
                .ok()?
                .contains("-P FORWARD DROP")
                .then_some(())
        };
        eventually(PATIENCE, drops).context("dockerd does not hear of the reload")?;
        until_reachable(&cluster, &containers, "after a reload")?;
    }
    until_ready(&cluster, None)?;
    dockerd.stop()?;
    firewalld.stop()?;
    assert_cleaned_up(&mut cluster)
}
