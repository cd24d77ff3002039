// SPDX-License-Identifier: Apache-2.0
//! What happens when somebody presses Ctrl-C: a program that ends by a signal drops nothing, so all that it made is removed
//! by name instead.

use std::process::exit;
use std::thread;

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};

use crate::sweep::remove_own;

/// From here on, SIGINT, SIGTERM and SIGHUP remove everything that this process has made and end it. Call before other threads are
/// started: they inherit that these signals are not theirs.
pub fn clean_up_on_interrupt() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        remove_own();
        // As a shell reports a program that a signal ended.
        exit(128 + signal as i32);
    });
    Ok(())
}
