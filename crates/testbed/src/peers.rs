// SPDX-License-Identifier: Apache-2.0
//! Programs of others that tests need: are they here, and what to say if not.
//!
//! `.ci/peers` installs them by package name. On a newcomer's machine a missing one makes the test a visible skip with its
//! reason; where `CI=true` it is a failure, so that nothing is quietly left out.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where distributions put the reference plugins (Debian, then Fedora), and where others install them.
const REFERENCE_PLUGINS: [&str; 3] = ["/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"];
/// Names a file that gets a line for each skip; `make test` shows it at the end.
pub(crate) const SKIPS: &str = "TESTBED_SKIPS";

/// Something a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Being root, with leave to make network namespaces.
    Root,
    /// A kernel with IPv6.
    Ipv6,
    /// A program in `PATH`, and the package that has it.
    Program(&'static str, &'static str),
    /// A file at a fixed place, and the package that has it.
    File(&'static str, &'static str),
    /// A reference plugin.
    Plugin(&'static str),
    /// A busybox that needs no library.
    StaticBusybox,
    /// A file system of the kernel, or of a module that it loads when needed.
    FileSystem(&'static str),
}

/// What containerd needs.
pub const CONTAINERD: [Peer; 6] = [
    Peer::Root,
    Peer::FileSystem("overlay"),
    Peer::Program("containerd", "containerd"),
    Peer::Program("ctr", "containerd"),
    Peer::Program("runc", "runc"),
    Peer::StaticBusybox,
];

/// What podman needs.
pub const PODMAN: [Peer; 5] = [
    Peer::Root,
    Peer::FileSystem("overlay"),
    Peer::Program("podman", "podman"),
    Peer::Program("conmon", "conmon"),
    Peer::StaticBusybox,
];

/// Whether a test can go on. Where a peer is missing it says so and answers no.
///
/// # Panics
///
/// Where `CI=true` and a peer is missing: nothing may be left out there.
pub fn available(peers: &[Peer]) -> bool {
    let missing: Vec<String> = peers.iter().filter_map(Peer::missing).collect();
    missing.is_empty() || skip(&missing.join("; "))
}

/// Says that the calling test is left out, and why; answers no.
///
/// # Panics
///
/// Where `CI=true`.
pub fn skip(reason: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {reason}");
    assert!(
        env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{line}; not allowed with CI=true"
    );
    eprintln!("{line}");
    if let Some(path) = env::var_os(SKIPS) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        // The line above was shown; the file is a second place.
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
    false
}

/// The folder of the reference plugins, if they are installed.
pub fn reference_plugins() -> Option<PathBuf> {
    let folders = REFERENCE_PLUGINS.iter().map(PathBuf::from);
    folders
        .into_iter()
        .find(|folder| folder.join("host-local").is_file())
}

/// A program in `PATH`, or in a folder that not everybody's path has.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from);
    let candidates = env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(name));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// A static busybox, if there is one.
pub(crate) fn static_busybox() -> Option<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    found
        .into_iter()
        .find(|program| fs::read(program).is_ok_and(|bytes| is_static(&bytes)))
}

impl Peer {
    /// Why it is not there; `None` if it is.
    pub(crate) fn missing(&self) -> Option<String> {
        let install = |package: &str| format!("install package {package}, or run .ci/peers");
        match *self {
            Self::Root => no_namespaces(),
            Self::Ipv6 => (!kernel::host::has_ipv6()).then(|| "the kernel has no IPv6".to_owned()),
            Self::Program(name, package) => {
                let is_here = in_path(name);
                (!is_here).then(|| format!("no program {name}: {}", install(package)))
            }
            Self::File(path, package) => {
                let is_here = Path::new(path).is_file();
                (!is_here).then(|| format!("no file {path}: {}", install(package)))
            }
            Self::Plugin(name) => {
                let is_here = reference_plugins().is_some_and(|folder| folder.join(name).is_file());
                (!is_here)
                    .then(|| format!("no CNI plugin {name}: {}", install("containernetworking-plugins")))
            }
            Self::StaticBusybox => static_busybox()
                .is_none()
                .then(|| format!("no static busybox: {}", install("busybox-static"))),
            Self::FileSystem(name) => (!is_known_file_system(name))
                .then(|| format!("the kernel has no {name} file system, nor a module for it")),
        }
    }
}

/// Why network namespaces cannot be made; `None` if they can.
pub fn no_namespaces() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, since network namespaces are made".to_owned());
    }
    // Root in a container has not every right.
    let problem = kernel::Namespace::create().err()?;
    Some(format!("{problem}; in a container this needs --privileged"))
}

fn is_known_file_system(name: &str) -> bool {
    let has_line = |path: &str, matches: &dyn Fn(&str) -> bool| {
        fs::read_to_string(path).unwrap_or_default().lines().any(matches)
    };
    let release = kernel::sysctl::read("kernel/osrelease").unwrap_or_default();
    let module = format!("/{name}.ko");
    has_line("/proc/filesystems", &|line| {
        line.split_whitespace().last() == Some(name)
    }) || has_line(&format!("/lib/modules/{release}/modules.dep"), &|line| {
        line.split(':').next().is_some_and(|file| file.contains(&module))
    })
}

fn in_path(program: &str) -> bool {
    find_program(program).is_some()
}

/// Whether an ELF program names no dynamic loader.
fn is_static(program: &[u8]) -> bool {
    let loaders: [&[u8]; 2] = [b"/ld-linux", b"/ld-musl"];
    let start = &program[..program.len().min(4096)];
    let names = |loader: &[u8]| start.windows(loader.len()).any(|window| window == loader);
    program.starts_with(b"\x7fELF") && !loaders.iter().any(|loader| names(loader))
}
