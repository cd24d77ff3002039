// SPDX-License-Identifier: Apache-2.0
//! podman with its CNI backend: one container on two networks, containers that reach each other, published ports, and
//! removal without a trace.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::node::{NETWORK, Node};
use testbed::peers::{self, PODMAN, Peer};
use testbed::podman::Podman;
use testbed::{PATIENCE, eventually, probe};

const SERVER: &str = "mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p 80 -h /www";

/// Whether podman is here and still has its CNI backend.
fn available(podman: &Podman<'_>) -> Result<bool> {
    Ok(podman.has_cni()? || peers::skip("this podman has no CNI backend (5.0 dropped it)"))
}

fn address(podman: &Podman<'_>, container: &str, interface: &str) -> Result<IpAddr> {
    let printed = podman.exec(container, &format!("ip -o -4 address show {interface}"))?;
    let mut words = printed.split_whitespace().skip_while(|word| *word != "inet");
    let prefix = words.nth(1).with_context(|| format!("no address: {printed:?}"))?;
    let address = prefix
        .strip_suffix("/32")
        .with_context(|| format!("{prefix} is no /32"))?;
    Ok(address.parse()?)
}

#[test]
fn a_container_on_two_networks_keeps_both() -> Result<()> {
    if !peers::available(&PODMAN) {
        return Ok(());
    }
    let node = Node::installed("networks")?;
    let plugin = json!({"type": "calico", "ipam": {"type": "calico-ipam"}});
    node.write_list(
        "20-second.conflist",
        &json!({"name": "second", "cniVersion": "0.4.0", "plugins": [plugin]}),
    )?;
    let podman = Podman::on(node.host())?;
    if !available(&podman)? {
        return Ok(());
    }
    podman.run("both", &format!("{NETWORK},second"), &[], "exec sleep 1000")?;
    let (first, second) = (
        address(&podman, "both", "eth0")?,
        address(&podman, "both", "eth1")?,
    );
    ensure!(first != second, "{first} was given twice");
    let store = node.store()?;
    ensure!(
        store.attachments.len() == 2 && store.handles.len() == 2,
        "attachments: {:?}",
        store.attachments
    );
    for address in [first, second] {
        probe::ping(node.host().place(), address)?;
    }
    podman.remove("both")?;
    node.ensure_nothing_left()
}

#[test]
fn two_containers_reach_each_other() -> Result<()> {
    if !peers::available(&PODMAN) {
        return Ok(());
    }
    let node = Node::installed("pair")?;
    let podman = Podman::on(node.host())?;
    if !available(&podman)? {
        return Ok(());
    }
    podman.run("web", NETWORK, &[], SERVER)?;
    podman.run("client", NETWORK, &[], "exec sleep 1000")?;
    let (web, client) = (
        address(&podman, "web", "eth0")?,
        address(&podman, "client", "eth0")?,
    );
    let from_host = eventually(PATIENCE, || {
        probe::http(node.host().place(), (web, 80).into()).ok()
    });
    from_host.context("the web server does not answer its host")?;
    // busybox nc may end with its input, before the answer has come.
    let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {web} 80");
    let answered = || Some(podman.exec("client", &request).ok()?.contains("hello")).filter(|found| *found);
    eventually(PATIENCE, answered).context("the web server does not answer the other container")?;
    podman.exec("web", &format!("ping -c1 -W5 {client}"))?;
    for name in ["web", "client"] {
        podman.remove(name)?;
    }
    node.ensure_nothing_left()
}

#[test]
fn a_published_port_is_reached_from_outside() -> Result<()> {
    if !peers::available(&PODMAN)
        || !peers::available(&[Peer::Program("iptables", "iptables"), Peer::Plugin("portmap")])
    {
        return Ok(());
    }
    let node = Node::installed("port")?;
    node.host().enable_forwarding()?;
    let podman = Podman::on(node.host())?;
    if !available(&podman)? {
        return Ok(());
    }
    podman.run("web", NETWORK, &["--publish", "8080:80"], SERVER)?;
    let uplink = node.host().uplink().context("a node has an uplink")?;
    let published = SocketAddr::new(uplink.addresses[0].addr(), 8080);
    let answer = eventually(PATIENCE, || probe::http(node.router().place(), published).ok());
    ensure!(
        answer
            .context("the published port does not answer")?
            .contains("hello"),
        "another server answers"
    );
    podman.remove("web")?;
    let rules = node.run("iptables-save", ["-t", "nat"])?;
    ensure!(!rules.contains("8080"), "rules are left: {rules}");
    node.ensure_nothing_left()
}
