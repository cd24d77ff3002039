// SPDX-License-Identifier: Apache-2.0
//! dockerd on a host, with its own choice of firewall rules: where it switches forwarding on it sets the policy of `FORWARD`
//! to drop. Its runtime files are at their usual places, hence the [`SeparateRoot`]. It runs no containers.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::distribution::Unpacked;
use crate::peers::Peer;
use crate::place::{Place, at};
use crate::process::{PATIENCE, Program, Running, eventually};
use crate::separate_root::SeparateRoot;

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
pub struct Dockerd {
    daemon: Running,
    place: Place,
    folder: PathBuf,
}

impl Dockerd {
    /// Starts one from the packages, and waits until it answers.
    pub fn start(root: &SeparateRoot) -> Result<Self> {
        let folder = root.folder().join("docker");
        at(&folder, fs::create_dir_all(&folder))?;
        let place = root.place().clone();
        Ok(Self {
            daemon: launch(&place, &folder)?,
            place,
            folder,
        })
    }

    /// Ends it as an upgrade or the administrator does, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.end(Signal::SIGTERM)?;
        self.daemon = launch(&self.place, &self.folder)?;
        Ok(())
    }

    /// Ends it; its rules stay, as it leaves them.
    pub fn stop(mut self) -> Result<()> {
        self.daemon.end(Signal::SIGTERM)
    }
}

fn launch(place: &Place, folder: &Path) -> Result<Running> {
    let (socket, log) = (folder.join("sock"), folder.join("log"));
    let daemon = Program::new(place, "/usr/sbin/dockerd")
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

fn ping(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
