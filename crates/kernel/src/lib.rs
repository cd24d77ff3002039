// SPDX-License-Identifier: Apache-2.0
//! The kernel's networking: links, addresses, routes, neighbours, connection tracking, namespaces and settings. Knows neither CNI nor Calico.
//!
//! Built for programs that live three milliseconds: blocking, no thread unless asked for, one system call where one is
//! enough. The tour:
//! - [`Netlink`] is a socket of one network namespace. It executes a [`Request`] or a [`Batch`] of them and answers
//!   questions.
//! - [`pair`] creates veth and netkit pairs, [`link`] finds and alters links, [`address`], [`route`], [`rule`] and [`neighbour`]
//!   do what their names say; each adds constructors to [`Request`] and methods to [`Netlink`]. [`RouteWriter`] is for very
//!   many routes.
//! - [`netns`] opens, enters and makes network namespaces; [`sysctl`] reads and writes `/proc/sys`.
//! - [`tunnel`] makes ipip and vxlan devices and compares existing ones with what is wanted; [`fdb`] says behind which
//!   host a vxlan device finds a MAC address.
//! - [`Monitor`] reads what the kernel announces: links, addresses and routes that change.
//! - [`tcp`] sets the socket options of a routing protocol; [`EchoSocket`] asks whether packets get through.
//! - [`conntrack`] deletes the connections of an address; [`host`] answers what the host's way out is;
//!   [`file_lock`] waits for a file lock; [`process`] is about this process.
//!
//! Every failure is an [`Error`] that names operation and object.

pub mod address;
pub mod conntrack;
pub mod detached;
pub mod devconf;
mod echo;
mod error;
pub mod fdb;
pub mod file_lock;
pub mod host;
pub mod link;
mod mac;
pub mod monitor;
mod namespace_kind;
pub mod neighbour;
mod netconf;
pub mod netns;
#[cfg(test)]
mod oracle;
pub mod pair;
pub mod process;
mod request;
pub mod route;
pub mod rule;
mod socket;
pub mod sysctl;
pub mod tcp;
pub mod tunnel;
mod wire;

pub use address::{Address, AddressFlags};
pub use devconf::Ipv4Conf;
pub use echo::{EchoReply, EchoSocket};
pub use error::{Error, Result};
pub use fdb::ForwardingEntry;
pub use link::{AddrGenMode, Link, LinkChange, LinkId};
pub use mac::{InvalidMacAddress, MacAddress};
pub use monitor::{Change, Monitor, MonitorOptions};
pub use neighbour::Neighbour;
pub use netns::{Namespace, NamespaceId, Opened};
pub use pair::{PairKind, PairSpec, PeerSpec};
pub use request::{Batch, Request};
pub use route::{
    Family, NextHop, Route, RouteChange, RouteFailure, RouteFilter, RouteKind, RouteProtocol, RouteScope,
    RouteWriter,
};
pub use rule::SourceRule;
pub use socket::Netlink;
pub use tunnel::{Difference, Ipip, TunnelDevice, TunnelKind, TunnelSpec, Vxlan};
