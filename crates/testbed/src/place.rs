// SPDX-License-Identifier: Apache-2.0
//! Where something happens: a network namespace, optionally with a name of the machine and a file system view of its
//! own. Hosts and containers are places; programs, probes and listings take one.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use kernel::{Namespace, Netlink, sysctl};
use nix::sched::{CloneFlags, setns, unshare};

use crate::name;

/// A set of namespaces; cheap to copy. They live as long as any copy.
#[derive(Debug, Clone)]
pub struct Place {
    network: Arc<Namespace>,
    machine_name: Option<Arc<File>>,
    root: Option<Arc<RootView>>,
}

/// The namespaces of a private root, see [`PrivateRoot`](crate::private_root::PrivateRoot).
#[derive(Debug)]
pub(crate) struct RootView {
    pub(crate) mounts: File,
    pub(crate) processes: File,
}

impl Place {
    pub(crate) fn new(network: Namespace) -> Self {
        Self {
            network: Arc::new(network),
            machine_name: None,
            root: None,
        }
    }

    /// Gives it a machine name of its own (`uname -n`), from which a node takes its name.
    pub(crate) fn with_machine_name(mut self, name: &str) -> Result<Self> {
        let file = thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWUTS)?;
                sysctl::write("kernel/hostname", name)?;
                anyhow::Ok(File::open("/proc/thread-self/ns/uts")?)
            });
            joined(made.join())
        });
        self.machine_name = Some(Arc::new(
            file.with_context(|| format!("give a host the machine name {name}"))?,
        ));
        Ok(self)
    }

    pub(crate) fn with_root(mut self, root: RootView) -> Self {
        self.root = Some(Arc::new(root));
        self
    }

    /// Its network namespace.
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// The path of its network namespace.
    pub fn path(&self) -> &Path {
        self.network.path()
    }

    /// A netlink socket inside.
    pub fn netlink(&self) -> Result<Netlink> {
        Ok(self.network.run(Netlink::open)??)
    }

    /// Runs `action` inside, on a thread of its own. Sockets opened there stay inside.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                self.enter()?;
                Ok(action())
            });
            joined(done.join())
        })
    }

    /// Starts a process inside: it inherits the namespaces of the thread that starts it.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let _permit = name::permit();
        self.run(|| command.spawn())?.map_err(Into::into)
    }

    /// Moves the calling thread inside, for good.
    fn enter(&self) -> Result<()> {
        if let Some(root) = &self.root {
            // A thread that shares its working directory with others may not change its root.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&root.processes, CloneFlags::CLONE_NEWPID)?;
            setns(&root.mounts, CloneFlags::CLONE_NEWNS)?;
        }
        if let Some(name) = &self.machine_name {
            setns(&**name, CloneFlags::CLONE_NEWUTS)?;
        }
        self.network.enter()?;
        Ok(())
    }
}

/// The result of a thread; its panic is an error.
fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(anyhow!("a thread inside a namespace panicked")))
}

/// An error of the operating system with the thing it concerns.
pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.with_context(|| path.display().to_string())
}
