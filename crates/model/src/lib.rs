// SPDX-License-Identifier: Apache-2.0
//! Plain values of the Calico data model: prefixes, resources, names and their encodings. No I/O.
//!
//! What is where:
//! - [`key`]: names of stored objects; [`names`]: names derived from other facts (interfaces, handles, endpoints).
//! - [`block`], [`affinity`], [`handle`], [`ipam_config`]: the four IPAM objects, in Calico's etcd JSON.
//! - [`resource`]: the envelope of v3 resources, and one module per kind below it.
//! - [`selector`]: Calico's selector language; [`prefix`]: arithmetic on prefixes and blocks; [`time`]: timestamps.
//!
//! Every object keeps the members it does not know, at every level, so a read-modify-write by this project never
//! removes what a newer Calico has written (`object.rs` says how).

#[macro_use]
mod object;

pub mod affinity;
pub mod as_number;
mod base_encoding;
pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod block;
pub mod cluster_information;
pub mod cluster_routes;
pub mod community;
pub mod duration;
pub mod felix_configuration;
mod field;
pub mod handle;
pub mod ip_pool;
pub mod ip_reservation;
pub mod ipam_config;
pub mod key;
pub mod names;
pub mod node;
pub mod prefix;
pub mod resource;
pub mod secret;
pub mod selector;
pub mod switch;
pub mod time;
pub mod workload_endpoint;

pub use affinity::{AffinityState, BlockAffinity};
pub use as_number::AsNumber;
pub use bgp_configuration::BgpConfiguration;
pub use bgp_filter::BgpFilter;
pub use bgp_peer::BgpPeer;
pub use block::{AllocationAttribute, IpamBlock};
pub use cluster_information::ClusterInformation;
pub use felix_configuration::FelixConfiguration;
pub use field::FieldError;
pub use handle::IpamHandle;
pub use ip_pool::IpPool;
pub use ip_reservation::IpReservation;
pub use ipam_config::IpamConfig;
pub use key::{AffinityOwner, Key, KeyRange, Kind, LocalTable};
pub use node::Node;
pub use object::Extra;
pub use resource::{Metadata, Resource};
pub use selector::Selector;
pub use switch::Switch;
pub use time::Timestamp;
pub use workload_endpoint::WorkloadEndpoint;
