// SPDX-License-Identifier: Apache-2.0
//! Names that Calico derives from other facts: host interfaces, handle IDs, workload endpoints, endpoint status
//! files, Kubernetes names of IPAM objects. All sides must compute the same ones, so each has its vectors.

use std::{borrow::Cow, fmt::Write, str::FromStr};

use ipnet::IpNet;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::key::AffinityOwner;

#[cfg(test)]
mod tests;

/// The kernel's limit for interface names (`IFNAMSIZ` without its final zero).
pub const MAX_INTERFACE_NAME: usize = 15;

/// How many characters of a host interface name follow its prefix.
const INTERFACE_SUFFIX: usize = 11;

/// What host interface names of containers start with: 1 to 4 characters, so that the whole name fits the kernel's
/// limit (Calico does not check and then fails in the kernel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePrefix(String);

/// A text that cannot be a host interface prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{prefix:?} cannot be an interface prefix: use 1 to 4 characters other than blanks, ':' and '/', as in \"cali\""
)]
pub struct InterfacePrefixError {
    prefix: String,
}

impl Default for InterfacePrefix {
    fn default() -> Self {
        Self("cali".to_owned())
    }
}

impl FromStr for InterfacePrefix {
    type Err = InterfacePrefixError;

    /// Reads a comma-separated list as `FELIX_INTERFACEPREFIX` has it; its first item names new interfaces.
    fn from_str(list: &str) -> Result<Self, InterfacePrefixError> {
        let first = list.split(',').next().unwrap_or_default().trim();
        let fits = (1..=MAX_INTERFACE_NAME - INTERFACE_SUFFIX).contains(&first.len());
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
        if fits && first.bytes().all(allowed) {
            return Ok(Self(first.to_owned()));
        }
        Err(InterfacePrefixError {
            prefix: first.to_owned(),
        })
    }
}

impl InterfacePrefix {
    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host interface of a pod: the prefix and 11 digits of a hash of namespace and name. A new sandbox of the
    /// same pod has the same one.
    pub fn pod_interface(&self, namespace: &str, pod: &str) -> String {
        self.hashed_interface(&format!("{namespace}.{pod}"))
    }

    /// The host interface of a container that is no pod: the prefix and the first 11 characters of its ID.
    pub fn container_interface(&self, container_id: &str) -> String {
        self.0
            .chars()
            .chain(container_id.chars().take(INTERFACE_SUFFIX))
            .collect()
    }

    /// The prefix and 11 hexadecimal digits of the SHA-1 of a text.
    pub fn hashed_interface(&self, text: &str) -> String {
        let mut name = self.0.clone();
        push_hex(&mut name, &Sha1::digest(text.as_bytes()), INTERFACE_SUFFIX);
        name
    }
}

/// The handle ID of a container's addresses in a network.
pub fn container_handle(network: &str, container_id: &str) -> String {
    format!("{network}.{container_id}")
}

/// The handle ID that Calico before version 3 gave a pod's addresses; released too at DEL.
pub fn legacy_pod_handle(namespace: &str, pod: &str) -> String {
    format!("{namespace}.{pod}")
}

/// The part of a handle ID that counts: a migration from host-local left some with `\r` and more behind it.
pub fn effective_handle(handle_id: &str) -> &str {
    handle_id.split('\r').next().unwrap_or_default()
}

/// A tunnel device whose address a node takes from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// VXLAN over IPv6.
    VxlanV6,
    /// WireGuard.
    Wireguard,
    /// WireGuard over IPv6.
    WireguardV6,
}

impl TunnelKind {
    /// The handle ID of a node's address of this kind.
    pub fn handle(self, node: &str) -> String {
        let tunnel = match self {
            Self::Ipip => "ipip",
            Self::Vxlan => "vxlan",
            Self::VxlanV6 => "vxlan-v6",
            Self::Wireguard => "wireguard",
            Self::WireguardV6 => "wireguard-v6",
        };
        format!("{tunnel}-tunnel-addr-{node}")
    }

    /// The `type` attribute of its allocation.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Ipip => "ipipTunnelAddress",
            Self::Vxlan => "vxlanTunnelAddress",
            Self::VxlanV6 => "vxlanV6TunnelAddress",
            Self::Wireguard => "wireguardTunnelAddress",
            Self::WireguardV6 => "wireguardV6TunnelAddress",
        }
    }
}

/// The handle ID of addresses that Windows nodes hold back in every block; no handle object belongs to it.
pub const WINDOWS_RESERVED_HANDLE: &str = "windows-reserved-ipam-handle";

/// A segment that cannot be part of a workload endpoint's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field} {value:?} cannot be part of an endpoint name: it must not be empty, nor start or end with '-'"
)]
pub struct EndpointNameError {
    /// Which part, for example `pod`.
    pub field: &'static str,
    /// As found.
    pub value: String,
}

/// Joins named segments to a workload endpoint's name: a dash between them, their own dashes doubled.
pub fn join_endpoint_name(segments: &[(&'static str, &str)]) -> Result<String, EndpointNameError> {
    let mut name = String::new();
    for (field, value) in segments {
        if value.is_empty() || value.starts_with('-') || value.ends_with('-') {
            return Err(EndpointNameError {
                field,
                value: (*value).to_owned(),
            });
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&value.replace('-', "--"));
    }
    Ok(name)
}

/// Splits a workload endpoint's name into its segments; `None` if it is no such name.
pub fn split_endpoint_name(name: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut segment = String::new();
    let mut rest = name;
    while let Some(dash) = rest.find('-') {
        let (before, from_dash) = rest.split_at(dash);
        let dashes = from_dash.bytes().take_while(|byte| *byte == b'-').count();
        rest = &from_dash[dashes..];
        segment.push_str(before);
        match dashes {
            1 if !segment.is_empty() => segments.push(std::mem::take(&mut segment)),
            // Doubled dashes inside a segment; at its start or end they are not allowed.
            _ if dashes % 2 == 0 && !segment.is_empty() && !rest.is_empty() => {
                segment.extend(std::iter::repeat_n('-', dashes / 2));
            }
            _ => return None,
        }
    }
    segment.push_str(rest);
    if segment.is_empty() {
        return None;
    }
    segments.push(segment);
    Some(segments)
}

/// The name of the file by which the node daemon says that an endpoint's policy is in force: three parts, escaped
/// as URL path segments, one blank between them. In Kubernetes the workload is `<namespace>/<pod>`.
pub fn endpoint_status_file(orchestrator: &str, workload: &str, endpoint: &str) -> String {
    format!(
        "{} {} {}",
        escape_path(orchestrator),
        escape_path(workload),
        escape_path(endpoint)
    )
}

/// Percent-encodes what Go's `url.PathEscape` encodes.
fn escape_path(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    Cow::Owned(escaped)
}

/// Kubernetes' limit for object names, which affinities of hosts with long names reach.
const MAX_OBJECT_NAME: usize = 253;

/// How many hexadecimal digits tell truncated affinity names apart.
const AFFINITY_HASH_DIGITS: usize = 11;

/// A prefix as Kubernetes names of IPAM objects contain it.
pub fn block_object_name(block: &IpNet) -> String {
    block.to_string().replace(['.', ':', '/'], "-")
}

/// The Kubernetes name of a block affinity. It does not contain the affinity's type.
pub fn affinity_object_name(owner: &AffinityOwner, block: &IpNet) -> String {
    let (node, block) = (owner.name(), block_object_name(block));
    if node.len() + 1 + block.len() < MAX_OBJECT_NAME {
        return format!("{node}-{block}");
    }
    let mut hash = String::new();
    push_hex(
        &mut hash,
        &Sha256::digest(format!("{node}+{block}").as_bytes()),
        AFFINITY_HASH_DIGITS,
    );
    // Two dashes and the hash: 13 characters.
    let room = (MAX_OBJECT_NAME - 1).saturating_sub(block.len() + AFFINITY_HASH_DIGITS + 2);
    let kept: String = node.chars().take(room).collect();
    format!("{kept}-{block}-{hash}")
}

/// The Kubernetes name of an IPAM handle.
pub fn handle_object_name(handle_id: &str) -> String {
    handle_id.to_lowercase()
}

/// Appends the first `digits` hexadecimal digits of some bytes.
fn push_hex(text: &mut String, bytes: &[u8], digits: usize) {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(
        nibbles
            .take(digits)
            .filter_map(|nibble| char::from_digit(nibble.into(), 16)),
    );
}
