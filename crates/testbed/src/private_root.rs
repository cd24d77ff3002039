// SPDX-License-Identifier: Apache-2.0
//! A file system view and a process tree of a host's own, for container runtimes: `containerd`, `ctr` and `podman` look at fixed
//! places (`/etc/cni/net.d`, `/opt/cni/bin`, `/run/...`) and leave processes and mounts of their own.
//!
//! Two halves. Outside, [`PrivateRoot`] starts a first process in a new mount and a new process namespace and keeps it. Inside,
//! [`run`] is that process (hidden command `host-init` of the playground program): it arranges the mounts, says `ready`, and
//! collects orphans until its standard input is closed. When it goes, the kernel ends every process of the namespace and drops
//! every mount, whatever state they were in; so nothing can be left even if the test bed itself is killed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;

use crate::binaries;
use crate::folders::Folders;
use crate::place::{Place, RootView, at};
use crate::process::{PATIENCE, Running};

/// Places that get a writable layer: what is written there stays in the view.
const LAYERED: [&str; 3] = ["/etc", "/opt", "/var"];
/// Between two looks for orphans while there is no child to wait for.
const IDLE: Duration = Duration::from_millis(50);

/// The first process of a private root; its end is the end of everything inside.
#[derive(Debug)]
pub(crate) struct PrivateRoot {
    init: Running,
}

impl PrivateRoot {
    /// Starts one in a place.
    pub(crate) fn start(place: &Place, folders: &Folders) -> Result<Self> {
        let mut command = Command::new(binaries::playground()?);
        command
            .arg("host-init")
            .arg(folders.top())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let child = place.run(|| -> Result<_> {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
            Ok(command.spawn()?)
        })??;
        let mut init = Running::of(child, "host-init");
        init.wait_for_line(PATIENCE)
            .context("arrange a private root; its error is above")?;
        Ok(Self { init })
    }

    /// Its namespaces, for whoever is to be started inside.
    pub(crate) fn view(&self) -> Result<RootView> {
        let open = |kind: &str| {
            let path = PathBuf::from(format!("/proc/{}/ns/{kind}", self.init.pid()));
            at(&path, File::open(&path))
        };
        Ok(RootView {
            mounts: open("mnt")?,
            processes: open("pid")?,
        })
    }
}

/// The inside half. `top` is the host's folder; it keeps its path.
pub fn run(top: &Path) -> Result<()> {
    arrange(top)?;
    println!("ready");
    io::stdout().flush()?;
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    loop {
        // Orphans become children of the first process, which has to collect them.
        if let Err(Errno::ECHILD) = waitpid(None, None) {
            thread::sleep(IDLE);
        }
    }
}

fn arrange(top: &Path) -> Result<()> {
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("detach mounts")?;
    fresh("proc", "/proc")?;
    fresh("tmpfs", "/run")?;
    fresh("tmpfs", "/dev/shm")?;
    let layers = Path::new("/run/layers");
    let kept = layers.join("host");
    at(&kept, fs::create_dir_all(&kept))?;
    bind(top, &kept)?;
    for folder in LAYERED {
        layer(Path::new(folder), &layers.join(&folder[1..]))?;
    }
    at(top, fs::create_dir_all(top))?;
    bind(&kept, top)?;
    for (own, usual) in [
        ("networks", "/etc/cni/net.d"),
        ("plugins", "/opt/cni/bin"),
        ("cache", "/var/lib/cni"),
        ("state", "/var/lib/calico"),
        ("log", "/var/log/calico"),
        ("run", "/run/calico"),
    ] {
        let usual = Path::new(usual);
        at(usual, fs::create_dir_all(usual))?;
        bind(&top.join(own), usual)?;
    }
    Ok(())
}

/// A new file system over what is there.
fn fresh(kind: &str, target: &str) -> Result<()> {
    let options = (kind == "tmpfs").then_some("mode=755");
    mount(Some(kind), target, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("mount {kind} on {target}"))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("bind {} to {}", source.display(), target.display()))
}

/// A writable layer over a folder, kept in memory.
fn layer(folder: &Path, layers: &Path) -> Result<()> {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    for made in [&upper, &work] {
        at(made, fs::create_dir_all(made))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        folder.display(),
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        folder,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .with_context(|| format!("lay a writable layer over {}", folder.display()))
}
