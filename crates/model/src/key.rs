// SPDX-License-Identifier: Apache-2.0
//! Typed names of everything a store holds, and their text form: the etcd v3 key layout of Calico
//! (`/calico/resources/v3/...`, `/calico/ipam/v2/...`), which the embedded store uses as its primary key too.
//!
//! Keys under `/calico/local/` are this project's own: facts of one node that never leave its node store.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

#[cfg(test)]
mod tests;

/// A Calico v3 resource kind that is stored under `/calico/resources/v3/projectcalico.org/<plural>/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `BGPConfiguration`
    BgpConfiguration,
    /// `BGPFilter`
    BgpFilter,
    /// `BGPPeer`
    BgpPeer,
    /// `ClusterInformation`
    ClusterInformation,
    /// `FelixConfiguration`
    FelixConfiguration,
    /// `IPPool`
    IpPool,
    /// `IPReservation`
    IpReservation,
    /// `Node`
    Node,
    /// `WorkloadEndpoint`, the one namespaced kind here
    WorkloadEndpoint,
}

impl Kind {
    /// Every kind, in the order of their plurals.
    pub const ALL: [Self; 9] = [
        Self::BgpConfiguration,
        Self::BgpFilter,
        Self::BgpPeer,
        Self::ClusterInformation,
        Self::FelixConfiguration,
        Self::IpPool,
        Self::IpReservation,
        Self::Node,
        Self::WorkloadEndpoint,
    ];

    /// The lower-case plural used in keys and REST paths, for example `ippools`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::BgpConfiguration => "bgpconfigurations",
            Self::BgpFilter => "bgpfilters",
            Self::BgpPeer => "bgppeers",
            Self::ClusterInformation => "clusterinformations",
            Self::FelixConfiguration => "felixconfigurations",
            Self::IpPool => "ippools",
            Self::IpReservation => "ipreservations",
            Self::Node => "nodes",
            Self::WorkloadEndpoint => "workloadendpoints",
        }
    }

    /// The `kind` member of stored objects, for example `IPPool`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BgpConfiguration => "BGPConfiguration",
            Self::BgpFilter => "BGPFilter",
            Self::BgpPeer => "BGPPeer",
            Self::ClusterInformation => "ClusterInformation",
            Self::FelixConfiguration => "FelixConfiguration",
            Self::IpPool => "IPPool",
            Self::IpReservation => "IPReservation",
            Self::Node => "Node",
            Self::WorkloadEndpoint => "WorkloadEndpoint",
        }
    }

    /// Whether names of this kind live in a namespace.
    pub fn namespaced(self) -> bool {
        self == Self::WorkloadEndpoint
    }
}

/// Who a block is affine to: the text form is `host:<node>` or `virtual:<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AffinityOwner {
    /// A node, by Calico node name.
    Host(String),
    /// A virtual owner; Calico uses only `load-balancer`.
    Virtual(String),
}

impl AffinityOwner {
    /// `host` or `virtual`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Virtual(_) => "virtual",
        }
    }

    /// The node or virtual name without its type.
    pub fn name(&self) -> &str {
        match self {
            Self::Host(name) | Self::Virtual(name) => name,
        }
    }
}

impl fmt::Display for AffinityOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.type_name(), self.name())
    }
}

impl FromStr for AffinityOwner {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.split_once(':') {
            Some(("host", name)) if !name.is_empty() => Ok(Self::Host(name.to_owned())),
            Some(("virtual", name)) if !name.is_empty() => Ok(Self::Virtual(name.to_owned())),
            _ => Err(KeyError {
                key: text.to_owned(),
                reason: "an affinity is host:<node> or virtual:<name>",
            }),
        }
    }
}

/// Tables of node-local facts. They exist in node stores only and are never published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LocalTable {
    /// One record per network, container ID and interface: `<node>/<network>/<container ID>/<interface>`.
    Attachment,
    /// Facts about a node's own state here, such as the boot it was last reconciled in: `<node>/<fact>`.
    NodeState,
    /// Releases that could not be carried out yet: `<node>/<handle>`.
    ReleaseIntent,
}

impl LocalTable {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Attachment, Self::NodeState, Self::ReleaseIntent];

    /// The path segment of this table.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Attachment => "attachment",
            Self::NodeState => "node-state",
            Self::ReleaseIntent => "release-intent",
        }
    }
}

/// The name of one stored object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A v3 resource: `/calico/resources/v3/projectcalico.org/<plural>/[<namespace>/]<name>`.
    Resource {
        /// What it is.
        kind: Kind,
        /// Set exactly for namespaced kinds.
        namespace: Option<String>,
        /// `metadata.name`.
        name: String,
    },
    /// An allocation block: `/calico/ipam/v2/assignment/ipv4/block/10.9.0.4-30`.
    Block(IpNet),
    /// A block affinity: `/calico/ipam/v2/host/<node>/ipv4/block/10.9.0.4-30`.
    Affinity {
        /// The claimant.
        owner: AffinityOwner,
        /// The block claimed.
        block: IpNet,
    },
    /// An IPAM handle: `/calico/ipam/v2/handle/<handle ID>`.
    Handle(String),
    /// The IPAM configuration: `/calico/ipam/v2/config`.
    IpamConfig,
    /// A node-local record: `/calico/local/<table>/<name>`; the name may contain `/`.
    Local {
        /// Which table.
        table: LocalTable,
        /// The name inside it.
        name: String,
    },
}

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
const BLOCKS: &str = "/calico/ipam/v2/assignment/";
const IPAM: &str = "/calico/ipam/v2/";
const HANDLES: &str = "/calico/ipam/v2/handle/";
const IPAM_CONFIG: &str = "/calico/ipam/v2/config";
const LOCAL: &str = "/calico/local/";

impl Key {
    /// The key of a cluster-scoped resource.
    pub fn resource(kind: Kind, name: impl Into<String>) -> Self {
        Self::Resource {
            kind,
            namespace: None,
            name: name.into(),
        }
    }

    /// The key of a namespaced resource.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Resource {
            kind,
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// The key of the affinity of `node` for `block`.
    pub fn host_affinity(node: impl Into<String>, block: IpNet) -> Self {
        Self::Affinity {
            owner: AffinityOwner::Host(node.into()),
            block,
        }
    }

    /// The key of a node-local record.
    pub fn local(table: LocalTable, name: impl Into<String>) -> Self {
        Self::Local {
            table,
            name: name.into(),
        }
    }
}

/// `ipv4` or `ipv6`, as the key layout spells it.
fn family(block: &IpNet) -> &'static str {
    match block {
        IpNet::V4(_) => "ipv4",
        IpNet::V6(_) => "ipv6",
    }
}

fn block_segment(block: &IpNet) -> String {
    format!("{}-{}", block.addr(), block.prefix_len())
}

fn parse_block(family: &str, segment: &str) -> Option<IpNet> {
    let (address, length) = segment.rsplit_once('-')?;
    let block = IpNet::new(address.parse::<IpAddr>().ok()?, length.parse().ok()?).ok()?;
    let same_family = matches!((family, &block), ("ipv4", IpNet::V4(_)) | ("ipv6", IpNet::V6(_)));
    (same_family && block == block.trunc()).then_some(block)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource {
                kind,
                namespace: Some(namespace),
                name,
            } => {
                write!(f, "{RESOURCES}{}/{namespace}/{name}", kind.plural())
            }
            Self::Resource {
                kind,
                namespace: None,
                name,
            } => write!(f, "{RESOURCES}{}/{name}", kind.plural()),
            Self::Block(block) => write!(f, "{BLOCKS}{}/block/{}", family(block), block_segment(block)),
            Self::Affinity { owner, block } => write!(
                f,
                "{IPAM}{}/{}/{}/block/{}",
                owner.type_name(),
                owner.name(),
                family(block),
                block_segment(block)
            ),
            Self::Handle(id) => write!(f, "{HANDLES}{id}"),
            Self::IpamConfig => f.write_str(IPAM_CONFIG),
            Self::Local { table, name } => write!(f, "{LOCAL}{}/{name}", table.segment()),
        }
    }
}

/// A text that is not the key of anything this project stores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} is not a key of the store: {reason}")]
pub struct KeyError {
    key: String,
    reason: &'static str,
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fail = |reason| KeyError {
            key: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix(RESOURCES) {
            let (plural, name) = rest
                .split_once('/')
                .ok_or_else(|| fail("a resource key ends in its name"))?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == plural);
            let kind = kind.ok_or_else(|| fail("unknown resource plural"))?;
            return match (kind.namespaced(), name.split_once('/')) {
                (true, Some((namespace, name)))
                    if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
                {
                    Ok(Self::namespaced(kind, namespace, name))
                }
                (false, None) if !name.is_empty() => Ok(Self::resource(kind, name)),
                _ => Err(fail("wrong number of name segments for this kind")),
            };
        }
        if let Some(rest) = text.strip_prefix(LOCAL) {
            let (segment, name) = rest
                .split_once('/')
                .ok_or_else(|| fail("a local key ends in its name"))?;
            let table = LocalTable::ALL
                .into_iter()
                .find(|table| table.segment() == segment);
            let table = table.ok_or_else(|| fail("unknown local table"))?;
            return Ok(Self::local(table, name));
        }
        if text == IPAM_CONFIG {
            return Ok(Self::IpamConfig);
        }
        if let Some(id) = text.strip_prefix(HANDLES) {
            return if id.is_empty() {
                Err(fail("empty handle ID"))
            } else {
                Ok(Self::Handle(id.to_owned()))
            };
        }
        if let Some(rest) = text.strip_prefix(BLOCKS) {
            let mut parts = rest.splitn(3, '/');
            let block = match (parts.next(), parts.next(), parts.next()) {
                (Some(family), Some("block"), Some(segment)) => parse_block(family, segment),
                _ => None,
            };
            return block
                .map(Self::Block)
                .ok_or_else(|| fail("a block key ends in <family>/block/<address>-<length>"));
        }
        if let Some(rest) = text.strip_prefix(IPAM) {
            let parts: Vec<&str> = rest.split('/').collect();
            if let [kind, name, family, "block", segment] = parts[..] {
                let owner = match kind {
                    "host" => AffinityOwner::Host(name.to_owned()),
                    "virtual" => AffinityOwner::Virtual(name.to_owned()),
                    _ => return Err(fail("an affinity is of type host or virtual")),
                };
                if name.is_empty() {
                    return Err(fail("an affinity key names its claimant"));
                }
                let block =
                    parse_block(family, segment).ok_or_else(|| fail("malformed block in affinity key"))?;
                return Ok(Self::Affinity { owner, block });
            }
        }
        Err(fail("unknown layout"))
    }
}

/// A contiguous set of keys, to list or to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// All objects of a v3 kind, in every namespace.
    Kind(Kind),
    /// All blocks of one family (`true`: IPv6), in address-text order.
    Blocks {
        /// Whether the IPv6 blocks are meant.
        v6: bool,
    },
    /// All affinities of one owner and family.
    Affinities {
        /// The claimant.
        owner: AffinityOwner,
        /// Whether the IPv6 affinities are meant.
        v6: bool,
    },
    /// All affinities of every host.
    HostAffinities,
    /// All handles.
    Handles,
    /// All records of a local table whose name starts with this text.
    Local {
        /// Which table.
        table: LocalTable,
        /// Start of the names; empty for all.
        prefix: String,
    },
    /// Everything below `/calico/`.
    Everything,
}

impl KeyRange {
    /// The text every key of this range starts with.
    pub fn prefix(&self) -> String {
        let family = |v6: &bool| if *v6 { "ipv6" } else { "ipv4" };
        match self {
            Self::Kind(kind) => format!("{RESOURCES}{}/", kind.plural()),
            Self::Blocks { v6 } => format!("{BLOCKS}{}/block/", family(v6)),
            Self::Affinities { owner, v6 } => {
                format!(
                    "{IPAM}{}/{}/{}/block/",
                    owner.type_name(),
                    owner.name(),
                    family(v6)
                )
            }
            Self::HostAffinities => format!("{IPAM}host/"),
            Self::Handles => HANDLES.to_owned(),
            Self::Local { table, prefix } => format!("{LOCAL}{}/{prefix}", table.segment()),
            Self::Everything => "/calico/".to_owned(),
        }
    }
}
