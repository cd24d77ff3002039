// SPDX-License-Identifier: Apache-2.0
//! The agent itself: what the store and the kernel say and what peers send becomes a plan, and the plan goes to the
//! kernel and to the peers. One thread has all of it; the store and the kernel have a thread each.

mod core;
mod metrics;
mod peers;
mod reasons;
mod run;
mod view;

pub use run::{Ending, run};
pub use view::{Answer, Body, Query};
