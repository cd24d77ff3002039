// SPDX-License-Identifier: Apache-2.0
//! Which name the host side gets: Calico's where it can be had, else one of the attachment's own.

use calico_ipam::{
    error,
    interface_record::{self, InterfaceOwner},
    live,
    session::Session,
};
use cni_plugin::{Code, Error};
use datastore::Write;
use kernel::Netlink;
use model::names::InterfacePrefix;

use crate::workload::Workload;

/// A name chosen, and the write that makes it this attachment's.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The name.
    pub name: String,
    /// To be committed with the attachment; `None` if the name is its already.
    pub write: Option<Write>,
}

/// Chooses a name: Calico's if it is free, ours, or an earlier sandbox's of the same pod and interface; otherwise the
/// attachment's own.
pub fn choose(
    session: &Session<'_>,
    workload: &Workload,
    prefix: &InterfacePrefix,
    host: &mut Netlink,
) -> Result<Choice, Error> {
    let wanted = InterfaceOwner::of(&workload.id);
    for name in [workload.calico_interface(prefix), workload.own_interface(prefix)] {
        let Some((owner, entry)) = interface_record::owner(session, &name)? else {
            if is_foreign(workload, &name, host)? {
                continue;
            }
            let key = interface_record::key(&session.node, &name);
            return Ok(Choice {
                name,
                write: Some(Write::create(key, &wanted)),
            });
        };
        if owner == wanted {
            return Ok(Choice { name, write: None });
        }
        if gives_way(session, workload, &owner)? {
            return Ok(Choice {
                name,
                write: Some(Write::update(entry.key, &wanted, entry.revision)),
            });
        }
    }
    let message = format!(
        "no host interface name is free for {} {}",
        workload.id.handle(),
        workload.id.interface
    );
    Err(Error::new(Code::TryAgainLater, message).details("run DEL of the container that has it"))
}

/// Whether an interface that no record knows has the name. One of a pod's name is an earlier sandbox's of that pod
/// (nothing else hashes to it); the name of a container without pod can be that of a container that lives.
fn is_foreign(workload: &Workload, name: &str, host: &mut Netlink) -> Result<bool, Error> {
    if workload.pod.is_some() {
        return Ok(false);
    }
    let link = host
        .link_by_name(name)
        .map_err(|problem| error::kernel(&problem))?;
    Ok(link.is_some_and(|link| {
        let named = link
            .alias
            .as_deref()
            .and_then(|alias| live::parse_alias(&workload.id.node, alias));
        named.as_ref() != Some(&workload.id)
    }))
}

/// Whether a name's owner gives way: it has no attachment any more, or it is an earlier sandbox of the same pod.
fn gives_way(session: &Session<'_>, workload: &Workload, owner: &InterfaceOwner) -> Result<bool, Error> {
    let owner = owner.attachment(&session.node);
    let Some((attachment, _)) = session.attachment(&owner)? else {
        return Ok(true);
    };
    let same_place = owner.network == workload.id.network && owner.interface == workload.id.interface;
    Ok(same_place && attachment.pod.is_some() && attachment.pod == workload.pod)
}
