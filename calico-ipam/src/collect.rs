// SPDX-License-Identifier: Apache-2.0
//! Garbage collection of one network on this node: what belongs to no valid attachment and to nothing that lives.
//! Called by GC of both programs; a missing list of valid attachments frees nothing.

use std::{collections::BTreeSet, time::Duration};

use cni_plugin::{Error, ValidAttachment};
use model::{IpamBlock, KeyRange, Timestamp};

use crate::{
    attachment::{Attachment, AttachmentId},
    live::{self, LiveInterface},
    release::{self, Cause},
    session::Session,
};

/// Releases every attachment of the session's network that is not in `valid`, is old enough, and is not held by a
/// live interface. `remove` takes away what the caller made for it outside the store, before it is released.
/// Goes on past failures and returns them all.
pub fn collect(
    session: &Session<'_>,
    valid: &[ValidAttachment],
    mut remove: impl FnMut(&AttachmentId, &Attachment) -> Result<(), Error>,
) -> Vec<Error> {
    let mut failures = Vec::new();
    let live = match live::interfaces(&session.node) {
        Ok(live) => live,
        Err(problem) => return vec![crate::error::kernel(&problem)],
    };
    // Those of other networks too: a handle can read like one of this network's.
    let records = match session.attachments("") {
        Ok(records) => records,
        Err(problem) => return vec![problem],
    };
    let is_valid = |id: &AttachmentId| {
        valid
            .iter()
            .any(|valid| valid.container_id == id.container_id && valid.interface == id.interface)
    };
    let now = session.now();
    let of_network = |(id, ..): &&(AttachmentId, _, _)| id.network == session.settings.network;
    for (id, attachment, entry) in records.iter().filter(of_network) {
        let age = now.since(Timestamp::from_unix(attachment.created, 0));
        if is_valid(id)
            || age < session.settings.gc_minimum_age
            || live.iter().any(|live| live.is_of(id, attachment))
        {
            continue;
        }
        session.log.info(format_args!(
            "collecting {} {}: not among the valid attachments",
            id.handle(),
            id.interface
        ));
        let result = remove(id, attachment)
            .and_then(|()| release::release(session, id, Some((attachment, entry)), Cause::Gc).map(drop));
        failures.extend(
            result
                .err()
                .map(|error| error.context(format_args!("{} {}", id.handle(), id.interface))),
        );
    }
    let known: BTreeSet<String> = records.iter().map(|(id, ..)| id.handle()).collect();
    let valid: BTreeSet<&str> = valid.iter().map(|valid| valid.container_id.as_str()).collect();
    match orphan_handles(session, &known, &valid, &live) {
        Ok(handles) => {
            for handle in handles {
                session.log.info(format_args!(
                    "collecting {handle}: no attachment of this node has it"
                ));
                failures.extend(release::release_handle(session, &handle, Cause::Gc).err());
            }
        }
        Err(problem) => failures.push(problem),
    }
    failures
}

/// Handles of this network and node that no record here knows: of containers networked by another program. Only
/// those go whose container is not valid, whose addresses are old enough and routed to no live interface.
fn orphan_handles(
    session: &Session<'_>,
    known: &BTreeSet<String>,
    valid: &BTreeSet<&str>,
    live: &[LiveInterface],
) -> Result<BTreeSet<String>, Error> {
    let prefix = format!("{}.", session.settings.network);
    let (mut orphans, mut spared) = (BTreeSet::new(), BTreeSet::new());
    for v6 in [false, true] {
        for entry in session.list(&KeyRange::Blocks { v6 })?.entries {
            let Ok(block) = entry.decode::<IpamBlock>() else {
                continue;
            };
            for (ordinal, index) in block.allocations.iter().enumerate() {
                let Some(attribute) = index.and_then(|index| block.attributes.get(index)) else {
                    continue;
                };
                let Some(handle) = &attribute.handle_id else {
                    continue;
                };
                let Some(container) = handle.strip_prefix(&prefix) else {
                    continue;
                };
                let own = attribute.secondary.get("node") == Some(&session.node);
                if !own || known.contains(handle) || valid.contains(container) {
                    continue;
                }
                let in_use = block
                    .address(ordinal)
                    .is_none_or(|address| live.iter().any(|live| live.addresses.contains(&address)));
                // Without a time nothing is known of its age: it is spared.
                let age = attribute
                    .secondary
                    .get("timestamp")
                    .and_then(|text| Timestamp::parse_go(text).ok());
                let age = age.map_or(Duration::ZERO, |time| session.now().since(time));
                let old = age >= session.settings.gc_minimum_age && !age.is_zero();
                if in_use || !old {
                    spared.insert(handle.clone());
                } else {
                    orphans.insert(handle.clone());
                }
            }
        }
    }
    Ok(orphans.difference(&spared).cloned().collect())
}
