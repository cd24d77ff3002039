// SPDX-License-Identifier: Apache-2.0
//! A host: a network namespace with a machine name, folders for state, configuration and plugins, and whatever runs on it.
//! Dropping it ends its processes and removes all of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kernel::{Netlink, host, sysctl};

use crate::binaries;
use crate::cni::CniRuntime;
use crate::folders::Folders;
use crate::namespace::OwnNamespace;
use crate::peers;
use crate::place::{Place, at};
use crate::private_root::PrivateRoot;
use crate::process::{Program, remove_control_groups};
use crate::router::{Router, Uplink};

/// A machine in miniature.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: processes, then their namespace, then their files.
    root: Option<PrivateRoot>,
    namespace: OwnNamespace,
    place: Place,
    folders: Folders,
    uplink: Option<Uplink>,
}

impl Host {
    /// A host without a way out. `name` is its machine name, hence its node name.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = OwnNamespace::create(name)?;
        let folders = Folders::create(namespace.name())?;
        let place = namespace.place().clone().with_machine_name(name)?;
        Ok(Self {
            root: None,
            namespace,
            place,
            folders,
            uplink: None,
        })
    }

    /// A host with a link to a router, addresses of both families and a default route.
    pub fn behind(router: &Router, name: &str) -> Result<Self> {
        let mut host = Self::new(name)?;
        host.uplink = Some(router.attach(&host.place)?);
        Ok(host)
    }

    /// Gives it a root file system view of its own, as container runtimes need it: the folders are where runtimes
    /// and plugins look by default, `/run` is empty, and nothing written elsewhere reaches the machine.
    pub fn with_private_root(mut self) -> Result<Self> {
        let root = PrivateRoot::start(&self.place, &self.folders)?;
        self.place = self.place.clone().with_root(root.view()?);
        self.root = Some(root);
        Ok(self)
    }

    /// The unique name it is known by on the machine (`ip netns` lists it).
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its folders.
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Its way out, if it has one.
    pub fn uplink(&self) -> Option<&Uplink> {
        self.uplink.as_ref()
    }

    /// A netlink socket on it.
    pub fn netlink(&self) -> Result<Netlink> {
        self.place.netlink()
    }

    /// A program to be run on it, with the environment that tells our plugins where its state is.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Program {
        let program = Program::new(&self.place, program);
        // With a private root, state is where it always is.
        if self.root.is_some() {
            return program;
        }
        program.envs(self.folders.environment())
    }

    /// A CNI runtime on it: `libcni` in Rust, with this host's plugins and cache.
    pub fn cni(&self) -> CniRuntime {
        CniRuntime::new(
            self.place.clone(),
            vec![self.folders.plugins()],
            self.folders.cache(),
        )
        .with_environment(self.folders.environment())
    }

    /// Puts our plugins, and the reference plugins that are installed, into the host's plugin folder.
    pub fn install_plugins(&self) -> Result<()> {
        let mut sources: Vec<PathBuf> = binaries::plugins()?;
        if let Some(folder) = peers::reference_plugins() {
            let entries = at(&folder, fs::read_dir(&folder))?;
            sources.extend(entries.flatten().map(|entry| entry.path()));
        }
        for source in sources {
            let name = source.file_name().context("a plugin without a name")?;
            let link = self.folders.plugins().join(name);
            if !link.exists() {
                at(&link, symlink(&source, &link))?;
            }
        }
        Ok(())
    }

    /// Turns routing on, as routed-agent or the administrator of a router does.
    pub fn enable_forwarding(&self) -> Result<()> {
        self.place.run(|| -> Result<()> {
            sysctl::write("net/ipv4/ip_forward", "1")?;
            if host::has_ipv6() {
                sysctl::write("net/ipv6/conf/all/forwarding", "1")?;
            }
            Ok(())
        })?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.root = None;
        remove_control_groups(self.namespace.name());
    }
}
