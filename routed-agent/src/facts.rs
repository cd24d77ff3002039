// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of the host's own network, routes of this project left out: the ground that everything here
//! is built on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use bgp::policy::Glob;
use ipnet::IpNet;
use kernel::{Link, Netlink, Route, RouteFilter, RouteKind, RouteProtocol};

/// Table main.
const MAIN: u32 = 254;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Links by index.
    pub links: BTreeMap<u32, Device>,
    /// Addresses with the index of their link.
    pub addresses: Vec<(IpNet, u32)>,
    /// Routes of table main that are not ours.
    pub underlay: Vec<Underlay>,
    /// Whether IPv6 is there.
    pub has_ipv6: bool,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name.
    pub name: Arc<str>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Driver.
    pub kind: Option<String>,
}

/// A route that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Where to.
    pub destination: IpNet,
    /// Metric.
    pub metric: u32,
    /// Who made it.
    pub protocol: u8,
    /// How; empty for one that leads nowhere.
    pub hops: Vec<Hop>,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Router; `None`: on the link.
    pub gateway: Option<IpAddr>,
    /// Name of the link.
    pub device: Arc<str>,
}

/// Who the routes of a host that are not its own ground belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Protocol numbers.
    pub protocols: BTreeSet<u8>,
    /// What the names of container interfaces start with.
    pub interface_prefix: String,
    /// Tunnel devices.
    pub devices: BTreeSet<String>,
    /// Devices that are no ground although they are not ours.
    pub ignored: Vec<Glob>,
}

impl Ours {
    fn has_device(&self, name: &str) -> bool {
        name.starts_with(&self.interface_prefix)
            || self.devices.contains(name)
            || self.ignored.iter().any(|glob| glob.matches(name))
    }
}

impl Facts {
    /// Asks the kernel.
    pub fn gather(netlink: &mut Netlink, ours: &Ours) -> kernel::Result<Self> {
        // Containers come and go; their links are no ground for anything.
        let links = netlink.links()?.into_iter();
        let links: BTreeMap<u32, Device> = links
            .filter(|link| !link.name.starts_with(&ours.interface_prefix))
            .map(device)
            .collect();
        let addresses = netlink.addresses(None)?;
        let addresses = addresses
            .into_iter()
            .filter(|address| links.contains_key(&address.interface))
            .map(|address| (address.prefix, address.interface))
            .collect();
        let mut underlay = Vec::new();
        let main = RouteFilter {
            table: Some(MAIN),
            ..RouteFilter::default()
        };
        for route in netlink.routes(main)? {
            if !ours.protocols.contains(&route.protocol.0)
                && let Some(found) = Underlay::of(&route, &links, ours)
            {
                underlay.push(found);
            }
        }
        underlay.sort_by(|one, other| {
            let rank = |route: &Underlay| (route.destination, route.metric, route.protocol);
            rank(one)
                .cmp(&rank(other))
                .then_with(|| one.hops.cmp(&other.hops))
        });
        Ok(Self {
            links,
            addresses,
            underlay,
            has_ipv6: kernel::host::has_ipv6(),
        })
    }

    /// The route of the ground that a packet to an address would take.
    pub fn lookup(&self, address: IpAddr) -> Option<&Underlay> {
        let single = IpNet::from(address);
        let around = self
            .underlay
            .iter()
            .filter(|route| route.destination.contains(&single));
        around.min_by_key(|route| (std::cmp::Reverse(route.destination.prefix_len()), route.metric))
    }

    /// How to get to an address over the ground: to itself if it is on a link, else to the router before it.
    pub fn resolve(&self, address: IpAddr) -> Option<Vec<Hop>> {
        let route = self.lookup(address)?;
        if route.hops.is_empty() {
            return None;
        }
        let hops = route.hops.iter().map(|hop| Hop {
            gateway: Some(hop.gateway.unwrap_or(address)),
            device: Arc::clone(&hop.device),
        });
        Some(hops.collect())
    }

    /// All own addresses.
    pub fn own_addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().map(|(prefix, _)| prefix.addr()).collect()
    }

    /// The link of an own address.
    pub fn device_of(&self, address: IpAddr) -> Option<&Device> {
        let found = self.addresses.iter().find(|(prefix, _)| prefix.addr() == address);
        self.links.get(&found?.1)
    }
}

impl Underlay {
    fn of(route: &Route, links: &BTreeMap<u32, Device>, ours: &Ours) -> Option<Self> {
        let named = |index: u32| links.get(&index).map(|link| Arc::clone(&link.name));
        let hops: Vec<Hop> = match route.kind {
            RouteKind::Unicast if route.multipath.is_empty() => {
                let device = named(route.interface?)?;
                vec![Hop {
                    gateway: route.gateway,
                    device,
                }]
            }
            RouteKind::Unicast => {
                let hops = route.multipath.iter().filter_map(|hop| {
                    Some(Hop {
                        gateway: hop.gateway,
                        device: named(hop.interface)?,
                    })
                });
                hops.collect()
            }
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => Vec::new(),
            _ => return None,
        };
        if hops.iter().any(|hop| ours.has_device(&hop.device)) {
            return None;
        }
        Some(Self {
            destination: route.destination,
            metric: route.priority.unwrap_or_default(),
            protocol: route.protocol.0,
            hops,
        })
    }

    /// Whether the kernel made it with an address.
    pub fn is_connected(&self) -> bool {
        RouteProtocol(self.protocol) == RouteProtocol::KERNEL
    }
}

fn device(link: Link) -> (u32, Device) {
    let up = link.is_up();
    let device = Device {
        name: link.name.into(),
        mtu: link.mtu,
        up,
        kind: link.kind,
    };
    (link.index, device)
}
