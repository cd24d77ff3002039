// SPDX-License-Identifier: Apache-2.0
//! Making the store agree with the containers that live: once per incarnation of the store (it was made, replaced or
//! restored from a copy) and once per boot (what it describes may be gone).
//!
//! The live interfaces of this network namespace are the truth: their aliases name the attachment, their /32 and
//! /128 routes its addresses. Those are adopted; records whose interface and namespace are gone are released. It
//! runs under the host lock, before the first address is assigned, and can be cut off and repeated anywhere.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use cni_plugin::Error;
use datastore::Write;
use ipam::{AdoptError, AdoptOutcome, AdoptRequest};
use kernel::{Namespace, Netlink, Opened, RouteFilter, RouteKind};
use model::{Key, LocalTable};
use serde::{Deserialize, Serialize};

use crate::{
    attachment::{AttachedAddress, Attachment, AttachmentId},
    cluster, error,
    release::{self, Cause},
    session::{Session, decode},
};

/// What this node was last reconciled with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reconciled {
    incarnation: String,
    boot: String,
}

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

/// All host interfaces of containers in this network namespace. A pair vanishes with its namespace, so one that is
/// there belongs to a namespace that is.
pub fn live_interfaces(node: &str) -> Result<Vec<LiveInterface>, kernel::Error> {
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

/// Whether a namespace path leads to no namespace any more.
pub fn is_gone(path: &Path) -> bool {
    matches!(Namespace::open(path), Ok(Opened::Missing | Opened::NotANamespace))
}

/// Brings store and containers together if this has not been done for this incarnation and boot. Takes the host lock
/// if there is something to do.
pub fn reconcile(session: &Session<'_>) -> Result<(), Error> {
    let key = Key::local(LocalTable::NodeState, format!("{}/reconciled", session.node));
    let wanted = Reconciled {
        incarnation: session.incarnation().to_owned(),
        boot: boot_id(),
    };
    let current = |session: &Session<'_>| -> Result<_, Error> {
        let entry = session.get(&key)?;
        let found: Option<Reconciled> = entry.as_ref().map(decode).transpose()?;
        Ok((found, entry))
    };
    if current(session)?.0.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let _lock = session.lock()?;
    let (found, entry) = current(session)?;
    if found.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let live = live_interfaces(&session.node).map_err(|problem| error::kernel(&problem))?;
    let addresses: Vec<IpAddr> = live.iter().flat_map(|live| live.addresses.clone()).collect();
    cluster::initialise(session, &addresses)?;
    cluster::require_ready(session)?;
    for interface in &live {
        adopt(session, interface)?;
    }
    release_dead(session, &live)?;
    let write = match entry {
        Some(entry) => Write::update(key.clone(), &wanted, entry.revision),
        None => Write::create(key.clone(), &wanted),
    };
    session.commit(vec![write])
}

fn adopt(session: &Session<'_>, live: &LiveInterface) -> Result<(), Error> {
    if live.addresses.is_empty() {
        return Ok(());
    }
    let handle = live
        .id
        .as_ref()
        .map_or_else(|| anonymous_handle(&live.name), AttachmentId::handle);
    let request = AdoptRequest {
        node: session.node.clone(),
        handle: handle.clone(),
        attributes: BTreeMap::from([
            ("node".to_owned(), session.node.clone()),
            ("timestamp".to_owned(), session.now().go_string()),
        ]),
        addresses: live.addresses.clone(),
        // An anonymous interface is no proof against a handle that is stored: that handle is probably its own.
        replace: live.id.is_some(),
        cause: "recovery".to_owned(),
    };
    let record = match &live.id {
        Some(id) if session.attachment(id)?.is_none() => Some(id),
        _ => None,
    };
    let created = session.now().unix_seconds();
    let write_record = |addresses: Vec<AttachedAddress>| {
        let record = record?;
        let attachment = Attachment {
            created,
            host_interface: Some(live.name.clone()),
            mtu: live.mtu,
            addresses,
            ..Attachment::default()
        };
        Some(Write::create(record.key(), &attachment))
    };
    let adopted = session.with_engine(|engine| {
        engine.adopt(&request, &mut |assigned| {
            let attached = |one: &ipam::Assigned| AttachedAddress {
                address: one.address,
                sequence: Some(one.sequence),
            };
            write_record(assigned.iter().map(attached).collect())
                .into_iter()
                .collect()
        })
    });
    match adopted {
        Ok(adopted) => {
            for one in adopted
                .iter()
                .filter(|one| one.outcome != AdoptOutcome::AlreadyOurs)
            {
                session.log.warning(format_args!(
                    "adopted {} of {} ({handle}): the store did not have it",
                    one.assigned.address, live.name
                ));
            }
            Ok(())
        }
        // It cannot be given out either: it is in no pool. DEL still needs the record.
        Err(AdoptError::NotInPool { address }) => {
            session
                .log
                .warning(format_args!("{address} of {} is in no pool", live.name));
            let attached = |address: &IpAddr| AttachedAddress {
                address: *address,
                sequence: None,
            };
            match write_record(live.addresses.iter().map(attached).collect()) {
                Some(write) => session.commit(vec![write]),
                None => Ok(()),
            }
        }
        Err(AdoptError::Taken { address, handle }) => {
            session.log.info(format_args!(
                "{address} of {} is assigned to {handle:?} already",
                live.name
            ));
            Ok(())
        }
        Err(problem) => Err(error::adopt(&problem)),
    }
}

/// Releases the attachments whose interface and namespace are both gone, as after a reboot.
fn release_dead(session: &Session<'_>, live: &[LiveInterface]) -> Result<(), Error> {
    for (id, attachment, entry) in session.attachments("")? {
        let interface = live.iter().any(|live| {
            live.id.as_ref() == Some(&id) || Some(&live.name) == attachment.host_interface.as_ref()
        });
        let namespace = attachment
            .namespace_path
            .as_deref()
            .is_some_and(|path| !is_gone(path));
        if !interface && !namespace {
            session.log.info(format_args!(
                "releasing {} {}: its container is gone",
                id.handle(),
                id.interface
            ));
            release::release(session, &id, Some((&attachment, &entry)), Cause::Recovery)?;
        }
    }
    Ok(())
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
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
