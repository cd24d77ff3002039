// SPDX-License-Identifier: Apache-2.0
//! What a session is to be.

use std::{net::Ipv4Addr, time::Duration};

use crate::family::FamilySet;

/// A point in time: since when is the caller's choice, as long as it is always the same.
pub type Time = Duration;

/// A connection, as its maker calls it; never used twice for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What a session is to be. A change of any of it takes a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Own AS number, as this peer is to see it.
    pub local_as: u32,
    /// The peer's AS number.
    pub peer_as: u32,
    /// Own BGP identifier.
    pub identifier: Ipv4Addr,
    /// Offered hold time; zero, or at least three seconds. The lower of the two sides' holds.
    pub hold_time: Duration,
    /// Time between KEEPALIVEs; a third of the hold time agreed on if not given, and never more than that.
    pub keepalive_time: Option<Duration>,
    /// Families offered.
    pub families: FamilySet,
    /// Never dials.
    pub passive: bool,
    /// Graceful restart, if offered.
    pub graceful_restart: Option<RestartOffer>,
    /// Families for which several paths can be received (RFC 7911).
    pub add_path_receive: FamilySet,
    /// Families for which several paths can be sent. A reflector sends them to its clients; to others there is one.
    pub add_path_send: FamilySet,
    /// Offers messages up to 65535 bytes (RFC 8654).
    pub extended_message: bool,
    /// Offers IPv4 routes with IPv6 next hops (RFC 8950).
    pub ipv4_over_ipv6: bool,
    /// Times that only this side knows.
    pub waits: Waits,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For a connection to be made.
    pub connect: Duration,
    /// For the peer's OPEN.
    pub open: Duration,
    /// Before dialling again: at first, doubled after each failure.
    pub retry: Duration,
    /// Before dialling again, at most.
    pub longest_retry: Duration,
    /// For the OPEN on the connection that would be kept of two.
    pub collision: Duration,
}

impl Default for Waits {
    /// Short ones: peers that come back are not to be missed for long, whatever made them go.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            open: Duration::from_secs(30),
            retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(8),
            collision: Duration::from_secs(1),
        }
    }
}

/// Graceful restart as offered (RFC 4724 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartOffer {
    /// How long the peer is to keep routes while this side is away; whole seconds, at most 4095.
    pub time: Duration,
    /// Families whose forwarding goes on over a restart; offered for all families.
    pub forwarding: FamilySet,
    /// This side has restarted and not yet heard everybody (R bit).
    pub restarted: bool,
    /// NOTIFICATION and hold timer expiry count as restarts, too (RFC 8538).
    pub notification: bool,
}
