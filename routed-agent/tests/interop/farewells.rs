// SPDX-License-Identifier: Apache-2.0
//! Who leaves for good is gone at its peers within a second: by command, when its Node is deleted, when the host goes
//! down. Who only stops is waited for.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, Write};
use ipnet::IpNet;
use model::{Key, Kind};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use testbed::{PATIENCE, binaries, eventually};

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    world::{World, v4, v6},
};

/// From the command to the loss of the last route.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a route is looked at that has to stay: longer than any farewell.
const STAYS: Duration = Duration::from_secs(2);

/// A node and a daemon, with a session of each family.
struct Pair {
    world: World,
    daemon: Daemon,
    blocks: [IpNet; 2],
}

impl Pair {
    fn start(make: Make) -> Result<Self> {
        let mut world = World::new(1, &[])?;
        let neighbours = [v4(11), v6(11)].map(|address| Neighbour {
            address,
            peer_as: 64512,
            password: None,
            client: false,
        });
        let setup = Setup {
            number: 2,
            local_as: 64512,
            neighbours: neighbours.into(),
            routes: Vec::new(),
            refused: Vec::new(),
            more: String::new(),
        };
        let daemon = Daemon::start(&world, make, setup)?;
        for address in daemon.addresses() {
            let family = if address.is_ipv4() { "v4" } else { "v6" };
            let spec = json!({ "peerIP": address.to_string(), "asNumber": 64512 });
            world.apply(Kind::BgpPeer, &format!("peer-{family}"), &spec)?;
        }
        world.start()?;
        world.agents[0].until_peers(2)?;
        let blocks = [world.block(0, true)?, world.block(0, false)?];
        for block in blocks {
            daemon.until_seen(block, |_| true)?;
        }
        Ok(Self {
            world,
            daemon,
            blocks,
        })
    }

    /// What the daemon has lost, as often as it is asked.
    fn is_lost(&self) -> bool {
        let lost = |block: &IpNet| matches!(self.daemon.seen(*block), Ok(None));
        self.blocks.iter().all(lost)
    }

    /// Does something and waits until the daemon has lost everything; how long that took in all.
    fn time_to_loss(&mut self, action: impl FnOnce(&mut World) -> Result<()>) -> Result<Duration> {
        let began = Instant::now();
        action(&mut self.world)?;
        let lost = eventually(SOON, || self.is_lost().then_some(began.elapsed()));
        lost.with_context(|| {
            let agent = self.world.agents[0].log();
            format!("nothing is lost: {agent}\n{}", self.daemon.site.log())
        })
    }
}

/// What BIRD says of the last error of each session.
fn last_errors(daemon: &Daemon) -> Result<Vec<String>> {
    let control = daemon.site.file("ctl");
    let shown = daemon
        .site
        .ask("birdc", &["-s", &control, "show", "protocols", "all"])?;
    let lines = shown
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Last error:"));
    Ok(lines.map(|text| text.trim().to_owned()).collect())
}

/// BIRD loses the routes by a NOTIFICATION Cease on each session, in time. `said`: its subcode in BIRD's words.
fn ceases(said: &str, action: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut pair = Pair::start(Make::Bird)?;
    let before = pair.daemon.site.log().matches("Received: ").count();
    ensure!(before == 0, "{}", pair.daemon.site.log());
    let took = pair.time_to_loss(action)?;
    let log = pair.daemon.site.log();
    ensure!(took <= LIMIT, "{took:?}: {}\n{log}", pair.world.agents[0].log());
    // BIRD waits a second after an error before it tries again, so that this is the last one.
    let errors = last_errors(&pair.daemon)?;
    let wanted = format!("Received: {said}");
    ensure!(errors == [wanted.as_str(), &wanted], "{errors:?}\n{log}");
    ensure!(log.matches(&wanted).count() == 2, "{log}");
    Ok(())
}

fn command(world: &mut World, command: &str) -> Result<()> {
    world.agents[0].agent_command([command]).succeed(PATIENCE)?;
    Ok(())
}

#[test]
fn leave_is_a_cease() -> Result<()> {
    ceases("Administrative shutdown", |world| command(world, "leave"))
}

#[test]
fn cleanup_is_a_cease() -> Result<()> {
    ceases("Administrative shutdown", |world| command(world, "cleanup"))
}

fn delete_node(store: &Path, name: &str) -> Result<()> {
    let store = EmbeddedStore::open(store, OpenOptions::default())?.store;
    let key = Key::resource(Kind::Node, name);
    let deleted = eventually(PATIENCE, || {
        let revision = store.get(&key).ok()??.revision;
        let write = Write::Delete {
            key: key.clone(),
            revision,
        };
        let batch = Batch {
            writes: vec![write],
            journal: Vec::new(),
        };
        store.commit(&batch).ok()
    });
    deleted.context("the Node cannot be deleted").map(drop)
}

#[test]
fn a_deleted_node_is_a_cease() -> Result<()> {
    ceases("Peer de-configured", |world| {
        delete_node(&world.store(), world.agents[0].name())
    })
}

/// What systemd does with the agent: the unit's `ExecStop`, with a `systemctl` that says how the host is, then SIGTERM.
fn stop_unit(world: &mut World, system: &str) -> Result<()> {
    let bin = world.folder("bin")?;
    let systemctl = bin.join("systemctl");
    // Whatever is not `running` is a failure to it.
    let script =
        format!("#!/bin/sh\n[ \"$*\" = is-system-running ] && echo {system}\n[ {system} = running ]\n");
    fs::write(&systemctl, script)?;
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
    let unit =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/host/etc/systemd/system/routed-agent.service");
    let unit = fs::read_to_string(unit)?;
    let agent = binaries::agent()?;
    let folder = agent.parent().context("the agent's folder")?;
    let unit = unit.replace("@SBIN_DIR@", &folder.display().to_string());
    ensure!(unit.contains("\nKillMode=process\n"), "{unit}");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStop=/bin/sh -c '")?.strip_suffix('\''));
    let line = line.context("the unit has an ExecStop")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let member = &world.agents[0];
    member
        .host()
        .program("/bin/sh")
        .args(["-c", line])
        .env("PATH", format!("{}:{path}", bin.display()))
        .succeed(PATIENCE)?;
    let pid = member.pid().context("the agent runs")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
    Ok(())
}

#[test]
fn a_host_that_goes_down_is_a_cease() -> Result<()> {
    ceases("Administrative shutdown", |world| stop_unit(world, "stopping"))
}

/// The unit is stopped alone, on a host that stays: BIRD is told nothing and keeps everything.
#[test]
fn a_stop_is_no_cease() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut pair = Pair::start(Make::Bird)?;
    stop_unit(&mut pair.world, "running")?;
    pair.world.agents[0].until_ended()?;
    for own in [v4(11), v6(11)] {
        pair.daemon.until_up(own, false)?;
    }
    let until = Instant::now() + STAYS;
    while Instant::now() < until {
        for block in pair.blocks {
            let seen = pair.daemon.seen(block)?;
            ensure!(seen.is_some(), "{block} is lost: {}", pair.daemon.site.log());
        }
    }
    let log = pair.daemon.site.log();
    ensure!(!log.contains("Received: "), "{log}");
    let errors = last_errors(&pair.daemon)?;
    ensure!(
        errors.iter().all(|error| !error.contains("Received")),
        "{errors:?}"
    );
    pair.world.agents[0].start()?;
    pair.world.agents[0].until_peers(2)?;
    for (own, block) in [v4(11), v6(11)].into_iter().zip(pair.blocks) {
        ensure!(pair.daemon.said_restarted(own)?, "it was no restart");
        ensure!(pair.daemon.withdrawals(block)? == 0, "{}", pair.daemon.site.log());
    }
    Ok(())
}

/// Daemons that take a NOTIFICATION for a restart (RFC 8538) do not take this one for one.
fn leave_is_not_waited_for(make: Make) -> Result<()> {
    if !make.is_here() {
        return Ok(());
    }
    let mut pair = Pair::start(make)?;
    let took = pair.time_to_loss(|world| command(world, "leave"))?;
    ensure!(took <= LIMIT, "{took:?}: {}", pair.daemon.site.log());
    Ok(())
}

#[test]
fn frr_does_not_wait_for_who_leaves() -> Result<()> {
    leave_is_not_waited_for(Make::Frr)
}

#[test]
fn gobgp_does_not_wait_for_who_leaves() -> Result<()> {
    leave_is_not_waited_for(Make::GoBgp)
}
