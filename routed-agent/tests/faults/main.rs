// SPDX-License-Identifier: Apache-2.0
//! What must not bring an agent down, each with a real agent in a real namespace: peers that mean harm or are broken, a
//! store that is away, a full disk, and a host whose links, addresses and rules somebody else changes.

mod attributes;
mod clock;
mod connections;
mod disk;
mod ground;
mod hostile;
mod polite;
mod stage;
mod store;
#[path = "../cluster/support.rs"]
#[expect(dead_code, reason = "clusters are the other target's")]
mod support;
mod wire;
#[path = "../interop/world.rs"]
#[expect(dead_code, reason = "what other daemons need is the other target's")]
mod world;
