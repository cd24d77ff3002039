// SPDX-License-Identifier: Apache-2.0
//! The thread that has the store open: registers this node, watches everything, sees to tunnel addresses. The store may
//! go away for any time; what was known last stays in force meanwhile.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use calico_ipam::{cluster, log::Log, session::Session};
use cni_plugin::Environment;
use datastore::{EmbeddedStore, OpenOptions, Provenance, Store as _, StoreError, WatchEvent, Write};
use ipam::{TunnelOutcome, TunnelRequest};
use ipnet::IpNet;
use model::{
    AsNumber, Key, KeyRange, Kind, Node,
    names::TunnelKind,
    node::{NodeAddress, NodeBgp},
};

use crate::{plan::vxlan_mac, snapshot::Snapshot, start::Start};

/// How long a watch waits before the inbox is looked at.
const TICK: Duration = Duration::from_millis(200);
/// After a failure the store is opened again after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Attempts at a write that others keep changing.
const ATTEMPTS: usize = 20;

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// This node's addresses are these.
    Register(Registration),
    /// This node leaves: it has no addresses any more, so nobody looks for it. Its blocks stay its own.
    Leave,
    /// The thread ends.
    Stop,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// IPv4 address with its mask.
    pub ipv4: Option<IpNet>,
    /// IPv6 address with its mask.
    pub ipv6: Option<IpNet>,
    /// AS number, where it has one of its own.
    pub as_number: Option<u32>,
    /// Cluster ID, where it is a route reflector by its environment.
    pub cluster_id: Option<String>,
}

/// What the thread reports.
#[derive(Debug)]
pub enum Report {
    /// What the store says now.
    Snapshot(Arc<Snapshot>),
    /// The store cannot be used.
    Away(Away),
    /// Something to tell an operator.
    Warning(String),
}

/// Why the store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Away {
    /// What it is, in a word: `store-missing`, `store-corrupt`, …
    pub code: &'static str,
    /// With path and remedy.
    pub text: String,
}

impl Away {
    fn of(problem: &anyhow::Error) -> Self {
        let code = match problem.downcast_ref() {
            Some(StoreError::Missing { .. }) => "store-missing",
            Some(StoreError::Corrupt { .. }) => "store-corrupt",
            Some(StoreError::Replaced { .. }) => "store-replaced",
            Some(StoreError::ReadOnly { .. }) => "store-read-only",
            Some(StoreError::Full { .. }) => "store-full",
            Some(StoreError::Refused { .. }) => "store-refused",
            _ => "store-unavailable",
        };
        Self {
            code,
            text: format!("{problem:#}"),
        }
    }
}

/// A running thread.
#[derive(Debug)]
pub struct StoreThread {
    commands: mpsc::Sender<Command>,
    thread: Option<thread::JoinHandle<()>>,
}

impl StoreThread {
    /// Starts it; reports are handed to `report` on it.
    pub fn start(start: Start, report: impl Fn(Report) + Send + 'static) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            let mut keeper = Keeper {
                start,
                inbox,
                report: Box::new(report),
                registration: None,
                leaving: false,
                stopped: false,
                last_problem: None,
                seen: false,
                tunnel_problems: BTreeSet::new(),
                tunnels_due: None,
            };
            while !keeper.stopped {
                if let Err(problem) = keeper.work() {
                    let away = Away::of(&problem);
                    if keeper.last_problem.as_ref() != Some(&away) {
                        (keeper.report)(Report::Away(away.clone()));
                        keeper.last_problem = Some(away);
                    }
                    keeper.listen(PAUSE);
                }
            }
        })?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Tells it something.
    pub fn send(&self, command: Command) {
        // A thread that has ended needs nothing.
        let _ = self.commands.send(command);
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    start: Start,
    inbox: mpsc::Receiver<Command>,
    report: Box<dyn Fn(Report) + Send>,
    registration: Option<Registration>,
    leaving: bool,
    stopped: bool,
    last_problem: Option<Away>,
    /// The store has been read since the start.
    seen: bool,
    tunnel_problems: BTreeSet<String>,
    tunnels_due: Option<Instant>,
}

impl Keeper {
    /// Opens the store and stays with it until it fails.
    fn work(&mut self) -> Result<()> {
        let log = Log::default();
        let settings = self.start.plugin_settings(Environment::of_process());
        let path = &settings.datastore_path;
        if self.seen {
            look(path)?;
        }
        let session = Session::open(&settings, &log).map_err(|problem| {
            // The plugins' error has lost what kind it is.
            let kind = EmbeddedStore::open(path, OpenOptions::default()).err();
            kind.map_or_else(|| anyhow!("{problem}"), Into::into)
        })?;
        cluster::initialise(&session, &[]).map_err(|problem| anyhow!("{problem}"))?;
        let mut registered = None;
        let store = EmbeddedStore::open(path, OpenOptions::read_only())?.store;
        let file = file_number(path);
        let (mut snapshot, mut watch) = begin(&store)?;
        self.last_problem = None;
        self.seen = true;
        (self.report)(Report::Snapshot(Arc::new(snapshot.clone())));
        loop {
            self.listen(Duration::ZERO);
            if std::mem::take(&mut self.leaving) {
                deregister(&session, &self.start.node)?;
                registered = None;
            }
            if self.stopped {
                return Ok(());
            }
            if let Some(registration) = self
                .registration
                .clone()
                .filter(|wanted| registered.as_ref() != Some(wanted))
            {
                register(&session, &self.start.node, &registration)?;
                registered = Some(registration);
                self.tunnels(&session, &snapshot);
            }
            if file_number(path) != file {
                // What has come in its place has to be looked at as a whole.
                return Err(StoreError::Replaced {
                    store: path.display().to_string(),
                    reason: "the file is another one, or gone".into(),
                }
                .into());
            }
            if registered.is_some() && self.tunnels_due.is_some_and(|time| time <= Instant::now()) {
                self.tunnels(&session, &snapshot);
            }
            let event = watch.next(TICK).context("watch the store")?;
            let changed = match event {
                None => continue,
                Some(WatchEvent::Relist) => {
                    let (listed, again) = begin(&store)?;
                    (snapshot, watch) = (listed, again);
                    true
                }
                Some(WatchEvent::Changes(changes)) => {
                    let mut concerns = false;
                    for change in changes {
                        concerns |= snapshot.apply(change);
                    }
                    concerns
                }
            };
            if changed {
                (self.report)(Report::Snapshot(Arc::new(snapshot.clone())));
                if registered.is_some() {
                    self.tunnels(&session, &snapshot);
                }
            }
        }
    }

    /// Takes commands for so long.
    fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(Command::Register(registration)) => self.registration = Some(registration),
                Ok(Command::Leave) => {
                    self.registration = None;
                    self.leaving = true;
                }
                Ok(Command::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => return,
            }
        }
    }

    /// Addresses of tunnel devices, as the pools ask for them. What fails is tried again.
    fn tunnels(&mut self, session: &Session<'_>, snapshot: &Snapshot) {
        let mut problems = BTreeSet::new();
        for kind in [TunnelKind::Ipip, TunnelKind::Vxlan, TunnelKind::VxlanV6] {
            if let Err(problem) = tunnel(session, snapshot, &self.start.node, kind) {
                problems.insert(format!("address of the {kind:?} tunnel: {problem:#}"));
            }
        }
        for problem in problems.difference(&self.tunnel_problems) {
            (self.report)(Report::Warning(problem.clone()));
        }
        self.tunnels_due = (!problems.is_empty()).then(|| Instant::now() + PAUSE);
        self.tunnel_problems = problems;
    }
}

/// Tells the store's file from another of its name; `None` if there is none.
fn file_number(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Fails where opening the store for writing would make a new one. One that was there and is missing or damaged is waited
/// for: a new one would be empty, and routes and sessions would go with what it does not know.
fn look(path: &Path) -> Result<()> {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    let opened = EmbeddedStore::open(path, OpenOptions::read_only())?;
    if opened.provenance == Provenance::Existing {
        return Ok(());
    }
    let mut head = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    // Its log may hide that the file is none.
    if read.is_err() || head != *MAGIC {
        return Err(StoreError::Corrupt {
            store: path.display().to_string(),
            reason: "it is no database; put the right one back, or delete it and start the agent again"
                .into(),
        }
        .into());
    }
    opened.store.list(&KeyRange::Everything)?;
    Ok(())
}

fn begin(store: &EmbeddedStore) -> Result<(Snapshot, Box<dyn datastore::Watch>)> {
    let listing = store.list(&KeyRange::Everything).context("list the store")?;
    let mut snapshot = Snapshot::default();
    for entry in &listing.entries {
        snapshot.put(entry);
    }
    let watch = store
        .watch(&KeyRange::Everything, listing.revision)
        .context("watch the store")?;
    Ok((snapshot, watch))
}

/// Changes the own Node until the change holds.
fn change_node(session: &Session<'_>, node: &str, change: impl Fn(&mut Node)) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let key = Key::resource(Kind::Node, node);
        let entry = session.store().get(&key).context("read the own Node")?;
        let write = match &entry {
            None => {
                let mut resource = Node::new(node, model::node::NodeSpec::default());
                let random = cluster::random().map_err(|problem| anyhow!("{problem}"))?;
                resource.metadata.complete(random, session.now());
                change(&mut resource);
                Write::create(key, &resource)
            }
            Some(entry) => {
                let before: Node = entry.decode().context("the own Node")?;
                let mut resource = before.clone();
                change(&mut resource);
                if resource == before {
                    return Ok(());
                }
                Write::update(key, &resource, entry.revision)
            }
        };
        let batch = datastore::Batch {
            writes: vec![write],
            journal: Vec::new(),
        };
        match session.store().commit(&batch) {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. }) => {}
            Err(problem) => return Err(problem).context("write the own Node"),
        }
    }
    Err(anyhow!("the own Node changes faster than it can be written"))
}

fn register(session: &Session<'_>, node: &str, registration: &Registration) -> Result<()> {
    change_node(session, node, |resource| {
        let bgp = resource.spec.bgp.get_or_insert_with(NodeBgp::default);
        bgp.ipv4_address = registration.ipv4;
        bgp.ipv6_address = registration.ipv6;
        if let Some(number) = registration.as_number {
            bgp.as_number = Some(AsNumber(number));
        }
        if let Some(cluster) = &registration.cluster_id {
            bgp.route_reflector_cluster_id = Some(cluster.clone());
        }
        if *bgp == NodeBgp::default() {
            resource.spec.bgp = None;
        }
        // Others' addresses of the node are not ours to change.
        let addresses = &mut resource.spec.addresses;
        addresses.retain(|address| address.kind != "CalicoNodeIP");
        for address in [registration.ipv4, registration.ipv6].into_iter().flatten() {
            addresses.push(NodeAddress {
                address: Some(address),
                kind: "CalicoNodeIP".into(),
                ..NodeAddress::default()
            });
        }
    })
}

/// The node's addresses go, those of its tunnels too.
fn deregister(session: &Session<'_>, node: &str) -> Result<()> {
    change_node(session, node, |resource| {
        if let Some(bgp) = &mut resource.spec.bgp {
            bgp.ipv4_address = None;
            bgp.ipv6_address = None;
        }
        for kind in [TunnelKind::Ipip, TunnelKind::Vxlan, TunnelKind::VxlanV6] {
            record(resource, kind, None);
        }
        if resource.spec.bgp == Some(NodeBgp::default()) {
            resource.spec.bgp = None;
        }
        resource
            .spec
            .addresses
            .retain(|address| address.kind != "CalicoNodeIP");
    })
}

fn recorded(node: &Node, kind: TunnelKind) -> Option<std::net::IpAddr> {
    match kind {
        TunnelKind::Ipip => node.spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr),
        TunnelKind::Vxlan => node.spec.ipv4_vxlan_tunnel_addr,
        TunnelKind::VxlanV6 => node.spec.ipv6_vxlan_tunnel_addr,
        TunnelKind::Wireguard | TunnelKind::WireguardV6 => None,
    }
}

fn record(node: &mut Node, kind: TunnelKind, address: Option<std::net::IpAddr>) {
    let name = node.metadata.name.clone();
    let mac = |v6: bool| address.map(|_| vxlan_mac(&name, v6).to_string());
    match kind {
        TunnelKind::Ipip => {
            let bgp = node.spec.bgp.get_or_insert_with(NodeBgp::default);
            bgp.ipv4_ipip_tunnel_addr = address;
            if *bgp == NodeBgp::default() {
                node.spec.bgp = None;
            }
        }
        TunnelKind::Vxlan => {
            node.spec.ipv4_vxlan_tunnel_addr = address;
            node.spec.vxlan_tunnel_mac_addr = mac(false);
        }
        TunnelKind::VxlanV6 => {
            node.spec.ipv6_vxlan_tunnel_addr = address;
            node.spec.vxlan_tunnel_mac_addr_v6 = mac(true);
        }
        TunnelKind::Wireguard | TunnelKind::WireguardV6 => {}
    }
}

fn tunnel(session: &Session<'_>, snapshot: &Snapshot, name: &str, kind: TunnelKind) -> Result<()> {
    let Some(node) = snapshot.nodes.get(name) else {
        return Ok(());
    };
    let recorded = recorded(node, kind);
    let wanted = snapshot
        .pools
        .values()
        .any(|pool| ipam::pool_wants_tunnel(pool, kind, node));
    if recorded.is_none() && !wanted {
        return Ok(());
    }
    let request = TunnelRequest {
        node: name.to_owned(),
        kind,
        recorded,
        cause: "tunnel".into(),
    };
    let _lock = session.lock().map_err(|problem| anyhow!("{problem}"))?;
    let outcome =
        session.with_engine(|engine| engine.reconcile_tunnel_address(&request, &mut |_| Vec::new()))?;
    let address = match outcome {
        TunnelOutcome::Kept(address) => Some(address),
        TunnelOutcome::Assigned(assigned) => Some(assigned.address),
        TunnelOutcome::NotWanted => None,
    };
    if address == recorded {
        return Ok(());
    }
    change_node(session, name, |node| record(node, kind, address))
}
