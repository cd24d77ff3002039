// SPDX-License-Identifier: Apache-2.0
//! The agent and the routing daemons of others: BIRD, FRR, GoBGP, each in a namespace of its own. What each of them sees
//! is asked of its own command line.

mod bird;
mod daemon;
mod farewells;
mod first_boot;
mod flood;
mod frr;
mod gobgp;
mod reflection;
mod reflector_restarts;
mod refusals;
mod restarts;
mod services;
mod sessions;
mod several_paths;
mod slow_readers;
#[path = "../cluster/support.rs"]
#[expect(dead_code, reason = "clusters are the other target's")]
mod support;
mod world;
