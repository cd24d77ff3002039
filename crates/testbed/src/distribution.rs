// SPDX-License-Identifier: Apache-2.0
//! Packages of the distribution that are fetched and unpacked below `target`, not installed: their daemons would be started
//! now or at the next boot, and would take this machine's firewall over. Unpacked they are files, and this needs no right.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::go_programs::target_folder;
use crate::peers;

/// A program with the packages that it is in and needs besides what `.ci/peers` installs.
#[derive(Debug, Clone, Copy)]
pub struct Unpacked {
    /// Its name.
    pub program: &'static str,
    /// The packages; the first one is the program's.
    pub packages: &'static [&'static str],
}

impl Unpacked {
    /// The folder that stands for `/` in the packages, fetched if it is not there; `None` where that cannot be, which is
    /// a visible skip.
    ///
    /// # Panics
    ///
    /// Where it cannot be fetched and `CI=true`.
    pub fn available(self) -> Option<PathBuf> {
        match self.find() {
            Ok(folder) => Some(folder),
            Err(problem) => {
                peers::skip(&format!("{problem:#}"));
                None
            }
        }
    }

    fn find(self) -> Result<PathBuf> {
        let cache = target_folder().join("peers").join(self.program);
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        // It is looked at from elsewhere.
        let cache = cache.canonicalize()?;
        // Test processes run beside each other: one fetches, the others wait.
        let lock = File::create(cache.join("lock"))?;
        lock.lock()?;
        let top = cache.join("root");
        if top.is_dir() {
            return Ok(top);
        }
        let unfinished = TempDir::new_in(&cache)?;
        let (archives, files) = (unfinished.path().join("archives"), unfinished.path().join("root"));
        fs::create_dir(&archives)?;
        for package in self.packages {
            eprintln!("fetching {package}: for {}, which is not installed", self.program);
            download(package, &archives)?;
        }
        for archive in fs::read_dir(&archives)?.flatten() {
            succeed(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(archive.path())
                    .arg(&files),
            )?;
        }
        fs::rename(&files, &top).with_context(|| format!("move packages to {}", top.display()))?;
        Ok(top)
    }
}

/// Fetches a package into a folder.
pub(crate) fn download(package: &str, folder: &Path) -> Result<()> {
    for program in ["apt-get", "dpkg-deb"] {
        ensure!(
            peers::find_program(program).is_some(),
            "no program {program}, with which package {package} is fetched and unpacked"
        );
    }
    let fetch = || {
        succeed(
            Command::new("apt-get")
                .args(["download", "--quiet=2", package])
                .current_dir(folder),
        )
    };
    if fetch().is_err() {
        // The list names a version that is no longer there.
        refresh(package)?;
        fetch()?;
    }
    Ok(())
}

/// Lists of packages may be absent or old; only root can renew them.
pub(crate) fn refresh(package: &str) -> Result<()> {
    succeed(Command::new("apt-get").args(["update", "--quiet=2"]))
        .map(drop)
        .with_context(|| format!("the list of packages has no current {package}: run apt-get update as root"))
}

/// Runs a program and returns its standard output; a failing one is an error with all it said.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let what = command.get_program().display().to_string();
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {what}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{what}: {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
