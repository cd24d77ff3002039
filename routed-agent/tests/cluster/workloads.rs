// SPDX-License-Identifier: Apache-2.0
//! `routeSource: WorkloadIPs`: containers whose addresses another IPAM plugin has assigned are reached all the same.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;
use testbed::{Container, PATIENCE, cluster::Member, eventually, peers};

use crate::support::{Cluster, possible};

/// A container with an address of host-local's, which no block has.
fn host_local(member: &Member, number: u8) -> Result<(Container, IpAddr)> {
    let container = Container::start(member.name())?;
    let range = json!([[{ "subnet": format!("10.77.{number}.0/24") }]]);
    let addresses = member.add_with(&container, &json!({ "type": "host-local", "ranges": range }))?;
    Ok((container, *addresses.first().context("an address")?))
}

#[test]
fn addresses_of_another_ipam_plugin_have_routes_where_each_workload_counts() -> Result<()> {
    if !possible() || !peers::available(&[peers::Peer::Plugin("host-local")]) {
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
            ("CALICO_IPV4POOL_VXLAN", "Always"),
        ],
    )?;
    cluster.start()?;
    let blocks = cluster.containers()?;
    cluster.assert_all_reach_all(&blocks)?;
    // Its own range, so that it is known how to get there.
    cluster.apply(
        Kind::IpPool,
        "others",
        &json!({ "cidr": "10.77.0.0/16", "disabled": true, "ipipMode": "Never", "vxlanMode": "Always" }),
    )?;
    let first = host_local(&cluster.members[0], 1)?;
    let second = host_local(&cluster.members[1], 2)?;
    let member = &cluster.members[0];
    let block = cluster.members[1].blocks()?[0];
    ensure!(
        member
            .routes()?
            .iter()
            .all(|route| !route.starts_with("10.77.2.")),
        "{:#?}",
        member.routes()?
    );
    let set = |word: &str| {
        cluster.apply(
            Kind::FelixConfiguration,
            "default",
            &json!({ "routeSource": word }),
        )
    };
    set("WorkloadIPs")?;
    for (member, address) in [
        (member, second.1),
        (&cluster.members[1], first.1),
        (member, blocks[1].1),
    ] {
        let route = member.until_route(&format!("{address} via"))?;
        ensure!(route.contains("dev vxlan.calico"), "{route}");
    }
    member.until_no_route(&format!("{block} via"))?;
    let reached = |from: &Container, to: IpAddr| {
        eventually(PATIENCE, || from.ping(to).ok()).with_context(|| format!("{to}: {}", member.log()))
    };
    reached(&first.0, second.1)?;
    reached(&blocks[0].0, blocks[1].1)?;
    reached(&blocks[0].0, second.1)?;
    let explained = member
        .agent_command([
            "explain",
            "--from",
            &first.1.to_string(),
            "--to",
            &second.1.to_string(),
        ])
        .succeed(PATIENCE)?;
    ensure!(
        explained.contains("node2") && explained.contains("VXLAN"),
        "{explained}"
    );
    // Containers that come later too.
    let third = host_local(&cluster.members[1], 2)?;
    member.until_route(&format!("{} via", third.1))?;
    reached(&first.0, third.1)?;
    let status = member.ask("/v1/status")?;
    ensure!(
        !status["warnings"].to_string().contains("route_source"),
        "{status:#}"
    );
    set("CalicoIPAM")?;
    member.until_route(&format!("{block} via"))?;
    for address in [second.1, third.1, blocks[1].1] {
        member.until_no_route(&format!("{address} "))?;
    }
    reached(&blocks[0].0, blocks[1].1)?;
    Ok(())
}
