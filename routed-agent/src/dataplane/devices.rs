// SPDX-License-Identifier: Apache-2.0
//! Tunnel devices with their addresses, the far ends of VXLAN, and the sysctls that forwarding needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use kernel::{
    AddressFlags, Difference, Ipip, Link, MacAddress, Netlink, TunnelDevice, TunnelKind as KernelKind,
    TunnelSpec, Vxlan, host, sysctl,
};

use crate::plan::{Fixtures, Tunnel, TunnelKind, VxlanPeer};

/// Devices, as they should be and as far as they are.
#[derive(Debug, Default)]
pub(super) struct Devices {
    wanted: Option<Arc<Fixtures>>,
    /// Names of devices that were wanted at some time: what is left of them goes when they are not any more.
    known: BTreeSet<Arc<str>>,
    /// Everything was in order once: what differs later was changed by somebody.
    settled: bool,
    pub(super) failed: BTreeMap<String, String>,
}

/// How one item ended: `Some` names what was changed.
type Outcome = kernel::Result<Option<String>>;

impl Devices {
    pub(super) fn set(&mut self, fixtures: Arc<Fixtures>) {
        let names = fixtures.tunnels.iter().map(|tunnel| Arc::clone(&tunnel.name));
        self.known.extend(names);
        self.wanted = Some(fixtures);
        self.settled = false;
    }

    /// Whether notifications of neighbours concern anything.
    pub(super) fn concerns(&self) -> bool {
        self.wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.vxlan_peers.is_empty())
    }

    /// Whether packets of others are to be routed here.
    pub(super) fn forwards(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.forwarding)
    }

    /// The tunnel devices that there should be.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let wanted = self.wanted.iter();
        wanted.flat_map(|wanted| wanted.tunnels.iter().map(|tunnel| &*tunnel.name))
    }

    /// Makes everything as it should be; what was changed by somebody else in between comes back.
    pub(super) fn reconcile(&mut self, netlink: &mut Netlink) -> Vec<String> {
        let Some(wanted) = self.wanted.clone() else {
            return Vec::new();
        };
        let mut done: Vec<(String, Outcome)> = Vec::new();
        if wanted.forwarding {
            done.push(("forwarding".into(), forwarding(netlink, wanted.ipv6)));
        }
        for tunnel in &wanted.tunnels {
            done.push((format!("device {}", tunnel.name), see_to(netlink, tunnel)));
        }
        let gone: Vec<Arc<str>> = self
            .known
            .iter()
            .filter(|name| !wanted.tunnels.iter().any(|tunnel| tunnel.name == **name))
            .cloned()
            .collect();
        for name in gone {
            let outcome = remove(netlink, &name);
            if outcome.is_ok() {
                self.known.remove(&name);
            }
            done.push((format!("device {name}"), outcome));
        }
        for tunnel in wanted
            .tunnels
            .iter()
            .filter(|tunnel| tunnel.kind != TunnelKind::Ipip)
        {
            let peers: BTreeSet<&VxlanPeer> = wanted
                .vxlan_peers
                .iter()
                .filter(|peer| peer.device == tunnel.name)
                .collect();
            done.push((
                format!("far ends of {}", tunnel.name),
                far_ends(netlink, &tunnel.name, &peers),
            ));
        }
        self.failed.clear();
        let mut repaired = Vec::new();
        for (item, outcome) in done {
            match outcome {
                Ok(None) => {}
                Ok(Some(what)) => repaired.push(format!("{item}: {what}")),
                Err(problem) => drop(self.failed.insert(item, problem.to_string())),
            }
        }
        if std::mem::replace(&mut self.settled, self.failed.is_empty()) {
            repaired
        } else {
            Vec::new()
        }
    }

    pub(super) fn remove_all(&mut self, netlink: &mut Netlink) -> kernel::Result<()> {
        let fixtures = self.wanted.take();
        let names = fixtures.iter().flat_map(|wanted| &wanted.tunnels);
        self.known.extend(names.map(|tunnel| Arc::clone(&tunnel.name)));
        for name in std::mem::take(&mut self.known) {
            remove(netlink, &name)?;
        }
        Ok(())
    }

    /// Devices that an earlier life may have left.
    pub(super) fn remember(&mut self, names: impl IntoIterator<Item = String>) {
        self.known.extend(names.into_iter().map(Arc::from));
    }
}

/// Forwarding, without losing what router advertisements have taught.
fn forwarding(netlink: &mut Netlink, ipv6: bool) -> Outcome {
    let mut changed = Vec::new();
    let mut set = |path: &str, value: &str| -> kernel::Result<()> {
        if sysctl::read(path)? != value {
            sysctl::write(path, value)?;
            changed.push(format!("{path} = {value}"));
        }
        Ok(())
    };
    set("net/ipv4/ip_forward", "1")?;
    if ipv6 && host::has_ipv6() && sysctl::read("net/ipv6/conf/all/forwarding")? != "1" {
        for index in netlink.router_advertisement_devices()? {
            if let Some(link) = netlink.link_by_index(index)?
                && host::accept_ra(&link.name)? == 1
            {
                set(&format!("net/ipv6/conf/{}/accept_ra", link.name), "2")?;
            }
        }
        set("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok((!changed.is_empty()).then(|| changed.join(", ")))
}

fn see_to(netlink: &mut Netlink, tunnel: &Tunnel) -> Outcome {
    let mut changed = Vec::new();
    let parent = match &tunnel.kind {
        TunnelKind::Ipip => None,
        TunnelKind::Vxlan { parent, .. } => netlink.link_by_name(parent)?.map(|link| link.index),
    };
    let spec = spec(tunnel, parent);
    let device = match netlink.tunnel(&tunnel.name)? {
        None => {
            changed.push("made".to_owned());
            netlink.create_tunnel(&spec)?
        }
        Some(device) => device,
    };
    let device = match device.differs(&spec) {
        None => device,
        Some(Difference::Adjustable(difference)) => {
            netlink.adjust_tunnel(&device, &spec)?;
            changed.push(difference);
            device
        }
        Some(Difference::Recreate(difference)) => {
            netlink.delete_tunnel(&device)?;
            changed.push(difference);
            netlink.create_tunnel(&spec)?
        }
    };
    addresses(netlink, &device, tunnel, &mut changed)?;
    // Packets of one pair of hosts may come this way and go the other.
    let filter = format!("net/ipv4/conf/{}/rp_filter", tunnel.name);
    if tunnel.local.is_ipv4() && sysctl::read(&filter)? != "2" {
        sysctl::write(&filter, "2")?;
        changed.push("rp_filter = 2".to_owned());
    }
    if !device.link.is_up() {
        netlink.set_link_up(&device.link)?;
        changed.push("was down".to_owned());
    }
    Ok((!changed.is_empty()).then(|| changed.join(", ")))
}

fn addresses(
    netlink: &mut Netlink,
    device: &TunnelDevice,
    tunnel: &Tunnel,
    changed: &mut Vec<String>,
) -> kernel::Result<()> {
    let wanted = tunnel.address.map(IpNet::from);
    let found = netlink.addresses(Some(device.link.index))?;
    let is_foreign = |address: IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    if let Some(wanted) = wanted
        && !found.iter().any(|address| address.prefix == wanted)
    {
        netlink.add_address(&device.link, wanted, AddressFlags::NO_DAD)?;
        changed.push(format!("address {wanted}"));
    }
    // The new one comes before the old ones go: a device without an address drops what it receives.
    for address in found
        .iter()
        .filter(|address| Some(address.prefix) != wanted && is_foreign(address.ip()))
    {
        if wanted.is_some() || address.flags.is_permanent() {
            netlink.delete_address(&device.link, address.prefix)?;
        }
    }
    Ok(())
}

fn spec(tunnel: &Tunnel, parent: Option<u32>) -> TunnelSpec<'_> {
    let kind = match &tunnel.kind {
        TunnelKind::Ipip => KernelKind::Ipip(Ipip {
            local: match tunnel.local {
                // The kernel's own device takes whatever comes.
                IpAddr::V4(local) if *tunnel.name != *kernel::tunnel::IPIP_FALLBACK => Some(local),
                _ => None,
            },
        }),
        TunnelKind::Vxlan { id, port, mac, .. } => KernelKind::Vxlan(Vxlan {
            id: *id,
            port: *port,
            local: Some(tunnel.local),
            parent,
            mac: Some(*mac),
            learning: false,
        }),
    };
    TunnelSpec {
        name: &tunnel.name,
        mtu: Some(tunnel.mtu),
        kind,
    }
}

fn remove(netlink: &mut Netlink, name: &str) -> Outcome {
    let Some(device) = netlink.tunnel(name)? else {
        return Ok(None);
    };
    if device.kind.is_none() {
        return Ok(None);
    }
    if name == kernel::tunnel::IPIP_FALLBACK {
        // It cannot be deleted, and was not made here: only the address was ours.
        for address in netlink.addresses(Some(device.link.index))? {
            netlink.delete_address(&device.link, address.prefix)?;
        }
        return Ok(None);
    }
    netlink.delete_tunnel(&device)?;
    Ok(None)
}

/// Forwarding entries and permanent neighbours: where each far end is. What is not wanted goes: nothing is learned here.
fn far_ends(netlink: &mut Netlink, name: &str, peers: &BTreeSet<&VxlanPeer>) -> Outcome {
    let Some(link) = netlink.link_by_name(name)? else {
        return Ok(None);
    };
    let mut changed = 0;
    let wanted: BTreeMap<MacAddress, IpAddr> = peers
        .iter()
        .map(|peer| (MacAddress(peer.mac), peer.node_address))
        .collect();
    let found = netlink.forwarding(link.index)?;
    for entry in &found {
        let is_wanted = wanted.get(&entry.mac) == Some(&entry.remote) && entry.is_permanent();
        if !is_wanted {
            netlink.delete_forwarding(&link, entry.mac, entry.remote)?;
            changed += 1;
        }
    }
    for (mac, remote) in &wanted {
        if !found
            .iter()
            .any(|entry| entry.mac == *mac && entry.remote == *remote && entry.is_permanent())
        {
            netlink.replace_forwarding(&link, *mac, *remote)?;
            changed += 1;
        }
    }
    changed += neighbours(netlink, &link, peers)?;
    Ok((changed > 0).then(|| format!("{changed} entries")))
}

fn neighbours(netlink: &mut Netlink, link: &Link, peers: &BTreeSet<&VxlanPeer>) -> kernel::Result<usize> {
    let mut changed = 0;
    let wanted: BTreeMap<IpAddr, MacAddress> = peers
        .iter()
        .map(|peer| (peer.tunnel_address, MacAddress(peer.mac)))
        .collect();
    let found = netlink.neighbours(Some(link.index))?;
    for neighbour in found.iter().filter(|neighbour| neighbour.is_permanent()) {
        if !wanted.contains_key(&neighbour.address) && !neighbour.address.is_multicast() {
            netlink.delete_neighbour(link, neighbour.address)?;
            changed += 1;
        }
    }
    for (address, mac) in &wanted {
        let is_there = found.iter().any(|neighbour| {
            neighbour.address == *address && neighbour.mac == Some(*mac) && neighbour.is_permanent()
        });
        if !is_there {
            netlink.replace_neighbour(link, *address, *mac)?;
            changed += 1;
        }
    }
    Ok(changed)
}
