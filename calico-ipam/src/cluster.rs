// SPDX-License-Identifier: Apache-2.0
//! What a store needs before addresses can be assigned: the objects a new cluster starts with, this node's own
//! registration, and a datastore that is not locked.
//!
//! Each object is created on its own and only if it is missing; several hosts may do this at once.

use std::{fs::File, io::Read as _};

use cni_plugin::{Code, Error};
use datastore::{Batch, StoreError, Write};
use ipam::HostNetwork as _;
use ipnet::IpNet;
use model::{
    ClusterInformation, IpPool, IpamConfig, Key, KeyRange, Kind, LocalTable, Node, Timestamp,
    cluster_information::ClusterInformationSpec, node::NodeSpec,
};
use serde::{Deserialize, Serialize};

use crate::{default_pools, error, host_network::KernelNetwork, session::Session};

/// Which families' default pools have been made, or decided against: they are made once, so that a pool that an
/// operator deletes stays deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DefaultPools {
    #[serde(default)]
    v4: bool,
    #[serde(default)]
    v6: bool,
}

/// Fails with code 11 while the datastore is locked (`datastoreReady: false`).
pub fn require_ready(session: &Session<'_>) -> Result<(), Error> {
    match session.cluster_information()? {
        Some(information) if !information.spec.ready() => Err(Error::new(
            Code::TryAgainLater,
            "the datastore is locked (ClusterInformation default has datastoreReady: false); unlock it with \
             calicoctl datastore migrate unlock",
        )),
        _ => Ok(()),
    }
}

/// Makes what a new store lacks. `live` are addresses that containers hold already: pools are made to contain them
/// where the choice is free.
pub fn initialise(session: &Session<'_>, live: &[std::net::IpAddr]) -> Result<(), Error> {
    if session.cluster_information()?.is_none() {
        create_cluster(session)?;
    }
    default_pools(session, live)?;
    register_node(session)
}

/// Creates this node's Node resource if it is missing. Its addresses are routed-agent's to fill in.
pub fn register_node(session: &Session<'_>) -> Result<(), Error> {
    let mut node = Node::new(&session.node, NodeSpec::default());
    if session.get(&node.key())?.is_some() {
        return Ok(());
    }
    node.metadata.complete(random()?, now(session));
    create(session, vec![Write::create(node.key(), &node)])
}

/// ClusterInformation, and the IPAM configuration if the store is new: one that has blocks or affinities already
/// belongs to a cluster whose absent configuration means Calico's defaults.
fn create_cluster(session: &Session<'_>) -> Result<(), Error> {
    let guid = format!("{:032x}", u128::from_be_bytes(random()?));
    let spec = ClusterInformationSpec {
        cluster_guid: guid,
        datastore_ready: Some(true),
        ..ClusterInformationSpec::default()
    };
    let mut information = ClusterInformation::new("default", spec);
    information.metadata.complete(random()?, now(session));
    let mut writes = vec![Write::create(information.key(), &information)];
    let is_new = session.get(&Key::IpamConfig)?.is_none()
        && session.list(&KeyRange::Blocks { v6: false })?.entries.is_empty()
        && session.list(&KeyRange::Blocks { v6: true })?.entries.is_empty()
        && session.list(&KeyRange::HostAffinities)?.entries.is_empty()
        && session
            .list(&KeyRange::Kind(Kind::BgpConfiguration))?
            .entries
            .is_empty()
        && session.list(&KeyRange::Kind(Kind::BgpPeer))?.entries.is_empty();
    if is_new {
        writes.push(Write::create(Key::IpamConfig, &IpamConfig::default()));
    }
    create(session, writes)
}

fn default_pools(session: &Session<'_>, live: &[std::net::IpAddr]) -> Result<(), Error> {
    let key = Key::local(LocalTable::NodeState, "cluster/default-pools");
    let stored = session.get(&key)?;
    let made: DefaultPools = stored
        .as_ref()
        .map(crate::session::decode)
        .transpose()?
        .unwrap_or_default();
    let variable = |name: &str| session.settings.variable(name);
    // IPv6 is looked at again as long as this host has none: it may be switched on later.
    let todo = DefaultPools {
        v4: !made.v4,
        v6: !made.v6 && kernel::host::has_ipv6(),
    };
    if todo == DefaultPools::default() {
        return Ok(());
    }
    let mut writes = Vec::new();
    if default_pools::wanted(&variable) {
        let existing = session.list(&KeyRange::Kind(Kind::IpPool))?;
        let exists = |v6: bool| {
            let pools = existing
                .entries
                .iter()
                .filter_map(|entry| entry.decode::<IpPool>().ok());
            pools
                .map(|pool| matches!(pool.spec.cidr, IpNet::V6(_)))
                .any(|found| found == v6)
        };
        let mut pools = Vec::new();
        if todo.v4 && !exists(false) {
            let networks = KernelNetwork::default()
                .occupied()
                .map_err(|problem| Error::new(Code::TryAgainLater, problem.to_string()))?;
            let networks: Vec<IpNet> = networks.into_iter().map(|occupied| occupied.prefix).collect();
            pools.push(
                default_pools::ipv4(&variable, &networks)
                    .map_err(|problem| error::pool_variable(&problem))?,
            );
        }
        if todo.v6 && !exists(true) {
            pools.push(
                default_pools::ipv6(&variable, global_id(live)?)
                    .map_err(|problem| error::pool_variable(&problem))?,
            );
        }
        for mut pool in pools.into_iter().flatten() {
            pool.metadata.complete(random()?, now(session));
            session.log.info(format_args!(
                "creating default pool {} {}",
                pool.metadata.name, pool.spec.cidr
            ));
            writes.push(Write::create(pool.key(), &pool));
        }
    }
    let done = DefaultPools {
        v4: made.v4 || todo.v4,
        v6: made.v6 || todo.v6,
    };
    writes.push(match &stored {
        Some(entry) => Write::update(key, &done, entry.revision),
        None => Write::create(key, &done),
    });
    create(session, writes)
}

/// The global ID of a unique local pool (RFC 4193): that of a live container where one has such an address, so that
/// a store that was lost gets its pool back; otherwise random.
fn global_id(live: &[std::net::IpAddr]) -> Result<[u8; 5], Error> {
    let unique_local = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V6(address) => Some(address.octets()).filter(|octets| octets[0] == 0xfd),
        std::net::IpAddr::V4(_) => None,
    };
    let source = live.iter().find_map(unique_local).map_or_else(random, Ok)?;
    let mut id = [0; 5];
    id.copy_from_slice(&source[1..6]);
    Ok(id)
}

/// Commits objects that another host may have created meanwhile, which is as good.
fn create(session: &Session<'_>, writes: Vec<Write>) -> Result<(), Error> {
    match session.store().commit(&Batch {
        writes,
        journal: Vec::new(),
    }) {
        Ok(_) | Err(StoreError::AlreadyExists { .. } | StoreError::Conflict { .. }) => Ok(()),
        Err(problem) => Err(error::store(&problem)),
    }
}

fn now(session: &Session<'_>) -> Timestamp {
    session.now()
}

/// 16 random bytes, for identifiers.
pub fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|problem| Error::new(Code::Io, format!("cannot read /dev/urandom: {problem}")))?;
    Ok(bytes)
}
