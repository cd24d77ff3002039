// SPDX-License-Identifier: Apache-2.0
//! The places where a killed plugin would leave something half done. Debug builds can be told to die at one of them
//! (`CALICO_TEST_KILL_AT=N`: the process kills itself at the N-th step it reaches); release builds have no such code.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(debug_assertions)]
static REACHED: AtomicU32 = AtomicU32::new(0);

/// One step of ADD or DEL is complete.
pub(crate) fn done(what: &str) {
    #[cfg(debug_assertions)]
    {
        let number = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
        let wanted = std::env::var("CALICO_TEST_KILL_AT")
            .ok()
            .and_then(|text| text.parse().ok());
        if wanted == Some(number) {
            eprintln!("killed at step {number}: {what}");
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = what;
}
