// SPDX-License-Identifier: Apache-2.0
//! The second half of the story: three hosts in two subnets with a router between them, an agent on each.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use testbed::cluster::Member;
use testbed::lan::Lan;
use testbed::{Container, PATIENCE, eventually, vm};

use crate::page::{Page, time};

/// Node, address, subnet.
const HOSTS: [(&str, &str, &str); 3] = [
    ("node-1", "10.1.0.11/24", "lan1"),
    ("node-2", "10.1.0.12/24", "lan1"),
    ("node-3", "10.2.0.13/24", "lan2"),
];

struct Cluster {
    // Containers first: their servers end before their hosts.
    containers: Vec<(Container, IpAddr)>,
    members: Vec<Member>,
    _lan: Lan,
    _folder: tempfile::TempDir,
}

/// Everything about several hosts.
pub(crate) fn tell(page: &mut Page) -> Result<()> {
    let has_ipip = vm::has_ipip();
    introduce(page, has_ipip);
    let mut cluster = start(page, has_ipip)?;
    reach(page, &cluster)?;
    show_routes(page, &cluster)?;
    show_peers(page, &cluster)?;
    explain(page, &cluster)?;
    restart(page, &mut cluster)?;
    leave(page, &mut cluster)
}

fn introduce(page: &mut Page, has_ipip: bool) {
    page.title("Containers on three hosts");
    page.explain(
        "Three hosts in two subnets with a router between them, and routed-agent on each. Hosts tell each other by BGP which \
         block of addresses is theirs. On one subnet packets go as they are; to the other they go through a tunnel, because \
         the router knows nothing of containers.",
    );
    if !has_ipip {
        page.line("note     this kernel has no ipip: the tunnel is VXLAN, on others it would be IP in IP");
    }
}

fn net(text: &str) -> Result<IpNet> {
    text.parse().context("a prefix")
}

fn start(page: &mut Page, has_ipip: bool) -> Result<Cluster> {
    page.section("Three agents start");
    page.step("make three hosts and a router");
    let folder = tempfile::tempdir()?;
    let lan = Lan::new()?;
    lan.subnet("lan1", &[net("10.1.0.1/24")?])?;
    lan.subnet("lan2", &[net("10.2.0.1/24")?])?;
    let (ipip, vxlan) = if has_ipip {
        ("CrossSubnet", "Never")
    } else {
        ("Never", "CrossSubnet")
    };
    let mut members = Vec::new();
    for (name, address, subnet) in HOSTS {
        let mut member = Member::new(name, &folder.path().join("store.db"))?
            .with("CALICO_IPV4POOL_CIDR", "192.168.0.0/16")
            .with("CALICO_IPV4POOL_IPIP", ipip)
            .with("CALICO_IPV4POOL_VXLAN", vxlan)
            .with("CALICO_IPV6POOL_CIDR", "none");
        let address = net(address)?;
        let gateway = address.trunc().hosts().next().context("a gateway")?;
        lan.attach(member.host(), subnet, &[address], &[gateway])?;
        page.step(format!("start the agent of {name}"));
        member.start()?;
        members.push(member);
    }
    let began = Instant::now();
    page.step("wait until all agents know each other");
    for member in &members {
        member.until_peers(HOSTS.len() - 1)?;
    }
    page.success(&format!(
        "all sessions are up, {} after the last start",
        time(began.elapsed())
    ));
    let mut containers = Vec::new();
    for member in &members {
        page.step(format!("start a container on {}", member.name()));
        let container = Container::start(&format!("on-{}", member.name()))?;
        let address = member.add(&container)?.into_iter().next().context("an address")?;
        containers.push((container, address));
    }
    let rows: Vec<Vec<String>> = HOSTS
        .iter()
        .zip(&members)
        .zip(&containers)
        .map(|(((name, address, subnet), member), (_, container))| {
            let blocks = member.blocks().unwrap_or_default();
            let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
            vec![
                (*name).to_owned(),
                (*address).to_owned(),
                (*subnet).to_owned(),
                blocks.join(" "),
                container.to_string(),
            ]
        })
        .collect();
    page.table(
        &["host", "address", "subnet", "its block", "its container"],
        &rows,
    );
    Ok(Cluster {
        containers,
        members,
        _lan: lan,
        _folder: folder,
    })
}

fn reach(page: &mut Page, cluster: &Cluster) -> Result<()> {
    page.section("Every container reaches every other");
    let mut rows = Vec::new();
    for (place, (container, _)) in cluster.containers.iter().enumerate() {
        let mut row = vec![format!("from {}", HOSTS[place].0)];
        for (_, address) in &cluster.containers {
            page.step(format!("ping {address} from the container on {}", HOSTS[place].0));
            // The first packet may come before the last route.
            let took = eventually(PATIENCE, || container.ping(*address).ok());
            row.push(time(took.with_context(|| format!("{address} does not answer"))?));
        }
        rows.push(row);
    }
    let to: Vec<String> = HOSTS.iter().map(|(name, ..)| format!("to {name}")).collect();
    let mut header = vec![""];
    header.extend(to.iter().map(String::as_str));
    page.table(&header, &rows);
    Ok(())
}

fn show_routes(page: &mut Page, cluster: &Cluster) -> Result<()> {
    page.section("What the kernel has");
    page.explain(
        "Each host has a route to the block of every other, a blackhole for what nobody has in its own, and one route to \
         each of its containers. proto 80 is the agent's.",
    );
    for member in &cluster.members {
        page.command(&format!("{}# ip route", member.name()), &member.routes()?);
    }
    Ok(())
}

fn show_peers(page: &mut Page, cluster: &Cluster) -> Result<()> {
    page.section("Peers");
    let status = cluster.members[0].agent_command(["status"]).succeed(PATIENCE)?;
    let lines: Vec<String> = status.lines().map(str::to_owned).collect();
    page.command(&format!("{}# routed-agent status", HOSTS[0].0), &lines);
    Ok(())
}

fn explain(page: &mut Page, cluster: &Cluster) -> Result<()> {
    page.section("Why packets go this way");
    let from = cluster.containers[0].1.to_string();
    for other in [1, 2] {
        let to = cluster.containers[other].1.to_string();
        let said = cluster.members[0]
            .agent_command(["explain", "--from", &from, "--to", &to])
            .succeed(PATIENCE)?;
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        page.command(
            &format!("{}# routed-agent explain --from {from} --to {to}", HOSTS[0].0),
            &lines,
        );
    }
    Ok(())
}

fn restart(page: &mut Page, cluster: &mut Cluster) -> Result<()> {
    page.section("An agent is killed, and nobody notices");
    page.step("kill the agent of node-2");
    cluster.members[1].end(nix::sys::signal::Signal::SIGKILL)?;
    let address = cluster.containers[1].1;
    cluster.containers[0]
        .0
        .ping(address)
        .context("without an agent")?;
    page.success("its container answers while no agent runs there: the kernel has all it needs");
    cluster.members[1].start()?;
    cluster.members[1].until_peers(HOSTS.len() - 1)?;
    cluster.containers[0]
        .0
        .ping(address)
        .context("after its return")?;
    page.success("the agent is back; its peers kept its routes meanwhile (graceful restart, RFC 4724)");
    Ok(())
}

fn leave(page: &mut Page, cluster: &mut Cluster) -> Result<()> {
    page.section("A host leaves");
    let block = cluster.members[2]
        .blocks()?
        .into_iter()
        .next()
        .context("a block")?;
    page.step("node-3 leaves");
    let began = Instant::now();
    cluster.members[2].agent_command(["cleanup"]).succeed(PATIENCE)?;
    for member in &cluster.members[..2] {
        member.until_no_route(&format!("{block} "))?;
    }
    let took = began.elapsed();
    cluster.members[2].until_ended()?;
    let left = cluster.members[2].routes()?;
    ensure!(
        left.iter().all(|route| !route.contains("proto 80")),
        "left on node-3: {left:?}"
    );
    ensure!(took < Duration::from_secs(5), "the routes went after {took:?}");
    page.success(&format!(
        "routes to {block} are gone from the other hosts after {}",
        time(took)
    ));
    page.command(
        &format!("{}# ip route", HOSTS[0].0),
        &cluster.members[0].routes()?,
    );
    Ok(())
}
