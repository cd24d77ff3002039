// SPDX-License-Identifier: Apache-2.0
//! The reference runtime tool, built against three generations of the CNI library, with the shipped network list as
//! `make install` puts it in place. Every verb, by hand as `docs/operations.md` shows it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;
use testbed::go_programs::{BANDWIDTH, CNITOOL, CNITOOL_0_8, CNITOOL_1_0, PORTMAP};
use testbed::node::{NETWORK, Node};
use testbed::peers::{self, Peer};
use testbed::{Answer, PATIENCE};

const PEERS: [Peer; 6] = [
    Peer::Root,
    Peer::FileSystem("overlay"),
    Peer::Program("ip", "iproute2"),
    Peer::StaticBusybox,
    Peer::Plugin("portmap"),
    Peer::Plugin("bandwidth"),
];

/// A limit for the bandwidth plugin.
const LIMIT: &str = r#"{"bandwidth": {"ingressRate": 100000000, "ingressBurst": 1000000,
    "egressRate": 100000000, "egressBurst": 1000000}}"#;

/// `cnitool VERB NETWORK NAMESPACE` on a node.
struct Cnitool<'a> {
    node: &'a Node,
    program: PathBuf,
    /// `CAP_ARGS`
    capabilities: &'static str,
}

impl<'a> Cnitool<'a> {
    fn on(node: &'a Node, program: PathBuf) -> Self {
        Self {
            node,
            program,
            capabilities: "{}",
        }
    }

    /// The same with a bandwidth limit.
    fn limited(&self) -> Self {
        Self {
            node: self.node,
            program: self.program.clone(),
            capabilities: LIMIT,
        }
    }

    fn answer(&self, verb: &str, namespace: &Path) -> Result<Answer> {
        self.node
            .program(&self.program)
            .args([verb, NETWORK])
            .args([namespace])
            .env("CNI_PATH", "/opt/cni/bin")
            .env("NETCONFPATH", "/etc/cni/net.d")
            .env("CAP_ARGS", self.capabilities)
            .answer(PATIENCE)
    }

    fn succeed(&self, verb: &str, namespace: &Path) -> Result<String> {
        let answer = self.answer(verb, namespace)?;
        answer.checked()?;
        Ok(answer.stdout)
    }

    fn add(&self, namespace: &Path) -> Result<Value> {
        let printed = self.succeed("add", namespace)?;
        serde_json::from_str(&printed).with_context(|| format!("the result of add: {printed}"))
    }
}

/// What the issue calls accepted: a /32 from a /26 of the pool on the interface, the default route via 169.254.1.1, a
/// host route `ADDRESS dev cali... scope link`. The address.
fn ensure_wired(node: &Node, name: &str, result: &Value) -> Result<IpNet> {
    let address: IpNet = result["ips"][0]["address"]
        .as_str()
        .context("no address")?
        .parse()?;
    let pool: IpNet = "192.168.0.0/16".parse()?;
    ensure!(
        pool.contains(&address.addr()) && address.prefix_len() == 32,
        "{address} is no /32 of {pool}"
    );
    let inside = node.run_inside(name, &["ip", "-o", "-4", "address", "show", "eth0"])?;
    ensure!(
        inside.contains(&format!("inet {address} ")),
        "{address} is not on eth0: {inside}"
    );
    let routes = node.run_inside(name, &["ip", "route"])?;
    ensure!(
        routes.contains("default via 169.254.1.1 dev eth0"),
        "default route: {routes}"
    );
    let outside = node.run("ip", ["route", "show", &address.addr().to_string()])?;
    ensure!(
        outside.starts_with(&format!("{} dev cali", address.addr())) && outside.contains("scope link"),
        "host route: {outside}"
    );
    Ok(address)
}

fn block(address: IpNet) -> Result<IpNet> {
    Ok(IpNet::new(address.addr(), 26)?.trunc())
}

/// ADD twice, CHECK, packets both ways between two containers and to the host, DEL twice.
///
/// The first container has no bandwidth limit, the second has one: the bandwidth plugin refuses a second ADD, and CHECK of
/// the one in Debian 12 (1.1.1) crashes without a limit.
fn ensure_lifecycle(tool: &Cnitool<'_>) -> Result<()> {
    let node = tool.node;
    let (one, two) = (node.add_namespace("one")?, node.add_namespace("two")?);
    let result = tool.add(&one)?;
    let first = ensure_wired(node, "one", &result)?;
    ensure!(tool.add(&one)? == result, "the second ADD gives another result");
    let limited = tool.limited();
    let second = ensure_wired(node, "two", &limited.add(&two)?)?;
    ensure!(
        block(first)? == block(second)? && first != second,
        "{first} and {second} share no /26"
    );
    limited.succeed("check", &two)?;

    let server = node.serve_inside("two")?;
    let answer = node.ask_inside("one", second.addr())?;
    let client = first.addr().to_string();
    ensure!(
        answer.starts_with("two ") && answer.contains(&client),
        "another answer: {answer}"
    );
    node.ping_inside("two", first.addr())?;
    let uplink = node.host().uplink().context("a node has an uplink")?;
    node.ping_inside("one", uplink.addresses[0].addr())?;
    drop(server);

    for (tool, namespace) in [(tool, &one), (&limited, &two)] {
        tool.succeed("del", namespace)?;
        tool.succeed("del", namespace)?;
    }
    node.ensure_nothing_left()
}

#[test]
fn current_cnitool_with_current_plugins_uses_the_list_as_shipped() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let (Some(program), Some(portmap), Some(bandwidth)) =
        (CNITOOL.available(), PORTMAP.available(), BANDWIDTH.available())
    else {
        return Ok(());
    };
    let node = Node::bare("current")?;
    node.add_plugin(&portmap)?;
    node.add_plugin(&bandwidth)?;
    node.install()?;
    let shipped: Value = serde_json::from_str(include_str!("../../../conf/10-calico.conflist"))?;
    ensure!(
        node.list()? == shipped,
        "the installed list is not the shipped one"
    );
    let tool = Cnitool::on(&node, program);
    let namespace = node.add_namespace("status")?;
    tool.succeed("status", &namespace)?;
    ensure_lifecycle(&tool)?;
    // It names no valid attachments: what it remembers is deleted one by one, what it does not remember must stay.
    let forgotten = node.add_namespace("forgotten")?;
    let result = tool.add(&forgotten)?;
    let remembered = node.host().folders().cache().join("results");
    for entry in fs::read_dir(&remembered)?.flatten() {
        fs::remove_file(entry.path())?;
    }
    tool.add(&namespace)?;
    tool.succeed("check", &namespace)?;
    tool.succeed("gc", &namespace)?;
    ensure_wired(&node, "forgotten", &result)?;
    let links = node.run_inside("status", &["ip", "-o", "link"])?;
    ensure!(!links.contains("eth0"), "gc left what cnitool remembers: {links}");
    tool.succeed("del", &forgotten)?;
    node.ensure_nothing_left()
}

#[test]
fn current_cnitool_with_older_plugins_of_the_distribution() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let Some(program) = CNITOOL.available() else {
        return Ok(());
    };
    let node = Node::installed("distribution")?;
    ensure_lifecycle(&Cnitool::on(&node, program))
}

#[test]
fn a_cnitool_that_knows_no_cniversions() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let Some(program) = CNITOOL_1_0.available() else {
        return Ok(());
    };
    let node = Node::installed("older")?;
    ensure_lifecycle(&Cnitool::on(&node, program))
}

#[test]
fn a_cnitool_from_before_version_1_0() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let Some(program) = CNITOOL_0_8.available() else {
        return Ok(());
    };
    let node = Node::installed("oldest")?;
    let mut list = node.list()?;
    list["cniVersion"] = "0.4.0".into();
    node.write_list("10-calico.conflist", &list)?;
    ensure_lifecycle(&Cnitool::on(&node, program))
}

#[test]
fn a_damaged_attachment_is_noticed_by_check() -> Result<()> {
    if !peers::available(&PEERS) {
        return Ok(());
    }
    let Some(program) = CNITOOL.available() else {
        return Ok(());
    };
    let node = Node::installed("damaged")?;
    let tool = Cnitool::on(&node, program);
    let namespace = node.add_namespace("one")?;
    let address = ensure_wired(&node, "one", &tool.add(&namespace)?)?
        .addr()
        .to_string();
    node.run("ip", ["route", "del", &address])?;
    let answer = tool.answer("check", &namespace)?;
    ensure!(!answer.status.success(), "CHECK misses the host route");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(said.contains(&address), "CHECK does not name the route: {said}");
    tool.succeed("del", &namespace)?;
    node.ensure_nothing_left()
}
