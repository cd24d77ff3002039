// SPDX-License-Identifier: Apache-2.0
//! Small files that others read, and the agent's next life. What cannot be written is said and tried again.

use std::path::Path;

use super::Core;

/// The largest packet of containers, for the plugin.
const MTU: &str = "MTU file";
/// By which the next start knows that it is a restart.
const MARKER: &str = "restart marker";

impl Core {
    /// The plugin is to give new containers this MTU.
    pub(in crate::agent) fn write_mtu(&mut self, mtu: Option<u32>) {
        let Some(mtu) = mtu else { return };
        self.mtu = Some(mtu);
        let path = self.start.state_dir.join("mtu");
        let text = format!("{mtu}");
        if std::fs::read_to_string(&path).is_ok_and(|found| found.trim() == text) {
            self.failures.remove(MTU);
        } else {
            self.write(MTU, &path, text.as_bytes(), 0o644);
        }
    }

    /// Once everything is in place a new start in this boot is a restart.
    pub(in crate::agent) fn write_marker(&mut self) {
        if self.complete && !self.failures.contains_key(MARKER) {
            self.keep_marker();
        }
    }

    fn keep_marker(&mut self) {
        let path = self.start.run_dir.join("agent.running");
        if path.exists() {
            self.failures.remove(MARKER);
        } else {
            self.write(MARKER, &path, b"", 0o600);
        }
    }

    /// Whether something could not be written.
    pub(in crate::agent) fn has_unwritten_files(&self) -> bool {
        [MTU, MARKER].iter().any(|item| self.failures.contains_key(*item))
    }

    /// Tries again what could not be written.
    pub(in crate::agent) fn write_again(&mut self) {
        if self.failures.contains_key(MARKER) {
            self.keep_marker();
        }
        if self.failures.contains_key(MTU) {
            self.write_mtu(self.mtu);
        }
    }

    fn write(&mut self, item: &str, path: &Path, content: &[u8], mode: u32) {
        match crate::start::write_file(path, content, mode) {
            Ok(()) => drop(self.failures.remove(item)),
            Err(problem) => {
                let text = format!("{problem:#}");
                if self.failures.get(item) != Some(&text) {
                    tracing::warn!(target: "agent", "{item}: {text}");
                    self.failures.insert(item.to_owned(), text);
                }
            }
        }
    }
}
