// SPDX-License-Identifier: Apache-2.0
//! What the store says, as one immutable value: every object that routing depends on, decoded. Objects that cannot be
//! read are left out and named in the warnings.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use calico_ipam::attachment::{Attachment, AttachmentId};
use datastore::{Change, Entry};
use ipnet::IpNet;
use model::{
    AffinityOwner, AffinityState, BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, ClusterInformation,
    FelixConfiguration, IpPool, IpamBlock, Key, Kind, LocalTable, Node,
};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Nodes by name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Pools by name.
    pub pools: BTreeMap<String, Arc<IpPool>>,
    /// BGP peers by name.
    pub bgp_peers: BTreeMap<String, Arc<BgpPeer>>,
    /// BGP filters by name.
    pub bgp_filters: BTreeMap<String, Arc<BgpFilter>>,
    /// BGP configurations by name.
    pub bgp_configurations: BTreeMap<String, Arc<BgpConfiguration>>,
    /// Felix configurations by name.
    pub felix_configurations: BTreeMap<String, Arc<FelixConfiguration>>,
    /// Cluster information.
    pub cluster: Option<Arc<ClusterInformation>>,
    /// Blocks by prefix.
    pub blocks: BTreeMap<IpNet, Arc<IpamBlock>>,
    /// Who claims a block, and how far that is.
    pub affinities: BTreeMap<IpNet, Vec<(AffinityOwner, AffinityState)>>,
    /// Attachments of all nodes that share the store.
    pub attachments: BTreeMap<AttachmentId, Arc<Attachment>>,
    /// Objects that could not be read, by key.
    pub unreadable: BTreeMap<String, String>,
}

impl Snapshot {
    /// Takes a change in; whether it concerns anything here.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Put(entry) => self.put(&entry),
            Change::Deleted { key, .. } => self.delete(&key),
        }
    }

    /// Takes an object in.
    pub fn put(&mut self, entry: &Entry) -> bool {
        let key = entry.key.to_string();
        match self.insert(entry) {
            Ok(concerns) => {
                self.unreadable.remove(&key);
                concerns
            }
            Err(problem) => {
                // What it said before is not what it says now.
                self.delete(&entry.key);
                self.unreadable.insert(key, problem);
                true
            }
        }
    }

    fn insert(&mut self, entry: &Entry) -> Result<bool, String> {
        fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<Arc<T>, String> {
            entry
                .decode()
                .map(Arc::new)
                .map_err(|problem| problem.to_string())
        }
        match &entry.key {
            Key::Resource { kind, name, .. } => {
                let name = name.clone();
                match kind {
                    Kind::Node => drop(self.nodes.insert(name, read(entry)?)),
                    Kind::IpPool => drop(self.pools.insert(name, read(entry)?)),
                    Kind::BgpPeer => drop(self.bgp_peers.insert(name, read(entry)?)),
                    Kind::BgpFilter => drop(self.bgp_filters.insert(name, read(entry)?)),
                    Kind::BgpConfiguration => drop(self.bgp_configurations.insert(name, read(entry)?)),
                    Kind::FelixConfiguration => drop(self.felix_configurations.insert(name, read(entry)?)),
                    Kind::ClusterInformation => self.cluster = Some(read(entry)?),
                    Kind::IpReservation | Kind::WorkloadEndpoint => return Ok(false),
                }
            }
            Key::Block(prefix) => drop(self.blocks.insert(*prefix, read(entry)?)),
            Key::Affinity { owner, block } => {
                let affinity =
                    BlockAffinity::from_stored(&entry.value).map_err(|problem| problem.to_string())?;
                let claims = self.affinities.entry(*block).or_default();
                claims.retain(|(other, _)| other != owner);
                claims.push((owner.clone(), affinity.state));
            }
            Key::Local {
                table: LocalTable::Attachment,
                ..
            } => {
                let Some(id) = AttachmentId::from_key(&entry.key) else {
                    return Ok(false);
                };
                self.attachments.insert(id, read(entry)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn delete(&mut self, key: &Key) -> bool {
        self.unreadable.remove(&key.to_string());
        match key {
            Key::Resource { kind, name, .. } => match kind {
                Kind::Node => self.nodes.remove(name).is_some(),
                Kind::IpPool => self.pools.remove(name).is_some(),
                Kind::BgpPeer => self.bgp_peers.remove(name).is_some(),
                Kind::BgpFilter => self.bgp_filters.remove(name).is_some(),
                Kind::BgpConfiguration => self.bgp_configurations.remove(name).is_some(),
                Kind::FelixConfiguration => self.felix_configurations.remove(name).is_some(),
                Kind::ClusterInformation => self.cluster.take().is_some(),
                Kind::IpReservation | Kind::WorkloadEndpoint => false,
            },
            Key::Block(prefix) => self.blocks.remove(prefix).is_some(),
            Key::Affinity { owner, block } => {
                let Some(claims) = self.affinities.get_mut(block) else {
                    return false;
                };
                claims.retain(|(other, _)| other != owner);
                if claims.is_empty() {
                    self.affinities.remove(block);
                }
                true
            }
            Key::Local {
                table: LocalTable::Attachment,
                ..
            } => AttachmentId::from_key(key).is_some_and(|id| self.attachments.remove(&id).is_some()),
            _ => false,
        }
    }

    /// The blocks that a node has, or is about to give up.
    pub fn blocks_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (IpNet, AffinityState)> + 'a {
        self.affinities.iter().flat_map(move |(block, claims)| {
            let own = claims.iter().filter(move |(owner, state)| {
                matches!(owner, AffinityOwner::Host(name) if name == node) && *state != AffinityState::Pending
            });
            own.map(|(_, state)| (*block, *state))
        })
    }

    /// The longest pool around a prefix.
    pub fn pool_of(&self, prefix: &IpNet) -> Option<&Arc<IpPool>> {
        let around = self.pools.values().filter(|pool| pool.spec.cidr.contains(prefix));
        around.max_by_key(|pool| pool.spec.cidr.prefix_len())
    }

    /// The node that a prefix belongs to by the store: whoever has claimed the block, or, for a single address inside
    /// a block, whoever it is allocated on.
    pub fn owner_of(&self, prefix: &IpNet) -> Option<Owner<'_>> {
        if prefix.prefix_len() == prefix.max_prefix_len()
            && let Some(found) = self.allocated_on(prefix.addr())
        {
            return Some(found);
        }
        let mut lengths = (0..=prefix.prefix_len()).rev();
        lengths.find_map(|length| {
            let block = IpNet::new(prefix.addr(), length).ok()?.trunc();
            let claims = self.affinities.get(&block)?;
            claims.iter().find_map(|(owner, state)| match owner {
                AffinityOwner::Host(node) if *state != AffinityState::Pending => Some(Owner { node, block }),
                _ => None,
            })
        })
    }

    fn allocated_on(&self, address: IpAddr) -> Option<Owner<'_>> {
        let bits = IpNet::from(address).max_prefix_len();
        let mut lengths = (0..=bits).rev();
        lengths.find_map(|length| {
            let prefix = IpNet::new(address, length).ok()?.trunc();
            let block = self.blocks.get(&prefix)?;
            let ordinal = block.ordinal(address)?;
            let attribute = block.attributes.get((*block.allocations.get(ordinal)?)?)?;
            let node = attribute.secondary.get("node")?;
            Some(Owner { node, block: prefix })
        })
    }

    /// Addresses that live on a node although their block is somebody else's, or nobody's.
    pub fn borrowed_by<'a>(&'a self, node: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.blocks
            .values()
            .filter_map(move |block| {
                let own = |owner: &AffinityOwner| matches!(owner, AffinityOwner::Host(name) if name == node);
                if block.affinity.as_ref().is_some_and(own) {
                    return None;
                }
                let is_here = move |ordinal: usize, index: usize| {
                    let attribute = block.attributes.get(index)?;
                    let found = attribute.secondary.get("node")?;
                    (found == node && attribute.released_at.is_none())
                        .then(|| block.address(ordinal))
                        .flatten()
                };
                let allocations = block.allocations.iter().enumerate();
                Some(allocations.filter_map(move |(ordinal, index)| is_here(ordinal, (*index)?)))
            })
            .flatten()
    }
}

/// The node that a prefix belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its name.
    pub node: &'a str,
    /// The block that says so.
    pub block: IpNet,
}

impl Snapshot {
    /// A node's address of a family, with its mask.
    pub fn node_address(&self, node: &str, v6: bool) -> Option<IpNet> {
        let bgp = self.nodes.get(node)?.spec.bgp.as_ref()?;
        if v6 { bgp.ipv6_address } else { bgp.ipv4_address }
    }

    /// The node that has an address.
    pub fn node_by_address(&self, address: IpAddr) -> Option<&str> {
        let has = |node: &Arc<Node>| {
            let bgp = node.spec.bgp.as_ref()?;
            let mut own = [bgp.ipv4_address, bgp.ipv6_address].into_iter().flatten();
            own.any(|own| own.addr() == address).then_some(())
        };
        let found = self.nodes.iter().find(|(_, node)| has(node).is_some());
        found.map(|(name, _)| name.as_str())
    }
}
