// SPDX-License-Identifier: Apache-2.0
//! The agent's state, and what follows from each change of it. Nothing here waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bgp::{
    Family, PeerId, Speaker,
    message::{
        Notification,
        notification::{cease, code},
    },
    speaker::{NextHopState, Origination, Output, OwnAddresses, SpeakerConfig},
};
use ipnet::IpNet;
use model::{AffinityState, BgpConfiguration, bgp_configuration::BgpConfigurationSpec};

use super::peers::{self, Common, PolicyPair};
use crate::{
    configuration::{
        Configuration, Origin, Resolution, Sources, Variables, resolve,
        sources::{bgp_for_node, felix_for_node},
        words::{Backend, ExternalExport},
    },
    dataplane::{Command, Ownership, Report},
    encapsulation::Encapsulation,
    export_policy::{self, Exports, class},
    facts::Facts,
    peering::{self, Password, Peer},
    plan::{Fixtures, PlannedRoute, Refusal, RouteOrigin, Routes, Way},
    planner::{Choices, Planner},
    session_io::PeerSocket,
    snapshot::Snapshot,
    start::Start,
};

/// How long the routes of peers are waited for after a restart, at most.
const DEFERRAL: Duration = Duration::from_secs(30);
/// Lines of history that are kept.
const JOURNAL: usize = 10_000;

/// Something that has happened, for people.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct JournalLine {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u128,
    /// `session`, `route`, `repair`, `store`, `configuration`, …
    pub kind: &'static str,
    /// What.
    pub text: String,
}

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
    pub(super) store_routes: Routes,
    pub(super) bgp_routes: Routes,
    pub(super) refused: BTreeMap<IpNet, Refusal>,
    pub(super) fixtures: Arc<Fixtures>,
    pub(super) failures: BTreeMap<String, String>,
    pub(super) rivals: BTreeSet<String>,
    pub(super) journal: std::collections::VecDeque<JournalLine>,
    pub(super) store_problem: Option<String>,
    pub(super) restarted: bool,
    pub(super) complete: bool,
    begun: bool,
    registered: bool,
    /// The speaker waits for nobody any more; what it has selected may not be planned yet.
    converged: bool,
    policies: BTreeMap<(Vec<String>, bool), PolicyPair>,
    choices: Choices,
    /// For the dataplane.
    pub(super) commands: Vec<Command>,
    /// For the sockets.
    pub(super) orders: Vec<SocketOrder>,
    random: u64,
}

impl Core {
    /// Before anything is known. `restarted`: an agent has run here since the host's start, and left its routes.
    pub(super) fn new(start: Start, restarted: bool) -> anyhow::Result<Self> {
        let resolution = resolution(&start.variables, &Snapshot::default(), &start.node);
        if let Some(problem) = resolution.environment_errors.first() {
            anyhow::bail!("{problem}");
        }
        let configuration = resolution.configuration;
        let choices = choices(&start.node, &configuration);
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
            store_routes: Routes::new(),
            bgp_routes: Routes::new(),
            refused: BTreeMap::new(),
            fixtures: Arc::default(),
            failures: BTreeMap::new(),
            rivals: BTreeSet::new(),
            journal: std::collections::VecDeque::new(),
            store_problem: None,
            restarted,
            complete: false,
            begun: false,
            registered: false,
            converged: false,
            policies: BTreeMap::new(),
            choices,
            commands: Vec::new(),
            orders: Vec::new(),
            random: u64::from_ne_bytes(seed) | 1,
        })
    }

    /// Time since the agent began: the speaker's clock.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What of the kernel's is ours.
    pub(super) fn ownership(&self) -> Ownership {
        let devices = [
            &self.choices.ipip_device,
            &self.choices.vxlan_device,
            &self.choices.vxlan6_device,
        ];
        Ownership {
            protocol: *self.configuration.route_protocol,
            predecessors: [12, 80].into(),
            interface_prefix: self
                .configuration
                .interface_prefixes
                .first()
                .cloned()
                .unwrap_or_else(|| "cali".into()),
            devices: devices.into_iter().map(ToString::to_string).collect(),
        }
    }

    /// The TCP port and addresses to listen on.
    pub(super) fn listen_port(&self) -> u16 {
        *self.configuration.listen_port
    }

    /// Where health and metrics are answered.
    pub(super) fn tcp_listeners(&self) -> Vec<(String, u16)> {
        let configuration = &self.configuration;
        let mut listeners = Vec::new();
        if *configuration.health_enabled {
            listeners.push((
                configuration.health_host.value.clone(),
                *configuration.health_port,
            ));
        }
        if *configuration.prometheus_enabled {
            let host = configuration.prometheus_host.as_deref().unwrap_or("0.0.0.0");
            listeners.push((host.to_owned(), *configuration.prometheus_port));
        }
        listeners
    }

    pub(super) fn note(&mut self, kind: &'static str, text: impl Into<String>) {
        let text = text.into();
        tracing::info!(target: "agent", kind, "{text}");
        if self.journal.len() >= JOURNAL {
            self.journal.pop_front();
        }
        let time_ms = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        self.journal.push_back(JournalLine { time_ms, kind, text });
    }

    /// The store says something new.
    pub(super) fn take_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        if self.store_problem.take().is_some() {
            self.note("store", "the store is back");
        }
        self.snapshot = snapshot;
        self.has_snapshot = true;
        let resolution = resolution(&self.start.variables, &self.snapshot, &self.start.node);
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
        let warnings: BTreeSet<String> = resolution
            .warnings
            .iter()
            .map(ToString::to_string)
            .chain(unreadable)
            .collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!(target: "agent", "{warning}");
        }
        self.warnings = warnings;
        self.configuration = resolution.configuration;
        self.choices = choices(&self.start.node, &self.configuration);
        self.plan();
    }

    /// The store cannot be used: what was known stays in force.
    pub(super) fn lose_store(&mut self, problem: String) {
        self.note("store", format!("the store cannot be used: {problem}"));
        self.store_problem = Some(problem);
    }

    /// The dataplane reports.
    pub(super) fn take_report(&mut self, report: Report) {
        match report {
            Report::Facts(facts) => {
                self.facts = Some(facts);
                self.plan();
            }
            Report::Repaired(what) => self.note(
                "repair",
                format!("put right, after somebody had changed it: {what}"),
            ),
            Report::Rival(what) => {
                self.note(
                    "repair",
                    format!("somebody changes {what} again and again; left alone for 30 s"),
                );
                self.rivals.insert(what);
            }
            Report::Failed { item, problem } if problem.is_empty() => {
                self.failures.remove(&item);
                self.note("kernel", format!("{item}: done now"));
            }
            Report::Failed { item, problem } => {
                self.note("kernel", format!("{item}: {problem}"));
                self.failures.insert(item, problem);
            }
            Report::Settled { .. } | Report::CleanedUp(_) => {}
        }
    }

    fn planner<'a>(snapshot: &'a Snapshot, facts: &'a Facts, choices: &'a Choices) -> Planner<'a> {
        Planner {
            snapshot,
            facts,
            choices,
        }
    }

    /// Everything anew, after store or ground have changed.
    fn plan(&mut self) {
        let Some(facts) = self.facts.clone().filter(|_| self.has_snapshot) else {
            return;
        };
        let snapshot = Arc::clone(&self.snapshot);
        let choices = self.choices.clone();
        let planner = Self::planner(&snapshot, &facts, &choices);
        let fixtures = planner.fixtures();
        if *self.fixtures != fixtures || !self.begun {
            self.fixtures = Arc::new(fixtures);
            self.commands.push(Command::Fixtures(Arc::clone(&self.fixtures)));
        }
        self.set_peers();
        self.write_mtu(planner.container_mtu(&self.fixtures));
        let (mut routes, refused) = planner.store_routes();
        routes.extend(self.gateway_routes(&planner));
        if self.store_routes != routes || !self.begun {
            self.store_routes.clone_from(&routes);
            self.commands.push(Command::StoreRoutes(routes));
        }
        self.refused = refused;
        self.speaker.set_own_addresses(facts.own_addresses());
        let next_hops: Vec<IpAddr> = self.speaker.next_hops().map(|(address, _)| *address).collect();
        for address in next_hops {
            self.resolve(address, &facts);
        }
        self.originate();
        let all: BTreeSet<IpNet> = self
            .speaker
            .routes()
            .filter(|route| route.used)
            .map(|route| route.prefix)
            .collect();
        let all: Vec<IpNet> = all
            .into_iter()
            .chain(self.bgp_routes.keys().copied().collect::<Vec<_>>())
            .collect();
        self.plan_bgp(&all);
        if !self.begun
            && snapshot
                .nodes
                .get(&self.start.node)
                .is_some_and(|node| node.spec.bgp.is_some())
        {
            self.begun = true;
            let now = self.now();
            self.speaker.begin(now);
            if !self.restarted {
                self.set_complete();
            }
        }
    }

    /// Routes to peers that are reached by a certain gateway.
    fn gateway_routes(&self, planner: &Planner<'_>) -> Routes {
        let peers = self.peers.values();
        let wanted = peers.filter_map(|peer| Some((peer, peer.reachable_by?)));
        let routes = wanted.filter_map(|(peer, gateway)| {
            let route = PlannedRoute {
                way: Way::Via {
                    hops: planner.facts.resolve(gateway)?,
                    onlink: false,
                },
                metric: if peer.address.is_ipv6() { 1024 } else { 0 },
                source: None,
                encapsulation: Encapsulation::Direct,
                origin: RouteOrigin::ReachableBy,
                reason: format!("{} is reachable by {gateway}", peer.name).into(),
            };
            Some((IpNet::from(peer.address), route))
        });
        routes.collect()
    }

    fn set_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.commands.push(Command::Complete);
            self.note("agent", "routes of peers are complete");
        }
    }

    fn write_mtu(&mut self, mtu: Option<u32>) {
        let Some(mtu) = mtu else { return };
        let path = self.start.state_dir.join("mtu");
        let text = format!("{mtu}");
        if std::fs::read_to_string(&path).is_ok_and(|found| found.trim() == text) {
            return;
        }
        if let Err(problem) = crate::start::write_file(&path, text.as_bytes(), 0o644) {
            self.failures.insert("MTU file".into(), format!("{problem:#}"));
        }
    }

    fn resolve(&mut self, address: IpAddr, facts: &Facts) {
        let hops = facts.resolve(address);
        let device = hops
            .as_ref()
            .and_then(|hops| hops.first())
            .map(|hop| Arc::clone(&hop.device));
        self.speaker.set_next_hop(
            address,
            NextHopState {
                cost: hops.map(|_| 0),
                device,
            },
        );
    }

    /// What is announced.
    fn originate(&mut self) {
        let mut wanted: BTreeMap<IpNet, Origination> = BTreeMap::new();
        let metric = |prefix: &IpNet| self.configuration.bgp_priority(prefix.addr().is_ipv6());
        let mut add = |prefix: IpNet, class: u32| {
            let route = Origination {
                attributes: Planner::attributes(metric(&prefix)),
                class,
                device: None,
            };
            wanted.insert(prefix, route);
        };
        for (block, state) in self.snapshot.blocks_of(&self.start.node) {
            add(block, class::BLOCK);
            if state == AffinityState::PendingDeletion
                && let Some(block) = self.snapshot.blocks.get(&block)
            {
                let used = block
                    .allocations
                    .iter()
                    .enumerate()
                    .filter(|(_, index)| index.is_some());
                for address in used.filter_map(|(ordinal, _)| block.address(ordinal)) {
                    add(IpNet::from(address), class::DRAINING);
                }
            }
        }
        for address in self.snapshot.borrowed_by(&self.start.node) {
            add(IpNet::from(address), class::BORROWED);
        }
        let gone: Vec<IpNet> = self
            .own_routes
            .keys()
            .filter(|prefix| !wanted.contains_key(prefix))
            .copied()
            .collect();
        for prefix in gone {
            self.speaker.set_own_route(prefix, None);
        }
        for (prefix, route) in &wanted {
            if self.own_routes.get(prefix) != Some(route) {
                self.speaker.set_own_route(*prefix, Some(route.clone()));
            }
        }
        self.own_routes = wanted;
    }

    fn identifier(&self) -> Ipv4Addr {
        use crate::configuration::network_form::RouterId;
        let hash = || {
            use sha2::{Digest as _, Sha256};
            let digest = Sha256::digest(self.start.node.as_bytes());
            let mut octets = [0; 4];
            octets.copy_from_slice(&digest[..4]);
            if octets[0] > 223 {
                octets[0] -= 32;
            }
            Ipv4Addr::from(octets)
        };
        match &*self.configuration.router_id {
            Some(RouterId::Address(address)) => *address,
            Some(RouterId::Hash) => hash(),
            None => match self
                .snapshot
                .node_address(&self.start.node, false)
                .map(|own| own.addr())
            {
                Some(IpAddr::V4(address)) => address,
                _ => hash(),
            },
        }
    }

    /// Sessions as they should be.
    fn set_peers(&mut self) {
        let own_addresses = OwnAddresses {
            ipv4: match self
                .snapshot
                .node_address(&self.start.node, false)
                .map(|own| own.addr())
            {
                Some(IpAddr::V4(address)) => Some(address),
                _ => None,
            },
            ipv6: match self
                .snapshot
                .node_address(&self.start.node, true)
                .map(|own| own.addr())
            {
                Some(IpAddr::V6(address)) => Some(address),
                _ => None,
            },
        };
        let common = Common {
            identifier: self.identifier(),
            hold_time: Duration::from_secs((*self.configuration.hold_time).into()),
            restarted: self.restarted && !self.complete,
            prefix_limit: *self.configuration.ebgp_max_prefixes,
            own_addresses,
        };
        let own = self
            .snapshot
            .nodes
            .get(&self.start.node)
            .and_then(|node| node.spec.bgp.as_ref());
        let cluster_id = own.and_then(|bgp| bgp.route_reflector_cluster_id.as_ref()?.parse().ok());
        self.speaker.set_identity(common.identifier, cluster_id);
        let wanted = self.wanted_peers();
        self.policies.clear();
        let now = self.now();
        let names: BTreeSet<&str> = wanted.iter().map(|peer| peer.name.as_str()).collect();
        let gone: Vec<(String, PeerId)> = self
            .ids
            .iter()
            .filter(|(name, _)| !names.contains(name.as_str()))
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        for (name, id) in gone {
            self.ids.remove(&name);
            self.peers.remove(&id);
            self.speaker.remove_peer(id, now);
            self.orders.push(SocketOrder::Gone(id));
            self.note("session", format!("{name}: not wanted any more"));
        }
        for peer in wanted {
            let id = if let Some(id) = self.ids.get(&peer.name) {
                *id
            } else {
                self.next_id += 1;
                let id = PeerId(self.next_id);
                self.ids.insert(peer.name.clone(), id);
                self.note(
                    "session",
                    format!(
                        "{}: {} AS {}: {}",
                        peer.name, peer.address, peer.peer_as, peer.reason
                    ),
                );
                id
            };
            let policies = self.policies_of(&peer);
            self.orders.push(SocketOrder::Peer(id, peers::socket(&peer)));
            let config = peers::config(&peer, &common, policies);
            let seed = self.next_random();
            self.peers.insert(id, peer);
            self.speaker.set_peer(id, config, seed, now);
        }
    }

    /// Whether the own Node says what this start was told. Sessions before that would be of the wrong AS, or from the wrong
    /// address. What an operator changes in the Node later is not waited for.
    fn is_registered(&mut self) -> bool {
        let own = self.snapshot.nodes.get(&self.start.node);
        if let Some(bgp) = own.and_then(|node| node.spec.bgp.as_ref())
            && !self.registered
        {
            let told = self.start.variables.first(&["AS", "CALICO_AS"]);
            let told = told.and_then(|(_, text)| text.parse().ok());
            self.registered = told.is_none_or(|number| bgp.as_number == Some(number));
        }
        self.registered
    }

    /// The peers that this node should have; those whose password cannot be had wait for it.
    fn wanted_peers(&mut self) -> Vec<Peer> {
        if *self.configuration.networking_backend != Backend::Bird || !self.is_registered() {
            return Vec::new();
        }
        let mut configurations: Vec<BgpConfiguration> = self
            .snapshot
            .bgp_configurations
            .values()
            .map(|found| (**found).clone())
            .collect();
        if matches!(self.configuration.node_mesh.origin, Origin::Environment(_)) {
            let enabled = Some(*self.configuration.node_mesh);
            match configurations
                .iter_mut()
                .find(|found| found.metadata.name == "default")
            {
                Some(found) => found.spec.node_to_node_mesh_enabled = enabled,
                None => configurations.push(BgpConfiguration::new(
                    "default",
                    BgpConfigurationSpec {
                        node_to_node_mesh_enabled: enabled,
                        ..BgpConfigurationSpec::default()
                    },
                )),
            }
        }
        let secrets = self.start.secrets_dir.clone();
        let peering = peering::peers(&peering::Input {
            node_name: &self.start.node,
            nodes: &self
                .snapshot
                .nodes
                .values()
                .map(|node| &**node)
                .collect::<Vec<_>>(),
            peers: &self
                .snapshot
                .bgp_peers
                .values()
                .map(|peer| &**peer)
                .collect::<Vec<_>>(),
            configurations: &configurations.iter().collect::<Vec<_>>(),
            workloads: &[],
            secret_namespace: "kube-system",
            secrets: &|name, key| peers::secret(&secrets, name, key),
        });
        for warning in &peering.warnings {
            if self.peer_warnings.insert(warning.clone()) {
                tracing::warn!(target: "bgp", "{warning}");
            }
        }
        self.peer_warnings = peering.warnings.into_iter().collect();
        let mut peers = peering.peers;
        peers.retain(|peer| !matches!(peer.password, Password::Missing(_)));
        peers
    }

    fn policies_of(&mut self, peer: &Peer) -> PolicyPair {
        let external = !peer.is_internal();
        let key = (peer.filters.clone(), external);
        if let Some(found) = self.policies.get(&key) {
            return found.clone();
        }
        let own = self
            .snapshot
            .nodes
            .get(&self.start.node)
            .and_then(|node| node.spec.bgp.as_ref());
        let exports = Exports {
            node: self.start.node.clone(),
            disabled: *self.configuration.disable_bgp_export,
            external_own_only: *self.configuration.external_export == ExternalExport::Own,
            communities: self.configuration.announced_communities(),
            reflector: own.is_some_and(|bgp| bgp.route_reflector_cluster_id.is_some()),
            service_prefixes: [
                &self.configuration.service_external_ips,
                &self.configuration.service_load_balancer_ips,
            ]
            .into_iter()
            .flat_map(|list| list.iter().copied())
            .collect(),
        };
        let each = |family| {
            (
                Arc::new(export_policy::import(&self.snapshot, &peer.filters, family)),
                Arc::new(export_policy::export(
                    &self.snapshot,
                    &exports,
                    &peer.filters,
                    family,
                )),
            )
        };
        let (import_v4, export_v4) = each(Family::Ipv4);
        let (import_v6, export_v6) = each(Family::Ipv6);
        let made = ([import_v4, import_v6], [export_v4, export_v6]);
        self.policies.insert(key, made.clone());
        made
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Routes of prefixes whose selection has changed.
    fn plan_bgp(&mut self, prefixes: &[IpNet]) {
        let Some(facts) = self.facts.clone() else { return };
        let snapshot = Arc::clone(&self.snapshot);
        let choices = self.choices.clone();
        let planner = Self::planner(&snapshot, &facts, &choices);
        let mut changes: Vec<(IpNet, Option<PlannedRoute>)> = Vec::new();
        for prefix in prefixes {
            let planned = planner.bgp_route(prefix, &self.speaker.selected(prefix));
            match planned {
                Some(Ok(route)) => {
                    self.refused.remove(prefix);
                    if self.bgp_routes.get(prefix) != Some(&route) {
                        self.bgp_routes.insert(*prefix, route.clone());
                        changes.push((*prefix, Some(route)));
                    }
                    continue;
                }
                Some(Err(refusal)) => {
                    tracing::warn!(target: "agent", code = refusal.code, "{}", refusal.text);
                    self.refused.insert(*prefix, refusal);
                }
                None => {}
            }
            if self.bgp_routes.remove(prefix).is_some() {
                changes.push((*prefix, None));
            }
        }
        if !changes.is_empty() {
            self.commands.push(Command::BgpRoutes(changes));
        }
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
            self.plan_bgp(&changes);
        }
        // The last routes may have come with the End-of-RIB: leftovers go after they are in place, not before.
        if std::mem::take(&mut self.converged) {
            self.set_complete();
        }
    }

    fn take_output(&mut self, output: Output) {
        let name = |core: &Self, id: &PeerId| {
            core.peers
                .get(id)
                .map_or_else(|| format!("peer {}", id.0), |peer| peer.name.clone())
        };
        match &output {
            Output::Up(id, agreed) => {
                let text = format!(
                    "{}: Established, hold time {} s",
                    name(self, id),
                    agreed.hold_time.as_secs()
                );
                self.note("session", text);
            }
            Output::Down(id, down) => {
                let kept = if down.graceful {
                    "; its routes are kept while it is away"
                } else {
                    ""
                };
                let text = format!("{}: down: {}{kept}", name(self, id), down.reason);
                self.note("session", text);
            }
            Output::Failed(id, reason) => {
                tracing::debug!(target: "bgp", peer = name(self, id), "{reason}");
            }
            Output::EndOfRib(id, family) => {
                let text = format!("{}: all routes of {family} received", name(self, id));
                self.note("session", text);
            }
            Output::Defect(id, defect) => {
                tracing::warn!(target: "bgp", peer = name(self, id), "UPDATE: attribute {}: {}", defect.attribute, defect.text);
            }
            Output::TooManyPrefixes(id, family) => {
                let text = format!(
                    "{}: more prefixes of {family} than allowed; the session is ended",
                    name(self, id)
                );
                self.note("session", text);
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

    /// The peer that a connection from an address belongs to.
    pub(super) fn peer_of(&self, address: IpAddr) -> Option<PeerId> {
        let found = self.peers.iter().find(|(_, peer)| peer.address == address);
        found.map(|(id, _)| *id)
    }

    /// Ends all sessions. For good: peers drop the routes at once.
    pub(super) fn stop(&mut self, for_good: bool) {
        let now = self.now();
        let notification = for_good.then(|| Notification::new(code::CEASE, cease::SHUTDOWN));
        self.speaker.stop(notification.as_ref(), now);
        self.settle();
    }

    /// What planning is done with, for explanations.
    pub(super) fn with_planner<T>(&self, action: impl FnOnce(&Planner<'_>) -> T) -> Option<T> {
        let facts = self.facts.as_ref()?;
        Some(action(&Self::planner(&self.snapshot, facts, &self.choices)))
    }
}

fn resolution(variables: &Variables, snapshot: &Snapshot, node: &str) -> Resolution {
    let labels = snapshot
        .nodes
        .get(node)
        .map(|node| node.metadata.labels.clone())
        .unwrap_or_default();
    let felix: Vec<_> = snapshot
        .felix_configurations
        .values()
        .map(|found| (**found).clone())
        .collect();
    let bgp: Vec<_> = snapshot
        .bgp_configurations
        .values()
        .map(|found| (**found).clone())
        .collect();
    resolve(&Sources {
        environment: variables.clone(),
        file: crate::configuration::file::File::default(),
        felix: felix_for_node(&felix, node, &labels),
        bgp: bgp_for_node(&bgp, node),
    })
}

fn choices(node: &str, configuration: &Configuration) -> Choices {
    let fixed = |mtu: u32| (mtu != 0).then_some(mtu);
    Choices {
        node: node.to_owned(),
        ipip_device: configuration.ipip_device.as_str().into(),
        vxlan_device: "vxlan.calico".into(),
        vxlan6_device: "vxlan-v6.calico".into(),
        ipip_mtu: fixed(*configuration.ipip_mtu),
        vxlan_mtu: fixed(*configuration.vxlan_mtu),
        vxlan6_mtu: fixed(*configuration.vxlan_mtu_v6),
        vxlan_id: *configuration.vxlan_vni,
        vxlan_port: *configuration.vxlan_port,
        metric_v4: configuration.ipv4_metric(),
        metric_v6: configuration.ipv6_metric(),
        without_bgp: *configuration.networking_backend == Backend::Vxlan,
    }
}
