// SPDX-License-Identifier: Apache-2.0
//! This node's addresses, by `IP` and `IP6`.

use anyhow::{Result, bail};
use ipnet::IpNet;

use crate::{configuration::Variables, facts::Facts};

/// The address of one family; `None`: the node has none.
pub fn find(
    variables: &Variables,
    facts: &Facts,
    recorded: Option<IpNet>,
    v6: bool,
) -> Result<Option<IpNet>> {
    let names: [&str; 2] = if v6 {
        ["IP6", "CALICO_IP6"]
    } else {
        ["IP", "CALICO_IP"]
    };
    let (name, text) = variables.first(&names).unwrap_or_default();
    if text == "none" || (v6 && text.is_empty() && recorded.is_none()) {
        return Ok(None);
    }
    let is_there = |wanted: std::net::IpAddr| facts.addresses.iter().find(|(own, _)| own.addr() == wanted);
    if !text.is_empty() && text != "autodetect" {
        let wanted: IpNet = match (text.parse::<IpNet>(), text.parse::<std::net::IpAddr>()) {
            (Ok(wanted), _) => wanted,
            (_, Ok(address)) => is_there(address).map_or_else(|| IpNet::from(address), |(own, _)| *own),
            _ => bail!("environment variable {name}: {text:?} is no address, \"autodetect\" or \"none\""),
        };
        if wanted.addr().is_ipv6() != v6 {
            bail!("environment variable {name}: {text:?} is of the other IP version");
        }
        return Ok(Some(wanted));
    }
    if text.is_empty()
        && let Some(found) = recorded.filter(|recorded| is_there(recorded.addr()).is_some())
    {
        return Ok(Some(found));
    }
    let excluded = [
        "docker",
        "cbr",
        "dummy",
        "virbr",
        "lxcbr",
        "veth",
        "lo",
        "cali",
        "tunl",
        "flannel",
        "kube-ipvs",
        "cni",
        "vxlan.calico",
        "vxlan-v6.calico",
        "ipip.calico",
    ];
    let candidates = facts.addresses.iter().filter(|(address, index)| {
        let device = facts.links.get(index);
        let usable = device.is_some_and(|device| {
            device.up && !excluded.iter().any(|prefix| device.name.starts_with(prefix))
        });
        let link_local = matches!(address, IpNet::V6(address) if address.addr().is_unicast_link_local());
        usable && address.addr().is_ipv6() == v6 && !link_local && !address.addr().is_loopback()
    });
    let found = candidates
        .max_by_key(|(_, index)| *index)
        .map(|(address, _)| *address);
    match found {
        None if !v6 => bail!("no interface has one; set environment variable IP"),
        found => Ok(found),
    }
}
