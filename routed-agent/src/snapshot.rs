// SPDX-License-Identifier: Apache-2.0
//! What the store says, as one immutable value: every object that routing depends on, decoded. Objects that cannot be
//! read are left out and named in the warnings.

mod assignments;
mod difference;
mod index;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use calico_ipam::attachment::{Attachment, AttachmentId};
use datastore::{Change, Entry};
use ipnet::IpNet;
use model::{
    AffinityOwner, AffinityState, AllocationAttribute, BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity,
    ClusterInformation, FelixConfiguration, IpPool, IpamBlock, Key, Kind, LocalTable, Node,
};

pub use assignments::Assignment;
pub use difference::Difference;
use index::{Addresses, Lengths};

/// Who claims a block, and how far each is.
pub type Claims = Arc<Vec<(AffinityOwner, AffinityState)>>;

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
    pub affinities: BTreeMap<IpNet, Claims>,
    /// Attachments of all nodes that share the store.
    pub attachments: BTreeMap<AttachmentId, Arc<Attachment>>,
    /// Objects that could not be read, by key.
    pub unreadable: BTreeMap<String, String>,
    claim_lengths: Lengths,
    block_lengths: Lengths,
    addresses: Addresses,
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
                    Kind::Node => {
                        let node: Arc<Node> = read(entry)?;
                        let before = self.nodes.insert(name.clone(), Arc::clone(&node));
                        self.addresses.replace(&name, before.as_deref(), Some(&node));
                    }
                    Kind::IpPool => drop(self.pools.insert(name, read(entry)?)),
                    Kind::BgpPeer => drop(self.bgp_peers.insert(name, read(entry)?)),
                    Kind::BgpFilter => drop(self.bgp_filters.insert(name, read(entry)?)),
                    Kind::BgpConfiguration => drop(self.bgp_configurations.insert(name, read(entry)?)),
                    Kind::FelixConfiguration => drop(self.felix_configurations.insert(name, read(entry)?)),
                    Kind::ClusterInformation => self.cluster = Some(read(entry)?),
                    Kind::IpReservation | Kind::WorkloadEndpoint => return Ok(false),
                }
            }
            Key::Block(prefix) => {
                if self.blocks.insert(*prefix, read(entry)?).is_none() {
                    self.block_lengths.add(prefix);
                }
            }
            Key::Affinity { owner, block } => {
                let affinity =
                    BlockAffinity::from_stored(&entry.value).map_err(|problem| problem.to_string())?;
                let claims = self.affinities.entry(*block).or_insert_with(|| {
                    self.claim_lengths.add(block);
                    Claims::default()
                });
                let claims = Arc::make_mut(claims);
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
                Kind::Node => {
                    let before = self.nodes.remove(name);
                    self.addresses.replace(name, before.as_deref(), None);
                    before.is_some()
                }
                Kind::IpPool => self.pools.remove(name).is_some(),
                Kind::BgpPeer => self.bgp_peers.remove(name).is_some(),
                Kind::BgpFilter => self.bgp_filters.remove(name).is_some(),
                Kind::BgpConfiguration => self.bgp_configurations.remove(name).is_some(),
                Kind::FelixConfiguration => self.felix_configurations.remove(name).is_some(),
                Kind::ClusterInformation => self.cluster.take().is_some(),
                Kind::IpReservation | Kind::WorkloadEndpoint => false,
            },
            Key::Block(prefix) => {
                let was_there = self.blocks.remove(prefix).is_some();
                if was_there {
                    self.block_lengths.remove(prefix);
                }
                was_there
            }
            Key::Affinity { owner, block } => {
                let Some(claims) = self.affinities.get_mut(block) else {
                    return false;
                };
                let claims = Arc::make_mut(claims);
                claims.retain(|(other, _)| other != owner);
                if claims.is_empty() {
                    self.affinities.remove(block);
                    self.claim_lengths.remove(block);
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
            let own = claims.iter().filter(move |claim| is_claim_of(claim, node));
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
        self.claim_lengths.around(*prefix).find_map(|block| {
            let claims = self.affinities.get(&block)?;
            claims.iter().find_map(|(owner, state)| match owner {
                AffinityOwner::Host(node) if *state != AffinityState::Pending => Some(Owner { node, block }),
                _ => None,
            })
        })
    }

    /// The node of the container that has an address, by whichever IPAM plugin. It looks at all of them.
    pub fn attached_to(&self, address: IpAddr) -> Option<&str> {
        let found = self
            .attachments
            .iter()
            .find(|(_, attachment)| attachment.has(address));
        found.map(|(id, _)| id.node.as_str())
    }

    /// The stored block that an address is in.
    pub fn block_around(&self, address: &IpNet) -> Option<IpNet> {
        self.block_lengths
            .around(*address)
            .find(|block| self.blocks.contains_key(block))
    }

    /// The block of a node that a prefix is in, or is.
    pub fn block_of(&self, node: &str, prefix: &IpNet) -> Option<IpNet> {
        self.claim_lengths.around(*prefix).find(|block| {
            let claims = self.affinities.get(block);
            claims.is_some_and(|claims| claims.iter().any(|claim| is_claim_of(claim, node)))
        })
    }

    fn allocated_on(&self, address: IpAddr) -> Option<Owner<'_>> {
        self.block_lengths
            .around(IpNet::from(address))
            .find_map(|prefix| {
                let block = self.blocks.get(&prefix)?;
                let ordinal = block.ordinal(address)?;
                let attribute = block.attributes.get((*block.allocations.get(ordinal)?)?)?;
                let node = attribute.secondary.get("node")?;
                Some(Owner { node, block: prefix })
            })
    }

    /// Addresses that live on a node although their block is somebody else's, or nobody's; by block.
    pub fn borrowed_by<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (IpNet, Vec<IpAddr>)> + 'a {
        let blocks = self.blocks.keys();
        blocks
            .map(move |block| (*block, self.borrowed_in(block, node)))
            .filter(|(_, addresses)| !addresses.is_empty())
    }

    /// As [`borrowed_by`](Self::borrowed_by), of one block.
    pub fn borrowed_in(&self, block: &IpNet, node: &str) -> Vec<IpAddr> {
        let Some(block) = self.blocks.get(block) else {
            return Vec::new();
        };
        let is_own = |owner: &AffinityOwner| matches!(owner, AffinityOwner::Host(name) if name == node);
        let is_here = |attribute: &AllocationAttribute| {
            let found = attribute.secondary.get("node");
            found.is_some_and(|found| found == node) && attribute.released_at.is_none()
        };
        // Far fewer than addresses, and in nearly all blocks none is this node's.
        if block.affinity.as_ref().is_some_and(is_own) || !block.attributes.iter().any(is_here) {
            return Vec::new();
        }
        let allocated = block.allocations.iter().enumerate();
        let here = allocated.filter(|(ordinal, _)| block.attribute(*ordinal).is_some_and(is_here));
        here.filter_map(|(ordinal, _)| block.address(ordinal)).collect()
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

    /// The node that has an address; the first by name where several claim it.
    pub fn node_by_address(&self, address: IpAddr) -> Option<&str> {
        self.addresses.node(address)
    }

    /// Nodes' addresses inside a prefix.
    pub fn node_addresses_in<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> + use<'a> {
        self.addresses.within(prefix)
    }
}

/// Whether a claim makes a block a node's, or one that it is about to give up.
fn is_claim_of((owner, state): &(AffinityOwner, AffinityState), node: &str) -> bool {
    matches!(owner, AffinityOwner::Host(name) if name == node) && *state != AffinityState::Pending
}
