// SPDX-License-Identifier: Apache-2.0
//! dockerd on a host, with its own choice of firewall rules: where it switches forwarding on it sets the policy of `FORWARD`
//! to drop. Its files are at their usual places, so the host needs a private root. It runs no containers.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::distribution::Unpacked;
use crate::host::Host;
use crate::peers::Peer;
use crate::place::at;
use crate::process::{PATIENCE, Running, eventually};

/// The program.
pub const DOCKERD: Unpacked = Unpacked {
    program: "dockerd",
    packages: &["docker.io", "libdevmapper1.02.1"],
};

/// What else it needs.
pub const NEEDS: [Peer; 5] = [
    Peer::Root,
    Peer::FileSystem("overlay"),
    Peer::Program("containerd", "containerd"),
    Peer::Program("iptables", "iptables"),
    Peer::Program("runc", "runc"),
];

/// A running dockerd.
#[derive(Debug)]
pub struct Dockerd<'a> {
    host: &'a Host,
    daemon: Running,
}

impl<'a> Dockerd<'a> {
    /// Starts one from the packages laid over the host, and waits until it answers.
    pub fn start(host: &'a Host) -> Result<Self> {
        let daemon = launch(host)?;
        Ok(Self { host, daemon })
    }

    /// Ends it as an upgrade or the administrator does, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.end(Signal::SIGTERM)?;
        self.daemon = launch(self.host)?;
        Ok(())
    }

    /// Ends it; its rules stay, as it leaves them.
    pub fn stop(mut self) -> Result<()> {
        self.daemon.end(Signal::SIGTERM)
    }
}

fn launch(host: &Host) -> Result<Running> {
    let folder = folder(host);
    at(&folder, fs::create_dir_all(&folder))?;
    let (socket, log) = (folder.join("sock"), folder.join("log"));
    let daemon = host
        .program("/usr/sbin/dockerd")
        .args(["--storage-driver", "vfs", "--data-root"])
        .args([folder.join("data")])
        .args(["--host".to_owned(), format!("unix://{}", socket.display())])
        .start(at(&log, File::options().create(true).append(true).open(&log))?.into())?;
    let answers = || (ping(&socket).ok()?.ends_with("OK")).then_some(());
    eventually(PATIENCE, answers).with_context(|| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        format!("dockerd does not answer; its log: {log}")
    })?;
    Ok(daemon)
}

fn folder(host: &Host) -> PathBuf {
    host.folders().top().join("docker")
}

fn ping(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
