// SPDX-License-Identifier: Apache-2.0
//! The agent's state, and what follows from each change of it. Nothing here waits.

mod announcing;
mod files;
mod planning;
mod probing;
mod recording;
mod secrets;
mod sessions;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::{
    PeerId, Speaker,
    session::Reason,
    speaker::{Origination, Output, SpeakerConfig},
};
use ipnet::IpNet;
use model::AffinityState;

use super::peers::PolicyPair;
use crate::{
    configuration::Configuration,
    dataplane::{Command, Habits, Report},
    facts::Facts,
    journal::{Change, Kind, Line, Recorder},
    peering::Peer,
    plan::{Fixtures, Refusal, Routes},
    planner::Choices,
    session_io::PeerSocket,
    snapshot::{Difference, Snapshot},
    start::Start,
    store_thread::Away,
    tunnel_probe::Target,
    upkeep,
};
use probing::Probe;
use recording::Recording;
use secrets::Secrets;
use settings::{choices, idle, limits, resolution};

/// How long the routes of peers are waited for after a restart, at most.
const DEFERRAL: Duration = Duration::from_secs(30);

/// What the sockets have to do.
#[derive(Debug)]
pub(super) enum SocketOrder {
    /// A peer is so.
    Peer(PeerId, PeerSocket),
    /// A peer is gone.
    Gone(PeerId),
    /// What the speaker wants.
    Speaker(Output),
}

/// See the file's comment.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Core {
    pub(super) start: Start,
    began: Instant,
    pub(super) configuration: Configuration,
    pub(super) warnings: BTreeSet<String>,
    pub(super) peer_warnings: BTreeSet<String>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) has_snapshot: bool,
    pub(super) speaker: Speaker,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    ids: BTreeMap<String, PeerId>,
    next_id: u32,
    own_routes: BTreeMap<IpNet, Origination>,
    /// Addresses of this node in blocks of others, by block.
    borrowed: BTreeMap<IpNet, Vec<IpAddr>>,
    pub(super) store_routes: Routes,
    pub(super) bgp_routes: Routes,
    store_refused: BTreeMap<IpNet, Refusal>,
    bgp_refused: BTreeMap<IpNet, Refusal>,
    pub(super) fixtures: Arc<Fixtures>,
    pub(super) failures: BTreeMap<String, String>,
    /// Tables of others that drop what containers send or receive, and what has been done about it.
    pub(super) answered_drops: BTreeMap<String, String>,
    pub(super) rivals: BTreeSet<String>,
    pub(super) recording: Recording,
    pub(super) store_problem: Option<Away>,
    pub(super) upkeep: upkeep::State,
    pub(super) restarted: bool,
    pub(super) complete: bool,
    secrets: Secrets,
    /// For the plugin's file.
    mtu: Option<u32>,
    begun: bool,
    registered: bool,
    /// The speaker waits for nobody any more; what it has selected may not be planned yet.
    converged: bool,
    /// The own blocks that the policies of peers know of.
    told_blocks: Vec<(IpNet, AffinityState)>,
    policies: BTreeMap<(Vec<String>, bool), PolicyPair>,
    choices: Choices,
    told_habits: Option<Habits>,
    probes: BTreeMap<(String, bool), Probe>,
    probe_waits: bool,
    /// Tunnels to be asked.
    pub(super) probe_orders: Vec<Target>,
    /// For the dataplane.
    pub(super) commands: Vec<Command>,
    /// For the sockets.
    pub(super) orders: Vec<SocketOrder>,
    random: u64,
}

impl Core {
    /// Before anything is known. `restarted`: an agent has run here since the host's start, and left its routes.
    pub(super) fn new(start: Start, restarted: bool) -> anyhow::Result<Self> {
        let resolution = resolution(&start, &Snapshot::default());
        if let Some(problem) = resolution.environment_errors.first() {
            anyhow::bail!("{problem}");
        }
        let configuration = resolution.configuration;
        let choices = choices(&start.node, &configuration);
        let recorder = Recorder::start(&start.state_dir.join("journal"), limits(&configuration))?;
        let recording = Recording::new(recorder);
        let speaker = Speaker::new(SpeakerConfig {
            identifier: Ipv4Addr::UNSPECIFIED,
            cluster_id: None,
            multipath: 16,
            policy_required: *configuration.ebgp_requires_policy,
            deferral: restarted.then_some(DEFERRAL),
        });
        let mut seed = [0; 8];
        seed.copy_from_slice(
            &calico_ipam::cluster::random().map_err(|problem| anyhow::anyhow!("{problem}"))?[..8],
        );
        Ok(Self {
            start,
            began: Instant::now(),
            warnings: resolution.warnings.iter().map(ToString::to_string).collect(),
            configuration,
            peer_warnings: BTreeSet::new(),
            snapshot: Arc::default(),
            facts: None,
            has_snapshot: false,
            speaker,
            peers: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 0,
            own_routes: BTreeMap::new(),
            borrowed: BTreeMap::new(),
            store_routes: Routes::new(),
            bgp_routes: Routes::new(),
            store_refused: BTreeMap::new(),
            bgp_refused: BTreeMap::new(),
            fixtures: Arc::default(),
            failures: BTreeMap::new(),
            answered_drops: BTreeMap::new(),
            rivals: BTreeSet::new(),
            recording,
            store_problem: None,
            upkeep: upkeep::State::default(),
            restarted,
            complete: false,
            secrets: Secrets::default(),
            mtu: None,
            begun: false,
            registered: false,
            converged: false,
            told_blocks: Vec::new(),
            policies: BTreeMap::new(),
            choices,
            told_habits: None,
            probes: BTreeMap::new(),
            probe_waits: false,
            probe_orders: Vec::new(),
            commands: Vec::new(),
            orders: Vec::new(),
            random: u64::from_ne_bytes(seed) | 1,
        })
    }

    /// Time since the agent began: the speaker's clock.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn note(&mut self, kind: &'static str, text: impl Into<String>) {
        let text = text.into();
        tracing::info!(target: "agent", kind, "{text}");
        let line = Line::new(
            kind.parse().unwrap_or(Kind::Agent),
            Change::Noted,
            kind.into(),
            text.into(),
        );
        self.recording.add(line);
    }

    /// Something has become of an item.
    fn note_item(&mut self, kind: Kind, change: Change, item: &str, text: String) {
        tracing::info!(target: "agent", kind = kind.word(), "{text}");
        self.recording
            .add(Line::new(kind, change, item.into(), text.into()));
    }

    /// The store says something new.
    pub(super) fn take_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        if self.store_problem.take().is_some() {
            self.note("store", "the store is back");
        }
        let earlier = std::mem::replace(&mut self.snapshot, snapshot);
        let had_snapshot = std::mem::replace(&mut self.has_snapshot, true);
        if had_snapshot {
            self.note_assignments(&earlier);
        }
        // Where routes follow from each container, any of them may have come or gone.
        if had_snapshot
            && !self.choices.by_workload
            && let Difference::Only(blocks) = self.snapshot.since(&earlier)
        {
            self.plan_blocks(blocks);
            return;
        }
        let resolution = resolution(&self.start, &self.snapshot);
        for change in resolution.configuration.changes_since(&self.configuration) {
            let when = if change.live { "now" } else { "at the next start" };
            self.note(
                "configuration",
                format!("{} has changed; it takes effect {when}", change.name),
            );
        }
        let unreadable = self
            .snapshot
            .unreadable
            .values()
            .map(|problem| format!("{problem}; left out"));
        let idle = resolution
            .configuration
            .rows()
            .into_iter()
            .filter_map(|row| idle(&row));
        let warnings: BTreeSet<String> = resolution
            .warnings
            .iter()
            .map(ToString::to_string)
            .chain(unreadable)
            .chain(idle)
            .collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!(target: "agent", "{warning}");
        }
        self.warnings = warnings;
        self.configuration = resolution.configuration;
        self.set_log_levels();
        self.choices = choices(&self.start.node, &self.configuration);
        let habits = self.habits();
        if self.told_habits.as_ref() != Some(&habits) {
            self.commands.push(Command::Habits(habits.clone()));
            self.told_habits = Some(habits);
        }
        self.plan();
    }

    /// The store cannot be used: what was known stays in force.
    pub(super) fn lose_store(&mut self, problem: Away) {
        self.note("store", format!("the store cannot be used: {}", problem.text));
        self.store_problem = Some(problem);
    }

    /// Upkeep reports.
    pub(super) fn take_upkeep(&mut self, report: upkeep::Report) {
        match report {
            upkeep::Report::Done(text) => self.note("addresses", text),
            upkeep::Report::State(state) => {
                let said = [&self.upkeep.problem, &self.upkeep.undecided];
                let news = [&state.problem, &state.undecided].into_iter().flatten();
                let news: Vec<String> = news
                    .filter(|text| !said.contains(&&Some((*text).clone())))
                    .map(|text| format!("upkeep of addresses: {text}"))
                    .collect();
                self.upkeep = state;
                for text in news {
                    self.note("addresses", text);
                }
            }
        }
    }

    /// The dataplane reports.
    pub(super) fn take_report(&mut self, report: Report) {
        match report {
            Report::Facts(facts) => {
                self.facts = Some(facts);
                self.plan();
            }
            Report::Repaired(what) => {
                self.rivals.remove(&what);
                let text = format!("put right, after somebody had changed it: {what}");
                self.note_item(Kind::Repair, Change::Repaired, &what, text);
            }
            Report::Rival(what) => {
                let text = format!("somebody changes {what} again and again; left alone for 30 s");
                self.note_item(Kind::Repair, Change::LeftAlone, &what, text);
                self.rivals.insert(what);
            }
            Report::Failed { item, problem } if problem.is_empty() => {
                self.failures.remove(&item);
                self.note_item(Kind::Kernel, Change::Done, &item, format!("{item}: done now"));
            }
            Report::Failed { item, problem } => {
                let text = format!("{item}: {problem}");
                self.note_item(Kind::Kernel, Change::Failed, &item, text);
                self.failures.insert(item, problem);
            }
            Report::Answered { table, answer } if answer.is_empty() => {
                self.answered_drops.remove(&table);
                let text = format!(
                    "table {table} drops no forwarded packets any more: the rules against that are gone"
                );
                self.note_item(Kind::Firewall, Change::Cleared, &table, text);
            }
            Report::Answered { table, answer } => {
                self.note_item(Kind::Firewall, Change::Noted, &table, answer.clone());
                self.answered_drops.insert(table, answer);
            }
            Report::Settled { .. } | Report::CleanedUp(_) => {}
        }
    }

    /// Routes that are wanted and cannot be.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&IpNet, &Refusal)> {
        self.store_refused.iter().chain(&self.bgp_refused)
    }

    /// After events of sessions: selection, announcements, routes. What the sockets have to do is left in `orders`.
    pub(super) fn settle(&mut self) {
        loop {
            self.speaker.settle();
            let outputs = self.speaker.take_outputs();
            let changes = self.speaker.take_changes();
            if outputs.is_empty() && changes.is_empty() {
                break;
            }
            for output in outputs {
                self.take_output(output);
            }
            self.take_selections(&changes);
        }
        // The last routes may have come with the End-of-RIB: leftovers go after they are in place, not before.
        if std::mem::take(&mut self.converged) {
            self.set_complete();
        }
        self.ask_tunnels();
    }

    fn take_output(&mut self, output: Output) {
        let name = |core: &Self, id: &PeerId| {
            core.peers
                .get(id)
                .map_or_else(|| format!("peer {}", id.0), |peer| peer.name.clone())
        };
        match &output {
            Output::Up(id, agreed) => {
                let text = format!("Established, hold time {} s", agreed.hold_time.as_secs());
                self.note_session(*id, Change::Up, text);
            }
            Output::Down(id, down) => {
                let kept = if down.graceful {
                    "; its routes are kept while it is away"
                } else {
                    ""
                };
                self.note_session(*id, Change::Down, format!("down: {}{kept}", down.reason));
            }
            Output::Failed(id, reason) => {
                tracing::debug!(target: "bgp", peer = name(self, id), "{reason}");
                // That one of two connections is given up is no failure to anybody but itself.
                if *reason != Reason::Collision {
                    self.note_failure(*id, reason.to_string());
                }
            }
            Output::EndOfRib(id, family) => {
                self.probe_again(*id);
                let text = format!("all routes of {family} received");
                self.note_session(*id, Change::Complete, text);
            }
            Output::Defect(id, defect) => {
                tracing::warn!(target: "bgp", peer = name(self, id), "UPDATE: attribute {}: {}", defect.attribute, defect.text);
            }
            Output::TooManyPrefixes(id, family) => {
                let text = format!("more prefixes of {family} than allowed; the session is ended");
                self.note_session(*id, Change::Noted, text);
            }
            Output::NextHop(address) => {
                let address = *address;
                if let Some(facts) = self.facts.clone() {
                    self.resolve(address, &facts);
                }
            }
            Output::Converged => self.converged = true,
            Output::Dial(_)
            | Output::CancelDial(_)
            | Output::Send(..)
            | Output::Close(..)
            | Output::Ready(..) => {
                self.orders.push(SocketOrder::Speaker(output));
            }
        }
    }
}
