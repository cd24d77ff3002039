// SPDX-License-Identifier: Apache-2.0
//! What a speaker wants done and what it reports.

use std::net::IpAddr;

use crate::{
    family::Family,
    message::Defect,
    rib::PeerId,
    session::{ConnectionId, Down, Negotiated, Reason},
};

/// What a speaker wants done, and what it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a connection to a peer.
    Dial(PeerId),
    /// Forget the connection being made.
    CancelDial(PeerId),
    /// Send bytes.
    Send(PeerId, ConnectionId, Vec<u8>),
    /// Close a connection, after what has been sent on it.
    Close(PeerId, ConnectionId),
    /// Routes wait for a peer: they are to be taken when its connection has room.
    Ready(PeerId, ConnectionId),
    /// A session is up.
    Up(PeerId, Box<Negotiated>),
    /// A session is down.
    Down(PeerId, Down),
    /// A connection failed before the session was up.
    Failed(PeerId, Reason),
    /// A peer has sent all its routes of a family.
    EndOfRib(PeerId, Family),
    /// A message was wrong in a way that did not end the session.
    Defect(PeerId, Defect),
    /// A session was ended because of too many prefixes.
    TooManyPrefixes(PeerId, Family),
    /// A next hop that was not there before; see [`super::Speaker::set_next_hop`].
    NextHop(IpAddr),
    /// The routes of all peers that were waited for are there, or will not be: what is not in the table now is gone.
    Converged,
}
