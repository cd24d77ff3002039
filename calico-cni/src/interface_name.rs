// SPDX-License-Identifier: Apache-2.0
//! Which name the host side gets: Calico's where it can be had, else one of the attachment's own.

use calico_ipam::{
    interface_record::{self, InterfaceOwner},
    session::Session,
};
use cni_plugin::{Code, Error};
use datastore::{Entry, Write};
use model::names::InterfacePrefix;

use crate::workload::Workload;

/// A name chosen, and the write that makes it this attachment's.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The name.
    pub name: String,
    /// To be committed with the attachment; `None` if the name is its already.
    pub write: Option<Write>,
    /// Whether an interface that has the name is a leftover: of this attachment, of one that gave way, or of an
    /// earlier sandbox of the pod, whose name nothing else hashes to. Otherwise it may be that of a container that
    /// lives and that nothing knows.
    pub is_ours: bool,
    /// The record of the name that gave way, if one did.
    pub previous: Option<Entry>,
}

/// Chooses a name: Calico's if it is free, ours, or an earlier sandbox's of the same pod and interface; otherwise, or
/// where Calico's was found `taken` by an interface that no record knows, the attachment's own.
pub fn choose(
    session: &Session<'_>,
    workload: &Workload,
    prefix: &InterfacePrefix,
    taken: bool,
) -> Result<Choice, Error> {
    let wanted = InterfaceOwner::of(&workload.id);
    let names = [Workload::calico_interface, Workload::own_interface];
    for name in names.iter().skip(usize::from(taken)) {
        let name = name(workload, prefix);
        let Some((owner, entry)) = interface_record::owner(session, &name)? else {
            let key = interface_record::key(&session.node, &name);
            return Ok(Choice {
                name,
                write: Some(Write::create(key, &wanted)),
                is_ours: workload.pod.is_some(),
                previous: None,
            });
        };
        if owner == wanted {
            return Ok(Choice {
                name,
                write: None,
                is_ours: true,
                previous: None,
            });
        }
        if gives_way(session, workload, &owner)? {
            return Ok(Choice {
                name,
                write: Some(Write::update(entry.key.clone(), &wanted, entry.revision)),
                is_ours: true,
                previous: Some(entry),
            });
        }
    }
    Err(none_is_free(workload))
}

/// Both names are those of other containers.
pub fn none_is_free(workload: &Workload) -> Error {
    let message = format!(
        "no host interface name is free for {} {}",
        workload.id.handle(),
        workload.id.interface
    );
    Error::new(Code::TryAgainLater, message).details("run DEL of the container that has it")
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
