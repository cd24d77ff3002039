// SPDX-License-Identifier: Apache-2.0
//! What goes into the journal, and what it is put down to. A pass may change a hundred thousand routes: texts are made once
//! and shared.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Instant};

use bgp::{
    PeerId,
    session::SessionState,
    speaker::{Selection, SelectionChange},
};
use hashbrown::HashMap;
use ipnet::IpNet;

use super::Core;
use crate::{
    export_policy::class,
    journal::{Change, Kind, Limits, Line, Object, PeerName, PrefixNews, Recorder},
    plan::{Fixtures, PlannedRoute, Refusal, RouteOrigin},
    snapshot::Snapshot,
};

/// The journal, and what is remembered to tell what is news.
#[derive(Debug)]
pub(in crate::agent) struct Recording {
    recorder: Recorder,
    peers: HashMap<PeerId, Arc<PeerName>>,
    /// Refusals that have been told, by code.
    refused: BTreeMap<IpNet, &'static str>,
    /// Why a session could not be made, at the last attempt.
    failed: HashMap<PeerId, String>,
    /// The text that was made last of each kind.
    texts: HashMap<Text, Arc<str>>,
}

/// Whom a prefix has to do with, and why its selection has changed if it has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Why<'a> {
    /// Whose path is, or was, the best; `None`: nobody's, or the own.
    pub(super) peer: Option<PeerId>,
    pub(super) cause: Option<&'a Arc<str>>,
    is_learned: bool,
}

impl Why<'_> {
    /// For no change.
    pub(super) fn of(now: Option<Selection>) -> Self {
        let peer = now.and_then(|selection| selection.peer);
        Self {
            peer,
            cause: None,
            is_learned: peer.is_some(),
        }
    }

    /// Whether the best path is a peer's.
    pub(super) const fn is_learned(&self) -> bool {
        self.is_learned
    }
}

/// What was told of a prefix that peers have to do with. It holds for the next one if that has the same change, which
/// nearly all of a flood have.
#[derive(Debug)]
pub(super) struct Told {
    change: SelectionChange,
    fate: Option<Fate>,
    peer: Option<PeerId>,
    news: PrefixNews,
}

/// Texts that many lines of a pass have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Text {
    Own(u32),
    Learned(PeerId, Option<IpAddr>),
    Moved(PeerId, Option<IpAddr>),
    Sharing(u8),
    Away(Option<PeerId>, Fate),
    Taken(Option<PeerId>, Fate, Option<PeerId>),
}

/// What has become of a path that was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Beaten,
    Withdrawn,
    SessionDown,
    Unusable,
    NotWanted,
}

impl Recording {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            peers: HashMap::new(),
            refused: BTreeMap::new(),
            failed: HashMap::new(),
            texts: HashMap::new(),
        }
    }

    /// For questions.
    pub(in crate::agent) fn journal(&self) -> crate::journal::Journal {
        self.recorder.journal()
    }

    /// Hands on what was noted; when to do so again if it was not the time yet.
    pub(in crate::agent) fn flush(&mut self) -> Option<Instant> {
        // What sessions and next hops there are changes: none of it is kept for good.
        self.texts.clear();
        self.recorder.flush(Instant::now())
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        self.recorder.set_limits(limits);
    }

    pub(super) fn add(&mut self, line: Line) {
        self.recorder.record(line);
    }
}

/// What a kind of own route is called.
const fn class_name(number: u32) -> &'static str {
    match number {
        class::BLOCK => "a block of this node",
        class::DRAINING => "an address of a block that this node gives up",
        class::BORROWED => "an address that this node has borrowed",
        class::SERVICE => "a prefix of services",
        _ => "a route of this node",
    }
}

impl Core {
    /// How lines name a peer.
    pub(super) fn peer_name(&mut self, id: PeerId) -> Option<Arc<PeerName>> {
        if let Some(known) = self.recording.peers.get(&id) {
            return Some(Arc::clone(known));
        }
        let peer = self.peers.get(&id)?;
        let name = Arc::new(PeerName {
            address: peer.address,
            name: peer.name.clone(),
        });
        self.recording.peers.insert(id, Arc::clone(&name));
        Some(name)
    }

    fn name_text(&mut self, id: Option<PeerId>) -> String {
        id.map_or_else(
            || "this node".to_owned(),
            |id| {
                self.peer_name(id)
                    .map_or_else(|| format!("peer {}", id.0), |peer| peer.name.clone())
            },
        )
    }

    /// Something about a session.
    pub(in crate::agent) fn note_session(&mut self, id: PeerId, change: Change, cause: String) {
        let peer = self.peer_name(id);
        let name = self.name_text(Some(id));
        tracing::info!(target: "agent", kind = "session", "{name}: {cause}");
        if matches!(change, Change::Up | Change::Withdrawn) {
            self.recording.failed.remove(&id);
        }
        let line = Line::new(Kind::Session, change, Object::Name(name.into()), cause.into());
        self.recording.add(line.of(peer));
    }

    /// A session could not be made. Attempts go on for as long as it takes: only another reason than before is news.
    pub(super) fn note_failure(&mut self, id: PeerId, reason: String) {
        if self.recording.failed.get(&id) == Some(&reason) {
            return;
        }
        self.recording.failed.insert(id, reason.clone());
        let (peer, name) = (self.peer_name(id), self.name_text(Some(id)));
        let line = Line::new(
            Kind::Session,
            Change::Failed,
            Object::Name(name.into()),
            reason.into(),
        );
        self.recording.add(line.of(peer));
    }

    /// The selection of a prefix may have changed. `told` is what the last call in this pass has left there.
    pub(super) fn note_selection<'a>(
        &mut self,
        change: &SelectionChange,
        told: &'a mut Option<Told>,
    ) -> Why<'a> {
        let now = self.speaker.selection_now(change);
        let mut why = Why::of(now);
        if !change.is_another() {
            return why;
        }
        let before = self.speaker.selection_before(change);
        let fate = before
            .filter(|before| now.is_none_or(|now| now.peer != before.peer))
            .map(|before| self.fate(change, before));
        let is_own = now.is_some_and(|now| now.peer.is_none());
        // What an own route is called depends on the prefix.
        let is_same = |told: &Told| !is_own && told.fate == fate && told.change.is_like(change);
        if !told.as_ref().is_some_and(is_same) {
            let Some((what, text)) = self.tell_selection(&change.prefix, before, now, fate) else {
                return why;
            };
            let peer = now.or(before).and_then(|selection| selection.peer);
            *told = Some(Told {
                change: *change,
                fate,
                peer,
                news: PrefixNews {
                    kind: Kind::Selection,
                    change: what,
                    peer: peer.and_then(|id| self.peer_name(id)),
                    cause: self.text(text),
                },
            });
        }
        if let Some(told) = told {
            self.recording.recorder.record_prefix(change.prefix, &told.news);
            why.peer = told.peer;
            why.cause = Some(&told.news.cause);
        }
        why
    }

    /// What has become of a prefix, and the text that says so.
    fn tell_selection(
        &self,
        prefix: &IpNet,
        before: Option<Selection>,
        now: Option<Selection>,
        fate: Option<Fate>,
    ) -> Option<(Change, Text)> {
        Some(match (before, now, fate) {
            (None, None, _) => return None,
            (None, Some(now), _) => (Change::Added, self.origin(prefix, now)),
            (Some(before), None, fate) => (Change::Withdrawn, Text::Away(before.peer, fate?)),
            (Some(before), Some(now), Some(fate)) => {
                (Change::Changed, Text::Taken(before.peer, fate, now.peer))
            }
            (Some(before), Some(now), None) => {
                let text = match now.peer {
                    Some(peer) if before.next_hop != now.next_hop => Text::Moved(peer, now.next_hop),
                    _ => Text::Sharing(now.sharing),
                };
                (Change::Changed, text)
            }
        })
    }

    fn note_prefix(
        &mut self,
        kind: Kind,
        change: Change,
        prefix: &IpNet,
        peer: Option<PeerId>,
        cause: Arc<str>,
    ) {
        let peer = peer.and_then(|id| self.peer_name(id));
        let news = PrefixNews {
            kind,
            change,
            peer,
            cause,
        };
        self.recording.recorder.record_prefix(*prefix, &news);
    }

    fn origin(&self, prefix: &IpNet, now: Selection) -> Text {
        match now.peer {
            Some(peer) => Text::Learned(peer, now.next_hop),
            None => Text::Own(self.own_routes.get(prefix).map_or(u32::MAX, |route| route.class)),
        }
    }

    /// Why a path is not the selected one any more.
    fn fate(&self, news: &SelectionChange, before: Selection) -> Fate {
        let Some(peer) = before.peer else {
            return if self.own_routes.contains_key(&news.prefix) {
                Fate::Beaten
            } else {
                Fate::Withdrawn
            };
        };
        if let Some(is_refused) = self.speaker.path_of(news, peer) {
            let is_beaten = !is_refused && self.speaker.selection_now(news).is_some();
            return if is_beaten { Fate::Beaten } else { Fate::Unusable };
        }
        match self.speaker.state_of(peer) {
            None => Fate::NotWanted,
            Some(SessionState::Established) => Fate::Withdrawn,
            Some(_) => Fate::SessionDown,
        }
    }

    fn text(&mut self, text: Text) -> Arc<str> {
        if let Some(known) = self.recording.texts.get(&text) {
            return Arc::clone(known);
        }
        let via = |next_hop: Option<IpAddr>| {
            next_hop.map_or_else(String::new, |next_hop| format!(", next hop {next_hop}"))
        };
        let made = match text {
            Text::Own(number) => format!("{} is announced", class_name(number)),
            Text::Learned(peer, next_hop) => {
                format!("{} announces it{}", self.name_text(Some(peer)), via(next_hop))
            }
            Text::Moved(peer, next_hop) => {
                format!(
                    "{} announces it anew{}",
                    self.name_text(Some(peer)),
                    via(next_hop)
                )
            }
            Text::Sharing(1) => "one path carries all traffic".to_owned(),
            Text::Sharing(count) => format!("{count} equally good paths share the traffic"),
            Text::Away(peer, fate) => self.fate_text(peer, fate),
            Text::Taken(peer, fate, now) => {
                let now = self.name_text(now);
                format!("{}; that of {now} is used now", self.fate_text(peer, fate))
            }
        };
        let made: Arc<str> = made.into();
        self.recording.texts.insert(text, Arc::clone(&made));
        made
    }

    fn fate_text(&mut self, peer: Option<PeerId>, fate: Fate) -> String {
        let name = self.name_text(peer);
        match fate {
            Fate::Beaten => format!("the path of {name} is no longer the best"),
            Fate::Withdrawn => format!("{name} has withdrawn it"),
            Fate::Unusable => format!("the path of {name} is refused, or its next hop cannot be reached"),
            Fate::NotWanted => format!("{name} is not a peer any more"),
            Fate::SessionDown => {
                let status = peer.and_then(|id| self.speaker.peer(id));
                let why = status.and_then(|status| status.last_down.map(|(_, reason)| reason.clone()));
                format!("the session with {name} is down: {}", why.unwrap_or_default())
            }
        }
    }

    /// A planned route is another, or gone. `why` is what a route that goes is put down to.
    pub(super) fn note_route(
        &mut self,
        prefix: &IpNet,
        before: Option<&PlannedRoute>,
        now: Option<&PlannedRoute>,
        (peer, why): (Option<PeerId>, Option<&Arc<str>>),
    ) {
        let change = match (before, now) {
            (None, None) => return,
            (None, Some(_)) => Change::Added,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Withdrawn,
        };
        let cause = match (now, why, before) {
            (Some(now), ..) => Arc::clone(&now.reason),
            (None, Some(why), _) => Arc::clone(why),
            (None, None, Some(before)) if before.origin == RouteOrigin::Bgp => {
                "not to be programmed any more".into()
            }
            (None, None, _) => "not in the datastore any more".into(),
        };
        self.note_prefix(Kind::Route, change, prefix, peer, cause);
    }

    /// Addresses were given out or given back since an earlier snapshot.
    pub(super) fn note_assignments(&mut self, earlier: &Snapshot) {
        for found in self.snapshot.assignments_since(earlier, &self.start.node) {
            let change = if found.assigned {
                Change::Added
            } else {
                Change::Withdrawn
            };
            let object = Object::Prefix(found.address.into());
            self.recording
                .add(Line::new(Kind::Addresses, change, object, found.holder.into()));
        }
    }

    /// What BGP has selected for a prefix must not be.
    pub(super) fn refuse(&mut self, prefix: &IpNet, refusal: Refusal) {
        self.bgp_refused.insert(*prefix, refusal);
        self.note_refusal(prefix);
    }

    /// What BGP has selected for a prefix may be, or it has nothing. What the store wants is another matter.
    pub(super) fn clear_refusal(&mut self, prefix: &IpNet) {
        self.bgp_refused.remove(prefix);
        self.note_refusal(prefix);
    }

    /// A prefix may be refused, or not any more.
    pub(super) fn note_refusal(&mut self, prefix: &IpNet) {
        let refusal = self
            .bgp_refused
            .get(prefix)
            .or_else(|| self.store_refused.get(prefix));
        let (change, cause) = match (refusal, self.recording.refused.get(prefix)) {
            (None, None) => return,
            (Some(refusal), Some(told)) if refusal.code == *told => return,
            (Some(refusal), _) => {
                tracing::warn!(target: "agent", code = refusal.code, "{}", refusal.text);
                self.recording.refused.insert(*prefix, refusal.code);
                (Change::Refused, format!("{}: {}", refusal.code, refusal.text))
            }
            (None, Some(_)) => {
                let told = self.recording.refused.remove(prefix).unwrap_or_default();
                (Change::Cleared, format!("no longer: {told}"))
            }
        };
        let peer = self
            .speaker
            .selection(prefix)
            .and_then(|selection| selection.peer);
        self.note_prefix(Kind::Refusal, change, prefix, peer, cause.into());
    }

    /// Every prefix may be refused, or not any more.
    pub(super) fn note_refusals(&mut self) {
        let told = self.recording.refused.keys();
        let all: Vec<IpNet> = told
            .chain(self.refused().map(|(prefix, _)| prefix))
            .copied()
            .collect();
        for prefix in all {
            self.note_refusal(&prefix);
        }
    }

    /// Devices, far ends and the firewall are others.
    pub(super) fn note_fixtures(&mut self, before: &Fixtures, now: &Fixtures) {
        let mut lines = Vec::new();
        let mut note = |kind, change, object: &str, cause: &str| {
            lines.push(Line::new(kind, change, Object::Name(object.into()), cause.into()));
        };
        for tunnel in &before.tunnels {
            if !now.tunnels.iter().any(|other| other.name == tunnel.name) {
                note(Kind::Device, Change::Withdrawn, &tunnel.name, "no pool needs it");
            }
        }
        for tunnel in &now.tunnels {
            let change = match before.tunnels.iter().find(|other| other.name == tunnel.name) {
                None => Change::Added,
                Some(was) if was != tunnel => Change::Changed,
                Some(_) => continue,
            };
            let address = tunnel
                .address
                .map_or_else(|| "none yet".to_owned(), |address| address.to_string());
            let cause = format!("{}; address {address}, MTU {}", tunnel.reason, tunnel.mtu);
            note(Kind::Device, change, &tunnel.name, &cause);
        }
        let far_ends = [
            (
                before,
                now,
                Change::Withdrawn,
                "its node has gone or has another address",
            ),
            (now, before, Change::Added, "a node of the datastore"),
        ];
        for (these, those, change, cause) in far_ends {
            for far in these.vxlan_peers.difference(&those.vxlan_peers) {
                let object = format!("{} by {}", far.node_address, far.device);
                note(Kind::Encapsulation, change, &object, cause);
            }
        }
        if before.firewall != now.firewall {
            let change = if before.firewall == crate::nftables::Firewall::default() {
                Change::Added
            } else {
                Change::Changed
            };
            let cause = "pools, nodes, services or settings are others";
            note(Kind::Firewall, change, "table inet calico", cause);
        }
        for line in lines {
            self.recording.add(line);
        }
    }
}
