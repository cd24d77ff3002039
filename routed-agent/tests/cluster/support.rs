// SPDX-License-Identifier: Apache-2.0
//! Clusters for tests.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, StoreError, Write};
use ipnet::IpNet;
use model::{Key, Kind};
use serde_json::{Value, json};
use testbed::{
    Container, PATIENCE,
    cluster::Member,
    eventually,
    lan::Lan,
    peers::{self, Peer},
    probe,
};

/// Whether the machine has what is needed.
pub(crate) fn possible() -> bool {
    peers::available(&[Peer::Root])
}

/// An answer to one ping, where it may well get lost and is asked for again.
pub(crate) fn answers(from: &Container, to: IpAddr) -> Result<Duration> {
    probe::ping_within(Duration::from_millis(300), from.place(), to)
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// Hosts and the subnets between them.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    /// Where the router and what is outside stand.
    pub(crate) lan: Lan,
    folder: tempfile::TempDir,
}

/// A host's name, address and subnet.
pub(crate) type Place<'a> = (&'a str, &'a str, &'a str);

impl Cluster {
    /// Hosts on subnets, agents not started. The router has the first address of each subnet where `routed`.
    pub(crate) fn new(places: &[Place<'_>], routed: bool, environment: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("store.db");
        let lan = Lan::new()?;
        let mut members = Vec::new();
        let mut subnets: Vec<&str> = Vec::new();
        for (name, address, subnet) in places {
            let address = net(address);
            let gateway = address.trunc().hosts().next().context("an address")?;
            let gateways: Vec<IpAddr> = if routed { vec![gateway] } else { Vec::new() };
            if !subnets.contains(subnet) {
                let own: Vec<IpNet> = gateways
                    .iter()
                    .map(|gateway| IpNet::new(*gateway, address.prefix_len()))
                    .collect::<Result<_, _>>()?;
                lan.subnet(subnet, &own)?;
                subnets.push(subnet);
            }
            let mut member = Member::new(name, &store)?;
            for (name, value) in environment {
                member.set(name, value);
            }
            member.set("CALICO_IPV6POOL_CIDR", "none");
            lan.attach(member.host(), subnet, &[address], &gateways)?;
            members.push(member);
        }
        Ok(Self { members, lan, folder })
    }

    /// A folder for files of the test's.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates or replaces a resource, as an operator would with `calicoctl apply`.
    pub(crate) fn apply(&self, kind: Kind, name: &str, spec: &Value) -> Result<()> {
        apply_to(&self.folder.path().join("store.db"), kind, name, spec)
    }

    /// Changes a member of a stored resource's `spec`, or its `metadata`.
    pub(crate) fn patch(&self, kind: Kind, name: &str, change: impl Fn(&mut Value)) -> Result<()> {
        let store = EmbeddedStore::open(&self.folder.path().join("store.db"), OpenOptions::default())?.store;
        let key = Key::resource(kind, name);
        for _ in 0..50 {
            let entry = store.get(&key)?.with_context(|| format!("{name} is not there"))?;
            let mut value: Value = serde_json::from_str(&entry.value)?;
            change(&mut value);
            let write = Write::Update {
                key: key.clone(),
                value: value.to_string(),
                revision: entry.revision,
            };
            let batch = Batch {
                writes: vec![write],
                journal: Vec::new(),
            };
            match store.commit(&batch) {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        bail!("{name} changes too fast")
    }

    /// Starts all agents and waits until all know each other.
    pub(crate) fn start(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.start()?;
        }
        let others = self.members.len() - 1;
        for member in &self.members {
            member.until_peers(others)?;
        }
        Ok(())
    }

    /// A container on each host, with its IPv4 address.
    pub(crate) fn containers(&self) -> Result<Vec<(Container, IpAddr)>> {
        let each = self.members.iter().map(|member| {
            let container = Container::start(member.name())?;
            let addresses = member.add(&container)?;
            let address = addresses
                .into_iter()
                .find(IpAddr::is_ipv4)
                .context("an address")?;
            Ok((container, address))
        });
        each.collect()
    }

    /// Each container reaches every other, once routes are there.
    pub(crate) fn assert_all_reach_all(&self, containers: &[(Container, IpAddr)]) -> Result<()> {
        for member in &self.members {
            for other in self.members.iter().filter(|other| other.name() != member.name()) {
                for block in other.blocks()? {
                    member.until_route(&format!("{block} "))?;
                }
            }
        }
        for (container, _) in containers {
            for (_, address) in containers {
                // The firewall lets a new node's packets in a moment after its routes are there.
                let reached = eventually(PATIENCE, || answers(container, *address).ok());
                reached.with_context(|| format!("{address} from {}", container.id()))?;
            }
        }
        Ok(())
    }
}

/// Creates or replaces a resource in a store.
pub(crate) fn apply_to(store: &Path, kind: Kind, name: &str, spec: &Value) -> Result<()> {
    let store = EmbeddedStore::open(store, OpenOptions::default())?.store;
    let key = Key::resource(kind, name);
    let text = json!({
        "kind": kind.name(), "apiVersion": "projectcalico.org/v3", "metadata": { "name": name }, "spec": spec,
    })
    .to_string();
    for _ in 0..50 {
        let write = match store.get(&key)? {
            None => Write::Create {
                key: key.clone(),
                value: text.clone(),
            },
            Some(entry) => Write::Update {
                key: key.clone(),
                value: text.clone(),
                revision: entry.revision,
            },
        };
        let batch = Batch {
            writes: vec![write],
            journal: Vec::new(),
        };
        match store.commit(&batch) {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. }) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    bail!("{name} changes too fast")
}
