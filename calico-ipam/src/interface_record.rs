// SPDX-License-Identifier: Apache-2.0
//! Whose a host interface name is. Calico's names are not unique: all containers whose IDs start alike share one, and
//! so do all interfaces of a container. One small record per name, created and deleted with its attachment, keeps
//! two ADDs from having the same one, and a late DEL from deleting its successor's interface.

use cni_plugin::Error;
use datastore::{Entry, Write};
use model::{Key, LocalTable};
use serde::{Deserialize, Serialize};

use crate::{
    attachment::AttachmentId,
    session::{Session, decode},
};

/// Who has a name: the attachment's parts below the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceOwner {
    network: String,
    container_id: String,
    interface: String,
}

impl InterfaceOwner {
    /// This attachment as an owner.
    pub fn of(id: &AttachmentId) -> Self {
        Self {
            network: id.network.clone(),
            container_id: id.container_id.clone(),
            interface: id.interface.clone(),
        }
    }

    /// The owner as an attachment of a node.
    pub fn attachment(&self, node: &str) -> AttachmentId {
        AttachmentId {
            node: node.to_owned(),
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            interface: self.interface.clone(),
        }
    }
}

/// The key of the record of a name.
pub fn key(node: &str, name: &str) -> Key {
    Key::local(LocalTable::NodeState, format!("{node}/interface/{name}"))
}

/// The record of a name, if there is one.
pub fn owner(session: &Session<'_>, name: &str) -> Result<Option<(InterfaceOwner, Entry)>, Error> {
    let Some(entry) = session.get(&key(&session.node, name))? else {
        return Ok(None);
    };
    Ok(Some((decode(&entry)?, entry)))
}

/// The record of a name, if it is this attachment's.
pub fn owned(session: &Session<'_>, id: &AttachmentId, name: &str) -> Result<Option<Entry>, Error> {
    Ok(owner(session, name)?
        .filter(|(owner, _)| *owner == InterfaceOwner::of(id))
        .map(|(_, entry)| entry))
}

/// The write that makes a name this attachment's, whoever had it; `None` if it is already.
pub fn claim(session: &Session<'_>, id: &AttachmentId, name: &str) -> Result<Option<Write>, Error> {
    let wanted = InterfaceOwner::of(id);
    Ok(match owner(session, name)? {
        None => Some(Write::create(key(&session.node, name), &wanted)),
        Some((owner, _)) if owner == wanted => None,
        Some((_, entry)) => Some(Write::update(entry.key, &wanted, entry.revision)),
    })
}
