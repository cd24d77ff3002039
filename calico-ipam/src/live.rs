// SPDX-License-Identifier: Apache-2.0
//! Which containers live, as the kernel knows it: host interfaces, whose they are, and what is routed to them. The
//! alias of a host interface names its attachment, so that this is known even when the store is lost.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use kernel::{Namespace, Netlink, Opened, RouteFilter, RouteKind};

use crate::attachment::{Attachment, AttachmentId};

/// Start of the alias of a host interface; the rest is `<network>/<container ID>/<interface>`.
const ALIAS_PREFIX: &str = "calico:";
/// What host interfaces of containers are called, whoever made them.
const INTERFACE_PREFIX: &str = "cali";
/// The kernel's limit for an alias (`IFALIASZ` without its final zero).
const MAX_ALIAS: usize = 255;

/// The alias that makes a host interface tell its attachment; `None` for the few that are too long for the kernel.
pub fn alias(id: &AttachmentId) -> Option<String> {
    let alias = format!(
        "{ALIAS_PREFIX}{}/{}/{}",
        id.network, id.container_id, id.interface
    );
    (alias.len() <= MAX_ALIAS).then_some(alias)
}

/// The attachment that an alias names.
pub fn parse_alias(node: &str, alias: &str) -> Option<AttachmentId> {
    let mut parts = alias.strip_prefix(ALIAS_PREFIX)?.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
    let id = AttachmentId {
        node: node.to_owned(),
        network: next()?,
        container_id: next()?,
        interface: next()?,
    };
    parts.next().is_none().then_some(id)
}

/// The handle of an address whose container nothing names: an interface that another program made.
pub fn anonymous_handle(interface: &str) -> String {
    format!("recovered.{interface}")
}

/// A host interface of a container that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveInterface {
    /// Its name.
    pub name: String,
    /// The attachment its alias names.
    pub id: Option<AttachmentId>,
    /// MTU.
    pub mtu: u32,
    /// What is routed to it.
    pub addresses: Vec<IpAddr>,
}

impl LiveInterface {
    /// Whether it is the interface of an attachment: by its alias, or by its name or address where it has none.
    pub fn is_of(&self, id: &AttachmentId, attachment: &Attachment) -> bool {
        let named = Some(&self.name) == attachment.host_interface.as_ref();
        let addressed = || self.addresses.iter().any(|address| attachment.has(*address));
        self.id
            .as_ref()
            .map_or_else(|| named || addressed(), |found| found == id)
    }
}

/// All host interfaces of containers in this network namespace. A pair vanishes with its namespace, so one that is
/// there belongs to a namespace that is.
pub fn interfaces(node: &str) -> Result<Vec<LiveInterface>, kernel::Error> {
    let mut socket = Netlink::open()?;
    let mut found = BTreeMap::new();
    for link in socket.links()? {
        let id = link.alias.as_deref().and_then(|alias| parse_alias(node, alias));
        if id.is_some() || link.name.starts_with(INTERFACE_PREFIX) {
            let live = LiveInterface {
                name: link.name,
                id,
                mtu: link.mtu,
                addresses: Vec::new(),
            };
            found.insert(link.index, live);
        }
    }
    if !found.is_empty() {
        for route in socket.routes(RouteFilter::default())? {
            let exact = route.destination.prefix_len() == route.destination.max_prefix_len();
            let direct = route.kind == RouteKind::Unicast && route.gateway.is_none();
            if let (true, true, Some(live)) = (
                exact,
                direct,
                route.interface.and_then(|index| found.get_mut(&index)),
            ) {
                live.addresses.push(route.destination.addr());
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Whether this network namespace has an interface of that name.
pub fn exists(name: &str) -> Result<bool, kernel::Error> {
    Ok(Netlink::open()?.link_by_name(name)?.is_some())
}

/// Whether a namespace path leads to no namespace any more.
pub fn is_gone(path: &Path) -> bool {
    matches!(Namespace::open(path), Ok(Opened::Missing | Opened::NotANamespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_reads_back_as_its_attachment() {
        let id = AttachmentId {
            node: "node-1".into(),
            network: "net".into(),
            container_id: "c1".into(),
            interface: "eth0".into(),
        };
        let text = alias(&id).unwrap();
        assert_eq!(text, "calico:net/c1/eth0");
        assert_eq!(parse_alias("node-1", &text), Some(id.clone()));
        for text in [
            "",
            "calico:",
            "calico:net/c1",
            "calico:net//eth0",
            "calico:net/c1/eth0/x",
            "other:net/c1/eth0",
        ] {
            assert_eq!(parse_alias("node-1", text), None, "{text}");
        }
        assert_eq!(
            alias(&AttachmentId {
                container_id: "x".repeat(300),
                ..id
            }),
            None
        );
    }
}
