// SPDX-License-Identifier: Apache-2.0
//! One subnet with hosts of agents and of other daemons: number `n` has `10.1.0.n` and `fd00:1::n`.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Result;
use ipnet::IpNet;
use model::Kind;
use serde_json::{Value, json};
use testbed::{Container, Host, cluster::Member, lan::Lan};

use crate::support::{apply_to, net};

const SUBNET: &str = "lan0";

/// See the module.
pub(crate) struct World {
    pub(crate) agents: Vec<Member>,
    pub(crate) containers: Vec<Container>,
    lan: Lan,
    folder: tempfile::TempDir,
    /// The store is on a file system that only the agent has.
    pub(crate) is_store_private: bool,
}

/// IPv4 address of a host.
pub(crate) fn v4(number: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, number])
}

/// IPv6 address of a host: its digits read as decimal ones.
pub(crate) fn v6(number: u8) -> IpAddr {
    net(&format!("fd00:1::{number}/64")).addr()
}

impl World {
    /// Agents `node1`, `node2`, … on hosts 11, 12, …, not started. No mesh; what peers they have is the test's to say.
    pub(crate) fn new(agents: u8, environment: &[(&str, &str)]) -> Result<Self> {
        let lan = Lan::new()?;
        lan.subnet(SUBNET, &[])?;
        let mut world = Self {
            agents: Vec::new(),
            containers: Vec::new(),
            lan,
            folder: tempfile::tempdir()?,
            is_store_private: false,
        };
        for number in 1..=agents {
            let mut member = Member::new(&format!("node{number}"), &world.store())?
                .with("CALICO_IPV4POOL_CIDR", "192.168.0.0/16")
                .with("CALICO_IPV4POOL_IPIP", "Never")
                .with("CALICO_IPV6POOL_CIDR", "fd00:c0::/112")
                .with("IP", &format!("{}/24", v4(10 + number)))
                .with("IP6", &format!("{}/64", v6(10 + number)));
            for (name, value) in environment {
                member.set(name, value);
            }
            world.attach(member.host(), 10 + number)?;
            world.agents.push(member);
        }
        world.apply(
            Kind::BgpConfiguration,
            "default",
            &json!({ "nodeToNodeMeshEnabled": false }),
        )?;
        Ok(world)
    }

    /// The embedded store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    /// Puts a host into the subnet.
    pub(crate) fn attach(&self, host: &Host, number: u8) -> Result<()> {
        let addresses: [IpNet; 2] = [IpNet::new(v4(number), 24)?, IpNet::new(v6(number), 64)?];
        self.lan.attach(host, SUBNET, &addresses, &[])
    }

    /// Creates or replaces a resource.
    pub(crate) fn apply(&self, kind: Kind, name: &str, spec: &Value) -> Result<()> {
        let apply = || apply_to(&self.store(), kind, name, spec);
        if self.is_store_private {
            return self.agents[0].inside_mounts(apply)?;
        }
        apply()
    }

    /// A folder for a daemon's files.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Starts all agents, with a container of both families on each, so that each has blocks to announce.
    pub(crate) fn start(&mut self) -> Result<()> {
        for member in &mut self.agents {
            member.start()?;
        }
        for member in &self.agents {
            member.until("/v1/status", |status| {
                status["addresses"].as_array().is_some_and(|list| list.len() == 2)
            })?;
            let container = Container::start(member.name())?;
            let ipam = json!({ "type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true" });
            member.add_with(&container, &ipam)?;
            self.containers.push(container);
        }
        Ok(())
    }

    /// One more container on an agent's host, with an address of a pool of its own; the block it is from.
    pub(crate) fn extra(&mut self, agent: usize, pool: &str) -> Result<IpNet> {
        let member = &self.agents[agent];
        self.apply(
            Kind::IpPool,
            "extra",
            &json!({ "cidr": pool, "blockSize": 28, "ipipMode": "Never", "vxlanMode": "Never" }),
        )?;
        let container = Container::start("extra")?;
        let ipam = json!({ "type": "calico-ipam", "assign_ipv4": "true", "ipv4_pools": [pool] });
        let address = member.add_with(&container, &ipam)?[0];
        self.containers.push(container);
        Ok(IpNet::new(address, 28)?.trunc())
    }

    /// An agent's block of a family.
    pub(crate) fn block(&self, agent: usize, ipv4: bool) -> Result<IpNet> {
        let of_family = |block: &Value| {
            let block: IpNet = serde_json::from_value(block.clone()).ok()?;
            let is_extra = block.prefix_len() == 28;
            (block.addr().is_ipv4() == ipv4 && !is_extra).then_some(block)
        };
        let find = |status: &Value| status["blocks"].as_array()?.iter().find_map(of_family);
        let status = self.agents[agent].until("/v1/status", |status| find(status).is_some())?;
        Ok(find(&status).expect("it was there"))
    }
}
