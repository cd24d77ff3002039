// SPDX-License-Identifier: Apache-2.0
//! The reference plugins behind ours in one list, as the distribution ships them: portmap finds the container's address in
//! our result, bandwidth the host side of the pair.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use cni_plugin::Version;
use serde_json::{Value, json};
use testbed::cni::{NetworkList, Target};
use testbed::node::Node;
use testbed::peers::{self, Peer};
use testbed::{PORT, probe};

fn list(version: &str) -> Result<NetworkList> {
    let text = json!({
        "name": "chained",
        "cniVersion": version,
        "plugins": [
            {"type": "calico", "ipam": {"type": "calico-ipam"}},
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ],
    });
    Ok(NetworkList::parse(text.to_string(), Version::V1_1_0)?)
}

/// Name of the host side, which the result has to list for bandwidth.
fn host_side(result: &Value) -> Result<String> {
    let interfaces = result["interfaces"].as_array().context("no interfaces")?;
    let outside = interfaces
        .iter()
        .find(|interface| interface["sandbox"].as_str().unwrap_or_default().is_empty());
    let name = outside.context("no host side")?["name"]
        .as_str()
        .context("it has no name")?;
    Ok(name.to_owned())
}

#[test]
fn a_host_port_is_reached_from_another_namespace() -> Result<()> {
    if !peers::available(&[
        Peer::Root,
        Peer::FileSystem("overlay"),
        Peer::Plugin("portmap"),
        Peer::Plugin("bandwidth"),
        Peer::Program("iptables", "iptables"),
    ]) {
        return Ok(());
    }
    let node = Node::installed("ports")?;
    node.host().enable_forwarding()?;
    let uplink = node.host().uplink().context("a node has an uplink")?;
    let outside = SocketAddr::new(uplink.addresses[0].addr(), 9090);
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let (list, namespace) = (list(version)?, format!("web-{version}"));
        let path = node.add_namespace(&namespace)?;
        let target = Target::eth0(&namespace, &path).capability(
            "portMappings",
            json!([{"hostPort": 9090, "containerPort": PORT, "protocol": "tcp"}]),
        );
        let server = node.serve_inside(&namespace)?;
        let runtime = node.host().cni();
        runtime
            .add(&list, &target)
            .with_context(|| format!("ADD, {version}"))?;
        let answer =
            probe::http(node.router().place(), outside).with_context(|| format!("host port, {version}"))?;
        ensure!(answer.contains(&namespace), "another server answers: {answer}");
        drop(server);
        runtime
            .del(&list, &target)
            .with_context(|| format!("DEL, {version}"))?;
        let rules = node.run("iptables-save", ["-t", "nat"])?;
        ensure!(!rules.contains("9090"), "rules are left: {rules}");
        node.ensure_nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_bandwidth_limit_is_set_on_our_pair_alone() -> Result<()> {
    if !peers::available(&[
        Peer::Root,
        Peer::FileSystem("overlay"),
        Peer::Plugin("portmap"),
        Peer::Plugin("bandwidth"),
        Peer::Program("tc", "iproute2"),
    ]) {
        return Ok(());
    }
    let node = Node::installed("limits")?;
    let runtime = node.host().cni();
    let list = list("1.0.0")?;
    let (slow, fast) = (node.add_namespace("slow")?, node.add_namespace("fast")?);
    let limit = json!({
        "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000,
    });
    let limited = Target::eth0("slow", &slow).capability("bandwidth", limit);
    let free = Target::eth0("fast", &fast);
    let limited_side = host_side(&runtime.add(&list, &limited)?.json)?;
    let free_side = host_side(&runtime.add(&list, &free)?.json)?;
    runtime.check(&list, &limited)?;
    let queues = |device: &str| node.run("tc", ["qdisc", "show", "dev", device]);
    ensure!(
        queues(&limited_side)?.contains("tbf"),
        "no limit on {limited_side}: {}",
        queues(&limited_side)?
    );
    ensure!(
        !queues(&free_side)?.contains("tbf"),
        "a limit on {free_side}: {}",
        queues(&free_side)?
    );
    for target in [&limited, &free] {
        runtime.del(&list, target)?;
    }
    let links = node.run("ip", ["-o", "link"])?;
    ensure!(!links.contains("bwp"), "the limiter's device is left: {links}");
    node.ensure_nothing_left()
}

/// A plugin that cannot do ADD.
const REFUSES: &str = r#"#!/bin/sh
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"code": 142, "msg": "refused here"}'
exit 1
"#;

#[test]
fn a_failure_further_down_the_chain_is_undone_by_del() -> Result<()> {
    if !peers::available(&[Peer::Root, Peer::FileSystem("overlay")]) {
        return Ok(());
    }
    let node = Node::installed("undone")?;
    let program = node.host().folders().plugins().join("refuses");
    fs::write(&program, REFUSES)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let plugins = json!([{"type": "calico", "ipam": {"type": "calico-ipam"}}, {"type": "refuses"}]);
    let text = json!({"name": "chained", "cniVersion": "1.0.0", "plugins": plugins});
    let list = NetworkList::parse(text.to_string(), Version::V1_1_0)?;
    let runtime = node.host().cni();
    let target = Target::eth0("undone", &node.add_namespace("undone")?);
    let error = runtime.add(&list, &target).err().context("ADD succeeds")?;
    ensure!(error.code() == Some(142), "{error}");
    ensure!(
        node.store()?.attachments.len() == 1,
        "the first plugin has not run"
    );
    runtime.del(&list, &target)?;
    node.ensure_nothing_left()
}
