// SPDX-License-Identifier: Apache-2.0
//! Upkeep of a node's addresses: blocks ahead of need and back, and addresses that nobody holds any more.

use std::{
    fs,
    net::IpAddr,
    os::unix::net::UnixListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kernel::{Namespace, Opened};
use model::{IpamBlock, Kind};
use serde_json::{Value, json};
use testbed::{Container, PATIENCE, StoreContent, cluster::Member, eventually};

use crate::support::{Cluster, possible};

const HOSTS: [(&str, &str, &str); 2] = [
    ("node1", "10.1.0.11/24", "lan0"),
    ("node2", "10.1.0.12/24", "lan0"),
];

fn stock(member: &Member) -> Result<Value> {
    Ok(member.ask("/v1/status")?["addressUpkeep"]["stock"][0].clone())
}

#[test]
fn a_block_is_there_before_the_first_container_and_a_further_one_before_it_is_full() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &HOSTS,
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/24"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "28"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPAM_CLAIM_AHEAD_INTERVAL", "1"),
        ],
    )?;
    cluster.start()?;
    let [first, second] = &cluster.members[..] else {
        unreachable!("two hosts")
    };
    let own = first.blocks()?;
    ensure!(own.len() == 1, "{own:?}");
    second.until_route(&format!("{} via 10.1.0.11", own[0]))?;
    // Thirteen of its sixteen addresses are not to be had: three are fewer than a quarter.
    let hosts: Vec<IpAddr> = own[0].hosts().collect();
    let reserved: Vec<String> = hosts.iter().take(13).map(IpAddr::to_string).collect();
    cluster.apply(Kind::IpReservation, "held", &json!({ "reservedCIDRs": reserved }))?;
    let status = first.until("/v1/status", |status| {
        status["blocks"]
            .as_array()
            .is_some_and(|blocks| blocks.len() == 2)
    })?;
    let further: Vec<String> = serde_json::from_value(status["blocks"].clone())?;
    let further = further
        .iter()
        .find(|block| **block != own[0].to_string())
        .context("another block")?;
    second.until_route(&format!("{further} via 10.1.0.11"))?;
    // With all addresses back one block is enough again, and the containers' own one stays.
    let container = Container::start("one")?;
    cluster.apply(Kind::IpReservation, "held", &json!({ "reservedCIDRs": [] }))?;
    let address = first.add(&container)?[0];
    second.until_no_route(&format!("{further} "))?;
    first.until("/v1/status", |status| {
        status["addressUpkeep"]["stock"][0]["blocks"] == 1
            && status["addressUpkeep"]["stock"][0]["free"] == 15
    })?;
    ensure!(
        own[0].contains(&address),
        "{address} of {own:?}: the block that filled up first stays"
    );
    let journal = first.ask("/v1/journal")?.to_string();
    ensure!(
        journal.contains("claimed ahead") && journal.contains("given back"),
        "{journal}"
    );
    Ok(())
}

#[test]
fn scarce_blocks_are_left_to_those_who_need_them() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &HOSTS,
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/27"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "28"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPAM_CLAIM_AHEAD_INTERVAL", "1"),
        ],
    )?;
    cluster.start()?;
    let first = &cluster.members[0];
    first.until("/v1/status", |status| {
        status["addressUpkeep"]["stock"][0]["short"]
            .as_str()
            .is_some_and(|why| why.contains("two free blocks for each node"))
    })?;
    ensure!(stock(first)?["blocks"] == 0, "{}", stock(first)?);
    let container = Container::start("one")?;
    first.add(&container)?;
    first.until("/v1/status", |status| {
        status["addressUpkeep"]["stock"][0]["blocks"] == 1
    })?;
    Ok(())
}

/// One host whose agent looks for dead containers every second, and asks one runtime. Its pool is its own: the agent looks
/// for an address in all namespaces of the machine, and other tests run hosts there.
fn collecting() -> Result<(Cluster, PathBuf)> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let pool = format!("10.{}.{low}.0/24", 64 + high % 128);
    let mut cluster = Cluster::new(
        &HOSTS[..1],
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", &pool),
            ("CALICO_IPV4POOL_IPIP", "Never"),
            ("CALICO_IPAM_COLLECTION_INTERVAL", "1"),
            ("CALICO_GC_MINIMUM_AGE_SECONDS", "0"),
        ],
    )?;
    let socket = cluster.folder().join("runtime.sock");
    cluster.members[0].set("CALICO_CONTAINER_RUNTIMES", &socket.display().to_string());
    cluster.start()?;
    Ok((cluster, socket))
}

fn in_use(cluster: &Cluster) -> Result<Vec<IpAddr>> {
    let content = StoreContent::read(&cluster.folder().join("store.db"))?;
    let of_block = |block: &IpamBlock| -> Vec<IpAddr> {
        let taken = block
            .allocations
            .iter()
            .enumerate()
            .filter(|(_, index)| index.is_some());
        taken.filter_map(|(ordinal, _)| block.address(ordinal)).collect()
    };
    Ok(content.blocks.iter().flat_map(of_block).collect())
}

/// So many looks have ended since now.
fn after_looks(member: &Member, looks: u32) -> Result<()> {
    let from = Instant::now();
    let passed = || (from.elapsed() > Duration::from_secs(1) * looks).then_some(());
    eventually(PATIENCE, passed).context("time passes")?;
    member.until("/livez", |live| live["live"] == true)?;
    Ok(())
}

#[test]
fn what_two_proofs_agree_on_is_released_and_nothing_else() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (cluster, socket) = collecting()?;
    let member = &cluster.members[0];
    // A runtime that accepts and says nothing.
    let silent = UnixListener::bind(&socket)?;
    let names = ["lives", "dead", "no-interface", "no-path"];
    let mut containers = Vec::new();
    for name in names {
        let container = Container::start(name)?;
        let address = member.add(&container)?[0];
        containers.push((container, address));
    }
    let addresses: Vec<IpAddr> = containers.iter().map(|(_, address)| *address).collect();
    let links = testbed::view::links(member.host().place())?;
    // Only the interface is gone: the runtime's DEL is still to come.
    let route = member.until_route(&format!("{} dev ", addresses[2]))?;
    let interface = route.split(' ').nth(2).context("a device")?;
    let link = links
        .iter()
        .find(|link| link.name == interface)
        .context("its link")?;
    member.host().netlink()?.delete_link(link.index)?;
    // Only the path is gone: whoever holds the namespace open goes on using the interface.
    let (open, path) = (
        Namespace::open(containers[3].0.path())?,
        containers[3].0.path().to_owned(),
    );
    let Opened::Namespace(open) = open else {
        anyhow::bail!("{} is no namespace", path.display())
    };
    kernel::netns::delete_named(
        path.file_name()
            .and_then(|name| name.to_str())
            .context("a name")?,
    )?;
    let (_, dead) = containers.remove(1);
    let undecided = member.until("/v1/status", |status| {
        status["addressUpkeep"]["undecided"].is_string()
    })?;
    let why = undecided["addressUpkeep"]["undecided"]
        .as_str()
        .unwrap_or_default();
    ensure!(why.contains("runtime.sock"), "{why}");
    ensure!(
        in_use(&cluster)?.contains(&dead),
        "nothing is decided while the runtime is silent"
    );
    drop(silent);
    fs::remove_file(&socket)?;
    let gone = || (!in_use(&cluster).ok()?.contains(&dead)).then_some(());
    eventually(PATIENCE, gone).with_context(|| member.log())?;
    after_looks(member, 3)?;
    let mut left = in_use(&cluster)?;
    left.sort();
    let mut expected = vec![addresses[0], addresses[2], addresses[3]];
    expected.sort();
    ensure!(
        left == expected,
        "{left:?} are left of {addresses:?}\n{}",
        member.log()
    );
    let log = member.log();
    ensure!(log.contains(&format!("{dead} of net1.")), "{log}");
    let metrics = member.text("/metrics")?;
    ensure!(
        metrics.contains("ipam_allocations_gc_reclamations{node=\"node1\"} 1"),
        "{metrics}"
    );
    drop(open);
    Ok(())
}

#[test]
fn at_most_a_tenth_goes_at_once() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let (cluster, _) = collecting()?;
    let member = &cluster.members[0];
    for _ in 0..4 {
        let container = Container::start("short")?;
        member.add(&container)?;
    }
    let log = eventually(PATIENCE, || {
        let log = member.log();
        (log.matches(" released: ").count() == 4).then_some(log)
    });
    log.with_context(|| member.log())?;
    let journal = member.ask("/v1/journal")?;
    let times: Vec<Duration> = journal["journal"]
        .as_array()
        .context("a journal")?
        .iter()
        .filter(|line| {
            line["cause"]
                .as_str()
                .is_some_and(|text| text.contains(" released: "))
        })
        .filter_map(|line| time_of(line["time"].as_str()?))
        .collect();
    ensure!(times.len() == 4, "{journal:#}");
    for pair in times.windows(2) {
        let apart = pair[1].saturating_sub(pair[0]);
        ensure!(apart >= Duration::from_millis(900), "two in one look: {times:?}");
    }
    Ok(())
}

/// Since midnight; the journal's times are RFC 3339 with milliseconds.
fn time_of(text: &str) -> Option<Duration> {
    let (_, clock) = text.trim_end_matches('Z').split_once('T')?;
    let mut parts = clock.split(':').map(str::parse::<f64>);
    let mut next = || parts.next()?.ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    Some(Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds))
}
