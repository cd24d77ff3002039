// SPDX-License-Identifier: Apache-2.0
//! What a node remembers of one attachment: network, container ID and interface, and all that was made for it.
//! Written in the same transaction as the allocation, before the kernel is touched, and removed in the same
//! transaction as the release: whatever is left after a crash can be found, and undone, from here.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use cni_plugin::Dns;
use model::{Key, LocalTable};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The key of an attachment: unique on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId {
    /// Calico node name.
    pub node: String,
    /// Network name.
    pub network: String,
    /// The runtime's container or sandbox ID.
    pub container_id: String,
    /// Interface name inside the container.
    pub interface: String,
}

impl AttachmentId {
    /// Where the record is stored. None of the four parts can contain a `/`.
    pub fn key(&self) -> Key {
        Key::local(
            LocalTable::Attachment,
            format!(
                "{}/{}/{}/{}",
                self.node, self.network, self.container_id, self.interface
            ),
        )
    }

    /// Reads a stored key back; `None` for anything else.
    pub fn from_key(key: &Key) -> Option<Self> {
        let Key::Local {
            table: LocalTable::Attachment,
            name,
        } = key
        else {
            return None;
        };
        let mut parts = name.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let id = Self {
            node: next()?,
            network: next()?,
            container_id: next()?,
            interface: next()?,
        };
        parts.next().is_none().then_some(id)
    }

    /// The handle its addresses are allocated under, as Calico names it. All interfaces of a container on one
    /// network share it.
    pub fn handle(&self) -> String {
        format!("{}.{}", self.network, self.container_id)
    }

    /// What a handle can mean: every network and container ID that make it. More than one where one of them has a
    /// dot in it.
    pub fn readings(handle: &str) -> impl Iterator<Item = (&str, &str)> {
        let dots = handle.match_indices('.');
        dots.map(|(at, _)| (&handle[..at], &handle[at + 1..]))
            .filter(|(network, container_id)| !network.is_empty() && !container_id.is_empty())
    }
}

/// One address of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachedAddress {
    /// The container's address.
    pub address: IpAddr,
    /// The allocation's sequence number: tells it from a later allocation of the same address. `None` where
    /// another IPAM plugin, or nobody, manages the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

/// The record of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attachment {
    /// When it was assigned, in seconds since the Unix epoch: garbage collection leaves young ones alone.
    pub created: i64,
    /// The network namespace as the runtime named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_path: Option<PathBuf>,
    /// Pod namespace and name, in Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// Name of the host side of the veth pair; `None` when another plugin makes the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_interface: Option<String>,
    /// MAC address of the container side, `aa:bb:cc:dd:ee:ff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU of both sides; 0 is the kernel's default.
    pub mtu: u32,
    /// The addresses.
    pub addresses: Vec<AttachedAddress>,
    /// The IPAM plugin that manages them, when it is not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegated_ipam: Option<String>,
    /// Key of the workload endpoint written with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Resolver settings of another IPAM plugin, which a repeated ADD returns again.
    #[serde(skip_serializing_if = "AttachedDns::is_empty")]
    pub dns: AttachedDns,
}

/// Resolver settings as an IPAM plugin gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachedDns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
    options: Vec<String>,
}

impl AttachedDns {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Dns> for AttachedDns {
    fn from(dns: Dns) -> Self {
        let Dns {
            nameservers,
            domain,
            search,
            options,
        } = dns;
        Self {
            nameservers,
            domain,
            search,
            options,
        }
    }
}

impl From<AttachedDns> for Dns {
    fn from(dns: AttachedDns) -> Self {
        let AttachedDns {
            nameservers,
            domain,
            search,
            options,
        } = dns;
        Self {
            nameservers,
            domain,
            search,
            options,
        }
    }
}

/// A pod's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl Attachment {
    /// A stored record with another namespace and MAC address, as JSON: everything else stays as it is, also what this
    /// version does not know. `None` if the text is no JSON object.
    pub fn moved(stored: &str, namespace: Option<&Path>, mac: &str) -> Option<Value> {
        let Ok(Value::Object(mut record)) = serde_json::from_str(stored) else {
            return None;
        };
        if let Some(namespace) = namespace {
            record.insert("namespacePath".to_owned(), namespace.to_string_lossy().into());
        }
        record.insert("mac".to_owned(), mac.into());
        Some(Value::Object(record))
    }

    /// Whether `address` is one of this attachment's.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|attached| attached.address == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_the_same_attachment() {
        let id = AttachmentId {
            node: "node-1".into(),
            network: "k8s-pod-network".into(),
            container_id: "4f1c.A_b-9".into(),
            interface: "eth0".into(),
        };
        assert_eq!(AttachmentId::from_key(&id.key()), Some(id.clone()));
        assert_eq!(id.handle(), "k8s-pod-network.4f1c.A_b-9");
        assert_eq!(
            AttachmentId::from_key(&Key::local(LocalTable::Attachment, "a/b/c/d/e")),
            None
        );
        assert_eq!(
            AttachmentId::from_key(&Key::local(LocalTable::NodeState, "a/b/c/d")),
            None
        );
    }

    #[test]
    fn moving_an_attachment_keeps_members_of_later_versions() {
        let text = r#"{"created":1,"mtu":0,"mac":"x","addresses":[{"address":"10.0.0.1","sequence":7}],"later":{"a":1}}"#;
        let moved = Attachment::moved(text, Some(Path::new("/run/netns/b")), "02:00:00:00:00:01").unwrap();
        assert_eq!(moved["later"]["a"], 1);
        assert_eq!(moved["namespacePath"], "/run/netns/b");
        let attachment: Attachment = serde_json::from_value(moved).unwrap();
        assert_eq!(attachment.mac.as_deref(), Some("02:00:00:00:00:01"));
        assert!(attachment.has("10.0.0.1".parse().unwrap()));
        assert_eq!(Attachment::moved("[]", None, ""), None);
    }
}
