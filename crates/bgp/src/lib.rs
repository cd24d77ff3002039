// SPDX-License-Identifier: Apache-2.0
//! A BGP speaker as a library: no sockets, no clock, no threads. Bytes and times go in, bytes and decisions come out.
//!
//! - [`family`], [`attributes`]: the values a route is made of.
//! - [`message`]: messages as bytes and back, errors as RFC 7606 wants them.
//! - [`session`]: one peer: connections, state machine, collisions, timers.
//! - [`best_path`]: which of several paths is used.
//! - [`policy`]: what passes, and how it is changed.
//! - [`speaker`]: all of it together: peers, routes, announcements.

pub mod attributes;
pub mod best_path;
pub mod family;
pub mod message;
pub mod policy;
mod rib;
pub mod session;
pub mod speaker;

pub use attributes::{AsPath, Attributes, Community, LargeCommunity, Origin};
pub use family::{Family, FamilyCode, FamilySet, Nlri};
pub use rib::{PathFlags, PeerId};
pub use speaker::Speaker;
