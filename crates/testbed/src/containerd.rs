// SPDX-License-Identifier: Apache-2.0
//! containerd on a host, and `ctr`, which is what runs the plugins for `ctr run --cni`. Both look for network lists and plugins at
//! fixed places, so the host needs a private root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::host::Host;
use crate::image::{self, IMAGE};
use crate::place::at;
use crate::process::{Answer, PATIENCE, Program, Running, eventually};

/// A containerd with everything it keeps below the host's folder.
#[derive(Debug)]
pub struct Containerd<'a> {
    host: &'a Host,
    socket: PathBuf,
    _daemon: Running,
}

impl<'a> Containerd<'a> {
    /// Starts it and loads the image.
    pub fn start(host: &'a Host) -> Result<Self> {
        let folder = host.folders().top().join("containerd");
        at(&folder, fs::create_dir_all(&folder))?;
        let path = |name: &str| folder.join(name);
        let socket = path("containerd.sock");
        // A JSON string is a TOML string.
        let quoted = |path: &Path| json!(path.display().to_string());
        let config = format!(
            "version = 2\nroot = {}\nstate = {}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {}\n",
            quoted(&path("root")),
            quoted(&path("state")),
            quoted(&socket)
        );
        let config_file = path("config.toml");
        at(&config_file, fs::write(&config_file, config))?;
        let log = path("log");
        let daemon = host
            .program("containerd")
            .args(["--config".as_ref(), config_file.as_os_str()])
            .start(at(&log, File::create(&log))?.into())?;
        let containerd = Self {
            host,
            socket,
            _daemon: daemon,
        };
        let answers = || {
            Some(
                containerd
                    .ctr(["version"])
                    .answer(PATIENCE)
                    .ok()?
                    .status
                    .success()
                    .then_some(()),
            )
        };
        eventually(PATIENCE, || answers().flatten()).with_context(|| {
            format!(
                "containerd does not answer; its log: {}",
                fs::read_to_string(&log).unwrap_or_default()
            )
        })?;
        let image = image::write_image(&folder)?;
        containerd
            .ctr(["images", "import"])
            .args([image])
            .succeed(PATIENCE)?;
        Ok(containerd)
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `ctr` with more arguments. Containers live in a containerd namespace with the host's name, so their control groups do too.
    pub fn ctr<const N: usize>(&self, args: [&str; N]) -> Program {
        self.host
            .program("ctr")
            .args(["--address".as_ref(), self.socket.as_os_str()])
            .args(["--namespace", self.host.name()])
            .args(args)
    }

    /// `ctr run --rm --cni` in the foreground: what the shell command printed.
    pub fn run(&self, name: &str, script: &str) -> Result<Answer> {
        self.ctr(["run", "--rm", "--cni"])
            .args(["--snapshotter", "native", IMAGE, name, "sh", "-c", script])
            .answer(PATIENCE)
    }

    /// `ctr run -d --cni`: a container that stays.
    pub fn start_container(&self, name: &str, script: &str) -> Result<()> {
        self.ctr(["run", "-d", "--cni"])
            .args(["--snapshotter", "native", IMAGE, name, "sh", "-c", script])
            .succeed(PATIENCE)
            .map(drop)
    }

    /// What a shell command in a container printed.
    pub fn exec(&self, name: &str, script: &str) -> Result<String> {
        self.ctr(["task", "exec", "--exec-id", "probe"])
            .args([name, "sh", "-c", script])
            .succeed(PATIENCE)
    }

    /// Ends and removes a container the way `ctr` does, which calls no plugin.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.ctr(["task", "rm", "--force", name]).succeed(PATIENCE)?;
        self.ctr(["container", "rm", name]).succeed(PATIENCE)?;
        Ok(())
    }
}
