// SPDX-License-Identifier: Apache-2.0
//! What a host's node store holds, as values: what tests assert on and the playground shows.

use std::path::Path;

use anyhow::Result;
use datastore::{EmbeddedStore, Entry, OpenOptions, Store as _};
use model::{IpPool, IpamBlock, IpamHandle, Key, KeyRange, Kind, LocalTable, WorkloadEndpoint};
use serde::de::DeserializeOwned;

/// The content of a store.
#[derive(Debug, Clone, Default)]
pub struct StoreContent {
    /// Pools.
    pub pools: Vec<IpPool>,
    /// Blocks of both families.
    pub blocks: Vec<IpamBlock>,
    /// Handles with their IDs.
    pub handles: Vec<(String, IpamHandle)>,
    /// Workload endpoints.
    pub endpoints: Vec<WorkloadEndpoint>,
    /// Attachment records, by `<node>/<network>/<container ID>/<interface>`.
    pub attachments: Vec<String>,
}

impl StoreContent {
    /// Reads a store without changing it.
    pub fn read(path: &Path) -> Result<Self> {
        let store = EmbeddedStore::open(path, OpenOptions::read_only())?.store;
        let list = |range: KeyRange| -> Result<Vec<Entry>> { Ok(store.list(&range)?.entries) };
        let mut blocks = decoded(&list(KeyRange::Blocks { v6: false })?)?;
        blocks.extend(decoded(&list(KeyRange::Blocks { v6: true })?)?);
        let handles = list(KeyRange::Handles)?;
        let named = |entry: &Entry| match &entry.key {
            Key::Handle(id) => Some(entry.decode().map(|handle| (id.clone(), handle))),
            _ => None,
        };
        let attachments = list(KeyRange::Local {
            table: LocalTable::Attachment,
            prefix: String::new(),
        })?;
        let name = |entry: &Entry| match &entry.key {
            Key::Local { name, .. } => Some(name.clone()),
            _ => None,
        };
        Ok(Self {
            pools: decoded(&list(KeyRange::Kind(Kind::IpPool))?)?,
            blocks,
            handles: handles.iter().filter_map(named).collect::<Result<_, _>>()?,
            endpoints: decoded(&list(KeyRange::Kind(Kind::WorkloadEndpoint))?)?,
            attachments: attachments.iter().filter_map(name).collect(),
        })
    }

    /// How many addresses of a block are in use.
    pub fn in_use(block: &IpamBlock) -> usize {
        block.allocations.iter().flatten().count()
    }

    /// What is left of containers, in words; empty once all are gone. Pools and empty blocks stay: they are the node's.
    pub fn leftovers(&self) -> Vec<String> {
        let blocks = self.blocks.iter().filter(|block| Self::in_use(block) > 0);
        let mut left: Vec<String> = blocks
            .map(|block| format!("{} addresses of block {}", Self::in_use(block), block.cidr))
            .collect();
        left.extend(self.handles.iter().map(|(id, _)| format!("handle {id}")));
        let endpoint = |endpoint: &WorkloadEndpoint| format!("endpoint {}", endpoint.metadata.name);
        left.extend(self.endpoints.iter().map(endpoint));
        left.extend(self.attachments.iter().map(|name| format!("attachment {name}")));
        left
    }
}

fn decoded<T: DeserializeOwned>(entries: &[Entry]) -> Result<Vec<T>> {
    entries.iter().map(|entry| Ok(entry.decode()?)).collect()
}
