// SPDX-License-Identifier: Apache-2.0
//! DEL: the interface first, then the connections, then everything in the store in one commit, so that an address is
//! never free while a link still has it. Needs neither agent nor namespace nor an earlier result; goes on past
//! failures, reports them, and can be repeated.

use std::{mem::ManuallyDrop, net::IpAddr};

use calico_ipam::{
    attachment::{Attachment, AttachmentId},
    error, interface_record, live,
    log::Log,
    plugin::{KNOWN_ARGS, all, pod},
    release::{self, Cause},
    session::Session,
};
use cni_plugin::{Attachment as Request, Call, Error};
use kernel::{Link, Namespace, Netlink, Opened};
use model::names;

use crate::{addresses, config::Config, step, workload::Workload};

/// Serves DEL.
pub fn del(config: &Config, log: &Log, call: &Call, request: &Request) -> Result<(), Error> {
    request.args.require_known(&KNOWN_ARGS)?;
    let mut failures = Vec::new();
    let session = match Session::open(&config.settings, log) {
        // As in ADD: the process ends with its answer.
        Ok(session) => ManuallyDrop::new(session),
        Err(problem) => {
            // What can be cleaned without the store is; the runtime comes back for the rest.
            failures.extend(remove_from_namespace(config, request).err());
            failures.push(problem);
            return all(failures);
        }
    };
    let workload = Workload::of(&session, config, request);
    let id = &workload.id;
    let record = session.attachment(id).unwrap_or_else(|problem| {
        failures.push(problem);
        None
    });
    match &record {
        Some((attachment, _)) => failures.extend(remove_interface(&session, id, attachment).err()),
        None => {
            failures.extend(remove_unrecorded(&session, &workload, config, request).err());
        }
    }
    step::done("interface removed");
    let delegated = record.as_ref().map_or_else(
        || (!config.is_own_ipam()).then_some(config.ipam_type.as_str()),
        |(attachment, _)| attachment.delegated_ipam.as_deref(),
    );
    if delegated.is_some() {
        failures.extend(addresses::release_delegate(config, call).err());
        step::done("delegated IPAM released");
    }
    // A failure so far keeps the records: they say what is still to be undone.
    all(failures)?;
    let _lock = session.lock()?;
    let record = session.attachment(id)?;
    let record = record.as_ref().map(|(attachment, entry)| (attachment, entry));
    let host_interface = record.and_then(|(attachment, _)| attachment.host_interface.clone());
    let released = release::release(&session, id, record, Cause::Del)?;
    if let Some(name) = host_interface {
        remove_late(id, &name)?;
    }
    if let (None, Some(pod)) = (record, pod(request)) {
        release::release_unrecorded(
            &session,
            &names::legacy_pod_handle(&pod.namespace, &pod.name),
            Cause::Del,
        )?;
    }
    step::done("released");
    let released: Vec<String> = released.iter().map(ToString::to_string).collect();
    log.info(format_args!(
        "deleted {} {} addresses=[{}]",
        id.handle(),
        id.interface,
        released.join(" ")
    ));
    Ok(())
}

/// Removes the interface of an attachment: by name, but only while the name is this attachment's.
pub fn remove_interface(
    session: &Session<'_>,
    id: &AttachmentId,
    attachment: &Attachment,
) -> Result<(), Error> {
    let Some(name) = attachment.host_interface.as_deref() else {
        return Ok(());
    };
    let ours = interface_record::owned(session, id, name)?.is_some();
    let addresses: Vec<IpAddr> = attachment
        .addresses
        .iter()
        .map(|attached| attached.address)
        .collect();
    let remove = || -> kernel::Result<()> {
        let mut host = Netlink::open()?;
        if let Some(link) = host.link_by_name(name)? {
            let named = link
                .alias
                .as_deref()
                .and_then(|alias| live::parse_alias(&session.node, alias));
            // An alias is proof; without one (killed before it was set) the record of the name decides.
            if named.as_ref().map_or(ours, |named| named == id) {
                remove_link(&link)?;
            }
        }
        kernel::conntrack::delete_entries(&addresses).map(drop)
    };
    remove().map_err(|problem| error::kernel(&problem))
}

/// Removes the interface that an ADD has made since it was looked for: that ADD has either seen that its record is
/// gone, or it was done before the record went.
fn remove_late(id: &AttachmentId, name: &str) -> Result<(), Error> {
    let remove = || -> kernel::Result<()> {
        let Some(link) = Netlink::open()?.link_by_name(name)? else {
            return Ok(());
        };
        let alias = link.alias.as_deref();
        let named = alias.and_then(|alias| live::parse_alias(&id.node, alias));
        if named.as_ref() == Some(id) {
            remove_link(&link)?;
        }
        Ok(())
    };
    remove().map_err(|problem| error::kernel(&problem))
}

/// Removes what an ADD without a record here may have left: by another program, or before the store was lost.
fn remove_unrecorded(
    session: &Session<'_>,
    workload: &Workload,
    config: &Config,
    request: &Request,
) -> Result<(), Error> {
    let id = &workload.id;
    let name = workload.calico_interface(&config.interface_prefix);
    let mut addresses = Vec::new();
    let remove = |addresses: &mut Vec<IpAddr>| -> kernel::Result<()> {
        let mut host = Netlink::open()?;
        for live in live::interfaces(&session.node)?
            .into_iter()
            .filter(|live| live.id.as_ref() == Some(id))
        {
            if let Some(link) = host.link_by_name(&live.name)? {
                remove_link(&link)?;
            }
            addresses.extend(live.addresses);
        }
        Ok(())
    };
    remove(&mut addresses).map_err(|problem| error::kernel(&problem))?;
    remove_from_namespace(config, request)?;
    let released = release::release_anonymous(session, &name, Cause::Del)?;
    addresses.extend(released);
    kernel::conntrack::delete_entries(&addresses)
        .map(drop)
        .map_err(|problem| error::kernel(&problem))
}

/// Removes the pair that ends in the container under the requested name, if its other end is a host interface of
/// Calico's: one that another plugin made is not ours to remove, nor is one whose alias names another attachment.
fn remove_from_namespace(config: &Config, request: &Request) -> Result<(), Error> {
    let Some(path) = request.netns.as_deref() else {
        return Ok(());
    };
    let remove = || -> kernel::Result<()> {
        // Whatever else the path leads to is no namespace to clean: an ADD refuses it.
        let Ok(Opened::Namespace(namespace)) = Namespace::open(path) else {
            return Ok(());
        };
        let look = || Netlink::open()?.link_by_name(request.interface.as_str());
        let Some(inside) = namespace.visit(look)?? else {
            return Ok(());
        };
        let mut host = Netlink::open()?;
        let other_end = inside.peer_index.map(|index| host.link_by_index(index));
        if let Some(link) = other_end.transpose()?.flatten()
            && link.peer_index == Some(inside.index)
            && link.name.starts_with(config.interface_prefix.as_str())
            && !names_another(&link, config, request)
        {
            remove_link(&link)?;
        }
        Ok(())
    };
    remove().map_err(|problem| error::kernel(&problem))
}

/// Whether a link's alias names an attachment that is not this one, whatever the node was called.
fn names_another(link: &Link, config: &Config, request: &Request) -> bool {
    let alias = link.alias.as_deref();
    let named = alias.and_then(|alias| live::parse_alias("", alias));
    named.is_some_and(|named| {
        named.network != config.settings.network
            || named.container_id != request.container_id.as_str()
            || named.interface != request.interface.as_str()
    })
}

/// Deletes a link without waiting for what the kernel does after it is gone.
fn remove_link(link: &Link) -> kernel::Result<()> {
    if let Some(housekeeping) = kernel::detached::delete_link(link)? {
        housekeeping.leave();
    }
    Ok(())
}
