// SPDX-License-Identifier: Apache-2.0
//! An agent with a well-behaved peer and a hostile one: whatever the second does, the first must not notice.

use anyhow::{Context as _, Result};
use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, Write};
use model::{Key, Kind};
use serde_json::{Value, json};
use testbed::{Folders, Host, Program, cluster::Member, peers};

use crate::{
    polite::{Polite, row, until_row},
    support::possible,
    wire::{Line, Offer},
    world::{World, v4},
};

/// The hostile peer's AS number.
pub(crate) const AS: u32 = 64_603;
/// The agent's.
pub(crate) const AGENT_AS: u32 = 64_512;
/// The hostile peer's host, as in its addresses.
pub(crate) const HOSTILE: u8 = 3;

/// See the module.
pub(crate) struct Stage {
    pub(crate) polite: Polite,
    pub(crate) hostile: Host,
    pub(crate) world: World,
}

impl Stage {
    /// Everything up, the hostile peer configured and silent. `None` where the machine lacks something.
    pub(crate) fn new(environment: &[(&str, &str)]) -> Result<Option<Self>> {
        Self::with_peer_as(AS, environment)
    }

    /// The same with another AS number of the hostile peer.
    pub(crate) fn with_peer_as(number: u32, environment: &[(&str, &str)]) -> Result<Option<Self>> {
        Self::prepared(number, environment, |_| Ok(()))
    }

    /// The same with an agent that has a mount namespace of its own, in which these shell commands are run before it.
    pub(crate) fn with_mounts(mounts: impl FnOnce(&Folders) -> String) -> Result<Option<Self>> {
        Self::prepared(AS, &[], |agent| {
            let mounts = mounts(agent.host().folders());
            agent.set_mounts(&mounts)
        })
    }

    /// The same with a store on a file system of a few megabytes that only the agent has. It has no containers: their
    /// plugin would have to have it too.
    pub(crate) fn with_small_store(megabytes: u32) -> Result<Option<Self>> {
        if !is_possible() {
            return Ok(None);
        }
        let mut world = World::new(1, &[("IP6", "autodetect")])?;
        let store = world.store();
        let folder = store.parent().context("a folder")?.display().to_string();
        let agent = &mut world.agents[0];
        let small = agent.host().folders().top().join("small").display().to_string();
        agent.set_mounts(&format!(
            "mkdir {small}\nmount -t tmpfs -o size={megabytes}m tmpfs {small}\ncp -a {folder}/. {small}\nmount --move {small} {folder}"
        ))?;
        agent.start()?;
        agent.until("/v1/status", |status| status["complete"] == true)?;
        world.is_store_private = true;
        Self::in_world(world, AS).map(Some)
    }

    fn prepared(
        number: u32,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&mut Member) -> Result<()>,
    ) -> Result<Option<Self>> {
        if !is_possible() {
            return Ok(None);
        }
        let mut world = World::new(1, environment)?;
        prepare(&mut world.agents[0])?;
        world.start()?;
        Self::in_world(world, number).map(Some)
    }

    fn in_world(world: World, number: u32) -> Result<Self> {
        let polite = Polite::start(&world)?;
        let hostile = Host::new("hostile")?;
        world.attach(&hostile, HOSTILE)?;
        let stage = Self {
            polite,
            hostile,
            world,
        };
        stage.add_peer("hostile", HOSTILE, number)?;
        Ok(stage)
    }

    /// Makes a host a peer of the agent's.
    pub(crate) fn add_peer(&self, name: &str, number: u8, as_number: u32) -> Result<()> {
        let spec = json!({ "peerIP": v4(number).to_string(), "asNumber": as_number });
        self.world.apply(Kind::BgpPeer, name, &spec)?;
        let agent = self.agent();
        agent.until("/v1/peers", |peers| !row(peers, number).is_null())?;
        Ok(())
    }

    /// Deletes a resource.
    pub(crate) fn remove(&self, kind: Kind, name: &str) -> Result<()> {
        let store = EmbeddedStore::open(&self.world.store(), OpenOptions::default())?.store;
        let key = Key::resource(kind, name);
        let entry = store.get(&key)?.with_context(|| format!("{name} is not there"))?;
        let revision = entry.revision;
        let batch = Batch {
            writes: vec![Write::Delete { key, revision }],
            journal: Vec::new(),
        };
        store.commit(&batch)?;
        Ok(())
    }

    pub(crate) fn agent(&self) -> &Member {
        &self.world.agents[0]
    }

    /// A connection of the hostile peer's.
    pub(crate) fn dial(&self) -> Result<Line> {
        Line::dial(self.hostile.place(), v4(HOSTILE), v4(11))
    }

    /// A session of the hostile peer's, up at the agent too.
    pub(crate) fn establish(&self, offer: &Offer) -> Result<Line> {
        let line = Line::establish(self.hostile.place(), v4(HOSTILE), v4(11), offer)?;
        until_row(self.agent(), HOSTILE, |row| row["session"] == "Established")?;
        Ok(line)
    }

    /// The hostile peer's row.
    pub(crate) fn row(&self) -> Result<Value> {
        Ok(row(&self.agent().ask("/v1/peers")?, HOSTILE))
    }

    /// The well-behaved peer has noticed nothing.
    pub(crate) fn unharmed(&self) -> Result<()> {
        self.polite.check(self.agent())
    }

    /// A program on the agent's host.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Result<String> {
        run_on(self.agent().host(), program, arguments)
    }
}

fn is_possible() -> bool {
    possible() && peers::available(&[peers::Peer::Ipv6])
}

/// An ordinary OPEN of the hostile peer's, with a long hold time.
pub(crate) fn offer() -> Offer {
    Offer::new(AS, 90, [10, 1, 0, HOSTILE])
}

/// A program on a host.
pub(crate) fn run_on(host: &Host, program: &str, arguments: &str) -> Result<String> {
    let path = peers::find_program(program).with_context(|| format!("no program {program}"))?;
    Program::new(host.place(), path)
        .args(arguments.split(' '))
        .succeed(testbed::PATIENCE)
}
