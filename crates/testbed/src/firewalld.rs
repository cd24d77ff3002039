// SPDX-License-Identifier: Apache-2.0
//! firewalld on a host, with a message bus of its own. Both look for their files at fixed places, hence the [`SeparateRoot`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::distribution::Unpacked;
use crate::peers::Peer;
use crate::place::{Place, at};
use crate::process::{PATIENCE, Program, Running, eventually};
use crate::separate_root::SeparateRoot;

/// The program.
pub const FIREWALLD: Unpacked = Unpacked {
    program: "firewalld",
    packages: &[
        "firewalld",
        "python3-firewall",
        "python3-nftables",
        // What python3-nftables needs.
        "python3-attr",
        "python3-jsonschema",
        "python3-pyrsistent",
    ],
};

/// What else it needs. Its Python is the distribution's, whatever comes first in `PATH`.
pub const NEEDS: [Peer; 7] = [
    Peer::Root,
    Peer::FileSystem("overlay"),
    Peer::Program("dbus-daemon", "dbus-daemon"),
    Peer::Program("nft", "nftables"),
    Peer::File("/usr/bin/python3", "python3"),
    Peer::File("/usr/lib/python3/dist-packages/dbus/__init__.py", "python3-dbus"),
    Peer::File("/usr/lib/python3/dist-packages/gi/__init__.py", "python3-gi"),
];

/// Where everybody looks for the bus.
const BUS: &str = "/run/dbus/system_bus_socket";
/// Who may do what on the bus is not what is tested.
const BUS_CONFIGURATION: &str = r#"<busconfig>
<type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
</policy>
</busconfig>"#;

/// A running firewalld and its bus.
#[derive(Debug)]
pub struct Firewalld {
    // Ends before its bus.
    daemon: Running,
    _bus: Running,
    place: Place,
    log: PathBuf,
}

impl Firewalld {
    /// Starts both from the packages, and waits until the rules are there.
    pub fn start(root: &SeparateRoot) -> Result<Self> {
        let folder = root.folder().join("firewalld");
        at(&folder, fs::create_dir_all(&folder))?;
        let configuration = folder.join("bus.conf");
        at(&configuration, fs::write(&configuration, BUS_CONFIGURATION))?;
        Program::new(root.place(), "mkdir")
            .args([Path::new("-p"), Path::new(BUS).parent().unwrap_or(Path::new("/"))])
            .succeed(PATIENCE)?;
        let mut bus = Program::new(root.place(), "dbus-daemon")
            .args(["--nofork", "--nopidfile", "--print-address", "--config-file"])
            .args([configuration])
            .start(log(&folder.join("bus.log"))?.into())?;
        bus.wait_for_line(PATIENCE).context("start a message bus")?;
        let (place, log) = (root.place().clone(), folder.join("log"));
        Ok(Self {
            daemon: launch(&place, &log)?,
            _bus: bus,
            place,
            log,
        })
    }

    /// `firewall-cmd` with arguments.
    pub fn command(&self, arguments: &str) -> Result<String> {
        command(&self.place, arguments)
    }

    /// Ends it and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.end(Signal::SIGTERM)?;
        self.daemon = launch(&self.place, &self.log)?;
        Ok(())
    }

    /// Ends it, and its bus; it takes its rules with it.
    pub fn stop(mut self) -> Result<()> {
        self.daemon.end(Signal::SIGTERM)
    }
}

fn launch(place: &Place, log_file: &Path) -> Result<Running> {
    let daemon = Program::new(place, "/usr/sbin/firewalld")
        .args(["--nofork", "--nopid", "--log-target", "console"])
        .start(log(log_file)?.into())?;
    let runs = || (command(place, "--state").ok()?.trim() == "running").then_some(());
    eventually(PATIENCE, runs).with_context(|| {
        let log = fs::read_to_string(log_file).unwrap_or_default();
        format!("firewalld does not run; its log: {log}")
    })?;
    Ok(daemon)
}

fn command(place: &Place, arguments: &str) -> Result<String> {
    Program::new(place, "/usr/bin/firewall-cmd")
        .args(arguments.split(' '))
        .succeed(PATIENCE)
}

fn log(path: &Path) -> Result<File> {
    at(path, File::options().create(true).append(true).open(path))
}
