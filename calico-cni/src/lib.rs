// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin `calico`: joins a container to its host by a pair of interfaces and routes.
//!
//! - [`plugin`]: the verbs; [`add`], [`del`], [`check`]: one each.
//! - [`config`], [`annotations`]: what is asked for. [`workload`]: who the container is.
//! - [`addresses`]: where addresses come from. [`interface_name`]: what the host side is called.
//! - [`wiring`], `further_interface`, [`ipv6`], [`mtu`]: the kernel's part. [`undo`]: taking it back.
//! - [`readiness`], [`policy_wait`]: waiting for others, where configured.

pub mod add;
pub mod addresses;
pub mod annotations;
pub mod check;
pub mod config;
mod context;
pub mod del;
mod further_interface;
mod inspect;
pub mod interface_name;
pub mod ipv6;
pub mod mtu;
pub mod plan;
pub mod plugin;
pub mod policy_wait;
pub mod readiness;
mod step;
pub mod undo;
pub mod wiring;
pub mod workload;
