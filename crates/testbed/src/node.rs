// SPDX-License-Identifier: Apache-2.0
//! A host set up the way `docs/operations.md` tells an operator: plugins and network list by `conf/install`, everything at
//! its usual path. What real runtimes are tested on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Host, PATIENCE, Program, Router, Running, binaries, peers};

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

    /// Starts a busybox web server in a namespace; it answers `GET /` with the namespace's name.
    pub fn serve_inside(&self, namespace: &str) -> Result<Running> {
        let folder = self.host.folders().top().join(format!("www-{namespace}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("index.html"), namespace)?;
        let busybox = peers::static_busybox().context("no static busybox")?;
        let entering = format!("--net=/run/netns/{namespace}");
        let nsenter = peers::find_program("nsenter").context("no program nsenter")?;
        let server = self
            .program(nsenter)
            .args([OsStr::new(&entering), busybox.as_os_str()])
            .args(["httpd", "-f", "-p", "80", "-h"])
            .args([folder])
            .start(std::process::Stdio::inherit())?;
        crate::eventually(PATIENCE, || self.fetch(namespace, "127.0.0.1").ok())
            .with_context(|| format!("the web server in {namespace} did not start"))?;
        Ok(server)
    }

    /// `GET http://<address>/` from inside a namespace.
    pub fn fetch(&self, namespace: &str, address: &str) -> Result<String> {
        let busybox = peers::static_busybox().context("no static busybox")?;
        let url = if address.contains(':') {
            format!("http://[{address}]/")
        } else {
            format!("http://{address}/")
        };
        self.run_inside(
            namespace,
            &[&busybox.display().to_string(), "wget", "-q", "-O-", "-T5", &url],
        )
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
        Ok(())
    }
}
