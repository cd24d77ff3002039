// SPDX-License-Identifier: Apache-2.0
//! Network namespaces: opening by path, comparing, acting inside, and named ones as `ip netns` makes them.
//!
//! A path is judged by its file system (`statfs`): a leftover plain file, as a lost bind mount leaves it, is no
//! namespace (cni.md A15). Everything is opened with close-on-exec, so that no delegate inherits a namespace.

mod reachable;

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, NSFS_MAGIC, PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Error, Result};
use crate::namespace_kind;
use crate::socket::Netlink;

pub use reachable::{Reachable, reachable};

/// Where `ip netns` keeps named namespaces.
const NAMED: &str = "/run/netns";
/// The calling thread's own network namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// What a path turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// A namespace.
    Namespace(Namespace),
    /// Nothing is there, or the process it belonged to has gone.
    Missing,
    /// Something else is there: a plain file, a directory, a namespace of another kind.
    NotANamespace,
}

/// Which namespace: equal for two handles of the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NamespaceId {
    /// Device of its file.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
}

/// An open network namespace; it lives at least as long as this handle.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: PathBuf,
}

impl Namespace {
    /// Opens what `path` names and says what it is; errors only where that cannot be told.
    pub fn open(path: impl AsRef<Path>) -> Result<Opened> {
        let path = path.as_ref();
        let failed =
            |error: io::Error| Error::new(format!("open network namespace {}", path.display()), error);
        // Non-blocking, since opening a pipe would wait for its other end.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH) => Ok(Opened::Missing),
                    // Sockets and the like cannot be opened at all.
                    Some(libc::ENXIO | libc::ENODEV) => Ok(Opened::NotANamespace),
                    _ => Err(failed(error)),
                };
            }
        };
        let kind: FsType = fstatfs(&file)
            .map_err(|errno| failed(errno.into()))?
            .filesystem_type();
        if kind != NSFS_MAGIC && kind != PROC_SUPER_MAGIC {
            return Ok(Opened::NotANamespace);
        }
        if !namespace_kind::is_network(&file) {
            return Ok(Opened::NotANamespace);
        }
        Ok(Opened::Namespace(Self {
            file,
            path: path.to_owned(),
        }))
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        let file =
            File::open(CURRENT).map_err(|error| Error::new("open the current network namespace", error))?;
        Ok(Self {
            file,
            path: CURRENT.into(),
        })
    }

    /// A new namespace without a name; it goes when the last handle, process and link in it have gone. The calling
    /// thread stays where it is.
    pub fn create() -> Result<Self> {
        on_own_thread("create a network namespace", || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::new("create a network namespace", errno))?;
            Self::current()
        })?
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which namespace it is.
    pub fn id(&self) -> Result<NamespaceId> {
        let metadata = self
            .file
            .metadata()
            .map_err(|error| self.failed("examine", error))?;
        Ok(NamespaceId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Whether the calling thread is in it.
    pub fn is_current(&self) -> Result<bool> {
        let current = fs::metadata(CURRENT)
            .map_err(|error| Error::new("examine the current network namespace", error))?;
        Ok(self.id()?
            == NamespaceId {
                device: current.dev(),
                inode: current.ino(),
            })
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| self.failed("enter", errno))
    }

    /// Runs `action` inside, on a thread of its own that is never used again. A panic of `action` is an error.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(
            &format!("run in network namespace {}", self.path.display()),
            || {
                self.enter()?;
                Ok(action())
            },
        )?
    }

    /// Runs `action` inside on the calling thread and comes back, also from a panic: no thread, four system calls.
    /// `action` must not spawn a thread or process that is to live at home.
    pub fn visit<T>(&self, action: impl FnOnce() -> T) -> Result<T> {
        let home = Self::current()?;
        self.enter()?;
        let _way_back = WayBack(&home);
        Ok(action())
    }

    /// A route netlink socket bound to it. Visits it from the calling thread, like [`visit`](Self::visit).
    pub fn socket(&self) -> Result<Netlink> {
        self.visit(Netlink::open)?
    }

    fn failed(&self, verb: &str, cause: impl Into<io::Error>) -> Error {
        Error::new(format!("{verb} network namespace {}", self.path.display()), cause)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes the thread back where it came from.
struct WayBack<'a>(&'a Namespace);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        // A thread that was let out may go back; only a kernel without memory for it refuses. To go on in the wrong
        // namespace would change the wrong network.
        if self.0.enter().is_err() {
            std::process::abort();
        }
    }
}

/// Creates a namespace with a name under `/run/netns`, as `ip netns add` does: a bind mount that keeps it alive.
pub fn create_named(name: &str) -> Result<Namespace> {
    let path = Path::new(NAMED).join(name);
    let failed = |error: io::Error| Error::new(format!("create network namespace {name}"), error);
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    prepare_directory().map_err(failed)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(failed)?;
    let bound = Namespace::create().and_then(|namespace| {
        // The calling process' own view of the descriptor: the thread that made the namespace is gone.
        let source = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&namespace.file)
        );
        mount(
            Some(source.as_str()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|errno| failed(errno.into()))?;
        Ok(Namespace {
            path: path.clone(),
            ..namespace
        })
    });
    if bound.is_err() {
        let _ = fs::remove_file(&path);
    }
    bound
}

/// Removes the name of a namespace; the namespace goes when nothing uses it any more. Whether it was there.
pub fn delete_named(name: &str) -> Result<bool> {
    let path = Path::new(NAMED).join(name);
    let failed = |error: io::Error| Error::new(format!("delete network namespace {name}"), error);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file, left by a reboot.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(nix::errno::Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(failed(errno.into())),
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// `/run/netns` as a shared mount point, so that names made here are seen in other mount namespaces.
fn prepare_directory() -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(NAMED)?;
    // As `ip netns` does: two that both find no mount point would stack two of them.
    let _lock = Flock::lock(File::open(NAMED)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let none = None::<&str>;
    let share = || mount(none, NAMED, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        Ok(()) => Ok(()),
        // Not a mount point yet.
        Err(nix::errno::Errno::EINVAL) => {
            mount(Some(NAMED), NAMED, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            Ok(share()?)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn on_own_thread<T: Send>(operation: &str, action: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, action)
            .map_err(|error| Error::new(operation, error))?;
        worker
            .join()
            .map_err(|panic| Error::new(operation, io::Error::other(panic_words(&*panic))))
    })
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the action panicked: {}", text.unwrap_or("without words"))
}
