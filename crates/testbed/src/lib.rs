// SPDX-License-Identifier: Apache-2.0
//! The test bed: hosts and containers as network namespaces on one machine, and the real programs that run on them.
//! What tests of several crates share, and what the playground (`make demo`) shows.
//!
//! The tour:
//! - [`Host`] is a namespace with a machine name, folders, an uplink to a [`Router`] and, where a runtime needs it, a root file
//!   system view of its own. [`Container`] is a namespace with a small server in it. Both are a [`Place`].
//! - In a place one runs a [`Program`], sends a [`probe`], and [`view`]s what the kernel has.
//! - [`cni`] runs plugins through a network list as `libcni` does. [`containerd`], [`podman`] and, built by [`go_programs`], `cnitool`
//!   are real ones; [`node`] is a host with everything installed where they look for it.
//! - [`dockerd`] and [`firewalld`] change a host's firewall, from a [`SeparateRoot`].
//! - [`lan`] has several hosts on a subnet, [`cluster`] hosts with routed-agents.
//! - [`vm`] runs a test under a stock kernel, where the running one lacks something.
//! - [`StoreContent`] is what a host's node store holds.
//! - [`peers`] says what is installed, and makes what is not a visible skip. [`binaries`] finds our own programs.
//!
//! Everything goes when its value is dropped: processes, mounts, namespaces, folders. What a killed test bed left behind is
//! swept up by the next. Nothing touches the machine's own network or its configuration.

pub mod binaries;
pub mod cluster;
pub mod cni;
mod container;
pub mod containerd;
mod digest;
pub mod distribution;
pub mod dockerd;
pub mod firewalld;
mod folders;
pub mod go;
pub mod go_programs;
mod host;
mod image;
mod interrupt;
pub mod lan;
mod name;
mod namespace;
pub mod node;
pub mod peers;
mod place;
pub mod podman;
mod private_root;
pub mod probe;
mod process;
mod router;
mod separate_root;
mod server;
mod store_content;
mod sweep;
pub mod view;
pub mod vm;

pub use container::{Container, PORT};
pub use folders::Folders;
pub use host::Host;
pub use image::{IMAGE, write_image};
pub use interrupt::clean_up_on_interrupt;
pub use place::Place;
pub use private_root::run as run_host_init;
pub use process::{Answer, PATIENCE, Program, Running, eventually};
pub use router::{Router, Uplink};
pub use separate_root::SeparateRoot;
pub use server::serve;
pub use store_content::StoreContent;
