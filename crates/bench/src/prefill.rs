// SPDX-License-Identifier: Apache-2.0
//! A store with many addresses in use, as a cluster leaves it: nodes with one full block and one almost full, and for
//! every address a handle and an endpoint; on this node also the attachment that DEL needs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use calico_ipam::attachment::{AttachedAddress, Attachment, AttachmentId};
use calico_ipam::interface_record::{self, InterfaceOwner};
use datastore::{Batch, EmbeddedStore, Entry, OpenOptions, Store, Write};
use ipnet::{IpNet, Ipv4Net};
use model::workload_endpoint::WorkloadEndpointSpec;
use model::{
    AffinityOwner, AffinityState, AllocationAttribute, BlockAffinity, IpPool, IpamBlock, IpamHandle, Key,
    KeyRange, Kind, Node, Timestamp, WorkloadEndpoint, names,
    node::{NodeBgp, NodeSpec},
    prefix,
};

use crate::contender::NETWORK;

/// Addresses in use on one node: a block of 64 and 61 of another.
const PER_NODE: usize = 125;
/// On this node there are twice as many: the most that a kubelet runs by default is 110.
const OWN: usize = 2 * PER_NODE;
/// Prefix length of blocks.
const BLOCK: u8 = 26;
/// When everything was assigned, in seconds since the Unix epoch.
const WHEN: i64 = 1_750_000_000;

/// Puts `count` addresses in use into the store, which has its pool already. This node's come first.
pub fn fill(database: &Path, own_node: &str, count: usize) -> Result<()> {
    let store = EmbeddedStore::open(database, OpenOptions::default())?.store;
    let mut blocks = free_blocks(&store)?.into_iter();
    let mut containers = 0..count;
    let mut number = 0;
    while !containers.is_empty() {
        let (node, share) = match number {
            0 => (own_node.to_owned(), OWN),
            _ => (format!("node-{number:04}"), PER_NODE),
        };
        let mut batch = Batch::default();
        if number > 0 {
            batch.writes.push(registered(&node, number));
        }
        let mut wanted = share.min(containers.len());
        while wanted > 0 {
            let block = blocks
                .next()
                .context("the pool is too small for so many addresses")?;
            // The last block of a node keeps a few free addresses.
            let used = wanted.min(64);
            let owners = containers
                .by_ref()
                .take(used)
                .map(|serial| Container::new(serial, &node))
                .collect::<Vec<_>>();
            batch
                .writes
                .extend(block_with(block, &node, &owners, node == own_node)?);
            wanted -= used;
        }
        store.commit(&batch)?;
        number += 1;
    }
    Ok(())
}

/// Somebody who has an address.
struct Container<'a> {
    serial: usize,
    id: String,
    pod: String,
    node: &'a str,
}

impl<'a> Container<'a> {
    fn new(serial: usize, node: &'a str) -> Self {
        // Container IDs are random; SplitMix64 spreads them as evenly and repeatably.
        let mut state = serial as u64;
        let words = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            format!("{:016x}", word ^ (word >> 31))
        });
        Self {
            serial,
            id: words.take(4).collect(),
            pod: format!("web-7c5ddbdf54-{serial:05x}"),
            node,
        }
    }

    fn handle(&self) -> String {
        format!("{NETWORK}.{}", self.id)
    }

    fn namespace(&self) -> String {
        format!("team-{}", self.serial % 50)
    }

    fn host_interface(&self) -> String {
        names::InterfacePrefix::default().pod_interface(&self.namespace(), &self.pod)
    }

    fn attribute(&self) -> AllocationAttribute {
        let secondary = [
            ("node", self.node.to_owned()),
            ("namespace", self.namespace()),
            ("pod", self.pod.clone()),
            ("timestamp", "2025-06-15 15:06:40 +0000 UTC".to_owned()),
        ];
        AllocationAttribute {
            handle_id: Some(self.handle()),
            secondary: secondary.map(|(name, value)| (name.to_owned(), value)).into(),
            ..AllocationAttribute::default()
        }
    }

    fn endpoint(&self, address: IpAddr) -> Result<Write> {
        let spec = WorkloadEndpointSpec {
            orchestrator: "k8s".to_owned(),
            node: self.node.to_owned(),
            container_id: self.id.clone(),
            pod: self.pod.clone(),
            endpoint: "eth0".to_owned(),
            interface_name: self.host_interface(),
            mac: "02:00:00:00:00:02".to_owned(),
            ip_networks: vec![prefix::host_prefix(address)],
            profiles: vec![format!("kns.{}", self.namespace())],
            ..WorkloadEndpointSpec::default()
        };
        let mut endpoint = WorkloadEndpoint::named(self.namespace(), spec)?;
        let labels = [
            ("projectcalico.org/namespace", self.namespace()),
            ("projectcalico.org/orchestrator", "k8s".into()),
        ];
        endpoint
            .metadata
            .labels
            .extend(labels.map(|(name, value)| (name.to_owned(), value)));
        endpoint
            .metadata
            .complete((self.serial as u128).to_be_bytes(), moment());
        Ok(Write::create(endpoint.key(), &endpoint))
    }

    /// What this node remembers of its own containers.
    fn attachment(&self, address: IpAddr, sequence: u64) -> [Write; 2] {
        let id = AttachmentId {
            node: self.node.to_owned(),
            network: NETWORK.to_owned(),
            container_id: self.id.clone(),
            interface: "eth0".to_owned(),
        };
        let attachment = Attachment {
            created: WHEN,
            namespace_path: Some(format!("/run/netns/cni-{}", self.serial).into()),
            pod: Some(calico_ipam::attachment::Pod {
                namespace: self.namespace(),
                name: self.pod.clone(),
            }),
            host_interface: Some(self.host_interface()),
            mac: Some("02:00:00:00:00:02".to_owned()),
            mtu: 1500,
            addresses: vec![AttachedAddress {
                address,
                sequence: Some(sequence),
            }],
            ..Attachment::default()
        };
        let name = interface_record::key(self.node, &self.host_interface());
        [
            Write::create(id.key(), &attachment),
            Write::create(name, &InterfaceOwner::of(&id)),
        ]
    }
}

/// The blocks of the store's IPv4 pool that nobody has.
fn free_blocks(store: &EmbeddedStore) -> Result<Vec<IpNet>> {
    let pools = store.list(&KeyRange::Kind(Kind::IpPool))?;
    let pools = pools
        .entries
        .iter()
        .map(Entry::decode::<IpPool>)
        .collect::<Result<Vec<_>, _>>()?;
    let Some(IpNet::V4(pool)) = pools
        .iter()
        .map(|pool| pool.spec.cidr)
        .find(|cidr| cidr.addr().is_ipv4())
    else {
        bail!("the store has no IPv4 pool");
    };
    let taken = store.list(&KeyRange::Blocks { v6: false })?.entries;
    let blocks = pool
        .subnets(BLOCK)?
        .map(IpNet::V4)
        .filter(|block| taken.iter().all(|entry| entry.key != Key::Block(*block)));
    Ok(blocks.collect())
}

/// A node with an address.
fn registered(name: &str, number: u32) -> Write {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 20, 0, 0)) + number);
    let address = Ipv4Net::new(address, 16).expect("16 is a prefix length");
    let bgp = NodeBgp {
        ipv4_address: Some(address.into()),
        ..NodeBgp::default()
    };
    let mut node = Node::new(
        name,
        NodeSpec {
            bgp: Some(bgp),
            ..NodeSpec::default()
        },
    );
    node.metadata
        .complete((u128::from(number) << 64).to_be_bytes(), moment());
    Write::create(node.key(), &node)
}

/// A block whose first addresses are in use, its affinity, and everything that belongs to each address.
fn block_with(cidr: IpNet, node: &str, owners: &[Container<'_>], own: bool) -> Result<Vec<Write>> {
    let sequence = u64::try_from(WHEN)? * 1_000_000_000;
    let owner = AffinityOwner::Host(node.to_owned());
    let mut block =
        IpamBlock::new(cidr, Some(owner), Some(moment()), sequence).context("a block of the pool")?;
    let mut writes = Vec::new();
    for (ordinal, container) in owners.iter().enumerate() {
        let (address, sequence) = (
            block.address(ordinal).context("inside the block")?,
            sequence + ordinal as u64,
        );
        block.allocations[ordinal] = Some(ordinal);
        block.attributes.push(container.attribute());
        block.sequence_number_for_allocation.insert(ordinal, sequence);
        let handle = IpamHandle {
            block: BTreeMap::from([(cidr, 1)]),
            ..IpamHandle::default()
        };
        writes.push(Write::create(Key::Handle(container.handle()), &handle));
        writes.push(container.endpoint(address)?);
        if own {
            writes.extend(container.attachment(address, sequence));
        }
    }
    block.unallocated.retain(|ordinal| *ordinal >= owners.len());
    block.sequence_number += owners.len() as u64;
    writes.push(Write::create(
        Key::host_affinity(node, cidr),
        &BlockAffinity::new(AffinityState::Confirmed),
    ));
    writes.push(Write::create(block.key(), &block));
    Ok(writes)
}

fn moment() -> Timestamp {
    Timestamp::from_unix(WHEN, 0)
}
