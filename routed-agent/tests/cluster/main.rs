// SPDX-License-Identifier: Apache-2.0
//! Agents on real hosts: what they agree on, what the kernel has then, and that packets get through.

mod addresses;
mod alone;
mod changes;
mod firewall;
mod firewalls;
mod ipip;
mod passwords;
mod probes;
mod routers;
mod seeds;
mod support;
mod survival;
mod workloads;
