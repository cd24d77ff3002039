// SPDX-License-Identifier: Apache-2.0
//! Hosts without a common store: each has its own, describes the other by hand, and peers with it by address.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;
use testbed::{Container, PATIENCE, cluster::Member, eventually, lan::Lan};

use crate::support::{apply_to, net, possible};

/// Two hosts with stores and pools of their own.
fn pair(subnets: [&str; 2], vxlan: &str) -> Result<(Lan, Vec<Member>, Vec<tempfile::TempDir>)> {
    let lan = Lan::new()?;
    let addresses = [format!("{}.11/24", subnets[0]), format!("{}.12/24", subnets[1])];
    let pools = ["192.168.0.0/17", "192.168.128.0/17"];
    let mut members = Vec::new();
    let mut folders = Vec::new();
    for place in 0..2 {
        let name = format!("lan{}", if subnets[0] == subnets[1] { 0 } else { place });
        let gateway = format!("{}.1/24", subnets[place]);
        if place == 0 || subnets[0] != subnets[1] {
            lan.subnet(&name, &[net(&gateway)])?;
        }
        let folder = tempfile::tempdir()?;
        let mut member = Member::new(&format!("node{}", place + 1), &folder.path().join("store.db"))?
            .with("CALICO_IPV4POOL_CIDR", pools[place])
            .with("CALICO_IPV4POOL_IPIP", "Never")
            .with("CALICO_IPV4POOL_VXLAN", vxlan)
            .with("CALICO_IPV6POOL_CIDR", "none");
        lan.attach(
            member.host(),
            &name,
            &[net(&addresses[place])],
            &[net(&gateway).addr()],
        )?;
        member.start()?;
        members.push(member);
        folders.push(folder);
    }
    for member in &members {
        // Its own pool is made only where there is none.
        member.until("/v1/status", |status| {
            status["addresses"]
                .as_array()
                .is_some_and(|addresses| !addresses.is_empty())
        })?;
    }
    for (place, other) in [(0, 1), (1, 0)] {
        let store = folders[place].path().join("store.db");
        let address = net(&addresses[other]);
        let mut spec = json!({ "bgp": { "ipv4Address": address.to_string(), "asNumber": 64512 } });
        if vxlan != "Never" {
            // What the other's tunnel is called is the other's to say.
            let there =
                members[other].until("/v1/status", |status| status["devices"][0]["address"].is_string())?;
            spec["ipv4VXLANTunnelAddr"] = there["devices"][0]["address"].clone();
        }
        apply_to(&store, Kind::Node, &format!("node{}", other + 1), &spec)?;
        apply_to(
            &store,
            Kind::IpPool,
            "theirs",
            &json!({ "cidr": pools[other], "disabled": true, "ipipMode": "Never", "vxlanMode": vxlan }),
        )?;
        apply_to(
            &store,
            Kind::BgpConfiguration,
            "default",
            &json!({ "nodeToNodeMeshEnabled": false }),
        )?;
        apply_to(
            &store,
            Kind::BgpPeer,
            "other",
            &json!({ "peerIP": address.addr().to_string(), "asNumber": 64512 }),
        )?;
    }
    Ok((lan, members, folders))
}

fn reach_each_other(members: &[Member]) -> Result<()> {
    let mut containers: Vec<(Container, IpAddr)> = Vec::new();
    for member in members {
        let container = Container::start(member.name())?;
        let address = member.add(&container)?[0];
        containers.push((container, address));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        members[from].until_route(&format!("{} ", members[to].blocks()?[0]))?;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let reached = eventually(PATIENCE, || containers[from].0.ping(containers[to].1).ok());
        reached.with_context(|| {
            format!(
                "{} from {}: {}",
                containers[to].1,
                members[from].name(),
                members[from].log()
            )
        })?;
    }
    Ok(())
}

#[test]
fn two_stores_on_one_subnet() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (_lan, members, _folders) = pair(["10.1.0", "10.1.0"], "Never")?;
    reach_each_other(&members)?;
    let status = members[0].until_peers(1)?;
    ensure!(status["peers"][0]["type"] == "global", "{status:#}");
    Ok(())
}

#[test]
fn two_stores_across_a_router() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (_lan, members, _folders) = pair(["10.1.0", "10.2.0"], "CrossSubnet")?;
    reach_each_other(&members)?;
    let block = members[1].blocks()?[0];
    let route = members[0].until_route(&format!("{block} "))?;
    ensure!(route.contains("dev vxlan.calico"), "{route}");
    Ok(())
}
