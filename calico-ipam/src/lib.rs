// SPDX-License-Identifier: Apache-2.0
//! The library half of the IPAM plugin: what `calico-ipam` does as a program, and what `calico` calls in process.

pub mod attachment;
pub mod default_pools;
pub mod log;
pub mod node_name;
