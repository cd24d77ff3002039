// SPDX-License-Identifier: Apache-2.0
//! One agent on a host of its own and a crowd of mesh peers beyond a router, all of which the store knows already.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use datastore::{EmbeddedStore, OpenOptions, Write};
use ipnet::{IpNet, Ipv4Net};
use kernel::{Family, Netlink, Route, RouteFilter};
use model::{
    AffinityOwner, AffinityState, BlockAffinity, IpamBlock, Key, Kind, Node, Timestamp,
    node::{NodeBgp, NodeSpec},
};
use serde_json::json;
use testbed::cluster::Member as AgentHost;
use testbed::lan::{INTERFACE, Lan};
use testbed::{Host, PATIENCE, Program, eventually, peers};

use super::crowd::{Crowd, Member};
use super::meter::Meter;
use super::options::Options;
use super::store;

const SUBNET: &str = "lan0";
/// The agent's address, and its way to the others.
const AGENT: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 1);
/// Where the others are: all of it is local in their namespace.
const PEERS: &str = "10.200.0.0/16";
/// Blocks are out of this.
const POOL: &str = "172.16.0.0/12";
/// The agent's node name.
pub const NODE: &str = "agent";
/// When everything in the store was made, in seconds since the Unix epoch.
const WHEN: i64 = 1_750_000_000;
/// Nodes in one commit.
const TOGETHER: usize = 100;
/// How long anything here may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Field {
    /// The peers.
    pub crowd: Crowd,
    agent: AgentHost,
    netlink: Netlink,
    _outside: Host,
    _lan: Lan,
}

impl Field {
    /// So many peers with so many blocks each. The agent is not running yet.
    pub fn new(options: &Options, peers: usize, blocks: usize) -> Result<Self> {
        let members = members(peers, blocks)?;
        let lan = Lan::new()?;
        lan.subnet(SUBNET, &[])?;
        let outside = Host::new("peers")?;
        lan.attach(&outside, SUBNET, &[IpNet::new(ROUTER.into(), 24)?], &[])?;
        let ip = peers::find_program("ip").context("no program ip: install package iproute2")?;
        Program::new(outside.place(), ip)
            .args(["route", "add", "local", PEERS, "dev", "lo"])
            .succeed(PATIENCE)?;
        let agent = AgentHost::new(NODE, &PathBuf::new())?;
        let file = agent.host().folders().store();
        let mut agent = agent
            .with("DATASTORE_PATH", &file.display().to_string())
            .with("NO_DEFAULT_POOLS", "true")
            .with("IP", &format!("{AGENT}/24"));
        if let Some(program) = &options.agent {
            agent.use_program(program.clone());
        }
        lan.attach(agent.host(), SUBNET, &[IpNet::new(AGENT.into(), 24)?], &[])?;
        let mut netlink = agent.host().netlink()?;
        let link = netlink
            .link_by_name(INTERFACE)?
            .context("the agent's link is gone")?;
        netlink.add_route(&Route::through(PEERS.parse()?, ROUTER.into(), link.index))?;
        fill(&file, &members)?;
        let crowd = Crowd::listen(outside.place(), &members)?;
        Ok(Self {
            crowd,
            agent,
            netlink,
            _outside: outside,
            _lan: lan,
        })
    }

    /// Starts the agent.
    pub fn start(&mut self) -> Result<Meter> {
        self.agent.start()?;
        Meter::of(self.agent.pid().context("the agent runs")?)
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.agent.host().folders().store()
    }

    /// Waits until so many routes of others are in the kernel; when that was seen.
    pub fn until_routes(&mut self, count: usize) -> Result<Instant> {
        let pool: IpNet = POOL.parse()?;
        let filter = RouteFilter {
            family: Some(Family::Ipv4),
            ..RouteFilter::default()
        };
        let mut found = 0;
        let netlink = &mut self.netlink;
        let seen = eventually(LIMIT, || {
            let routes = netlink.routes(filter).ok()?;
            let theirs = |route: &&Route| pool.contains(&route.destination) && route.gateway.is_some();
            found = routes.iter().filter(theirs).count();
            (found >= count).then(Instant::now)
        });
        seen.with_context(|| format!("{found} of {count} routes: {}", self.agent.log()))
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        self.agent.log()
    }
}

/// Blocks that no member has, from the pool's end.
pub fn spare_block(number: usize) -> Result<IpNet> {
    let pool: Ipv4Net = POOL.parse()?;
    let last = u32::from(pool.broadcast()) & !63;
    let address = Ipv4Addr::from(last - u32::try_from(number)? * 64);
    Ok(IpNet::new(address.into(), 26)?)
}

/// A block of a node, and its affinity.
pub fn claimed(block: IpNet, node: &str) -> Result<[Write; 2]> {
    let owner = AffinityOwner::Host(node.to_owned());
    let moment = Timestamp::from_unix(WHEN, 0);
    let sequence = u64::try_from(WHEN)? * 1_000_000_000;
    let stored = IpamBlock::new(block, Some(owner), Some(moment), sequence).context("a block of the pool")?;
    let affinity = BlockAffinity::new(AffinityState::Confirmed);
    Ok([
        Write::create(stored.key(), &stored),
        Write::create(Key::host_affinity(node, block), &affinity),
    ])
}

fn members(peers: usize, blocks: usize) -> Result<Vec<Member>> {
    let (peer_base, pool): (Ipv4Net, Ipv4Net) = (PEERS.parse()?, POOL.parse()?);
    let at = |net: &Ipv4Net, offset: usize| -> Result<Ipv4Addr> {
        Ok(Ipv4Addr::from(u32::from(net.network()) + u32::try_from(offset)?))
    };
    (0..peers)
        .map(|number| {
            let blocks = (0..blocks).map(|place| {
                let address = at(&pool, (number * blocks + place) * 64)?;
                Ok(Ipv4Net::new(address, 26)?)
            });
            Ok(Member {
                // Neither the first nor the last address of a /24 means anything here.
                address: at(&peer_base, 256 + number)?,
                blocks: blocks.collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// The pool, and a Node with blocks for each member.
fn fill(file: &Path, members: &[Member]) -> Result<()> {
    let pool = json!({ "cidr": POOL, "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never" });
    store::apply(file, Kind::IpPool, "pool", &pool)?;
    let store = EmbeddedStore::open(file, OpenOptions::default())?.store;
    for (batch, together) in members.chunks(TOGETHER).enumerate() {
        let mut writes = Vec::new();
        for (place, member) in together.iter().enumerate() {
            let number = batch * TOGETHER + place;
            let name = format!("peer-{number:04}");
            writes.push(registered(&name, member.address, number)?);
            for block in &member.blocks {
                writes.extend(claimed(IpNet::V4(*block), &name)?);
            }
        }
        store::commit(&store, writes)?;
    }
    Ok(())
}

fn registered(name: &str, address: Ipv4Addr, number: usize) -> Result<Write> {
    let bgp = NodeBgp {
        ipv4_address: Some(IpNet::new(IpAddr::V4(address), 16)?),
        ..NodeBgp::default()
    };
    let spec = NodeSpec {
        bgp: Some(bgp),
        ..NodeSpec::default()
    };
    let mut node = Node::new(name, spec);
    let identity = (number as u128 + 1).to_be_bytes();
    node.metadata.complete(identity, Timestamp::from_unix(WHEN, 0));
    Ok(Write::create(node.key(), &node))
}
