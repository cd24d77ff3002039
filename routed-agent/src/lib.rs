// SPDX-License-Identifier: Apache-2.0
//! The daemon of a host: its sessions, its routes, its tunnels.

pub mod peering;
