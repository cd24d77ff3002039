// SPDX-License-Identifier: Apache-2.0
//! IP in IP: the owner's first document. Under a kernel that has it, which may be a guest's.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use model::Kind;
use nix::sys::signal::Signal;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use testbed::{PATIENCE, Place, Program, peers, vm};

use crate::{
    support::{Cluster, possible},
    survival::lose_nothing,
};

/// `ETH_P_IP` in network byte order.
const ETH_P_IP: i32 = 0x0800_u16.to_be() as i32;

/// Waits for an IPv4 packet at a place; outer source and destination, protocol, total length, inner destination.
fn capture(
    place: &Place,
    while_doing: impl FnOnce() -> Result<()>,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>> {
    let mut socket =
        place.run(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ETH_P_IP))))??;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    while_doing()?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        if let Ok(length) = socket.read(&mut buffer)
            && wanted(&buffer[..length])
        {
            return Ok(buffer[..length].to_vec());
        }
    }
    bail!("no such packet was seen")
}

fn address(packet: &[u8], at: usize) -> IpAddr {
    let octets: [u8; 4] = packet[at..at + 4].try_into().expect("four octets");
    IpAddr::V4(Ipv4Addr::from(octets))
}

fn two_subnets(device: &str) -> Result<()> {
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
            ("node3", "10.2.0.13/24", "lan1"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "CrossSubnet"),
            ("CALICO_IPIP_DEVICE", device),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let near = cluster.members[1].blocks()?[0];
    let far = cluster.members[2].blocks()?[0];
    let member = &cluster.members[0];
    let direct = member.until_route(&format!("{near} "))?;
    ensure!(direct.contains("via 10.1.0.12 dev eth1"), "{direct}");
    let tunnelled = member.until_route(&format!("{far} "))?;
    ensure!(
        tunnelled.contains(&format!("via 10.2.0.13 dev {device}")),
        "{tunnelled}"
    );
    // A packet that fills the tunnel: 1480 bytes inside, 1500 outside.
    let ping = peers::find_program("ping").context("no program ping")?;
    let full = |size: &str| {
        Program::new(containers[0].0.place(), &ping)
            .args([
                "-c",
                "2",
                "-i",
                "0.3",
                "-W",
                "5",
                "-M",
                "do",
                "-s",
                size,
                &containers[2].1.to_string(),
            ])
            .succeed(Duration::from_secs(30))
    };
    let inner = containers[2].1;
    let packet = capture(
        cluster.lan.place(),
        || full("1452").map(drop),
        |packet| packet.len() > 40 && packet[9] == 4 && address(packet, 36) == inner,
    )?;
    ensure!(
        address(&packet, 12) == IpAddr::from([10, 1, 0, 11]),
        "outer source"
    );
    ensure!(
        address(&packet, 16) == IpAddr::from([10, 2, 0, 13]),
        "outer destination"
    );
    ensure!(u16::from_be_bytes([packet[2], packet[3]]) == 1500, "outer length");
    ensure!(full("1453").is_err(), "one byte more does not fit");
    for (member, tunnels) in cluster.members.iter().zip([1, 1, 2]) {
        member.until("/v1/status", |status| {
            status["tunnelProbes"]["through"] == tunnels
        })?;
    }
    // Nothing is lost while agents are stopped, killed and upgraded.
    lose_nothing(&mut cluster, &containers, 1, 100)?;
    // The pool goes over to the plain network: the router does not know the blocks, so only neighbours reach each other.
    cluster.patch(Kind::IpPool, "default-ipv4-ippool", |pool| {
        pool["spec"]["ipipMode"] = json!("Never");
    })?;
    cluster.members[0].until_route(&format!("{far} via 10.1.0.1 dev eth1"))?;
    containers[0].0.ping(containers[1].1).context("to a neighbour")?;
    cluster.patch(Kind::IpPool, "default-ipv4-ippool", |pool| {
        pool["spec"]["ipipMode"] = json!("Always");
    })?;
    cluster.members[0].until_route(&format!("{near} via 10.1.0.12 dev {device}"))?;
    cluster.members[0].until_route(&format!("{far} via 10.2.0.13 dev {device}"))?;
    for other in [1, 2] {
        let reached = testbed::eventually(PATIENCE, || containers[0].0.ping(containers[other].1).ok());
        reached.context("with ipipMode Always")?;
    }
    too_narrow(&mut cluster)
}

/// A network that takes less than the hosts believe.
fn too_narrow(cluster: &mut Cluster) -> Result<()> {
    let ip = peers::find_program("ip").context("no program ip")?;
    Program::new(cluster.lan.place(), ip)
        .args(["link", "set", "lan1", "mtu", "1400"])
        .succeed(PATIENCE)?;
    cluster.members[2].end(Signal::SIGKILL)?;
    cluster.members[2].start()?;
    let status =
        cluster.members[0].until("/v1/status", |status| status["tunnelProbes"]["large-lost"] == 1)?;
    let warnings = status["warnings"].to_string();
    ensure!(
        warnings.contains("tunnel-mtu") && warnings.contains("ipipMTU"),
        "{warnings}"
    );
    Ok(())
}

#[test]
fn ipip_by_an_own_device() -> Result<()> {
    if !possible() || !vm::under_ipip("ipip::ipip_by_an_own_device")? {
        return Ok(());
    }
    two_subnets("ipip.calico")
}

#[test]
fn ipip_by_the_device_of_the_kernel() -> Result<()> {
    if !possible() || !vm::under_ipip("ipip::ipip_by_the_device_of_the_kernel")? {
        return Ok(());
    }
    two_subnets("tunl0")
}
