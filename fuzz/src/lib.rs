// SPDX-License-Identifier: Apache-2.0
//! What is fuzzed: one function per kind of outside input, which panics where an invariant breaks.
//!
//! Called by the libFuzzer programs in `fuzz_targets` (`make fuzz`), and for every file of `testdata/fuzz/<target>`
//! by the test `corpus`, which runs with all other tests.

#![expect(clippy::missing_panics_doc, reason = "panicking is how a fuzz target reports")]

mod bgp;
mod cni;
mod stored;

pub use bgp::{bgp_message, bgp_session};
pub use cni::{cni_args, cni_config};
pub use stored::stored_block;
