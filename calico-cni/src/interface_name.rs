// SPDX-License-Identifier: Apache-2.0
//! Which name the host side gets: Calico's where it can be had, else one of the attachment's own.

use calico_ipam::{
    interface_record::{self, InterfaceOwner},
    session::Session,
};
use cni_plugin::{Code, Error};
use datastore::Write;
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
pub fn choose(session: &Session<'_>, workload: &Workload, prefix: &InterfacePrefix) -> Result<Choice, Error> {
    let wanted = InterfaceOwner::of(&workload.id);
    for name in [workload.calico_interface(prefix), workload.own_interface(prefix)] {
        let Some((owner, entry)) = interface_record::owner(session, &name)? else {
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

/// Whether a name's owner gives way: it has no attachment any more, or it is an earlier sandbox of the same pod.
fn gives_way(session: &Session<'_>, workload: &Workload, owner: &InterfaceOwner) -> Result<bool, Error> {
    let owner = owner.attachment(&session.node);
    let Some((attachment, _)) = session.attachment(&owner)? else {
        return Ok(true);
    };
    let same_place = owner.network == workload.id.network && owner.interface == workload.id.interface;
    Ok(same_place && attachment.pod.is_some() && attachment.pod == workload.pod)
}
