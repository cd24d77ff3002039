// SPDX-License-Identifier: Apache-2.0
//! Tunnels are asked whether they carry packets, of both sizes, and what is said when they do not.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{PATIENCE, Program, peers};

use crate::support::{Cluster, possible};

fn warned(status: &Value, code: &str) -> bool {
    let warnings = status["warnings"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    warnings
        .iter()
        .any(|warning| warning.as_str().is_some_and(|text| text.starts_with(code)))
}

/// A rule of the router's between the subnets; an empty one for none.
fn filter(cluster: &Cluster, rule: &str) -> Result<()> {
    let nft = peers::find_program("nft").context("no program nft")?;
    let script = format!(
        "table ip between\ndelete table ip between\n\
         table ip between {{\nchain forward {{\ntype filter hook forward priority 0;\n{rule}\n}}\n}}\n"
    );
    Program::new(cluster.lan.place(), nft)
        .args(["-f", "-"])
        .input(script)
        .succeed(PATIENCE)
        .map(drop)
}

#[test]
fn tunnels_that_lose_packets_are_named_with_what_to_do() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.2.0.12/24", "lan1"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPV4POOL_VXLAN", "CrossSubnet"),
        ],
    )?;
    cluster.start()?;
    for member in &cluster.members {
        let status = member.until("/v1/status", |status| status["tunnelProbes"]["through"] == 1)?;
        ensure!(!warned(&status, "tunnel-"), "{status:#}");
    }
    // Small packets only: the session's restart asks again.
    for (rule, outcome, code, word) in [
        (
            "udp dport 4789 ip length > 1000 drop;",
            "large-lost",
            "tunnel-mtu",
            "vxlanMTU",
        ),
        ("udp dport 4789 drop", "blocked", "tunnel-blocked", "4789"),
        ("", "through", "", ""),
    ] {
        filter(&cluster, rule)?;
        cluster.members[1].end(Signal::SIGKILL)?;
        cluster.members[1].start()?;
        let first = &cluster.members[0];
        let status = first.until("/v1/status", |status| status["tunnelProbes"][outcome] == 1)?;
        ensure!(
            warned(&status, "tunnel-") != code.is_empty(),
            "{outcome}: {status:#}"
        );
        ensure!(code.is_empty() || warned(&status, code), "{outcome}: {status:#}");
        ensure!(
            status["warnings"].to_string().contains(word),
            "{outcome}: {status:#}"
        );
        let there = cluster.members[1].blocks()?[0].addr();
        let here = first.blocks()?[0].addr();
        let explained = first.ask(&format!("/v1/explain?from={here}&to={there}"))?;
        ensure!(explained["tunnel"]["outcome"] == outcome, "{explained:#}");
        let metrics = first.text("/metrics")?;
        let line = format!("routed_agent_tunnel_probes{{outcome=\"{outcome}\"}} 1");
        ensure!(metrics.contains(&line), "{metrics}");
    }
    let journal = cluster.members[0]
        .ask("/v1/journal?kind=encapsulation")?
        .to_string();
    ensure!(
        journal.contains("tunnel-mtu") && journal.contains("get through, both ways"),
        "{journal}"
    );
    Ok(())
}
