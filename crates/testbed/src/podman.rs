// SPDX-License-Identifier: Apache-2.0
//! podman on a host, with its CNI backend (podman 3 and 4; 5 dropped it). Everything it keeps lies below the host's folder; the
//! host needs a private root.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::Host;
use crate::image::{self, IMAGE};
use crate::place::at;
use crate::process::{PATIENCE, Program};

/// podman with a configuration of its own.
#[derive(Debug)]
pub struct Podman<'a> {
    host: &'a Host,
    folder: PathBuf,
}

impl<'a> Podman<'a> {
    /// Configures it and loads the image.
    pub fn on(host: &'a Host) -> Result<Self> {
        let folder = host.folders().top().join("podman");
        at(&folder, fs::create_dir_all(&folder))?;
        let podman = Self { host, folder };
        // The limits: a machine's hard limit may be below podman's wish.
        let config = "[network]\nnetwork_backend=\"cni\"\ncni_plugin_dirs=[\"/opt/cni/bin\"]\nnetwork_config_dir=\"/etc/cni/net.d\"\n\
             [engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"none\"\n\
             [containers]\nlog_driver=\"k8s-file\"\ndefault_ulimits=[\"nofile=4096:4096\",\"nproc=4096:4096\"]\n";
        let path = podman.folder.join("containers.conf");
        at(&path, fs::write(&path, config))?;
        let policy = podman.folder.join("policy.json");
        at(
            &policy,
            fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#),
        )?;
        let image = image::write_image(&podman.folder)?;
        podman
            .podman(["load", "--signature-policy"])
            .args([policy])
            .args(["--input".into(), image])
            .succeed(PATIENCE)?;
        Ok(podman)
    }

    /// `podman` with more arguments.
    pub fn podman<const N: usize>(&self, args: [&str; N]) -> Program {
        self.host
            .program("podman")
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .args(["--root".into(), self.folder.join("storage")])
            .args(["--storage-driver", "vfs"])
            .args(args)
    }

    /// Whether it has the CNI backend.
    pub fn has_cni(&self) -> Result<bool> {
        let answer = self
            .podman(["info", "--format", "{{.Host.NetworkBackend}}"])
            .succeed(PATIENCE)?;
        Ok(answer.trim() == "cni")
    }

    /// `podman run -d` on networks: a container that stays.
    pub fn run(&self, name: &str, networks: &str, options: &[&str], script: &str) -> Result<()> {
        self.podman(["run", "--detach", "--pull=never", "--name", name])
            .args([
                "--network",
                networks,
                "--cgroup-parent",
                &format!("/{}", self.host.name()),
            ])
            .args(options)
            .args([IMAGE, "sh", "-c", script])
            .succeed(PATIENCE)
            .map(drop)
    }

    /// What a shell command in a container printed.
    pub fn exec(&self, name: &str, script: &str) -> Result<String> {
        self.podman(["exec", name, "sh", "-c", script]).succeed(PATIENCE)
    }

    /// Ends and removes a container.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.podman(["rm", "--force", "--time", "0", name])
            .succeed(PATIENCE)
            .map(drop)
    }
}
