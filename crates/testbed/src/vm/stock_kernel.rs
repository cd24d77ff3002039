// SPDX-License-Identifier: Apache-2.0
//! The distribution's kernel: its package is fetched and unpacked below `target/vm`, nothing is installed. That needs no
//! right, and this machine's own boot files stay as they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::elf;
use crate::distribution::{download, refresh, succeed};
use crate::go_programs::target_folder;
use crate::peers;

/// Depends on the current kernel. Not the flavour for clouds, which has no 9p file system.
const PACKAGE: &str = "linux-image-amd64";
/// Part of the cache's path: raised when what is kept below it changes.
const LAYOUT: &str = "1";
/// What is kept of the modules; the rest is 300 MB of drivers for devices that the machine has not.
const KEPT: [&str; 15] = [
    "arch",
    "crypto",
    "drivers/net/*.ko",
    "drivers/net/bonding",
    "drivers/net/ipvlan",
    "drivers/net/team",
    "drivers/net/vxlan",
    "drivers/net/wireguard",
    "drivers/virtio",
    "fs/9p",
    "fs/fscache",
    "fs/netfs",
    "fs/overlayfs",
    "lib",
    "net",
];

/// A kernel and its modules.
#[derive(Debug, Clone)]
pub(super) struct StockKernel {
    folder: PathBuf,
    release: String,
}

impl StockKernel {
    /// The one in the cache, whichever it is; else the current one of the distribution, which is fetched.
    pub(super) fn find() -> Result<Self> {
        let cache = target_folder().join("vm").join(LAYOUT);
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        // Qemu and the guest look from elsewhere.
        let cache = cache.canonicalize()?;
        // Test processes run beside each other: one fetches, the others wait.
        let lock = File::create(cache.join("lock"))?;
        lock.lock()?;
        match Self::cached(&cache)? {
            Some(found) => Ok(found),
            None => Self::fetch(&cache),
        }
    }

    /// What to boot.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("kernel")
    }

    /// The folder to be found at `/lib/modules/<release>`.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }

    fn at(folder: &Path) -> Option<Self> {
        let release = folder.file_name()?.to_str()?.to_owned();
        let kernel = Self {
            folder: folder.to_owned(),
            release,
        };
        kernel.image().is_file().then_some(kernel)
    }

    fn cached(cache: &Path) -> Result<Option<Self>> {
        let entries = fs::read_dir(cache)?.flatten();
        let finished = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
        Ok(entries.filter(finished).find_map(|entry| Self::at(&entry.path())))
    }

    fn fetch(cache: &Path) -> Result<Self> {
        ensure!(
            peers::find_program("apt-cache").is_some(),
            "no program apt-cache, with which the current {PACKAGE} is found"
        );
        // The name of an unfinished one starts with a dot.
        let unfinished = cache.join(".unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir(&unfinished)?;
        let kernel = Self::fetch_into(cache, &unfinished);
        let _ = fs::remove_dir_all(&unfinished);
        kernel
    }

    fn fetch_into(cache: &Path, unfinished: &Path) -> Result<Self> {
        let busybox = peers::static_busybox().context("no static busybox: install package busybox-static")?;
        let package = current_package()?;
        let release = package
            .strip_prefix("linux-image-")
            .with_context(|| format!("{PACKAGE} depends on {package:?}, which is no kernel"))?;
        eprintln!("fetching {package}: a stock kernel, for what the running one lacks");
        download(&package, unfinished)?;
        let archive = fs::read_dir(unfinished)?.flatten().next();
        let archive = archive.context("apt-get download left no package")?.path();
        let top = unfinished.join("kernel");
        unpack(&archive, &top, release)?;
        decompress_modules(&top)?;
        succeed(
            Command::new(busybox)
                .args(["depmod", "-b"])
                .arg(&top)
                .arg(release),
        )?;
        let compressed = top.join("vmlinuz");
        let kernel = fs::read(&compressed).context("read the kernel of the package")?;
        if !elf::decompress(&kernel, &top.join("kernel")) {
            fs::rename(&compressed, top.join("kernel"))?;
        }
        let folder = cache.join(release);
        fs::rename(&top, &folder).with_context(|| format!("move a kernel to {}", folder.display()))?;
        Self::at(&folder).context("the kernel just unpacked is not there")
    }
}

/// The package that the general one depends on now.
fn current_package() -> Result<String> {
    let ask = || succeed(Command::new("apt-cache").args(["depends", "--important", PACKAGE]));
    let find = |answer: &str| -> Option<String> {
        let mut dependencies = answer
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        dependencies
            .find(|package| package.starts_with("linux-image-"))
            .map(str::to_owned)
    };
    if let Some(found) = ask().ok().and_then(|answer| find(&answer)) {
        return Ok(found);
    }
    refresh(PACKAGE)?;
    find(&ask()?).with_context(|| format!("this distribution has no package {PACKAGE}"))
}

/// Unpacks the kernel and what is [`KEPT`] of its modules.
fn unpack(package: &Path, top: &Path, release: &str) -> Result<()> {
    let mut unpacking = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run dpkg-deb")?;
    let stream = unpacking.stdout.take().context("the output of dpkg-deb")?;
    let kernel = Path::new("boot").join(format!("vmlinuz-{release}"));
    let modules = Path::new("lib/modules").join(release);
    let mut archive = tar::Archive::new(stream);
    fs::create_dir_all(top)?;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        // Distributions with one /usr pack modules below it.
        let path = path.strip_prefix(".").unwrap_or(&path);
        let path = path.strip_prefix("usr").unwrap_or(path);
        let target = if path == kernel {
            top.join("vmlinuz")
        } else if path.strip_prefix(&modules).is_ok_and(is_kept) {
            top.join(path)
        } else {
            continue;
        };
        if entry.header().entry_type().is_file() {
            fs::create_dir_all(target.parent().unwrap_or(top))?;
            entry.unpack(&target)?;
        }
    }
    let status = unpacking.wait()?;
    ensure!(
        status.success(),
        "dpkg-deb cannot read {}: {status}",
        package.display()
    );
    Ok(())
}

/// Newer kernels come with compressed modules, which not every program that inserts them can read.
fn decompress_modules(top: &Path) -> Result<()> {
    let (mut folders, mut compressed) = (vec![top.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(".ko.xz") {
                compressed.push(path);
            }
        }
    }
    if !compressed.is_empty() {
        succeed(Command::new("xz").arg("--decompress").args(compressed))
            .context("install package xz-utils")?;
    }
    Ok(())
}

/// Whether a file below `/lib/modules/<release>` is kept: the lists of what is built in, and some modules.
fn is_kept(path: &Path) -> bool {
    let Ok(path) = path.strip_prefix("kernel") else {
        return path.extension().is_none_or(|extension| extension != "ko");
    };
    KEPT.iter().any(|kept| match kept.strip_suffix("/*.ko") {
        Some(folder) => path.parent() == Some(Path::new(folder)),
        None => path.starts_with(kept),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_devices_are_left_out() {
        for kept in [
            "modules.builtin",
            "kernel/net/ipv4/ipip.ko",
            "kernel/drivers/net/dummy.ko",
            "kernel/drivers/net/vxlan/vxlan.ko",
            "kernel/fs/9p/9p.ko",
        ] {
            assert!(is_kept(Path::new(kept)), "{kept}");
        }
        for left_out in [
            "kernel/drivers/net/ethernet/intel/e1000/e1000.ko",
            "kernel/drivers/gpu/drm/i915/i915.ko",
            "kernel/sound/soundcore.ko",
            "kernel/fs/9potato/x.ko",
        ] {
            assert!(!is_kept(Path::new(left_out)), "{left_out}");
        }
    }

    #[test]
    fn a_kernel_is_in_the_cache_once_it_is_whole() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("6.1.0-1-amd64");
        fs::create_dir(&folder).unwrap();
        assert!(StockKernel::cached(cache.path()).unwrap().is_none());
        fs::write(folder.join("kernel"), "").unwrap();
        fs::write(cache.path().join("lock"), "").unwrap();
        let found = StockKernel::cached(cache.path()).unwrap().unwrap();
        assert!(
            found
                .modules()
                .ends_with("6.1.0-1-amd64/lib/modules/6.1.0-1-amd64")
        );
        // An unfinished one, of a process that was killed.
        let other = tempfile::tempdir().unwrap();
        fs::create_dir(other.path().join(".unfinished")).unwrap();
        fs::write(other.path().join(".unfinished/kernel"), "").unwrap();
        assert!(StockKernel::cached(other.path()).unwrap().is_none());
    }
}
