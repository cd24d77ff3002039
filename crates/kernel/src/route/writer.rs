// SPDX-License-Identifier: Apache-2.0
//! Writing very many routes: several hundred in each send, and an answer only for what failed and for the last.
//!
//! The kernel works off all messages of a send before the send returns, so there is nothing to overlap: what costs is one
//! system call or two for each route, and those are shared here.

use std::fmt;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::message::route_message;
use super::{CREATE, REPLACE, Route};
use crate::error::{Error, Result};
use crate::socket::Netlink;
use crate::wire::Message;

/// Bytes of a send: some 500 routes. Well below the default send buffer, which a send must fit.
const SEND: usize = 32 * 1024;
/// Room for the answers to a send in which everything fails.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;
/// What the kernel counts for a failure and its words, generously.
const FAILURE: usize = 2048;

/// A change of the routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteChange<'a> {
    /// Fails with EEXIST if there is a route of the same destination, table and metric.
    Add(&'a Route),
    /// Takes the place of a route of the same destination, table and metric, if there is one.
    Replace(&'a Route),
    /// Fails with ESRCH if there is none. What the route leaves out matches anything.
    Delete(&'a Route),
}

/// As the beginning of an error message.
impl fmt::Display for RouteChange<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(route) => write!(formatter, "add route {route}"),
            Self::Replace(route) => write!(formatter, "replace route {route}"),
            Self::Delete(route) => write!(formatter, "delete route {route}"),
        }
    }
}

impl RouteChange<'_> {
    pub(super) fn message(self) -> Message {
        match self {
            Self::Add(route) => route_message(libc::RTM_NEWROUTE, CREATE, route),
            Self::Replace(route) => route_message(libc::RTM_NEWROUTE, REPLACE, route),
            Self::Delete(route) => route_message(libc::RTM_DELROUTE, 0, route),
        }
    }
}

/// A change that the kernel refused.
#[derive(Debug)]
pub struct RouteFailure {
    /// Its place among the changes, from 0.
    pub position: usize,
    /// Why, with the route; `errno` decides.
    pub error: Error,
}

/// A socket for writing very many routes, of both families and any table.
#[derive(Debug)]
pub struct RouteWriter {
    socket: Netlink,
    /// Changes in one send, so that the failures of all of them fit the receive buffer.
    most: usize,
    bytes: Vec<u8>,
}

impl RouteWriter {
    /// A writer in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Self::over(Netlink::open()?)
    }

    /// A writer that uses this socket (of another namespace, say) from now on.
    pub fn over(socket: Netlink) -> Result<Self> {
        let failed = |errno| Error::new("set up the socket for routes", errno);
        // Without CAP_NET_ADMIN the default stays, which makes the sends shorter, and the writing is refused anyway.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        let room = getsockopt(&socket, sockopt::RcvBuf).map_err(failed)?;
        // Failures without a copy of their request; only saves room.
        socket.answer_briefly();
        Ok(Self {
            socket,
            most: (room / FAILURE).max(1),
            bytes: Vec::with_capacity(SEND + 4096),
        })
    }

    /// See [`Netlink::port`]: by it, `Change::Route` is known to be this writer's own.
    pub fn port(&mut self) -> Result<u32> {
        self.socket.port()
    }

    /// Makes the changes in order and returns those that failed, in order; the others are done. A failure stops nothing. An error
    /// means that it is not known which changes were made, and calls for a listing.
    pub fn apply<'r>(
        &mut self,
        changes: impl IntoIterator<Item = RouteChange<'r>>,
    ) -> Result<Vec<RouteFailure>> {
        let mut failures = Vec::new();
        let mut changes = changes.into_iter().enumerate();
        loop {
            let sent = self.send(&mut changes, &mut failures)?;
            if sent == 0 {
                // Those too long to be sent came before those of their send.
                failures.sort_by_key(|failure| failure.position);
                return Ok(failures);
            }
        }
    }

    /// Takes as many changes as one send holds; returns how many it took.
    fn send<'r>(
        &mut self,
        changes: &mut impl Iterator<Item = (usize, RouteChange<'r>)>,
        failures: &mut Vec<RouteFailure>,
    ) -> Result<usize> {
        self.bytes.clear();
        let mut taken = 0;
        let mut last = 0;
        let mut written = Vec::with_capacity(self.most.min(1024));
        let first = self.socket.next_sequence();
        while self.bytes.len() < SEND && written.len() < self.most {
            let Some((position, change)) = changes.next() else {
                break;
            };
            taken += 1;
            let mut message = change.message();
            if message.is_too_long() {
                failures.push(RouteFailure {
                    position,
                    error: Error::refused(change.to_string(), libc::EMSGSIZE, None),
                });
                continue;
            }
            last = self.bytes.len();
            let sequence = self.socket.take_sequence();
            self.bytes.extend_from_slice(message.finish(sequence));
            written.push((position, change));
        }
        if !written.is_empty() {
            Message::ask_for_answer(&mut self.bytes[last..]);
            let failed = |number: usize, errno, words| {
                if let Some((position, change)) = written.get(number) {
                    failures.push(RouteFailure {
                        position: *position,
                        error: Error::refused(change.to_string(), errno, words),
                    });
                }
            };
            self.socket.exchange(&self.bytes, first, "write routes", failed)?;
        }
        Ok(taken)
    }
}
