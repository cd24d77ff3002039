// SPDX-License-Identifier: Apache-2.0
//! Somebody changes the host underneath the agent: its uplink, addresses, sysctls, tunnel entries, rules. (Routes and tunnel
//! devices: `cluster/survival.rs`; single rules of the table: `cluster/firewall.rs`.)

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testbed::{Container, PATIENCE, cluster::Member, eventually};

use crate::{
    polite::until,
    stage::{AS, HOSTILE, Stage, offer, run_on},
    support::{Cluster, possible},
    wire::{Line, announce, v4net},
    world::v4,
};

/// How long a repair may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(5);

/// The other peer with a route.
fn with_route(stage: &Stage) -> Result<Line> {
    let mut line = stage.establish(&offer())?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    Ok(line)
}

/// Nothing of before is missing.
fn until_restored(stage: &Stage, routes: &[String], what: &str) -> Result<()> {
    let mut now = Vec::new();
    let restored = eventually(SOON, || {
        now = stage.agent().routes().ok()?;
        routes.iter().all(|route| now.contains(route)).then_some(())
    });
    restored.with_context(|| format!("{what}: {now:#?} instead of {routes:#?}\n{}", stage.agent().log()))?;
    stage.unharmed().with_context(|| what.to_owned())?;
    let row = stage.row()?;
    ensure!(
        row["session"] == "Established" && row["counters"]["downs"] == 0,
        "{what}: {row:#}"
    );
    Ok(())
}

/// Shorter than the hold time of the peer that is heard every second.
const SHORT: Duration = Duration::from_millis(1200);

#[test]
fn an_uplink_that_goes_down_and_up_costs_no_session() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let _line = with_route(&stage)?;
    let routes = stage.agent().routes()?;
    for _ in 0..2 {
        stage.run("ip", "link set eth1 down")?;
        stage.agent().until_no_route("20.0.3.0/24")?;
        stage.agent().until_route("blackhole ")?;
        let down = Instant::now();
        until(stage.agent(), "time", || (down.elapsed() > SHORT).then_some(()))?;
        stage.run("ip", "link set eth1 up")?;
        until_restored(&stage, &routes, "link down and up")?;
    }
    // Cut at the other end: the kernel keeps the routes, and so does the agent.
    stage.run("ip", "link set eth1 carrier off").ok();
    stage.run("ip", "link set eth1 carrier on").ok();
    until_restored(&stage, &routes, "carrier lost and found")
}

fn address_goes_and_comes(environment: &[(&str, &str)]) -> Result<()> {
    let Some(stage) = Stage::new(environment)? else {
        return Ok(());
    };
    let _line = with_route(&stage)?;
    let routes = stage.agent().routes()?;
    for _ in 0..2 {
        stage.run("ip", "address del 10.1.0.11/24 dev eth1")?;
        stage.agent().until_no_route("20.0.3.0/24")?;
        let gone = Instant::now();
        until(stage.agent(), "time", || (gone.elapsed() > SHORT).then_some(()))?;
        stage.run("ip", "address add 10.1.0.11/24 dev eth1")?;
        until_restored(&stage, &routes, "address removed and added")?;
    }
    stage.agent().until("/readyz", |ready| ready["ready"] == true)?;
    let addresses = stage.agent().ask("/v1/status")?["addresses"].to_string();
    ensure!(addresses.contains("10.1.0.11"), "{addresses}");
    Ok(())
}

#[test]
fn an_address_that_goes_and_comes_costs_no_session() -> Result<()> {
    address_goes_and_comes(&[])
}

#[test]
fn an_address_found_by_itself_that_goes_and_comes_costs_no_session() -> Result<()> {
    address_goes_and_comes(&[("IP", "autodetect")])
}

/// A second address beside the node's changes nothing.
#[test]
fn further_addresses_and_links_come_and_go_unnoticed() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let _line = with_route(&stage)?;
    let routes = stage.agent().routes()?;
    for number in 0..20 {
        stage.run("ip", "address add 10.1.0.12/24 dev eth1")?;
        stage.run(
            "ip",
            &format!("link add extra{number} type veth peer name other{number}"),
        )?;
        stage.run("ip", &format!("link set extra{number} up"))?;
        stage.run(
            "ip",
            &format!("address add 10.77.{number}.1/24 dev extra{number}"),
        )?;
        stage.run("ip", "address del 10.1.0.12/24 dev eth1")?;
        stage.run("ip", &format!("link del extra{number}"))?;
    }
    until_restored(&stage, &routes, "others come and go")?;
    let journal = stage.agent().ask("/v1/journal")?.to_string();
    ensure!(!journal.contains("put right"), "{journal}");
    Ok(())
}

/// Somebody who takes the same route away again and again is left alone for a while, is named, and gets the last word at no
/// time.
#[test]
fn a_rival_is_named_and_outlived() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let _line = with_route(&stage)?;
    let agent = stage.agent();
    let mut removed = 0;
    until(agent, "the rival is never noticed", || {
        // That it is not there is what is wanted.
        removed += usize::from(stage.run("ip", "route del 20.0.3.0/24").is_ok());
        let status = agent.ask("/v1/status").ok()?;
        status["rivals"].to_string().contains("20.0.3.0/24").then_some(())
    })?;
    ensure!(removed < 10, "removed {removed} times");
    stage.unharmed()?;
    let back = eventually(Duration::from_secs(45), || {
        let routes = agent.routes().ok()?;
        routes
            .iter()
            .any(|route| route.starts_with("20.0.3.0/24"))
            .then_some(())
    });
    back.with_context(|| format!("the route does not come back: {}", agent.log()))?;
    agent.until("/v1/status", |status| {
        status["rivals"].as_array().is_some_and(Vec::is_empty)
    })?;
    stage.unharmed()
}

/// Containers with their addresses.
type Containers = Vec<(Container, std::net::IpAddr)>;

/// Two hosts whose containers reach each other through VXLAN.
fn tunnelled() -> Result<Option<(Cluster, Containers)>> {
    if !possible() {
        return Ok(None);
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
    Ok(Some((cluster, containers)))
}

fn rules(member: &Member) -> Result<String> {
    let text = run_on(member.host(), "nft", "list table inet calico")?;
    // Counters are no rules.
    let is_number = |word: &&str| !word.bytes().all(|byte| byte.is_ascii_digit());
    Ok(text.split(' ').filter(is_number).collect::<Vec<_>>().join(" "))
}

/// What the agent sees to on a host, by what it is.
fn aspects(member: &Member) -> Result<BTreeMap<&'static str, String>> {
    let run = |program: &str, arguments: &str| run_on(member.host(), program, arguments);
    let link = run("ip", "-o link show dev vxlan.calico")?;
    let mtu = link.split(' ').skip_while(|word| *word != "mtu").nth(1);
    // The default route is the host's own matter, and goes with its link.
    let routes = member.routes()?.into_iter();
    let routes: Vec<String> = routes.filter(|route| !route.starts_with("default")).collect();
    let mut aspects = BTreeMap::from([
        ("rules", rules(member)?),
        ("routes", routes.join("\n")),
        ("forwarding entries", run("bridge", "fdb show dev vxlan.calico")?),
        ("neighbours", run("ip", "neighbour show dev vxlan.calico")?),
        ("MTU", mtu.context("an MTU")?.to_owned()),
    ]);
    for name in [
        "net.ipv4.ip_forward",
        "net.ipv4.conf.vxlan/calico.rp_filter",
        "net.ipv4.conf.vxlan/calico.forwarding",
        "net.ipv4.conf.eth1.forwarding",
    ] {
        aspects.insert(name, run("sysctl", &format!("-n {name}"))?);
    }
    Ok(aspects)
}

/// The same once it does not change any more: the table follows the nodes a moment after the routes.
fn settled_aspects(member: &Member) -> Result<BTreeMap<&'static str, String>> {
    let mut before = aspects(member)?;
    let mut since = Instant::now();
    let settled = eventually(PATIENCE, || {
        let now = aspects(member).ok()?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(500)).then(|| before.clone())
    });
    settled.context("the agent does not settle")
}

/// What is not as it was; nothing if all is.
fn damage(member: &Member, before: &BTreeMap<&'static str, String>) -> Result<String> {
    let now = aspects(member)?;
    let wrong = before
        .iter()
        .filter(|(name, value)| now.get(*name) != Some(value));
    let wrong = wrong.map(|(name, value)| format!("{name}:\n{value}\n{:?}\n", now.get(name)));
    Ok(wrong.collect())
}

#[test]
fn tunnel_entries_sysctls_and_rules_come_back() -> Result<()> {
    let Some((cluster, containers)) = tunnelled()? else {
        return Ok(());
    };
    let member = &cluster.members[0];
    let before = settled_aspects(member)?;
    let entries = run_on(member.host(), "bridge", "fdb show dev vxlan.calico")?;
    let entry = entries
        .lines()
        .find(|line| line.contains("dst"))
        .context("an entry")?;
    let mac = entry.split(' ').next().context("a MAC address")?.to_owned();
    let neighbours = run_on(member.host(), "ip", "neighbour show dev vxlan.calico")?;
    let neighbour = neighbours.split(' ').next().context("a neighbour")?.to_owned();
    let damages = [
        ("bridge", format!("fdb del {mac} dev vxlan.calico dst 10.1.0.12")),
        (
            "bridge",
            format!("fdb replace {mac} dev vxlan.calico dst 10.1.0.99"),
        ),
        ("ip", format!("neighbour del {neighbour} dev vxlan.calico")),
        (
            "ip",
            format!("neighbour replace {neighbour} lladdr 02:00:00:00:00:99 dev vxlan.calico nud permanent"),
        ),
        ("ip", "neighbour flush dev vxlan.calico nud all".to_owned()),
        ("ip", "link set vxlan.calico mtu 1300".to_owned()),
        ("ip", "link del vxlan.calico".to_owned()),
        ("sysctl", "-w net.ipv4.ip_forward=0".to_owned()),
        ("sysctl", "-w net.ipv4.conf.vxlan/calico.rp_filter=1".to_owned()),
        ("sysctl", "-w net.ipv4.conf.eth1.forwarding=0".to_owned()),
        ("sysctl", "-w net.ipv4.conf.vxlan/calico.forwarding=0".to_owned()),
        ("nft", "flush table inet calico".to_owned()),
        ("nft", "flush ruleset".to_owned()),
        ("ip", "route flush table main proto 80".to_owned()),
        ("ip", "link set eth1 down".to_owned()),
    ];
    for (program, arguments) in &damages {
        let what = format!("{program} {arguments}");
        run_on(member.host(), program, arguments).with_context(|| what.clone())?;
        if arguments.contains("eth1 down") {
            run_on(member.host(), "ip", "link set eth1 up")?;
        }
        // A packet that is lost is waited for by its sender for long: first everything is to be as before.
        let mut wrong = String::new();
        let whole = eventually(SOON, || {
            wrong = damage(member, &before).unwrap_or_else(|problem| problem.to_string());
            wrong.is_empty().then_some(())
        });
        whole.with_context(|| format!("{what}: not repaired: {wrong}\n{}", member.log()))?;
        for (from, to) in [(0, 1), (1, 0)] {
            let reached = eventually(PATIENCE, || containers[from].0.ping(containers[to].1).ok());
            reached.with_context(|| {
                let routes = member.routes().unwrap_or_default().join("\n");
                format!("{what}: {from} to {to}\n{routes}\n{}", member.log())
            })?;
        }
    }
    let answer = member.ask("/v1/peers")?;
    ensure!(answer["peers"][0]["counters"]["downs"] == 0, "{answer:#}");
    Ok(())
}

/// Others' routes on containers' interfaces go where that is wanted, and nothing else does.
#[test]
fn routes_of_others_on_containers_interfaces_go_where_that_is_wanted() -> Result<()> {
    let Some((cluster, containers)) = tunnelled()? else {
        return Ok(());
    };
    let member = &cluster.members[0];
    let run = |arguments: &str| run_on(member.host(), "ip", arguments);
    let own = format!("{} dev ", containers[0].1);
    let route = member.until_route(&own)?;
    let device = route
        .split(' ')
        .skip_while(|word| *word != "dev")
        .nth(1)
        .context("a device")?
        .to_owned();
    let before = member.routes()?;
    let foreign = [
        format!("10.99.0.0/24 dev {device} proto static"),
        format!("10.99.1.1 dev {device}"),
        // Beside the container's own.
        format!("{} dev {device} metric 77", containers[0].1),
    ];
    let others = [
        "10.99.2.0/24 via 10.1.0.12 dev eth1 proto static",
        "blackhole 10.99.3.0/24",
    ];
    let add = || -> Result<()> {
        for route in foreign.iter().map(String::as_str).chain(others) {
            run(&format!("route replace {route}"))?;
        }
        // A route of the kernel's own.
        run(&format!("address replace 10.99.4.1/24 dev {device}"))?;
        run(&format!("-6 route replace fd99::1 dev {device}"))?;
        Ok(())
    };
    add()?;
    let all = member.routes()?;
    ensure!(
        all.len() == before.len() + foreign.len() + others.len() + 1,
        "{all:#?}"
    );
    // Nobody has asked for it.
    let added = Instant::now();
    until(member, "time", || {
        (added.elapsed() > Duration::from_secs(12)).then_some(())
    })?;
    ensure!(member.routes()? == all, "{:#?}", member.routes()?);
    let set = |wanted: bool| {
        let spec = serde_json::json!({ "removeExternalRoutes": wanted });
        cluster.apply(model::Kind::FelixConfiguration, "default", &spec)
    };
    set(true)?;
    let asked = Instant::now();
    let is_left = |route: &String| {
        !route.starts_with("10.99.0.") && !route.starts_with("10.99.1.") && !route.ends_with("metric 77")
    };
    let left: Vec<String> = all.iter().filter(|route| is_left(route)).cloned().collect();
    let mut now = Vec::new();
    let gone = eventually(Duration::from_secs(20), || {
        now = member.routes().ok()?;
        (now == left).then_some(asked.elapsed())
    });
    let time = gone.with_context(|| format!("{now:#?} instead of {left:#?}\n{}", member.log()))?;
    ensure!(time > Duration::from_secs(8), "the plugin needs time: {time:?}");
    let v6 = run(&format!("-6 route show dev {device}"))?;
    ensure!(!v6.contains("fd99::1") && v6.contains("fe80::/64"), "{v6}");
    let journal = member.ask("/v1/journal?kind=repair")?.to_string();
    ensure!(
        journal.contains("10.99.1.1/32") && journal.contains("is removed"),
        "{journal}"
    );
    ensure!(
        !journal.contains("10.99.2.0") && !journal.contains("10.99.4.0"),
        "{journal}"
    );
    cluster.assert_all_reach_all(&containers)?;
    // From now on they stay again.
    set(false)?;
    member.until("/v1/journal", |journal| {
        journal
            .to_string()
            .matches("remove_external_routes has changed")
            .count()
            == 2
    })?;
    add()?;
    let added = Instant::now();
    until(member, "time", || {
        (added.elapsed() > Duration::from_secs(12)).then_some(())
    })?;
    ensure!(member.routes()? == all, "{:#?}", member.routes()?);
    Ok(())
}

/// A single link that does not forward is opened where our routes use it, and whoever insists is named.
#[test]
fn links_that_somebody_closes_are_opened_where_routes_use_them() -> Result<()> {
    let Some((cluster, containers)) = tunnelled()? else {
        return Ok(());
    };
    let member = &cluster.members[0];
    let set = |link: &str, value: u8| -> Result<()> {
        let link = link.replace('.', "/");
        run_on(
            member.host(),
            "sysctl",
            &format!("-w net.ipv4.conf.{link}.forwarding={value}"),
        )?;
        Ok(())
    };
    let is_open = |link: &str| -> Result<bool> {
        let link = link.replace('.', "/");
        let value = run_on(
            member.host(),
            "sysctl",
            &format!("-n net.ipv4.conf.{link}.forwarding"),
        )?;
        Ok(value.trim() == "1")
    };
    run_on(member.host(), "ip", "link add other type bridge")?;
    set("other", 0)?;
    let route = member.until_route(&format!("{} dev ", containers[0].1))?;
    let container = route.split(' ').nth(2).context("a device")?.to_owned();
    for link in [&*container, "vxlan.calico", "eth1"] {
        set(link, 0)?;
        let closed = Instant::now();
        let opened = eventually(SOON, || is_open(link).ok()?.then_some(closed.elapsed()));
        let time = opened.with_context(|| format!("{link} stays closed: {}", member.log()))?;
        ensure!(time < Duration::from_secs(2), "{link}: {time:?}");
        member.until("/v1/journal?kind=repair", |journal| {
            journal.to_string().contains(&format!("forwarding of {link}"))
        })?;
    }
    containers[0].0.ping(containers[1].1)?;
    ensure!(!is_open("other")?, "a link that no route uses was opened");
    // Whoever insists is named, and left alone for a while.
    let mut closed = 0;
    until(member, "the rival is never noticed", || {
        if is_open(&container).ok()? {
            set(&container, 0).ok()?;
            closed += 1;
        }
        let status = member.ask("/v1/status").ok()?;
        let rivals = status["rivals"].to_string();
        rivals
            .contains(&format!("forwarding of {container}"))
            .then_some(())
    })?;
    ensure!((4..10).contains(&closed), "closed {closed} times");
    ensure!(!is_open(&container)?, "it is not left alone");
    let back = eventually(Duration::from_secs(45), || {
        is_open(&container).ok()?.then_some(())
    });
    back.with_context(|| member.log())?;
    member.until("/v1/status", |status| {
        status["rivals"].as_array().is_some_and(Vec::is_empty)
    })?;
    Ok(())
}
