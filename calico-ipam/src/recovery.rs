// SPDX-License-Identifier: Apache-2.0
//! Making the store agree with the containers that live: once per incarnation of the store (it was made, replaced or
//! restored from a copy) and once per boot (what it describes may be gone).
//!
//! The live interfaces of this network namespace are the truth: their aliases name the attachment, their /32 and
//! /128 routes its addresses. Those are adopted; records whose interface and namespace are gone are released. It
//! runs under the host lock, before the first address is assigned, and can be cut off and repeated anywhere.

use std::{collections::BTreeMap, net::IpAddr};

use cni_plugin::Error;
use datastore::Write;
use ipam::{AdoptError, AdoptOutcome, AdoptRequest};
use model::{Key, LocalTable};
use serde::{Deserialize, Serialize};

use crate::{
    attachment::{AttachedAddress, Attachment, AttachmentId},
    cluster, error, interface_record,
    live::{self, LiveInterface},
    release::{self, Cause},
    session::{Session, decode},
};

/// What this node was last reconciled with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reconciled {
    incarnation: String,
    boot: String,
}

/// Brings store and containers together if this has not been done for this incarnation and boot. Takes the host lock
/// if there is something to do.
pub fn reconcile(session: &Session<'_>) -> Result<(), Error> {
    let key = Key::local(LocalTable::NodeState, format!("{}/reconciled", session.node));
    let wanted = Reconciled {
        incarnation: session.incarnation(),
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
    let live = live::interfaces(&session.node).map_err(|problem| error::kernel(&problem))?;
    let addresses: Vec<IpAddr> = live.iter().flat_map(|live| live.addresses.clone()).collect();
    cluster::initialise(session, &addresses)?;
    cluster::require_ready(session)?;
    for interface in &live {
        adopt(session, interface)?;
    }
    let rebooted = found.is_some_and(|found| found.boot != wanted.boot);
    release_dead(session, &live, rebooted)?;
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
        .map_or_else(|| live::anonymous_handle(&live.name), AttachmentId::handle);
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
    // The alias is the proof: the interface has the name now, whatever the record of the name says.
    let name = live.id.as_ref();
    let name = name.map(|id| interface_record::claim(session, id, &live.name));
    let name = name.transpose()?.flatten();
    let records = |addresses: Vec<AttachedAddress>| -> Vec<Write> {
        let attachment = record.map(|record| {
            let attachment = Attachment {
                created,
                host_interface: Some(live.name.clone()),
                mtu: live.mtu,
                addresses,
                ..Attachment::default()
            };
            Write::create(record.key(), &attachment)
        });
        attachment.into_iter().chain(name.clone()).collect()
    };
    let adopted = session.with_engine(|engine| {
        engine.adopt(&request, &mut |assigned| {
            let attached = |one: &ipam::Assigned| AttachedAddress {
                address: one.address,
                sequence: Some(one.sequence),
            };
            records(assigned.iter().map(attached).collect())
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
            match records(live.addresses.iter().map(attached).collect()) {
                writes if writes.is_empty() => Ok(()),
                writes => session.commit(writes),
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
fn release_dead(session: &Session<'_>, live: &[LiveInterface], rebooted: bool) -> Result<(), Error> {
    for (id, attachment, entry) in session.attachments("")? {
        let interface = live.iter().any(|live| {
            live.id.as_ref() == Some(&id) || Some(&live.name) == attachment.host_interface.as_ref()
        });
        // No namespace outlives a boot, though its path may lead to another by now (`/proc/<pid>/ns/net`).
        let path = attachment.namespace_path.as_deref().filter(|_| !rebooted);
        let namespace = path.is_some_and(|path| !live::is_gone(path));
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
