// SPDX-License-Identifier: Apache-2.0
//! The agent's loop: one thread, on which everything happens in turn.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bgp::{
    PeerId,
    session::{ConnectionId, Event},
    speaker::Output,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, oneshot},
};

use super::{
    core::{Core, SocketOrder},
    view::{Answer, Query},
};
use crate::{
    api,
    configuration::words::Backend,
    dataplane::{self, Dataplane},
    facts::Facts,
    rivals,
    session_io::{Driver, Sessions},
    start::Start,
    store_thread::{self, Command as StoreCommand, Registration, StoreThread},
    tunnel_probe::{Outcome, Prober, Target},
    upkeep::{self, Orders, Upkeep},
};

/// How long the last words to peers may take.
const FAREWELL: Duration = Duration::from_millis(900);
/// Files that could not be written are tried again after this time.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
/// Pause between looks at the files of passwords.
const SECRETS: Duration = Duration::from_secs(1);
/// Queries that may wait.
const QUERIES: usize = 64;

/// How the agent is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It comes back: routes stay, peers are told nothing.
    Restart,
    /// This node leaves: peers are told, routes stay until a clean-up.
    Leave,
    /// This node leaves, and everything of ours goes.
    CleanUp,
}

enum Message {
    Store(store_thread::Report),
    Dataplane(dataplane::Report),
    Upkeep(upkeep::Report),
    Probe(Target, Outcome),
}

struct Handle {
    core: Rc<RefCell<Core>>,
    sessions: RefCell<Option<Rc<Sessions>>>,
    listening: RefCell<Vec<SocketAddr>>,
    dataplane: Dataplane,
    prober: Prober,
    /// When the journal's lines are to be handed on that were not yet.
    flush_at: Cell<Option<Instant>>,
    /// The next deadline may be another.
    moved: Notify,
}

impl Driver for Handle {
    fn event(&self, peer: PeerId, event: Event<'_>) {
        {
            let mut core = self.core.borrow_mut();
            let now = core.now();
            core.speaker.handle(peer, event, now);
        }
        self.settle();
    }

    fn local_address(&self, peer: PeerId, connection: ConnectionId, address: IpAddr) {
        self.core
            .borrow_mut()
            .speaker
            .set_local_address(peer, connection, address);
    }

    fn take_routes(&self, peer: PeerId, room: usize) -> Option<(ConnectionId, Vec<u8>)> {
        self.core.borrow_mut().speaker.take_routes(peer, room)
    }

    fn peer_of(&self, address: IpAddr) -> Option<PeerId> {
        self.core.borrow().peer_of(address)
    }

    fn problem(&self, text: String) {
        tracing::warn!(target: "bgp", "{text}");
    }
}

impl Handle {
    /// Carries out what has come of the latest events.
    fn settle(&self) {
        let (orders, commands, probes) = {
            let mut core = self.core.borrow_mut();
            core.settle();
            self.flush_at.set(core.recording.flush());
            (
                std::mem::take(&mut core.orders),
                std::mem::take(&mut core.commands),
                std::mem::take(&mut core.probe_orders),
            )
        };
        for command in commands {
            self.dataplane.send(command);
        }
        if !probes.is_empty() {
            self.prober.send(probes);
        }
        if let Some(sessions) = self.sessions.borrow().as_ref() {
            for order in orders {
                match order {
                    SocketOrder::Peer(id, socket) => sessions.set_peer(id, &socket),
                    SocketOrder::Gone(id) => sessions.remove_peer(id),
                    SocketOrder::Speaker(Output::Dial(id)) => sessions.dial(id),
                    SocketOrder::Speaker(Output::CancelDial(id)) => sessions.cancel_dial(id),
                    SocketOrder::Speaker(Output::Send(id, connection, bytes)) => {
                        sessions.send(id, connection, bytes);
                    }
                    SocketOrder::Speaker(Output::Ready(id, connection)) => sessions.ready(id, connection),
                    SocketOrder::Speaker(Output::Close(id, connection)) => sessions.close(id, connection),
                    SocketOrder::Speaker(_) => {}
                }
            }
        }
        self.moved.notify_one();
    }
}

/// Runs the agent until it is told to end.
pub fn run(start: Start) -> Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(start))
}

/// Questions and whom to answer.
type Questions = mpsc::Receiver<(Query, oneshot::Sender<Answer>)>;

async fn live(start: Start) -> Result<Ending> {
    if let Some(rival) = rivals::find() {
        anyhow::bail!(
            "{} (process {}) manages the routes of this network namespace; stop it first: its routes stay and are taken over \
             without a gap",
            rival.name,
            rival.pid
        );
    }
    let marker = start.run_dir.join("agent.running");
    let core = Core::new(start.clone(), marker.exists())?;
    core.set_log_levels();
    if !*core.configuration.disable_file_logging
        && let Err(problem) = crate::log::set_folder(&core.configuration.log_directory)
    {
        let folder = core.configuration.log_directory.display();
        tracing::warn!(target: "agent", "no log files in {folder}: {problem}; set CALICO_LOG_DIR to a folder that can be written");
    }
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let to_inbox = inbox.clone();
    let dataplane = Dataplane::start(core.ownership(), move |report| {
        let _ = to_inbox.send(Message::Dataplane(report));
    })
    .context("cannot work on the kernel's routes; it takes CAP_NET_ADMIN")?;
    let to_inbox = inbox.clone();
    let prober = Prober::start(move |target, outcome| {
        let _ = to_inbox.send(Message::Probe(target, outcome));
    })
    .context("start the thread of probes")?;
    let to_inbox = inbox.clone();
    let upkeep = Upkeep::start(start.clone(), move |report| {
        let _ = to_inbox.send(Message::Upkeep(report));
    })
    .context("start the thread of upkeep")?;
    let store = StoreThread::start(start.clone(), move |report| {
        let _ = inbox.send(Message::Store(report));
    })
    .context("start the store's thread")?;
    let handle = Rc::new(Handle {
        core: Rc::new(RefCell::new(core)),
        sessions: RefCell::new(None),
        listening: RefCell::default(),
        dataplane,
        prober,
        flush_at: Cell::new(None),
        moved: Notify::new(),
    });
    let sessions = listen(&handle)?;
    let (asking, mut questions) = mpsc::channel(QUERIES);
    let journal = handle.core.borrow().recording.journal();
    let _socket = api::serve_unix(&start.run_dir.join("agent.sock"), asking.clone(), journal)?;
    for (host, port) in handle.core.borrow().tcp_listeners() {
        api::serve_tcp(&host, port, asking.clone())?;
    }
    let threads = Threads {
        store: &store,
        upkeep: &upkeep,
    };
    let ending = work(&handle, &threads, &mut messages, &mut questions).await?;
    sessions.shut_down();
    // Who leaves claims nothing any more.
    drop(upkeep);
    if ending != Ending::Restart {
        let _ = std::fs::remove_file(&marker);
        handle.core.borrow_mut().stop(true);
        handle.settle();
        store.send(StoreCommand::Leave);
        tokio::time::sleep(FAREWELL).await;
    }
    if ending == Ending::CleanUp {
        clean_up(&handle, &mut messages).await?;
    }
    Ok(ending)
}

fn listen(handle: &Rc<Handle>) -> Result<Rc<Sessions>> {
    let (port, addresses) = {
        let core = handle.core.borrow();
        (core.listen_port(), core.listen_addresses())
    };
    let sessions = Sessions::new(Rc::clone(handle) as Rc<dyn Driver>);
    sessions
        .listen(&addresses)
        .with_context(|| format!("cannot listen on TCP port {port}; is another BGP daemon running?"))?;
    *handle.listening.borrow_mut() = addresses;
    *handle.sessions.borrow_mut() = Some(Rc::clone(&sessions));
    Ok(sessions)
}

/// Where the agent listens may depend on the node's addresses.
fn listen_again(handle: &Handle) {
    let wanted = handle.core.borrow().listen_addresses();
    if *handle.listening.borrow() == wanted {
        return;
    }
    if let Some(sessions) = handle.sessions.borrow().as_ref() {
        match sessions.listen(&wanted) {
            Ok(()) => *handle.listening.borrow_mut() = wanted,
            Err(problem) => tracing::error!(target: "bgp", "cannot listen on {wanted:?}: {problem}"),
        }
    }
}

/// What works beside the loop.
struct Threads<'a> {
    store: &'a StoreThread,
    upkeep: &'a Upkeep,
}

/// One thing after the other, until something ends it.
async fn work(
    handle: &Handle,
    threads: &Threads<'_>,
    messages: &mut mpsc::UnboundedReceiver<Message>,
    questions: &mut Questions,
) -> Result<Ending> {
    let mut terminated = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("signals")?;
    let mut registered: Option<Registration> = None;
    let mut ordered: Option<Orders> = None;
    let mut write_at: Option<tokio::time::Instant> = None;
    let mut secrets = tokio::time::interval(SECRETS);
    secrets.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let has_secrets = handle.core.borrow().has_secrets();
        let deadline = {
            let core = handle.core.borrow();
            let speaker = core.speaker.deadline();
            let speaker = speaker.map(|time| time.saturating_sub(core.now()));
            let journal = handle.flush_at.get();
            let journal = journal.map(|time| time.saturating_duration_since(Instant::now()));
            speaker.into_iter().chain(journal).min()
        };
        let timer = async {
            match deadline {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let write_again = async {
            match write_at {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { return Ok(Ending::Restart) };
                take(handle, message);
                register(handle, threads.store, &mut registered);
                let orders = handle.core.borrow().upkeep_orders();
                if ordered.as_ref() != Some(&orders) {
                    threads.upkeep.send(orders.clone());
                    ordered = Some(orders);
                }
                listen_again(handle);
                handle.settle();
            }
            () = timer => {
                {
                    let mut core = handle.core.borrow_mut();
                    let now = core.now();
                    core.speaker.pass(now);
                }
                handle.settle();
            }
            () = handle.moved.notified() => {}
            _ = secrets.tick(), if has_secrets => {
                handle.core.borrow_mut().look_at_secrets();
                handle.settle();
            }
            () = write_again => {
                write_at = None;
                handle.core.borrow_mut().write_again();
            }
            Some((query, answer)) = questions.recv() => {
                let _ = answer.send(handle.core.borrow().answer(&query));
                match query {
                    Query::Leave => return Ok(Ending::Leave),
                    Query::CleanUp => return Ok(Ending::CleanUp),
                    _ => {}
                }
            }
            _ = terminated.recv() => return Ok(Ending::Restart),
            _ = interrupted.recv() => return Ok(Ending::Restart),
        }
        let mut core = handle.core.borrow_mut();
        core.write_marker();
        if write_at.is_none() && core.has_unwritten_files() {
            write_at = Some(tokio::time::Instant::now() + WRITE_AGAIN);
        }
    }
}

async fn clean_up(handle: &Handle, messages: &mut mpsc::UnboundedReceiver<Message>) -> Result<()> {
    handle.dataplane.send(dataplane::Command::CleanUp);
    let done = async {
        while let Some(message) = messages.recv().await {
            if let Message::Dataplane(dataplane::Report::CleanedUp(result)) = message {
                return result;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(30), done).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem)) => anyhow::bail!("not everything could be removed: {problem}"),
        Err(_) => anyhow::bail!("not everything could be removed within 30 s"),
    }
}

fn take(handle: &Handle, message: Message) {
    let mut core = handle.core.borrow_mut();
    match message {
        Message::Store(store_thread::Report::Snapshot(snapshot)) => core.take_snapshot(snapshot),
        Message::Store(store_thread::Report::Away(problem)) => core.lose_store(problem),
        Message::Store(store_thread::Report::Warning(text)) => core.note("store", text),
        Message::Dataplane(report) => core.take_report(report),
        Message::Upkeep(report) => core.take_upkeep(report),
        Message::Probe(target, outcome) => core.take_probe(&target, outcome),
    }
}

/// Says in the store which addresses this node has, once they are known and whenever they change.
fn register(handle: &Handle, store: &StoreThread, registered: &mut Option<Registration>) {
    let mut core = handle.core.borrow_mut();
    let Some(facts) = core.facts.clone().filter(|_| core.has_snapshot) else {
        return;
    };
    let wanted = match wanted_registration(&core, &facts) {
        Ok(wanted) => wanted,
        Err(problem) => {
            let text = format!("{problem:#}");
            if core.failures.get("node address") != Some(&text) {
                core.note("node", format!("this node's address: {text}"));
                core.failures.insert("node address".into(), text);
            }
            return;
        }
    };
    core.failures.remove("node address");
    if registered.as_ref() != Some(&wanted) {
        let addresses = [wanted.ipv4, wanted.ipv6].into_iter().flatten();
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let text = format!("node {} has {}", core.start.node, addresses.join(" and "));
        core.note("node", text);
        store.send(StoreCommand::Register(wanted.clone()));
        *registered = Some(wanted);
    }
}

fn wanted_registration(core: &Core, facts: &Facts) -> Result<Registration> {
    let start = &core.start;
    let own = |v6| core.snapshot.node_address(&start.node, v6);
    if *core.configuration.networking_backend == Backend::None {
        return Ok(Registration::default());
    }
    let [finder_v4, finder_v6] = &start.finders;
    let registration = Registration {
        ipv4: finder_v4.find(facts, own(false))?,
        ipv6: finder_v6.find(facts, own(true))?,
        as_number: start.as_number,
        cluster_id: start.cluster_id.clone(),
    };
    if !start.shares_addresses {
        for own in [registration.ipv4, registration.ipv6].into_iter().flatten() {
            let other = core
                .snapshot
                .node_by_address(own.addr())
                .filter(|other| *other != start.node);
            if let Some(other) = other {
                anyhow::bail!(
                    "node {other} has {} too; delete that Node if it is gone, or give this one another address with IP or \
                     IP_AUTODETECTION_METHOD (DISABLE_NODE_IP_CHECK=true lets both have it)",
                    own.addr()
                );
            }
        }
    }
    Ok(registration)
}
