// SPDX-License-Identifier: Apache-2.0
//! When ADD returns, the container's network works: its very first packet arrives, also on a busy machine. The kernel brings
//! interfaces and IPv6 addresses up in work queues; a plugin that does not wait for them loses packets then.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cni_plugin::Version;
use ipnet::IpNet;
use serde_json::json;
use testbed::cni::{NetworkList, Target};
use testbed::peers::{self, Peer};
use testbed::{Container, Host, Router, probe};

/// Enough at once to keep the kernel's networking lock busy.
const WORKERS: usize = 8;
const CONTAINERS: usize = 12;
/// A neighbour that has to be asked for a second time answers after a second.
const LIMIT: Duration = Duration::from_millis(900);

#[test]
fn the_first_packet_arrives() -> Result<()> {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let router = Router::new()?;
    let host = Host::behind(&router, "busy")?;
    host.install_plugins()?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| work(&host))).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panics in there"));
        ended.collect::<Result<Vec<()>>>()
    })?;
    Ok(())
}

fn work(host: &Host) -> Result<()> {
    let plugin = json!({"type": "calico", "ipam": {"type": "calico-ipam", "assign_ipv6": "true"}});
    let list = json!({"name": "net", "cniVersion": "1.0.0", "plugins": [plugin]});
    let list = NetworkList::parse(list.to_string(), Version::V1_0_0)?;
    let runtime = host.cni();
    for number in 0..CONTAINERS {
        let container = Container::start("first")?;
        let target = Target::eth0(container.id(), container.path());
        let added = runtime.add(&list, &target)?;
        let uplink = host.uplink().context("the host has an uplink")?;
        // Newer families first in one half, so that neither profits from the other's time.
        let mut outside: Vec<_> = uplink.addresses.iter().map(IpNet::addr).collect();
        let mut inside: Vec<_> = added.result.ips.iter().map(|ip| ip.address.addr()).collect();
        if number % 2 == 0 {
            outside.reverse();
            inside.reverse();
        }
        let start = Instant::now();
        for address in outside {
            container.ping(address)?;
        }
        for address in inside {
            probe::ping(host.place(), address)?;
        }
        let elapsed = start.elapsed();
        ensure!(
            elapsed < LIMIT,
            "four pings took {elapsed:?}: a packet was lost on the way"
        );
        runtime.del(&list, &target)?;
    }
    Ok(())
}
