// SPDX-License-Identifier: Apache-2.0
//! The folders of a host: what is at fixed places on a real machine lies below one folder here, and goes with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::name;
use crate::place::at;

/// The folders of a host, all below one.
#[derive(Debug)]
pub struct Folders {
    top: PathBuf,
}

impl Folders {
    pub(crate) fn create(name: &str) -> Result<Self> {
        let folders = Self {
            top: name::folder(name),
        };
        let _permit = name::permit();
        for folder in folders.all() {
            at(&folder, fs::create_dir_all(&folder))?;
        }
        Ok(folders)
    }

    /// The folder that holds the others, and whatever a test wants to keep beside them.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// `CALICO_STATE_DIR`: the node store.
    pub fn state(&self) -> PathBuf {
        self.top.join("state")
    }

    /// `CALICO_RUN_DIR`: locks, and everything that a reboot may empty.
    pub fn run(&self) -> PathBuf {
        self.top.join("run")
    }

    /// Network lists, `/etc/cni/net.d` elsewhere.
    pub fn networks(&self) -> PathBuf {
        self.top.join("networks")
    }

    /// Plugins, `/opt/cni/bin` elsewhere.
    pub fn plugins(&self) -> PathBuf {
        self.top.join("plugins")
    }

    /// What a CNI runtime remembers, `/var/lib/cni` elsewhere.
    pub fn cache(&self) -> PathBuf {
        self.top.join("cache")
    }

    /// Logs, `/var/log/calico` elsewhere.
    pub fn log(&self) -> PathBuf {
        self.top.join("log")
    }

    /// The node store.
    pub fn store(&self) -> PathBuf {
        self.state().join("node.db")
    }

    fn all(&self) -> [PathBuf; 6] {
        [
            self.state(),
            self.run(),
            self.networks(),
            self.plugins(),
            self.cache(),
            self.log(),
        ]
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("CALICO_STATE_DIR", self.state()),
            ("CALICO_RUN_DIR", self.run()),
            ("CALICO_LOG_DIR", self.log()),
        ]
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}
