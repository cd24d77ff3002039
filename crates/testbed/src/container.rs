// SPDX-License-Identifier: Apache-2.0
//! A container without a runtime: a network namespace with one process in it, a small server that answers HTTP and
//! echoes UDP. What gives it a network is the caller's business.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;

use crate::binaries;
use crate::digest::digest;
use crate::namespace::OwnNamespace;
use crate::place::Place;
use crate::probe;
use crate::process::{PATIENCE, Program, Running};

/// The port of the server, TCP and UDP.
pub const PORT: u16 = 8080;

/// A namespace with a server.
#[derive(Debug)]
pub struct Container {
    // Dropped first, so that the namespace is empty.
    _server: Running,
    namespace: OwnNamespace,
    id: String,
}

impl Container {
    /// Starts one. `name` is what the server calls itself.
    pub fn start(name: &str) -> Result<Self> {
        let namespace = OwnNamespace::create(name)?;
        let mut server = Program::new(namespace.place(), binaries::playground()?)
            .args(["serve", name])
            .start(Stdio::inherit())?;
        server.wait_for_line(PATIENCE)?;
        let id = digest(namespace.name().as_bytes());
        Ok(Self {
            _server: server,
            namespace,
            id,
        })
    }

    /// Its container ID: 64 hexadecimal digits, as runtimes make them.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        self.namespace.place()
    }

    /// The path a runtime hands to plugins.
    pub fn path(&self) -> &Path {
        self.namespace.place().path()
    }

    /// The time a ping from inside takes.
    pub fn ping(&self, address: IpAddr) -> Result<Duration> {
        probe::ping(self.place(), address)
    }

    /// What the server at an address answers from inside.
    pub fn http(&self, address: IpAddr) -> Result<String> {
        probe::http(self.place(), SocketAddr::new(address, PORT))
    }
}
