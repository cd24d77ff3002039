// SPDX-License-Identifier: Apache-2.0
//! Giving back what an attachment has in the store: its addresses, its endpoint, its record, in one transaction.
//! Repeatable, and careful with successors: addresses go by sequence number and handle, an endpoint only while it
//! names this container.

use std::{cell::RefCell, net::IpAddr};

use cni_plugin::Error;
use datastore::{Entry, Write};
use ipam::{HandleSearch, ReleaseOption};
use model::{Key, LocalTable, WorkloadEndpoint, names};
use serde::{Deserialize, Serialize};

use crate::{
    attachment::{Attachment, AttachmentId},
    error, interface_record, live,
    session::Session,
};

/// Why addresses are released; the word in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The runtime asked for it.
    Del,
    /// An ADD that failed takes back its step.
    FailedAdd,
    /// The attachment is not among the valid ones.
    Gc,
    /// The container was found to be gone.
    Recovery,
    /// A release that was recorded while the datastore was locked.
    Replay,
    /// The agent found that nobody holds it any more.
    Collection,
}

impl Cause {
    fn word(self) -> &'static str {
        match self {
            Self::Del => "DEL",
            Self::FailedAdd => "ADD failed",
            Self::Gc => "GC",
            Self::Recovery => "recovery",
            Self::Replay => "replay",
            Self::Collection => "collection",
        }
    }
}

/// A release that waits for the datastore to be unlocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReleaseIntent {
    network: String,
    container_id: String,
    interface: String,
}

/// Releases an attachment, or records that it is to be released where the datastore is locked. `record` is what the
/// caller has read; without one, everything under the container's handle goes that no other interface holds.
pub fn release(
    session: &Session<'_>,
    id: &AttachmentId,
    record: Option<(&Attachment, &Entry)>,
    cause: Cause,
) -> Result<Vec<IpAddr>, Error> {
    if is_locked(session)? {
        return record_intent(session, id).map(|()| Vec::new());
    }
    let handle = id.handle();
    let others = session.attachments_of_handle(&handle)?;
    let shared = others.iter().any(|(other, ..)| other != id);
    let companions = companions(session, id, record)?;
    let report = session.with_engine(|engine| match record {
        Some((attachment, _)) if shared => {
            let own = attachment
                .addresses
                .iter()
                .filter(|attached| attached.sequence.is_some());
            let options: Vec<ReleaseOption> = own
                .map(|attached| ReleaseOption {
                    address: attached.address,
                    handle: Some(handle.clone()),
                    sequence: attached.sequence,
                })
                .collect();
            engine.release_addresses(&options, cause.word(), Some(&mut |_| companions.borrow().clone()))
        }
        None if shared => Ok(ipam::ReleaseReport::default()),
        _ => engine.release_by_handle(&handle, HandleSearch::Listed, cause.word(), &mut |_| {
            companions.borrow().clone()
        }),
    });
    let report = report.map_err(|problem| error::access(&problem))?;
    for (key, defect) in &report.damaged {
        session.log.error(format_args!(
            "{key} is damaged: {defect}; addresses of {handle} in it stay allocated"
        ));
    }
    for (address, refusal) in &report.refused {
        session
            .log
            .info(format_args!("{address} is not released: {refusal}"));
    }
    let mut released = report.released;
    if !shared {
        released.extend(release_older_handles(
            session,
            id,
            record.map(|(attachment, _)| attachment),
            cause,
        )?);
    }
    Ok(released)
}

/// Deletes the records and the endpoint with the addresses. An endpoint that names another container is its successor's.
fn companions(
    session: &Session<'_>,
    id: &AttachmentId,
    record: Option<(&Attachment, &Entry)>,
) -> Result<RefCell<Vec<Write>>, Error> {
    let mut writes = Vec::new();
    let Some((attachment, entry)) = record else {
        return Ok(RefCell::new(writes));
    };
    writes.push(Write::Delete {
        key: entry.key.clone(),
        revision: entry.revision,
    });
    if let Some(name) = &attachment.host_interface
        && let Some(entry) = interface_record::owned(session, id, name)?
    {
        writes.push(Write::Delete {
            key: entry.key,
            revision: entry.revision,
        });
    }
    let endpoint = attachment
        .endpoint
        .as_deref()
        .and_then(|key| key.parse::<Key>().ok());
    if let Some(stored) = endpoint.map(|key| session.get(&key)).transpose()?.flatten() {
        // One that cannot be read is left for `calicoctl`: it may be anybody's.
        if let Ok(endpoint) = stored.decode::<WorkloadEndpoint>()
            && endpoint.spec.container_id == id.container_id
        {
            writes.push(Write::Delete {
                key: stored.key,
                revision: stored.revision,
            });
        }
    }
    Ok(RefCell::new(writes))
}

/// Handles that older Calico versions, or recovery, may have used for the same container.
fn release_older_handles(
    session: &Session<'_>,
    id: &AttachmentId,
    attachment: Option<&Attachment>,
    cause: Cause,
) -> Result<Vec<IpAddr>, Error> {
    let mut handles = Vec::new();
    if let Some(attachment) = attachment {
        handles.extend(
            attachment
                .pod
                .as_ref()
                .map(|pod| names::legacy_pod_handle(&pod.namespace, &pod.name)),
        );
    }
    if attachment.is_none_or(|attachment| attachment.pod.is_none()) {
        handles.push(id.container_id.clone());
    }
    let mut released = Vec::new();
    for handle in handles {
        released.extend(release_unrecorded(session, &handle, cause)?);
    }
    if let Some(name) = attachment.and_then(|attachment| attachment.host_interface.as_deref()) {
        released.extend(release_anonymous(session, name, cause)?);
    }
    Ok(released)
}

/// Releases a handle that no record here is known to have, as an older Calico may have left it: unless there is a
/// record after all, or one of its addresses is another node's or lives. A container ID and a pod's name can read
/// like somebody else's handle.
pub fn release_unrecorded(session: &Session<'_>, handle: &str, cause: Cause) -> Result<Vec<IpAddr>, Error> {
    if session.get(&Key::Handle(handle.to_owned()))?.is_none()
        || !session.attachments_of_handle(handle)?.is_empty()
    {
        return Ok(Vec::new());
    }
    let allocations = session
        .with_engine(|engine| engine.allocations_by_handle(handle, HandleSearch::Listed))
        .map_err(|problem| error::access(&problem))?;
    let live = live::interfaces(&session.node).map_err(|problem| error::kernel(&problem))?;
    let kept = allocations.iter().find(|allocation| {
        let node = allocation.attributes.get("node");
        let address = &allocation.assigned.address;
        node.is_some_and(|node| *node != session.node)
            || live.iter().any(|live| live.addresses.contains(address))
    });
    if let Some(kept) = kept {
        session.log.info(format_args!(
            "{} of {handle} is not released: somebody else has it",
            kept.assigned.address
        ));
        return Ok(Vec::new());
    }
    release_handle(session, handle, cause)
}

/// Releases what recovery adopted from a host interface that nothing named, once the interface is gone: its name
/// can be that of somebody else's.
pub fn release_anonymous(session: &Session<'_>, interface: &str, cause: Cause) -> Result<Vec<IpAddr>, Error> {
    let handle = live::anonymous_handle(interface);
    if session.get(&Key::Handle(handle.clone()))?.is_none()
        || live::exists(interface).map_err(|problem| error::kernel(&problem))?
    {
        return Ok(Vec::new());
    }
    release_handle(session, &handle, cause)
}

/// Whether the datastore is locked for an upgrade or a migration (`datastoreReady: false`): nothing is to be written
/// then that others read.
fn is_locked(session: &Session<'_>) -> Result<bool, Error> {
    let information = session.cluster_information()?;
    Ok(information.is_some_and(|information| !information.spec.ready()))
}

/// Releases everything under a handle, if it exists and the datastore is not locked. What has no record here can have
/// no intent either: a later GC finds it again.
pub fn release_handle(session: &Session<'_>, handle: &str, cause: Cause) -> Result<Vec<IpAddr>, Error> {
    if session.get(&Key::Handle(handle.to_owned()))?.is_none() {
        return Ok(Vec::new());
    }
    if is_locked(session)? {
        session
            .log
            .info(format_args!("the datastore is locked: {handle} is not released"));
        return Ok(Vec::new());
    }
    let report = session.with_engine(|engine| {
        engine.release_by_handle(handle, HandleSearch::Listed, cause.word(), &mut |_| Vec::new())
    });
    report
        .map(|report| report.released)
        .map_err(|problem| error::access(&problem))
}

fn intent_key(node: &str, id: &AttachmentId) -> Key {
    let name = format!("{node}/{}/{}/{}", id.network, id.container_id, id.interface);
    Key::local(LocalTable::ReleaseIntent, name)
}

fn record_intent(session: &Session<'_>, id: &AttachmentId) -> Result<(), Error> {
    let key = intent_key(&session.node, id);
    if session.get(&key)?.is_some() {
        return Ok(());
    }
    let intent = ReleaseIntent {
        network: id.network.clone(),
        container_id: id.container_id.clone(),
        interface: id.interface.clone(),
    };
    session.log.info(format_args!(
        "the datastore is locked: the release of {} is recorded for later",
        id.handle()
    ));
    session.commit(vec![Write::create(key, &intent)])
}

/// Carries out the releases that were recorded while the datastore was locked. Called when it is not.
pub fn replay(session: &Session<'_>) -> Result<(), Error> {
    let prefix = format!("{}/", session.node);
    let range = model::KeyRange::Local {
        table: LocalTable::ReleaseIntent,
        prefix,
    };
    for entry in session.list(&range)?.entries {
        match entry.decode::<ReleaseIntent>() {
            Ok(intent) => {
                let id = AttachmentId {
                    node: session.node.clone(),
                    network: intent.network,
                    container_id: intent.container_id,
                    interface: intent.interface,
                };
                let record = session.attachment(&id)?;
                let record = record.as_ref().map(|(attachment, entry)| (attachment, entry));
                release(session, &id, record, Cause::Replay)?;
            }
            Err(problem) => session.log.error(format_args!("{problem}; dropped")),
        }
        session.commit(vec![Write::Delete {
            key: entry.key,
            revision: entry.revision,
        }])?;
    }
    Ok(())
}
