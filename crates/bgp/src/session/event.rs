// SPDX-License-Identifier: Apache-2.0
//! What goes into a session and what comes out of it.

use super::{config::ConnectionId, negotiation::Negotiated};
use crate::message::{Notification, RouteRefresh, Update};

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is wanted.
    Start,
    /// It is not wanted any more. With a NOTIFICATION it is told so; without one the connection is just closed, which
    /// a peer that knows graceful restart takes for a restart.
    Stop(Option<Notification>),
    /// The connection asked for is there.
    Dialled(ConnectionId),
    /// It is not to be had.
    DialFailed,
    /// The peer has made a connection.
    Accepted(ConnectionId),
    /// Bytes have arrived.
    Received(ConnectionId, &'a [u8]),
    /// A connection has ended, of itself or by the peer.
    Closed(ConnectionId),
    /// Time has passed.
    Time,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a connection to the peer.
    Dial,
    /// Forget the connection being made.
    CancelDial,
    /// Send bytes.
    Send(ConnectionId, Vec<u8>),
    /// Close a connection, after what has been sent on it. No event of it is wanted any more.
    Close(ConnectionId),
    /// The session is up: routes can be sent on this connection.
    Up(ConnectionId, Negotiated),
    /// The peer's routes.
    Update(Update),
    /// The peer asks for routes, or marks their repetition.
    RouteRefresh(RouteRefresh),
    /// The session was up and is not any more.
    Down(Down),
    /// A connection failed before the session was up.
    Failed(Reason),
}

/// The end of a session that was up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Why.
    pub reason: Reason,
    /// Whether the peer is expected back with its routes, and they are to be kept meanwhile (RFC 4724, 8538).
    pub graceful: bool,
}

/// Why a connection or session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The connection could not be made.
    #[error("no connection could be made")]
    Unreachable,
    /// The connection ended without a word.
    #[error("the connection was closed")]
    Closed,
    /// The peer has made a new connection while the session was up: it has restarted.
    #[error("the peer has begun anew")]
    Replaced,
    /// The peer said why.
    #[error("received NOTIFICATION {0}")]
    Received(Notification),
    /// This side said why.
    #[error("sent NOTIFICATION {0}")]
    Sent(Notification),
    /// It is not wanted any more, and nothing was said.
    #[error("stopped")]
    Stopped,
    /// The other of two connections is kept.
    #[error("the other of two connections is kept")]
    Collision,
}
