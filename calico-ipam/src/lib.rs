// SPDX-License-Identifier: Apache-2.0
//! The library half of the IPAM plugin: what `calico-ipam` does as a program, and what `calico` calls in process.
//!
//! - [`settings`]: configuration and environment; [`node_name`], [`default_pools`]: what follows from them.
//! - [`session`]: the open node store, the host lock and the clocks of one run.
//! - [`assign`], [`release`], [`collect`], [`status`]: what the verbs do in the store.
//! - [`live`]: which containers live, as the kernel knows it.
//! - [`recovery`], [`cluster`]: making a store that is new, lost or from before a reboot agree with what lives.
//! - [`attachment`], [`interface_record`]: the records of one attachment.
//! - [`plugin`]: the program itself.

pub mod assign;
pub mod attachment;
mod clock;
pub mod cluster;
pub mod collect;
pub mod default_pools;
pub mod error;
pub mod host_lock;
mod host_network;
pub mod interface_record;
pub mod live;
pub mod log;
pub mod node_name;
pub mod plugin;
mod read_ahead;
pub mod recovery;
pub mod release;
pub mod session;
pub mod settings;
pub mod status;
mod store;
