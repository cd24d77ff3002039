// SPDX-License-Identifier: Apache-2.0
//! Plain values of the Calico data model: prefixes, resources, names and their encodings. No I/O.

pub mod key;

pub use key::{AffinityOwner, Key, KeyRange, Kind, LocalTable};
