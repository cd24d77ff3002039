// SPDX-License-Identifier: Apache-2.0
//! A host set up the way `docs/operations.md` tells an operator: plugins and network list by `conf/install`, everything at
//! its usual path. What real runtimes are tested on.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kernel::{Namespace, Opened};
use serde_json::Value;

use crate::{Host, PATIENCE, PORT, Place, Program, Router, Running, StoreContent, binaries, peers, probe};

/// Where `conf/` is.
const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conf");
/// Name of the network in `conf/10-calico.conflist`.
pub const NETWORK: &str = "k8s-pod-network";

/// A host with a private root and our plugins installed.
#[derive(Debug)]
pub struct Node {
    host: Host,
    router: Router,
}

impl Node {
    /// A host with a router, a private root, and nothing installed.
    pub fn bare(name: &str) -> Result<Self> {
        let router = Router::new()?;
        let host = Host::behind(&router, name)?.with_private_root()?;
        Ok(Self { host, router })
    }

    /// The same with our plugins and list installed, and the reference plugins that are on the machine.
    pub fn installed(name: &str) -> Result<Self> {
        let node = Self::bare(name)?;
        if let Some(folder) = peers::reference_plugins() {
            for entry in fs::read_dir(folder)?.flatten() {
                node.add_plugin(&entry.path())?;
            }
        }
        node.install()?;
        Ok(node)
    }

    /// Links a plugin into `/opt/cni/bin`.
    pub fn add_plugin(&self, program: &Path) -> Result<()> {
        let name = program.file_name().context("a plugin without a name")?;
        symlink(program, self.host.folders().plugins().join(name))
            .with_context(|| format!("link {}", program.display()))
    }

    /// Runs `conf/install` with the usual folders; what it printed.
    pub fn install(&self) -> Result<String> {
        let plugins = binaries::plugins()?;
        let from = plugins
            .first()
            .and_then(|plugin| plugin.parent())
            .context("no plugins")?;
        self.program(Path::new(CONFIGURATION).join("install"))
            .args([from, Path::new("/opt/cni/bin"), Path::new("/etc/cni/net.d")])
            .succeed(PATIENCE)
    }

    /// Writes a network list of its own below `/etc/cni/net.d`.
    pub fn write_list(&self, file: &str, list: &Value) -> Result<()> {
        let path = self.host.folders().networks().join(file);
        fs::write(&path, list.to_string()).with_context(|| path.display().to_string())
    }

    /// The list that `install` wrote.
    pub fn list(&self) -> Result<Value> {
        let path = self.host.folders().networks().join("10-calico.conflist");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What is outside the host.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// A program to be run on the host.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Program {
        self.host.program(program)
    }

    /// Runs a program of the machine with arguments; what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
        let path = peers::find_program(program).with_context(|| format!("no program {program}"))?;
        self.program(path).args(args).succeed(PATIENCE)
    }

    /// A namespace as an operator makes one by hand; it goes with the host.
    pub fn add_namespace(&self, name: &str) -> Result<PathBuf> {
        self.run("ip", ["netns", "add", name])?;
        self.run("ip", ["-n", name, "link", "set", "lo", "up"])?;
        Ok(Path::new("/run/netns").join(name))
    }

    /// Runs a program in a namespace made by [`add_namespace`](Self::add_namespace).
    pub fn run_inside(&self, namespace: &str, command: &[&str]) -> Result<String> {
        let entering = format!("--net=/run/netns/{namespace}");
        let args: Vec<&str> = std::iter::once(entering.as_str())
            .chain(command.iter().copied())
            .collect();
        self.run("nsenter", args)
    }

    /// Such a namespace, to probe from.
    pub fn place_inside(&self, namespace: &str) -> Result<Place> {
        let path = Path::new("/run/netns").join(namespace);
        match self.host.place().run(|| Namespace::open(&path))?? {
            Opened::Namespace(namespace) => Ok(Place::new(namespace)),
            other => bail!("{} is no namespace: {other:?}", path.display()),
        }
    }

    /// Starts a server in such a namespace; it calls itself by the namespace's name.
    pub fn serve_inside(&self, namespace: &str) -> Result<Running> {
        let mut server = Program::new(&self.place_inside(namespace)?, binaries::playground()?)
            .args(["serve", namespace])
            .start(Stdio::inherit())?;
        server.wait_for_line(PATIENCE)?;
        Ok(server)
    }

    /// What the server at an address answers when asked from such a namespace.
    pub fn ask_inside(&self, namespace: &str, server: IpAddr) -> Result<String> {
        probe::http(&self.place_inside(namespace)?, SocketAddr::new(server, PORT))
    }

    /// An ICMP echo from such a namespace; the time it took.
    pub fn ping_inside(&self, namespace: &str, address: IpAddr) -> Result<Duration> {
        probe::ping(&self.place_inside(namespace)?, address)
    }

    /// What the node's store holds.
    pub fn store(&self) -> Result<StoreContent> {
        StoreContent::read(&self.host.folders().store())
    }

    /// Fails unless nothing of any container is left: no interface, no route, no address in the store.
    pub fn ensure_nothing_left(&self) -> Result<()> {
        let links = self.run("ip", ["-o", "link"])?;
        let left: Vec<&str> = links
            .lines()
            .filter(|line| line.contains(": cali") || line.contains(": veth"))
            .collect();
        ensure!(left.is_empty(), "links are left: {left:?}");
        for family in ["-4", "-6"] {
            let routes = self.run("ip", [family, "route", "show", "table", "all"])?;
            let left: Vec<&str> = routes.lines().filter(|line| line.contains("dev cali")).collect();
            ensure!(left.is_empty(), "routes are left: {left:?}");
        }
        let left = self.store()?.leftovers();
        ensure!(left.is_empty(), "left in the store: {}", left.join(", "));
        Ok(())
    }
}
