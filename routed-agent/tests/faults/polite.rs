// SPDX-License-Identifier: Apache-2.0
//! A peer that does everything right: it announces one prefix, is heard every second, and takes whatever it is told. Its hold
//! time is so short that an agent that is busy with others for three seconds loses it.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::{Value, json};
use testbed::{Host, cluster::Member, eventually};

use crate::{
    wire::{Line, Offer, announce, keepalive, update, v4net},
    world::{World, v4},
};

const AS: u32 = 64_602;
const NUMBER: u8 = 2;
/// Seconds.
const HOLD: u16 = 3;
/// What it announces.
const PREFIX: &str = "20.0.2.0/24";

/// See the module.
pub(crate) struct Polite {
    host: Option<Host>,
    stop: Arc<AtomicBool>,
    talk: Option<JoinHandle<Result<()>>>,
}

impl Polite {
    /// Comes up and waits until its route is in the kernel.
    pub(crate) fn start(world: &World) -> Result<Self> {
        let host = Host::new("polite")?;
        world.attach(&host, NUMBER)?;
        let spec = json!({ "peerIP": v4(NUMBER).to_string(), "asNumber": AS });
        world.apply(Kind::BgpPeer, "polite", &spec)?;
        let agent = &world.agents[0];
        agent.until("/v1/peers", |peers| !row(peers, NUMBER).is_null())?;
        let offer = Offer::new(AS, HOLD, [10, 1, 0, NUMBER]);
        let mut line = Line::establish(host.place(), v4(NUMBER), v4(11), &offer)?;
        line.send(&announce(&[AS], v4(NUMBER), &[v4net(PREFIX)]))?;
        line.send(&update(&[], &[], &[]))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let talk = std::thread::spawn(move || talk(line, &stopped));
        let polite = Self {
            host: Some(host),
            stop,
            talk: Some(talk),
        };
        agent.until_route(&route())?;
        polite.check(agent)?;
        Ok(polite)
    }

    /// Its session has never been down, and its route is in the kernel.
    pub(crate) fn check(&self, agent: &Member) -> Result<()> {
        let peers = agent.ask("/v1/peers")?;
        let found = row(&peers, NUMBER);
        ensure!(
            found["session"] == "Established" && found["counters"]["downs"] == 0,
            "the well-behaved peer has suffered: {found:#}\n{}",
            agent.log()
        );
        let routes = agent.routes()?;
        ensure!(
            routes.iter().any(|found| found.starts_with(&route())),
            "the well-behaved peer's route is gone: {routes:#?}"
        );
        ensure!(
            self.talk.as_ref().is_some_and(|talk| !talk.is_finished()),
            "the well-behaved peer's connection has ended: {}",
            agent.log()
        );
        Ok(())
    }
}

impl Drop for Polite {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(talk) = self.talk.take() {
            let _ = talk.join();
        }
        self.host = None;
    }
}

fn route() -> String {
    format!("{PREFIX} via {} dev eth1 proto 80", v4(NUMBER))
}

fn talk(mut line: Line, stop: &AtomicBool) -> Result<()> {
    let mut due = Instant::now();
    let mut bytes = [0; 8192];
    line.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    while !stop.load(Ordering::Relaxed) {
        if due <= Instant::now() {
            line.stream.write_all(&keepalive())?;
            due = Instant::now() + Duration::from_secs(1);
        }
        match line.stream.read(&mut bytes) {
            Ok(0) => anyhow::bail!("closed"),
            Ok(_) => {}
            Err(problem) if matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

/// A peer's row in an answer of `/v1/peers`; null if there is none.
pub(crate) fn row(peers: &Value, number: u8) -> Value {
    let all = peers["peers"].as_array().cloned().unwrap_or_default();
    let address = v4(number).to_string();
    let found = all.into_iter().find(|peer| peer["address"] == address.as_str());
    found.unwrap_or_default()
}

/// Waits until a peer's row is so.
pub(crate) fn until_row(agent: &Member, number: u8, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let answer = agent.until("/v1/peers", |peers| wanted(&row(peers, number)))?;
    Ok(row(&answer, number))
}

/// Waits for something of the agent's that is not in its answers.
pub(crate) fn until<T>(agent: &Member, what: &str, found: impl FnMut() -> Option<T>) -> Result<T> {
    eventually(testbed::cluster::SOON, found).with_context(|| format!("{what}: {}", agent.log()))
}
