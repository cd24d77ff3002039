// SPDX-License-Identifier: Apache-2.0
//! Other IPAM plugins than ours, executed as CNI says: host-local and static of the reference plugins.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use cni_plugin::Version;
use serde_json::{Value, json};
use testbed::cni::{NetworkList, Target};
use testbed::node::Node;
use testbed::peers::{self, Peer};

const PEERS: [Peer; 4] = [
    Peer::Root,
    Peer::FileSystem("overlay"),
    Peer::Plugin("host-local"),
    Peer::Plugin("static"),
];

fn list(version: &str, ipam: &Value) -> Result<NetworkList> {
    let text = json!({
        "name": "delegated", "cniVersion": version, "plugins": [{"type": "calico", "ipam": ipam}],
    });
    Ok(NetworkList::parse(text.to_string(), Version::V1_1_0)?)
}

/// host-local's files, one for each address it has given out.
fn reserved(node: &Node) -> Result<Vec<String>> {
    let folder = node.host().folders().cache().join("networks/delegated");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let names = fs::read_dir(&folder)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names
        .filter(|name| name.starts_with("10.") || name.starts_with("fd"))
        .collect())
}

#[test]
fn host_local_gives_the_addresses() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let node = Node::installed("host-local")?;
    let runtime = node.host().cni();
    let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]);
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let list = list(version, &json!({"type": "host-local", "ranges": ranges}))?;
        let name = format!("one-{version}");
        let target = Target::eth0(&name, &node.add_namespace(&name)?);
        let added = runtime
            .add(&list, &target)
            .with_context(|| format!("ADD, {version}"))?;
        let addresses: Vec<String> = added.result.ips.iter().map(|ip| ip.address.to_string()).collect();
        ensure!(
            addresses
                .iter()
                .any(|address| address.starts_with("10.77.0.") && address.ends_with("/32"))
                && addresses
                    .iter()
                    .any(|address| address.starts_with("fd77:") && address.ends_with("/128")),
            "{version}: {addresses:?}"
        );
        ensure!(reserved(&node)?.len() == 2, "{version}: {:?}", reserved(&node)?);
        let uplink = node.host().uplink().context("a node has an uplink")?;
        for address in &uplink.addresses {
            node.ping_inside(&name, address.addr())
                .with_context(|| version.to_owned())?;
        }
        if version != "0.3.1" {
            runtime
                .check(&list, &target)
                .with_context(|| format!("CHECK, {version}"))?;
        }
        runtime
            .del(&list, &target)
            .with_context(|| format!("DEL, {version}"))?;
        runtime
            .del(&list, &target)
            .with_context(|| format!("second DEL, {version}"))?;
        ensure!(
            reserved(&node)?.is_empty(),
            "{version}: {:?} are left",
            reserved(&node)?
        );
        node.ensure_nothing_left()?;
    }
    Ok(())
}

#[test]
fn an_exhausted_range_fails_and_leaves_nothing() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let node = Node::installed("exhausted")?;
    let runtime = node.host().cni();
    let ipam = json!({
        "type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.9", "rangeEnd": "10.77.0.9"}]],
    });
    let list = list("1.0.0", &ipam)?;
    let first = Target::eth0("first", &node.add_namespace("first")?);
    let second = Target::eth0("second", &node.add_namespace("second")?);
    runtime.add(&list, &first)?;
    let error = runtime
        .add(&list, &second)
        .err()
        .context("one address was given twice")?;
    ensure!(
        error.to_string().contains("no IP addresses available"),
        "host-local's words are lost: {error}"
    );
    ensure!(reserved(&node)? == ["10.77.0.9"], "{:?}", reserved(&node)?);
    runtime.del(&list, &second)?;
    runtime.del(&list, &first)?;
    node.ensure_nothing_left()
}

#[test]
fn an_ipam_plugin_that_is_missing_is_named_with_the_path() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let node = Node::installed("missing")?;
    let runtime = node.host().cni();
    let list = list("1.0.0", &json!({"type": "no-such-ipam"}))?;
    let target = Target::eth0("one", &node.add_namespace("one")?);
    let error = runtime
        .add(&list, &target)
        .err()
        .context("ADD succeeds")?
        .to_string();
    let path = node.host().folders().plugins().display().to_string();
    ensure!(error.contains("no-such-ipam") && error.contains(&path), "{error}");
    node.ensure_nothing_left()
}

#[test]
fn static_addresses_are_wired() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let node = Node::installed("static")?;
    let runtime = node.host().cni();
    let list = list(
        "1.0.0",
        &json!({"type": "static", "addresses": [{"address": "10.78.0.5/24"}]}),
    )?;
    let target = Target::eth0("one", &node.add_namespace("one")?);
    runtime.add(&list, &target)?;
    runtime.check(&list, &target)?;
    let inside = node.run_inside("one", &["ip", "-o", "-4", "address", "show", "eth0"])?;
    ensure!(inside.contains("10.78.0.5/32"), "{inside}");
    runtime.del(&list, &target)?;
    node.ensure_nothing_left()
}
