// SPDX-License-Identifier: Apache-2.0
//! The engine: where it works and what it asks of its caller. Its operations are in one file each.

use datastore::Store;

use crate::{clock::Clock, host_network::HostNetwork, notice::Notice};

/// Assigns and releases addresses in one store, for any node. It keeps nothing between calls: any number of
/// engines, threads, processes and hosts may work on one store.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// Where blocks, affinities and handles are.
    pub store: &'a dyn Store,
    /// Time and back-off.
    pub clock: &'a dyn Clock,
    /// The network of the host that this process runs on.
    pub host: &'a dyn HostNetwork,
    /// Called for what an operator should know, as it is found; for a log.
    pub notices: &'a dyn Fn(&Notice),
}

/// For [`Engine::notices`], where nobody listens.
pub fn ignore_notices(_: &Notice) {}
