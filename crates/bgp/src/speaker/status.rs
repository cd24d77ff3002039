// SPDX-License-Identifier: Apache-2.0
//! What there is to see of a speaker.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Counters, PeerConfig, Speaker, peer::Owed};
use crate::{
    attributes::Attributes,
    family::Family,
    message::NextHop,
    rib::{Entry, PathFlags, PeerId},
    session::{Negotiated, SessionState, Time},
};

/// A peer as it is now.
#[derive(Clone, Debug)]
pub struct PeerStatus<'a> {
    /// What it is to be.
    pub config: &'a PeerConfig,
    /// State of its session.
    pub state: SessionState,
    /// Since when the session is up.
    pub up_since: Option<Time>,
    /// What both sides have agreed on, while the session is up.
    pub negotiated: Option<&'a Negotiated>,
    /// When and why the session, or an attempt to make one, ended last.
    pub last_down: Option<&'a (Time, String)>,
    /// Until when routes of before the peer's restart are kept.
    pub stale_until: Option<Time>,
    /// When a session that was ended because of too many prefixes begins again.
    pub begin_again: Option<Time>,
    /// What has passed.
    pub counters: Counters,
    /// By family, those that are agreed on or have paths.
    pub families: Vec<FamilyStatus>,
}

/// A family of a peer as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyStatus {
    /// Which.
    pub family: Family,
    /// Paths that the peer has sent.
    pub received: usize,
    /// Those of them that policy, or a loop, has refused.
    pub refused: usize,
    /// Prefixes that it is told, or about to be told; paths, where it is told several.
    pub announced: usize,
    /// It has sent all its routes.
    pub end_of_rib: bool,
    /// It has been told everything, and that this is all.
    pub told: bool,
}

/// A path as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView<'a> {
    /// Its prefix.
    pub prefix: IpNet,
    /// Who has sent it; `None`: it is the speaker's own.
    pub peer: Option<PeerId>,
    /// Its identifier, where the peer sends several.
    pub path_id: u32,
    /// Its attributes, after policy where it has passed.
    pub attributes: &'a Attributes,
    /// Its next hop; `None` for an own one.
    pub next_hop: Option<NextHop>,
    /// Policy, or a loop, has refused it.
    pub refused: bool,
    /// It is the best, or shares the traffic with that.
    pub used: bool,
    /// What else is special.
    pub flags: PathFlags,
}

impl Speaker {
    /// A peer as it is now.
    pub fn peer(&self, id: PeerId) -> Option<PeerStatus<'_>> {
        let peer = self.peers.get(&id)?;
        let families = Family::ALL.into_iter().filter_map(|family| {
            let state = peer.families.of(family);
            let group = state
                .member
                .as_ref()
                .and_then(|member| self.groups.get(&member.group));
            (state.received > 0 || group.is_some()).then(|| FamilyStatus {
                family,
                received: state.received,
                refused: state.refused,
                announced: group.map_or(0, |group| group.rib.announced()),
                end_of_rib: state.end_of_rib,
                told: (state.member.as_ref().zip(group)).is_some_and(|(member, group)| {
                    member.owed == Owed::Nothing && !group.rib.has_news(member.cursor)
                }),
            })
        });
        Some(PeerStatus {
            config: &peer.config,
            state: peer.session.state(),
            up_since: peer.up_since,
            negotiated: peer.up.as_ref().map(|(_, negotiated)| &**negotiated),
            last_down: peer.last_down.as_ref(),
            stale_until: peer.stale_until,
            begin_again: peer.begin_again,
            counters: peer.counters,
            families: families.collect(),
        })
    }

    /// State of a peer's session.
    pub fn state_of(&self, id: PeerId) -> Option<SessionState> {
        self.peers.get(&id).map(|peer| peer.session.state())
    }

    /// How many prefixes of a family have a path.
    pub fn prefixes(&self, family: Family) -> usize {
        self.tables.of(family).len()
    }

    /// All paths to a prefix, those that are used first.
    pub fn paths(&self, prefix: &IpNet) -> Vec<RouteView<'_>> {
        let table = self.tables.of(Family::of(prefix));
        let entry = table.find(prefix).map(|slot| table.entry(slot));
        entry.into_iter().flat_map(views).collect()
    }

    /// The paths to a prefix that share the traffic, the best first.
    pub fn selected(&self, prefix: &IpNet) -> Vec<RouteView<'_>> {
        let mut paths = self.paths(prefix);
        paths.retain(|path| path.used);
        paths
    }

    /// All paths.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        let tables = Family::ALL.into_iter().map(|family| self.tables.of(family));
        tables.flat_map(|table| table.entries().flat_map(views))
    }

    /// What a peer has been told or is about to be told: prefix, attributes, next hop. A prefix comes as often as it is
    /// told several paths.
    pub fn announced(&self, id: PeerId) -> Vec<(IpNet, &Attributes, IpAddr)> {
        let Some(peer) = self.peers.get(&id) else {
            return Vec::new();
        };
        let groups = Family::ALL.into_iter().filter_map(|family| {
            let member = peer.families.of(family).member.as_ref()?;
            self.groups.get(&member.group)
        });
        let routes = groups.flat_map(|group| group.rib.routes());
        let mut all: Vec<_> = routes
            .filter(|(_, _, source)| *source != id)
            .map(|(nlri, route, _)| (*nlri, &route.attributes, route.next_hop.address))
            .collect();
        all.sort_unstable_by_key(|(nlri, ..)| *nlri);
        all.into_iter()
            .map(|(nlri, attributes, next_hop)| (nlri.prefix, attributes, next_hop))
            .collect()
    }
}

fn views(entry: &Entry) -> impl Iterator<Item = RouteView<'_>> {
    let used = entry.used().len();
    entry.paths().iter().enumerate().map(move |(place, path)| {
        let shown = path.used.as_ref().unwrap_or(&path.received);
        RouteView {
            prefix: entry.prefix,
            peer: (path.peer != PeerId::OWN).then_some(path.peer),
            path_id: path.number,
            attributes: &shown.attributes,
            next_hop: shown.next_hop,
            refused: path.used.is_none(),
            used: place < used,
            flags: path.flags,
        }
    })
}
