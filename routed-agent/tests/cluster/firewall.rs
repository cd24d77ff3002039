// SPDX-License-Identifier: Apache-2.0
//! NAT to the outside, and what must not get through; seen from outside.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;
use testbed::{Container, Host, PATIENCE, Place, Program, eventually, peers};

use crate::support::{Cluster, answers, net, possible};

/// The address that a packet from one place arrives with at another; `None` if it does not arrive.
fn seen_from(from: &Place, to: &Place, address: IpAddr) -> Result<Option<IpAddr>> {
    let receiver = to.run(|| UdpSocket::bind((address, 0)))??;
    receiver.set_read_timeout(Some(Duration::from_millis(700)))?;
    let target = SocketAddr::new(address, receiver.local_addr()?.port());
    let sender = from.run(|| -> Result<UdpSocket> {
        let any: IpAddr = if address.is_ipv6() {
            "::".parse()?
        } else {
            "0.0.0.0".parse()?
        };
        let sender = UdpSocket::bind((any, 0))?;
        sender.send_to(b"hello", target)?;
        Ok(sender)
    })??;
    let mut buffer = [0; 16];
    let seen = receiver.recv_from(&mut buffer).ok().map(|(_, from)| from.ip());
    drop(sender);
    Ok(seen)
}

fn outside(cluster: &Cluster) -> Result<Host> {
    let outside = Host::new("outside")?;
    cluster.lan.subnet("lan9", &[net("10.9.0.1/24")])?;
    let gateway = [IpAddr::from([10, 9, 0, 1])];
    cluster
        .lan
        .attach(&outside, "lan9", &[net("10.9.0.9/24")], &gateway)?;
    Ok(outside)
}

#[test]
fn containers_reach_the_outside_with_the_hosts_address_and_each_other_with_their_own() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPV4POOL_NAT_OUTGOING", "true"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let outside = outside(&cluster)?;
    let far = IpAddr::from([10, 9, 0, 9]);
    let (from, own) = (&containers[0].0, containers[0].1);
    let host = IpAddr::from([10, 1, 0, 11]);
    let translated = || (seen_from(from.place(), outside.place(), far).ok()? == Some(host)).then_some(());
    eventually(PATIENCE, translated).context("outside sees the host")?;
    let other = &containers[1];
    ensure!(
        seen_from(from.place(), other.0.place(), other.1)? == Some(own),
        "another container sees the container"
    );
    // A range that is no pool for addresses, only one that is not to be translated to.
    cluster.apply(
        Kind::IpPool,
        "fabric",
        &json!({ "cidr": "10.9.0.0/24", "disabled": true, "ipipMode": "Never", "vxlanMode": "Never" }),
    )?;
    // Nothing outside knows a way back to the container, but its packets arrive there.
    let untranslated = eventually(PATIENCE, || {
        (seen_from(from.place(), outside.place(), far).ok()? == Some(own)).then_some(())
    });
    untranslated.context("a pool's own range is spared")?;
    cluster.patch(Kind::IpPool, "fabric", |pool| {
        pool["spec"]["cidr"] = json!("10.99.0.0/24");
    })?;
    eventually(PATIENCE, translated).context("the pool is another one now")?;
    let nft = peers::find_program("nft").context("no program nft")?;
    let place = cluster.members[0].host().place().clone();
    let run = |arguments: &str| {
        Program::new(&place, &nft)
            .args(arguments.split(' '))
            .succeed(PATIENCE)
    };
    for damage in [
        "delete table inet calico",
        "flush chain inet calico postrouting",
        "delete element inet calico nat-pools-v4 { 192.168.0.0/16 }",
        "insert rule inet calico postrouting accept",
    ] {
        run(damage)?;
        eventually(Duration::from_secs(5), translated)
            .with_context(|| format!("{damage}: {}", run("list ruleset").unwrap_or_default()))?;
    }
    cluster.members[0].until("/v1/journal", |journal| {
        journal.to_string().contains("nftables table inet calico")
    })?;
    // Tables of others are others'.
    run("add table inet others")?;
    cluster.members[0].agent_command(["cleanup"]).succeed(PATIENCE)?;
    cluster.members[0].until_ended()?;
    let left = run("list tables")?;
    ensure!(!left.contains("calico") && left.contains("others"), "{left}");
    Ok(())
}

#[test]
fn containers_cannot_speak_for_others_nor_make_tunnels() -> Result<()> {
    if !possible() || !peers::available(&[peers::Peer::Ipv6]) {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPV4POOL_VXLAN", "Always"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let member = &cluster.members[0];
    let nft = peers::find_program("nft").context("no program nft")?;
    let dropped = |chain: &str, words: &str| -> Result<u64> {
        let text = Program::new(member.host().place(), &nft)
            .args(["list", "chain", "inet", "calico", chain])
            .succeed(PATIENCE)?;
        let rule = text
            .lines()
            .find(|line| line.contains(words))
            .with_context(|| format!("{words}: {text}"))?;
        let count = rule
            .split("packets ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        Ok(count.context("a counter")?.parse()?)
    };
    let send = |container: &Container, to: SocketAddr, source: Option<IpAddr>| {
        container.place().run(|| -> Result<()> {
            let any: IpAddr = if to.is_ipv6() {
                "::".parse()?
            } else {
                "0.0.0.0".parse()?
            };
            let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
            // That it is not delivered is the point.
            let _ = socket.send_to(b"x", to);
            Ok(())
        })?
    };
    // The table may be made anew meanwhile, with counters at zero: what is to be dropped is sent until it is.
    for node in [[10, 1, 0, 11], [10, 1, 0, 12]] {
        let counted = eventually(PATIENCE, || {
            let before = dropped("prerouting", "udp dport 4789").ok()?;
            send(&containers[0].0, SocketAddr::new(IpAddr::from(node), 4789), None).ok()?;
            (dropped("prerouting", "udp dport 4789").ok()? == before + 1).then_some(())
        });
        counted.context("a container made a tunnel")?;
    }
    // One from somebody who is no node.
    let stranger = outside(&cluster)?;
    let counted = eventually(PATIENCE, || {
        let sent = stranger
            .place()
            .run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", "10.1.0.11:4789"));
        sent.ok()?.ok()?;
        (dropped("input", "udp dport 4789").ok()? > 0).then_some(())
    });
    counted.context("a stranger's tunnel packet is dropped")?;
    // An IPv6 address that is not the container's.
    let ip = peers::find_program("ip").context("no program ip")?;
    for change in [
        "-6 address add fd66::1/128 dev eth0 nodad",
        "-6 route replace default via fe80::ecee:eeff:feee:eeee dev eth0",
    ] {
        Program::new(containers[0].0.place(), &ip)
            .args(change.split(' '))
            .succeed(PATIENCE)?;
    }
    let (target, foreign): (SocketAddr, IpAddr) = ("[fd77::1]:9".parse()?, "fd66::1".parse()?);
    let counted = eventually(PATIENCE, || {
        send(&containers[0].0, target, Some(foreign)).ok()?;
        (dropped("prerouting", "fib saddr . iif oif missing").ok()? > 0).then_some(())
    });
    counted.context("a foreign source is dropped")?;
    Ok(())
}

#[test]
fn drops_of_others_are_answered_where_they_are_or_reported() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    let place = cluster.members[0].host().place().clone();
    let run = |program: &str, arguments: &str| {
        let program = peers::find_program(program).with_context(|| format!("no program {program}"))?;
        Program::new(&place, program)
            .args(arguments.split(' '))
            .succeed(PATIENCE)
    };
    // As dockerd leaves it.
    for rule in ["-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP"] {
        run("iptables", rule)?;
    }
    let reached = eventually(PATIENCE, || answers(&containers[0].0, containers[1].1).ok());
    reached.with_context(|| run("iptables", "-S").unwrap_or_default())?;
    let rules = run("iptables", "-S DOCKER-USER")?;
    ensure!(
        rules.contains("-i cali+ -m comment --comment calico -j ACCEPT"),
        "{rules}"
    );
    // Somebody takes them away.
    run("iptables", "-F DOCKER-USER")?;
    eventually(PATIENCE, || answers(&containers[0].0, containers[1].1).ok()).context("after a flush")?;
    // One that has no place for it.
    run("nft", "add table inet strict")?;
    run(
        "nft",
        "add chain inet strict forward { type filter hook forward priority 0; policy drop; }",
    )?;
    cluster.members[0].until("/readyz", |ready| {
        ready["ready"] == false
            && ready["reasons"]
                .to_string()
                .contains("forward-dropped-by-inet-strict")
    })?;
    run("nft", "delete table inet strict")?;
    cluster.members[0].until("/readyz", |ready| ready["ready"] == true)?;
    // One that accepts what comes from and goes to containers, and a rule that rejects instead of a policy.
    for words in [
        "add table inet strict",
        "add chain inet strict forward { type filter hook forward priority 0; policy drop; }",
        "add rule inet strict forward iifname cali* accept",
        "add rule inet strict forward oifname { eth0, cali* } accept",
    ] {
        run("nft", words)?;
    }
    run("iptables", "-P FORWARD ACCEPT")?;
    cluster.members[0].until("/v1/status", |status| status["answeredDrops"] == json!({}))?;
    for rule in [
        "-F FORWARD",
        "-F DOCKER-USER",
        "-X DOCKER-USER",
        "-A FORWARD -j REJECT",
    ] {
        run("iptables", rule)?;
    }
    let reached = eventually(PATIENCE, || answers(&containers[0].0, containers[1].1).ok());
    reached.with_context(|| run("nft", "list ruleset").unwrap_or_default())?;
    cluster.members[0].until("/readyz", |ready| ready["ready"] == true)?;
    cluster.members[0].until("/v1/status", |status| {
        let answer = status["answeredDrops"]["ip filter"].as_str();
        answer.is_some_and(|answer| answer.ends_with("in FORWARD"))
    })?;
    let before = cluster.members[0].text("/v1/journal")?;
    // It looks again whenever something changes, and leaves it at that.
    for words in ["add table inet others", "delete table inet others"] {
        run("nft", words)?;
        containers[0].0.ping(containers[1].1)?;
    }
    let answer = "table ip filter drops";
    let journal = cluster.members[0].text("/v1/journal")?;
    ensure!(
        journal.matches(answer).count() == before.matches(answer).count(),
        "{journal}"
    );
    run("nft", "delete table inet strict")?;
    cluster.members[0].agent_command(["cleanup"]).succeed(PATIENCE)?;
    cluster.members[0].until_ended()?;
    let left = run("iptables", "-S")?;
    ensure!(
        !left.contains("calico") && left.contains("-A FORWARD -j REJECT"),
        "{left}"
    );
    Ok(())
}

/// What becomes of a packet to a service that nobody has translated.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Arrived,
    Refused,
    Lost,
}

/// Sends a packet from a container to an address that `to` has.
fn fate(from: &Place, to: &Place, address: IpAddr) -> Result<Fate> {
    let wait = Some(Duration::from_millis(500));
    let receiver = to.run(|| UdpSocket::bind((address, 0)))??;
    receiver.set_read_timeout(wait)?;
    let target = receiver.local_addr()?;
    let sender = from.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    sender.connect(target)?;
    sender.set_read_timeout(wait)?;
    let mut buffer = [0; 16];
    // An ICMP error may come before the packet is sent whole.
    let sent = sender.send(b"hello");
    let answer = sent.and_then(|_| sender.recv(&mut buffer));
    if answer.is_err_and(|problem| problem.kind() == std::io::ErrorKind::ConnectionRefused) {
        return Ok(Fate::Refused);
    }
    let arrived = receiver.recv_from(&mut buffer).is_ok();
    Ok(if arrived { Fate::Arrived } else { Fate::Lost })
}

#[test]
fn packets_to_services_that_nobody_has_translated_are_treated_as_asked_for() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[("node1", "10.1.0.11/24", "lan0")],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPV4POOL_NAT_OUTGOING", "true"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    // Whoever has the service's address, as a router would that sends such packets round in circles.
    let router = Host::new("router")?;
    let addresses = [net("10.1.0.9/24"), net("10.96.0.10/32")];
    cluster.lan.attach(&router, "lan0", &addresses, &[])?;
    let member = &cluster.members[0];
    let ip = peers::find_program("ip").context("no program ip")?;
    Program::new(member.host().place(), ip)
        .args(["route", "add", "10.96.0.0/16", "via", "10.1.0.9"])
        .succeed(PATIENCE)?;
    let until = |wanted: Fate, what: &str| -> Result<()> {
        let mut last = None;
        let found = eventually(PATIENCE, || {
            let service = IpAddr::from([10, 96, 0, 10]);
            let found = fate(containers[0].0.place(), router.place(), service).ok()?;
            let good = found == wanted;
            last = Some(found);
            good.then_some(())
        });
        found.with_context(|| format!("{what}: {last:?} instead of {wanted:?}: {}", member.log()))
    };
    until(Fate::Arrived, "not a service yet")?;
    let services = json!({ "serviceClusterIPs": [{ "cidr": "10.96.0.0/16" }] });
    cluster.apply(Kind::BgpConfiguration, "default", &services)?;
    until(Fate::Lost, "the default")?;
    for (word, wanted) in [
        ("Reject", Fate::Refused),
        ("Disabled", Fate::Arrived),
        ("Drop", Fate::Lost),
        ("Reject", Fate::Refused),
    ] {
        let spec = json!({ "serviceLoopPrevention": word });
        cluster.apply(Kind::FelixConfiguration, "default", &spec)?;
        until(wanted, word)?;
    }
    let status = member.ask("/v1/status")?;
    ensure!(
        !status["warnings"].to_string().contains("erviceLoop"),
        "{status:#}"
    );
    Ok(())
}
