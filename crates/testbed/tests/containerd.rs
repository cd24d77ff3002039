// SPDX-License-Identifier: Apache-2.0
//! containerd's `ctr run --cni` with the installed network list: addresses, reachability, removal, and the leftovers that
//! only garbage collection can find.

use std::fs::File;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cni_plugin::Version;
use testbed::binaries;
use testbed::cni::{CniRuntime, NetworkList};
use testbed::containerd::Containerd;
use testbed::node::{NETWORK, Node};
use testbed::peers::{self, CONTAINERD};
use testbed::{PATIENCE, eventually, probe, view};

/// Says it is ready and answers HTTP.
const SERVER: &str = "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 80 -h /www";

/// The address on `eth0`, from what `ip -o -4 address` printed.
fn address(printed: &str) -> Result<IpAddr> {
    let mut words = printed.split_whitespace().skip_while(|word| *word != "inet");
    let prefix = words.nth(1).with_context(|| format!("no address: {printed:?}"))?;
    let (address, length) = prefix.split_once('/').unwrap_or((prefix, "32"));
    ensure!(length == "32", "{prefix} is no /32");
    Ok(address.parse()?)
}

/// Waits until so many host interfaces are left: the kernel takes a namespace down some time after its last process has ended.
fn wait_for_interfaces(node: &Node, count: usize) -> Result<()> {
    let interfaces = || -> Result<usize> {
        let links = view::links(node.host().place())?;
        Ok(links.iter().filter(|link| link.name.starts_with("cali")).count())
    };
    let waited = eventually(PATIENCE, || {
        interfaces().is_ok_and(|found| found == count).then_some(())
    });
    waited.with_context(|| format!("not {count} host interfaces but {:?}", interfaces()))
}

#[test]
fn a_foreground_container_is_wired_and_leaves_nothing() -> Result<()> {
    if !peers::available(&CONTAINERD) {
        return Ok(());
    }
    let node = Node::installed("foreground")?;
    let containerd = Containerd::start(node.host())?;
    let uplink = node.host().uplink().context("a node has an uplink")?;
    let host = uplink.addresses[0].addr();
    let script = format!("ip -o -4 address show eth0; ip route; ping -c1 -W5 {host}");
    let answer = containerd.run("short", &script)?;
    answer.checked()?;
    let given = address(&answer.stdout)?;
    ensure!(
        given.to_string().starts_with("192.168."),
        "{given} is not from the default pool"
    );
    ensure!(
        answer.stdout.contains("default via 169.254.1.1 dev eth0"),
        "routes: {}",
        answer.stdout
    );
    node.ensure_nothing_left()
}

#[test]
fn two_containers_and_their_host_reach_each_other() -> Result<()> {
    if !peers::available(&CONTAINERD) {
        return Ok(());
    }
    let node = Node::installed("pair")?;
    let containerd = Containerd::start(node.host())?;
    containerd.start_container("web", SERVER)?;
    containerd.start_container("client", "exec sleep 1000")?;
    let web = address(&containerd.exec("web", "ip -o -4 address show eth0")?)?;
    let client = address(&containerd.exec("client", "ip -o -4 address show eth0")?)?;
    ensure!(web != client, "{web} was given twice");
    let from_host = eventually(PATIENCE, || {
        probe::http(node.host().place(), (web, 80).into()).ok()
    });
    from_host.context("the web server does not answer its host")?;
    // busybox nc may end with its input, before the answer has come.
    let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {web} 80");
    let answered =
        || Some(containerd.exec("client", &request).ok()?.contains("200 OK")).filter(|found| *found);
    eventually(PATIENCE, answered).context("the web server does not answer the other container")?;
    let uplink = node.host().uplink().context("a node has an uplink")?;
    containerd.exec("client", &format!("ping -c1 -W5 {}", uplink.addresses[0].addr()))?;
    Ok(())
}

#[test]
fn what_a_detached_container_leaves_is_collected() -> Result<()> {
    if !peers::available(&CONTAINERD) {
        return Ok(());
    }
    let node = Node::installed("leftover")?;
    let containerd = Containerd::start(node.host())?;
    for name in ["stays", "goes"] {
        containerd.start_container(name, "exec sleep 1000")?;
    }
    let kept = address(&containerd.exec("stays", "ip -o -4 address show eth0")?)?;
    containerd.remove("goes")?;
    wait_for_interfaces(&node, 1)?;
    let store = node.store()?;
    ensure!(
        store.attachments.len() == 2,
        "ctr called DEL after all: {:?}",
        store.attachments
    );

    // Another runtime's GC, with a cache of its own: nothing but the plugin's GC can find the leftover.
    let text = serde_json::json!({
        "name": NETWORK, "cniVersion": "1.1.0", "plugins": [{"type": "calico", "ipam": {"type": "calico-ipam"}}],
    });
    let list = NetworkList::parse(text.to_string(), Version::V1_1_0)?;
    let runtime = CniRuntime::new(
        node.host().place().clone(),
        vec![node.host().folders().plugins()],
        node.host().folders().top().join("other-cache"),
    );
    let valid = [(format!("{}-stays", node.host().name()), "eth0".to_owned())];
    runtime.gc(&list, Some(&valid))?;
    ensure!(
        node.store()?.attachments.len() == 2,
        "GC took an attachment of less than the minimum age"
    );
    let runtime = runtime.with_environment([("CALICO_GC_MINIMUM_AGE_SECONDS", "0")]);
    runtime.gc(&list, None)?;
    ensure!(
        node.store()?.attachments.len() == 2,
        "GC without a list took something"
    );
    runtime.gc(&list, Some(&valid))?;
    let left = node.store()?.attachments;
    ensure!(
        left.len() == 1 && left[0].contains("-stays/"),
        "after GC: {left:?}"
    );
    probe::ping(node.host().place(), kept)?;

    // The live one stays even where nothing is called valid: its interface holds its address.
    runtime.gc(&list, Some(&[]))?;
    ensure!(
        node.store()?.attachments.len() == 1,
        "GC took the attachment of a live container"
    );
    containerd.remove("stays")?;
    wait_for_interfaces(&node, 0)?;
    runtime.gc(&list, Some(&[]))?;
    node.ensure_nothing_left()
}

#[test]
fn the_agent_collects_what_containerd_does_not_know_any_more() -> Result<()> {
    if !peers::available(&CONTAINERD) {
        return Ok(());
    }
    let node = Node::installed("collected")?;
    let containerd = Containerd::start(node.host())?;
    for name in ["stays", "goes"] {
        containerd.start_container(name, "exec sleep 1000")?;
    }
    let log = node.host().folders().top().join("agent.log");
    let _agent = node
        .program(binaries::agent()?)
        .args(["run"])
        .env("CALICO_CONTAINER_RUNTIMES", containerd.socket())
        .env("CALICO_IPAM_COLLECTION_INTERVAL", "1")
        .env("CALICO_GC_MINIMUM_AGE_SECONDS", "0")
        .start(File::create(&log)?.into())?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    // Its task is gone, and namespace and interface with it; but containerd has it, and may start it again.
    containerd
        .ctr(["task", "rm", "--force", "goes"])
        .succeed(PATIENCE)?;
    wait_for_interfaces(&node, 1)?;
    let before = Instant::now();
    let looked_twice = || (before.elapsed() > Duration::from_millis(3500)).then_some(());
    eventually(PATIENCE, looked_twice).context("time")?;
    ensure!(node.store()?.attachments.len() == 2, "{}", said());
    containerd.ctr(["container", "rm", "goes"]).succeed(PATIENCE)?;
    let collected = || (node.store().ok()?.attachments.len() == 1).then_some(());
    eventually(PATIENCE, collected).with_context(said)?;
    let left = node.store()?.attachments;
    ensure!(left[0].contains("-stays/"), "{left:?}");
    ensure!(said().contains("-goes released"), "{}", said());
    Ok(())
}
