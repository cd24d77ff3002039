// SPDX-License-Identifier: Apache-2.0
//! Daemons that would fight over the same routes: Calico's own, in this network namespace.

use std::fs;

/// Names of processes that write cluster routes.
const RIVALS: [&str; 5] = ["calico-felix", "calico-node", "bird", "bird6", "routed-agent"];

/// A process that manages this network namespace already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Its process ID.
    pub pid: u32,
}

/// Looks through all processes. Those that cannot be looked at are not in the way.
pub fn find() -> Option<Rival> {
    let here = fs::read_link("/proc/self/ns/net").ok()?;
    let own = std::process::id();
    let entries = fs::read_dir("/proc").ok()?.flatten();
    entries.into_iter().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        if pid == own {
            return None;
        }
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let name = name.trim_end();
        let is_here = || fs::read_link(entry.path().join("ns/net")).is_ok_and(|there| there == here);
        // A command of this program's own is no daemon.
        let is_daemon = || {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            name != "routed-agent" || command.split(|byte| *byte == 0).any(|word| word == b"run")
        };
        (RIVALS.contains(&name) && is_here() && is_daemon()).then(|| Rival {
            name: name.to_owned(),
            pid,
        })
    })
}
