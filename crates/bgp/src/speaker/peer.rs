// SPDX-License-Identifier: Apache-2.0
//! What a speaker knows of a peer.

use std::net::{IpAddr, Ipv4Addr};

use super::{ByFamily, PeerConfig, out_rib::Cursor};
use crate::{
    family::Family,
    session::{Action, ConnectionId, Negotiated, Session, Time},
};

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) config: PeerConfig,
    pub(super) session: Session,
    /// While the session is up: on which connection and how.
    pub(super) up: Option<(ConnectionId, Box<Negotiated>)>,
    pub(super) up_since: Option<Time>,
    /// Its BGP identifier, of the last session; its routes may outlive that.
    pub(super) identifier: Ipv4Addr,
    pub(super) local_addresses: Vec<(ConnectionId, IpAddr)>,
    pub(super) families: ByFamily<FamilyState>,
    /// Until when routes of before its restart are kept.
    pub(super) stale_until: Option<Time>,
    /// When a session that was ended because of too many prefixes is begun again.
    pub(super) begin_again: Option<Time>,
    pub(super) counters: Counters,
    /// Why it was down last, and when.
    pub(super) last_down: Option<(Time, String)>,
    /// Its entry in the speaker's list of timers.
    pub(super) timer: Option<Time>,
    /// Memory for the session's actions.
    pub(super) actions: Vec<Action>,
    /// It was told that routes wait.
    pub(super) signalled: bool,
}

/// What is known of a family at a peer.
#[derive(Debug, Default)]
pub(super) struct FamilyState {
    /// How many paths it has sent.
    pub(super) received: usize,
    /// How many of them policy has refused.
    pub(super) refused: usize,
    /// It has said that these are all.
    pub(super) end_of_rib: bool,
    pub(super) member: Option<Member>,
}

/// A peer's place in a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: u32,
    pub(super) cursor: Cursor,
    pub(super) owed: Owed,
}

/// What has to be said once the cursor is at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    Nothing,
    /// That these were all.
    EndOfRib,
    /// That a repetition begins, and later that it is over (RFC 7313).
    RefreshBegin,
    RefreshEnd,
}

/// What has passed since the peer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// UPDATEs received.
    pub updates_in: u64,
    /// Prefixes announced in them.
    pub announced_in: u64,
    /// Prefixes withdrawn in them.
    pub withdrawn_in: u64,
    /// UPDATEs that were wrong without ending the session.
    pub defects: u64,
    /// Prefixes announced to it.
    pub announced_out: u64,
    /// Bytes with routes sent to it.
    pub bytes_out: u64,
    /// How often the session came up.
    pub ups: u64,
    /// How often it went down.
    pub downs: u64,
    /// Connections that failed before it was up.
    pub failures: u64,
}

impl Peer {
    pub(super) fn new(config: PeerConfig, seed: u64) -> Self {
        Self {
            session: Session::new(config.session.clone(), seed),
            config,
            up: None,
            up_since: None,
            identifier: Ipv4Addr::UNSPECIFIED,
            local_addresses: Vec::new(),
            families: ByFamily::default(),
            stale_until: None,
            begin_again: None,
            counters: Counters::default(),
            last_down: None,
            timer: None,
            actions: Vec::new(),
            signalled: false,
        }
    }

    pub(super) const fn is_internal(&self) -> bool {
        self.config.session.local_as == self.config.session.peer_as
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let times = self.session.deadline().into_iter();
        times.chain(self.stale_until).chain(self.begin_again).min()
    }

    /// The own address that routes of a family are announced with.
    pub(super) fn own_address(&self, family: Family) -> Option<IpAddr> {
        let connection = self.up.as_ref().map(|(id, _)| *id);
        let mut local = self.local_addresses.iter();
        local
            .find(|(id, _)| Some(*id) == connection)
            .map(|(_, address)| *address)
            .filter(|address| Family::of_address(*address) == family)
            .or_else(|| self.config.own_addresses.of(family))
    }
}
