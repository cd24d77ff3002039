// SPDX-License-Identifier: Apache-2.0
//! Upkeep of this node's part of IPAM, on a thread of its own: blocks are claimed before they are needed and given back
//! when they stay empty (`stock`), and addresses that no container holds any more are released (`collection`, with
//! the proofs of `evidence` and the runtimes' lists of `runtimes`).
//!
//! The thread has a session with the store of its own for each look, and none in between: a store that is away costs the
//! look, nothing else.

mod collection;
mod evidence;
mod runtimes;
mod stock;

use std::{
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use calico_ipam::{log::Log, session::Session};
use cni_plugin::Environment;
use ipam::Family;

use crate::start::Start;

/// What upkeep has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The families this node has an address of; none before it is registered, and while the store is away or locked.
    pub families: Vec<Family>,
    /// Between looks at the blocks; `None`: none.
    pub blocks: Option<Duration>,
    /// Between looks for addresses that nobody holds; `None`: none.
    pub collection: Option<Duration>,
    /// Sockets of container runtimes; those that do not exist are left out.
    pub runtimes: Vec<PathBuf>,
}

/// What upkeep says.
#[derive(Clone, Debug)]
pub enum Report {
    /// Something was done.
    Done(String),
    /// How things stand, whenever that is another than before.
    State(State),
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The node's blocks, a line for each family.
    pub stock: Vec<StockLine>,
    /// Containers whose addresses nobody seems to hold: they are released if the next look finds the same.
    pub suspects: Vec<Suspect>,
    /// Addresses released since the agent began.
    pub collected: usize,
    /// Why the last look for them decided nothing.
    pub undecided: Option<String>,
    /// Why the last look failed.
    pub problem: Option<String>,
}

/// What a node has of a family.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StockLine {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Blocks.
    pub blocks: usize,
    /// Free addresses in them, for containers without wishes of their own.
    pub free: usize,
    /// Why there is no further block although one is wanted.
    pub short: Option<String>,
}

/// Whose addresses nobody seems to hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Suspect {
    /// Under which they are allocated.
    pub handle: String,
    /// The addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

/// The running thread; it ends with this.
#[derive(Debug)]
pub struct Upkeep {
    orders: Option<mpsc::Sender<Orders>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Upkeep {
    /// Starts it; it does nothing before its first orders. Reports are handed to `report` on it.
    pub fn start(start: Start, report: impl Fn(Report) + Send + 'static) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new().name("upkeep".into()).spawn(move || {
            Keeper {
                start,
                report: Box::new(report),
                watch: stock::Watch::default(),
                collector: collection::Collector::default(),
                state: State::default(),
                told: None,
            }
            .live(&inbox);
        })?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// From now on it has to do this.
    pub fn send(&self, orders: Orders) {
        if let Some(inbox) = &self.orders {
            // A thread that has ended needs nothing.
            let _ = inbox.send(orders);
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        // Without a sender the thread ends after what it is at.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    start: Start,
    report: Box<dyn Fn(Report) + Send>,
    watch: stock::Watch,
    collector: collection::Collector,
    state: State,
    told: Option<State>,
}

impl Keeper {
    fn live(&mut self, inbox: &mpsc::Receiver<Orders>) {
        let Ok(mut orders) = inbox.recv() else { return };
        // The first look at blocks is at once: a block that is there early is known to all routers early.
        let mut blocks_at = Instant::now();
        let mut collection_at = Instant::now() + orders.collection.unwrap_or_default();
        loop {
            let now = Instant::now();
            let idle = orders.families.is_empty();
            let due = |at: Instant, every: Option<Duration>| every.filter(|_| !idle).map(|_| at);
            let next = due(blocks_at, orders.blocks)
                .into_iter()
                .chain(due(collection_at, orders.collection))
                .min();
            let received = match next {
                None => inbox.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(next) => inbox.recv_timeout(next.saturating_duration_since(now)),
            };
            match received {
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(new) => {
                    let now = Instant::now();
                    // A shorter pause holds from now on, not after the longer one.
                    if let Some(every) = new.blocks.filter(|_| new.blocks != orders.blocks) {
                        blocks_at = blocks_at.min(now + every);
                    }
                    if let Some(every) = new.collection.filter(|_| new.collection != orders.collection) {
                        collection_at = now + every;
                    }
                    orders = new;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    let looks_at_blocks = orders.blocks.is_some() && blocks_at <= now;
                    let collects = orders.collection.is_some() && collection_at <= now;
                    self.look(&orders, looks_at_blocks, collects);
                    if looks_at_blocks {
                        blocks_at = Instant::now() + orders.blocks.unwrap_or_default();
                    }
                    if collects {
                        collection_at = Instant::now() + orders.collection.unwrap_or_default();
                    }
                }
            }
        }
    }

    fn look(&mut self, orders: &Orders, blocks: bool, collection: bool) {
        let result = self.work(orders, blocks, collection);
        self.state.problem = result.err().map(|problem| format!("{problem:#}"));
        if self.told.as_ref() != Some(&self.state) {
            (self.report)(Report::State(self.state.clone()));
            self.told = Some(self.state.clone());
        }
    }

    fn work(&mut self, orders: &Orders, blocks: bool, collection: bool) -> Result<()> {
        let log = Log::default();
        let settings = self.start.plugin_settings(Environment::of_process());
        let session = Session::open(&settings, &log).map_err(|problem| anyhow!("{problem}"))?;
        let information = session
            .cluster_information()
            .map_err(|problem| anyhow!("{problem}"))?;
        if information.is_none_or(|information| !information.spec.ready()) {
            return Ok(());
        }
        let report = |text: String| (self.report)(Report::Done(text));
        if blocks {
            self.state.stock = self.watch.look(&session, &orders.families, &report)?;
        }
        if collection {
            let found = self.collector.look(&session, &orders.runtimes, &report)?;
            self.state.suspects = found.suspects;
            self.state.collected += found.collected;
            self.state.undecided = found.undecided;
        }
        Ok(())
    }
}
