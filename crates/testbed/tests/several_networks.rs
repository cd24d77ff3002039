// SPDX-License-Identifier: Apache-2.0
//! One container on several networks: each interface keeps its addresses and answers at them, and what is left goes on
//! working when one is taken away.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use cni_plugin::Version;
use serde_json::json;
use testbed::cni::{NetworkList, Target};
use testbed::peers::{self, Peer};
use testbed::{Container, Host, Router, StoreContent, probe, view};

fn list(network: &str) -> Result<NetworkList> {
    let ipam = json!({"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"});
    let text = json!({"name": network, "cniVersion": "1.1.0", "plugins": [{"type": "calico", "ipam": ipam}]});
    Ok(NetworkList::parse(text.to_string(), Version::V1_1_0)?)
}

#[test]
fn every_interface_answers_at_its_own_addresses() -> Result<()> {
    if !peers::available(&[Peer::Root, Peer::Ipv6]) {
        return Ok(());
    }
    let router = Router::new()?;
    let host = Host::behind(&router, "several")?;
    host.install_plugins()?;
    let runtime = host.cni();
    let (container, other) = (Container::start("container")?, Container::start("other")?);
    let others = Target::eth0(other.id(), other.path());
    let others_addresses = addresses(&runtime.add(&list("one")?, &others)?.result.ips);
    let mut attached = Vec::new();
    for (network, interface) in [("one", "eth0"), ("two", "eth1"), ("three", "eth2")] {
        let (list, target) = (
            list(network)?,
            Target::eth0(container.id(), container.path()).interface(interface),
        );
        let added = runtime
            .add(&list, &target)
            .with_context(|| format!("ADD of {interface}"))?;
        ensure!(
            runtime.add(&list, &target)?.json == added.json,
            "the second ADD of {interface} differs"
        );
        attached.push((list, target, addresses(&added.result.ips)));
    }
    while let Some((list, target, _)) = attached.first() {
        for (list, target, addresses) in &attached {
            runtime
                .check(list, target)
                .with_context(|| format!("CHECK of {}", target.interface))?;
            for address in addresses {
                let place = [host.place(), other.place()];
                for place in place {
                    probe::ping(place, *address).with_context(|| format!("to {}", target.interface))?;
                }
            }
        }
        for address in &others_addresses {
            container.http(*address).context("from the container")?;
        }
        // The first interface goes first: the next one takes over the container's routes.
        runtime.del(list, target)?;
        attached.remove(0);
    }
    runtime.del(&list("one")?, &others)?;
    let left = StoreContent::read(&host.folders().store())?.leftovers();
    ensure!(left.is_empty(), "left in the store: {left:?}");
    let links: Vec<String> = view::links(host.place())?
        .into_iter()
        .map(|link| link.name)
        .collect();
    ensure!(links == ["eth0"], "links but the uplink: {links:?}");
    Ok(())
}

fn addresses(ips: &[cni_plugin::IpConfig]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.address.addr()).collect()
}
