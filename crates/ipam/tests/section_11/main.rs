// SPDX-License-Identifier: Apache-2.0
//! The races and edge cases that Calico's reference (section 11 of the interoperability notes) found worth a test:
//! one test for each line, named after it, or a reason here why there is none.
//!
//! - 1, 2, 37: also on real threads in `tests/threads.rs`.
//! - 8, 42: `tests/faults.rs` cuts every operation off at every write; `tests/model.rs` does so at random. What
//!   `calicoctl ipam check` looks for is `support::defects`.
//! - 9, 10: soft deletion and UID guards are how the Kubernetes backend makes a delete conditional; the engine sees
//!   deletes by revision only. They belong to that backend's tests.
//! - 13: labels exist on Kubernetes objects only, so nothing needs upgrading elsewhere; that backend's tests.
//! - 15: `src/candidates/tests.rs`.
//! - 38 to 41: garbage collection across the cluster, which is not part of this crate.
//! - 43: wire formats are the model's; its golden files test them.

#[path = "../support/mod.rs"]
mod support;

mod claiming;
mod contents;
mod limits_and_pools;
