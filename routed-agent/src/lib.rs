// SPDX-License-Identifier: Apache-2.0
//! The daemon of a host: its sessions, its routes, its tunnels.

pub mod agent;
pub mod api;
pub mod command_line;
pub mod configuration;
pub mod dataplane;
pub mod encapsulation;
pub mod export_policy;
pub mod facts;
pub mod journal;
mod log;
pub mod nftables;
pub mod node_address;
pub mod peering;
pub mod plan;
pub mod planner;
pub mod rivals;
pub mod session_io;
pub mod snapshot;
pub mod start;
pub mod store_thread;
mod table;
pub mod tunnel_probe;
pub mod upkeep;
