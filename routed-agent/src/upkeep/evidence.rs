// SPDX-License-Identifier: Apache-2.0
//! What the kernel knows of who lives: host interfaces of containers, routes to single addresses, network namespaces,
//! and the addresses inside them.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use calico_ipam::{
    attachment::{Attachment, AttachmentId},
    live::{self, LiveInterface},
};
use kernel::{Namespace, Netlink, Opened, RouteFilter, RouteKind, netns};

/// What this host's own namespace shows.
#[derive(Debug, Default)]
pub(super) struct Here {
    interfaces: Vec<LiveInterface>,
    /// Single addresses that are routed to a device, whichever it is.
    routed: BTreeSet<IpAddr>,
}

impl Here {
    /// Looks.
    pub(super) fn look(node: &str) -> Result<Self> {
        let routes = Netlink::open()?.routes(RouteFilter::default())?;
        let single = routes.into_iter().filter(|route| {
            route.destination.prefix_len() == route.destination.max_prefix_len()
                && matches!(route.kind, RouteKind::Unicast | RouteKind::Local)
        });
        Ok(Self {
            interfaces: live::interfaces(node)?,
            routed: single.map(|route| route.destination.addr()).collect(),
        })
    }

    /// Whether an attachment has its interface, or its addresses are routed to something.
    pub(super) fn holds(&self, id: &AttachmentId, attachment: &Attachment) -> bool {
        self.interfaces.iter().any(|live| live.is_of(id, attachment))
            || attachment
                .addresses
                .iter()
                .any(|attached| self.routed.contains(&attached.address))
    }

    /// Whether an address is routed to something.
    pub(super) fn routes(&self, address: IpAddr) -> bool {
        self.routed.contains(&address)
    }
}

/// What all namespaces show.
#[derive(Debug, Default)]
pub(super) struct Everywhere {
    addresses: BTreeSet<IpAddr>,
    /// What may not be looked at.
    pub(super) hidden: Vec<PathBuf>,
}

impl Everywhere {
    /// Looks into every namespace that a process or a mount keeps alive.
    pub(super) fn look() -> Result<Self> {
        let reachable = netns::reachable()?;
        let mut addresses = BTreeSet::new();
        for namespace in reachable.namespaces {
            let found = namespace.socket()?.addresses(None)?;
            addresses.extend(found.iter().map(kernel::Address::ip));
        }
        Ok(Self {
            addresses,
            hidden: reachable.hidden,
        })
    }

    /// Whether a namespace has an address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

/// Whether the namespace of an attachment exists; `None` where its path was not recorded. Below `/proc` the number of a
/// process may be in use again: there it has to have one of the addresses, too.
pub(super) fn has_namespace(attachment: &Attachment) -> Option<bool> {
    let path: &Path = attachment.namespace_path.as_deref()?;
    if !path.starts_with("/proc") {
        return Some(!live::is_gone(path));
    }
    let addresses = match Namespace::open(path) {
        Ok(Opened::Namespace(namespace)) => namespace.socket().and_then(|mut socket| socket.addresses(None)),
        Ok(Opened::Missing | Opened::NotANamespace) => return Some(false),
        Err(problem) => Err(problem),
    };
    // What cannot be looked at may well be its own.
    Some(addresses.map_or(true, |found| {
        found.iter().any(|address| attachment.has(address.ip()))
    }))
}

#[cfg(test)]
impl Everywhere {
    pub(super) fn of<const N: usize>(addresses: [IpAddr; N], hidden: &[&str]) -> Self {
        Self {
            addresses: addresses.into(),
            hidden: hidden.iter().map(PathBuf::from).collect(),
        }
    }
}
