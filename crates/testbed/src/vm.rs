// SPDX-License-Identifier: Apache-2.0
//! A command under a stock Linux kernel, for what the running kernel lacks: above all IPIP.
//!
//! A virtual machine is booted for each command: the distribution's kernel under `qemu` in software emulation, which needs
//! neither `/dev/kvm` nor any right. The machine's root file system is this one's, read-only at the bottom; what is written goes to memory
//! and is gone afterwards. Only the scratch folder comes back. There is no network but loopback.
//!
//! - [`run`] runs one command as root.
//! - [`under_ipip`] is the first line of a test that needs IPIP: the test runs where it is if the kernel has it, else once more
//!   in a machine of its own.
//! - [`available`] makes a missing part a visible skip.
//!
//! The kernel is fetched by package name at the first use, into `target/vm`.

mod archive;
mod elf;
mod exchange;
mod guest;
mod initramfs;
mod modules;
mod qemu;
mod stock_kernel;
mod under_ipip;

pub use guest::{Output, SCRATCH, run};
pub use under_ipip::{has_ipip, under_ipip};

use crate::peers;

/// Whether commands can be run under a stock kernel; fetches it at the first use. Where a part is missing it says so and
/// answers no.
///
/// # Panics
///
/// Where `CI=true` and a part is missing.
pub fn available() -> bool {
    match qemu::Parts::find() {
        Ok(_) => true,
        Err(error) => peers::skip(&format!("{error:#}")),
    }
}
