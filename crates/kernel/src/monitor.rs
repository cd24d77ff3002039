// SPDX-License-Identifier: Apache-2.0
//! What the kernel announces: links, addresses and routes that change, whoever changes them.
//!
//! The notifications do not tell everything. IPv4 routes that go with their link, its carrier or an address are not
//! announced, only the link or address is (IPv6 announces its own): after one of those, list the link's routes again.
//! And the kernel drops what the socket has no room for; it says so once, before the older messages that are still
//! queued. That is [`Change::Overflow`], after which only listings tell the truth. (`NETLINK_NO_ENOBUFS` would drop in
//! silence, so it is never set.)

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::Socket;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use crate::address::{Address, parse_address};
use crate::error::{Error, Result};
use crate::fdb::{ForwardingEntry, parse_forwarding};
use crate::link::{Link, parse_link};
use crate::neighbour::{Neighbour, parse_neighbour};
use crate::route::{Route, parse_route};
use crate::wire::{Attributes, Messages, Received, read_u32};

/// The larger receive buffer: 20 000 route messages did not fill it where 2 MiB held 2520.
const RECEIVE_BUFFER: usize = 32 * 1024 * 1024;
/// Datagrams per [`Monitor::read`]: someone who writes without end does not keep the caller from its other work.
const READ_LIMIT: usize = 4096;
/// Longer than a notification is; a route of a thousand next hops has 20 KiB.
const DATAGRAM: usize = 64 * 1024;
/// Bytes of `struct nhmsg`, and `NHA_ID`.
const NEXT_HOP_INFO: usize = 8;
const NEXT_HOP_ID: u16 = 1;
/// `RTM_NEWNEXTHOP` and `RTM_DELNEXTHOP`.
const NEW_NEXT_HOP: u16 = 104;
const DELETED_NEXT_HOP: u16 = 105;

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link was made, altered (up, carrier, name, MTU, ...) or deleted.
    Link {
        /// As it is now, or was last.
        link: Link,
        /// It is gone, and its addresses and routes with it.
        deleted: bool,
    },
    /// An address was added, altered (as when duplicate address detection ends) or removed.
    Address {
        /// As it is now, or was last.
        address: Address,
        /// It is gone, and perhaps routes with it.
        deleted: bool,
    },
    /// A route was added, put in place of another, or deleted.
    Route {
        /// As it is now, or was last. A route that was replaced is not announced, only its successor.
        route: Route,
        /// It is gone.
        deleted: bool,
        /// Whose request did it ([`Netlink::port`](crate::Netlink::port)); 0: the kernel's own doing.
        port: u32,
    },
    /// A next-hop object was added, altered or deleted; the routes through it go with it in silence.
    NextHop {
        /// Its number.
        id: u32,
        /// It is gone.
        deleted: bool,
    },
    /// A neighbour was learned, altered or removed; only with [`MonitorOptions::neighbours`].
    Neighbour {
        /// As it is now, or was last.
        neighbour: Neighbour,
        /// It is gone.
        deleted: bool,
    },
    /// A forwarding entry was learned, altered or removed; only with [`MonitorOptions::neighbours`].
    Forwarding {
        /// As it is now, or was last.
        entry: ForwardingEntry,
        /// It is gone.
        deleted: bool,
    },
    /// A sysctl of forwarding or of the reverse path filter was changed, of some link or of all.
    Settings,
    /// Notifications were lost: everything has to be listed again. Those that follow may be older than the loss.
    Overflow,
}

/// What to read, and how much of it the kernel may hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Room for unread notifications in bytes as the kernel counts them, some 800 for each; 32 MiB by default. The
    /// kernel has a least value of about 2 KiB.
    pub receive_buffer: usize,
    /// Neighbours and forwarding entries of all links too. Busy: each state of each one is announced.
    pub neighbours: bool,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self {
            receive_buffer: RECEIVE_BUFFER,
            neighbours: false,
        }
    }
}

/// A reader of notifications of one network namespace: links, addresses, routes and next-hop objects of both families.
/// Never blocks: wait for its descriptor to be readable (level-triggered), then [`read`](Self::read).
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes in the calling thread's network namespace. What changes from now on is announced, so list after this.
    pub fn open(options: MonitorOptions) -> Result<Self> {
        let failed = |error: io::Error| Error::new("open netlink monitor", error);
        let mut socket = Socket::new(libc::NETLINK_ROUTE as isize).map_err(failed)?;
        // The kernel leaves out the socket of its own port number, 0, and every unbound one has that.
        socket.bind_auto().map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        // Without CAP_NET_ADMIN only up to `net.core.rmem_max`; what it came to is in `receive_buffer`.
        if setsockopt(&socket, sockopt::RcvBufForce, &options.receive_buffer).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &options.receive_buffer)
                .map_err(|errno| failed(errno.into()))?;
        }
        let groups = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
        ];
        for group in groups {
            socket.add_membership(group).map_err(failed)?;
        }
        // Kernels before 5.3 have no next-hop objects, hence nothing to announce.
        let _ = socket.add_membership(libc::RTNLGRP_NEXTHOP);
        // A kernel without IPv6 has no settings of it.
        for group in [libc::RTNLGRP_IPV4_NETCONF, libc::RTNLGRP_IPV6_NETCONF] {
            let _ = socket.add_membership(group);
        }
        if options.neighbours {
            socket.add_membership(libc::RTNLGRP_NEIGH).map_err(failed)?;
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// The room that the kernel granted, in bytes; twice what was asked for, since it counts its own overhead.
    pub fn receive_buffer(&self) -> Result<usize> {
        getsockopt(&self.socket, sockopt::RcvBuf)
            .map_err(|errno| Error::new("read the receive buffer of the netlink monitor", errno))
    }

    /// Appends what has been announced to `changes`, in order, and returns at once. Stops after some thousand
    /// notifications; the descriptor is readable while there are more.
    pub fn read(&mut self, changes: &mut Vec<Change>) -> Result<()> {
        for _ in 0..READ_LIMIT {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                // Not the kernel: a privileged process may write to this socket as well.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                // Cut off, so a change is not known.
                Ok((length, _)) if length > self.buffer.len() => changes.push(Change::Overflow),
                Ok(_) => changes.extend(Messages(&self.buffer).filter_map(|received| parse(&received))),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOBUFS) => changes.push(Change::Overflow),
                    Some(libc::EAGAIN) => return Ok(()),
                    Some(libc::EINTR) => {}
                    _ => return Err(Error::new("read notifications of the kernel", error)),
                },
            }
        }
        Ok(())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The change a message announces; `None` for what is of no interest here.
fn parse(received: &Received<'_>) -> Option<Change> {
    match received.kind {
        // The bridge module announces its ports in the same words, in its own family.
        libc::RTM_NEWLINK | libc::RTM_DELLINK if received.body.first() == Some(&0) => Some(Change::Link {
            link: parse_link(received)?,
            deleted: received.kind == libc::RTM_DELLINK,
        }),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Change::Address {
            address: parse_address(received)?,
            deleted: received.kind == libc::RTM_DELADDR,
        }),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(Change::Route {
            route: parse_route(received)?,
            deleted: received.kind == libc::RTM_DELROUTE,
            port: received.port,
        }),
        NEW_NEXT_HOP | DELETED_NEXT_HOP => Some(Change::NextHop {
            id: Attributes(received.body.get(NEXT_HOP_INFO..)?)
                .find(|(kind, _)| *kind == NEXT_HOP_ID)
                .and_then(|(_, payload)| read_u32(payload))?,
            deleted: received.kind == DELETED_NEXT_HOP,
        }),
        libc::RTM_NEWNETCONF => Some(Change::Settings),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            let deleted = received.kind == libc::RTM_DELNEIGH;
            let neighbour =
                parse_neighbour(received).map(|neighbour| Change::Neighbour { neighbour, deleted });
            neighbour
                .or_else(|| parse_forwarding(received).map(|entry| Change::Forwarding { entry, deleted }))
        }
        _ => None,
    }
}
