// SPDX-License-Identifier: Apache-2.0
//! The folder that both sides see: the command goes in, its output and its exit status come out. It goes when it is dropped.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::place::at;
use crate::{name, sweep};

/// Where the guest has it; `start.sh` says the same.
pub(super) const IN_GUEST: &str = "/run/testbed/exchange";

/// The folder.
#[derive(Debug)]
pub(super) struct Exchange {
    top: PathBuf,
}

impl Exchange {
    /// Makes one, with an empty scratch folder in it.
    pub(super) fn create() -> Result<Self> {
        sweep::sweep();
        let top = name::folder(&name::unique("vm"));
        let _permit = name::permit();
        at(&top, fs::create_dir(&top))?;
        let exchange = Self { top };
        // It is what the guest sees, and nothing else of it.
        for folder in [exchange.shared(), exchange.scratch()] {
            at(&folder, fs::create_dir(&folder))?;
        }
        Ok(exchange)
    }

    /// The part that the guest sees.
    pub(super) fn shared(&self) -> PathBuf {
        self.top.join("shared")
    }

    /// Files for and of the command.
    pub(super) fn scratch(&self) -> PathBuf {
        self.shared().join("scratch")
    }

    /// What the guest's kernel says, and its first process until the command runs.
    pub(super) fn console(&self) -> PathBuf {
        self.top.join("console")
    }

    /// What the emulator complains about.
    pub(super) fn complaints(&self) -> PathBuf {
        self.top.join("complaints")
    }

    /// What the guest has in memory at its start.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.top.join("initramfs")
    }

    /// Writes a file for the guest.
    pub(super) fn give(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.shared().join(name);
        at(&path, fs::write(&path, content))
    }

    /// What the guest wrote; nothing if it did not.
    pub(super) fn take(&self, name: &str) -> String {
        read(&self.shared().join(name))
    }

    /// Whether the guest has come to the command.
    pub(super) fn has_started(&self) -> bool {
        self.shared().join("started").exists()
    }

    /// What the guest's console and the emulator showed so far.
    pub(super) fn said(&self) -> String {
        read(&self.console()) + &read(&self.complaints())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The script that runs a command in a folder with an environment and nothing else of one.
pub(super) fn script(
    folder: &Path,
    environment: &[(impl AsRef<OsStr>, impl AsRef<OsStr>)],
    command: &[impl AsRef<OsStr>],
) -> Vec<u8> {
    let mut script = b"cd ".to_vec();
    quote(folder.as_os_str(), &mut script);
    // By env, since a variable's name may be none for a shell; and by the shared root's, since that of busybox would run an
    // applet where there is one of the command's name.
    script.extend_from_slice(b" || exit 126\nexec /usr/bin/env -i");
    for (name, value) in environment {
        let mut variable = name.as_ref().to_owned();
        variable.push("=");
        variable.push(value);
        script.push(b' ');
        quote(&variable, &mut script);
    }
    for word in command {
        script.push(b' ');
        quote(word.as_ref(), &mut script);
    }
    script.push(b'\n');
    script
}

/// As one word of a shell.
fn quote(word: &OsStr, script: &mut Vec<u8>) {
    script.push(b'\'');
    for byte in word.as_bytes() {
        match byte {
            b'\'' => script.extend_from_slice(b"'\\''"),
            byte => script.push(*byte),
        }
    }
    script.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_word_reaches_the_command_unchanged() {
        let words = [
            "it's",
            "a b",
            "",
            "$HOME",
            "`x`",
            "\\",
            "line\nbreak",
            "\"",
            "ä",
            "*",
        ];
        let script = script(Path::new("/"), &[("A'B", "it's $x")], &words);
        // A shell of this machine, with its own env for the guest's.
        let text = String::from_utf8(script).unwrap();
        let start = "exec /usr/bin/env -i 'A'\\''B=it'\\''s $x' ";
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "cd '/' || exit 126");
        let rest = rest.strip_prefix(start).unwrap();
        let print = format!("printf '%s\\0' {rest}");
        let output = Command::new("sh").args(["-c", &print]).output().unwrap();
        let got = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            got.strip_suffix('\0').unwrap().split('\0').collect::<Vec<_>>(),
            words
        );
    }
}
