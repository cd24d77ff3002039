// SPDX-License-Identifier: Apache-2.0
//! What these tests share: a store in a folder of its own, and child processes.
//!
//! A child is this test program again, told by an environment variable to run one role of [`child_process`] only.

use std::{
    env,
    fmt::Display,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use datastore::{Batch, EmbeddedStore, OpenOptions, Opened, Provenance, Revision, Store, StoreError, Write};
use model::Key;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const ROLE: &str = "EMBEDDED_STORE_CHILD";
const ARGUMENTS: &str = "EMBEDDED_STORE_ARGUMENTS";

/// A folder that goes away with the test, and the path of a store in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("store-").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path().join("node.db")
    }

    /// A file of the store.
    pub(crate) fn file(&self, suffix: &str) -> PathBuf {
        self.path().join(format!("node.db{suffix}"))
    }

    pub(crate) fn try_open(&self) -> Result<Opened, StoreError> {
        EmbeddedStore::open(&self.database(), checkpointing())
    }

    pub(crate) fn open(&self) -> Opened {
        self.try_open().unwrap()
    }

    /// Opens it, which must find the store that was last written here.
    pub(crate) fn existing(&self) -> EmbeddedStore {
        let Opened { store, provenance } = self.open();
        assert_eq!(provenance, Provenance::Existing);
        store
    }

    /// The names of the files in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The files of the store as they are, to be put back later.
    pub(crate) fn copy_to(&self, other: &Path) {
        fs::create_dir_all(other).unwrap();
        for name in self
            .names()
            .into_iter()
            .filter(|name| name.starts_with("node.db"))
        {
            fs::copy(self.path().join(&name), other.join(&name)).unwrap();
        }
    }
}

pub(crate) fn handle(name: impl Display) -> Key {
    Key::Handle(name.to_string())
}

pub(crate) fn batch(writes: impl IntoIterator<Item = Write>) -> Batch {
    Batch {
        writes: writes.into_iter().collect(),
        journal: Vec::new(),
    }
}

pub(crate) fn create(key: &Key, value: &str) -> Write {
    Write::Create {
        key: key.clone(),
        value: value.to_owned(),
    }
}

pub(crate) fn value(store: &EmbeddedStore, key: &Key) -> Option<String> {
    store.get(key).unwrap().map(|entry| entry.value)
}

/// The write that makes an object have a value, whatever it was.
pub(crate) fn upsert(store: &EmbeddedStore, key: &Key, value: impl Display) -> Write {
    let value = value.to_string();
    match store.get(key).unwrap() {
        None => Write::Create {
            key: key.clone(),
            value,
        },
        Some(entry) => Write::Update {
            key: key.clone(),
            value,
            revision: entry.revision,
        },
    }
}

/// Options with which a checkpoint comes as soon as the log is long, as it does in a store that is written to now and
/// then: these tests write fast and want to meet many.
pub(crate) fn checkpointing() -> OpenOptions {
    OpenOptions {
        burst: Duration::ZERO,
        ..OpenOptions::default()
    }
}

pub(crate) fn put(store: &EmbeddedStore, key: &Key, value: impl Display) -> Revision {
    let write = upsert(store, key, value);
    store.commit(&batch([write])).unwrap()[0]
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Skips what this machine cannot run, with the reason; in CI that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(env::var_os("CI").is_none(), "cannot run here: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// A child process; killed when dropped.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a role of [`child_process`].
    pub(crate) fn start(role: &str, arguments: &[&dyn Display]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "support::child_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join("\n"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line the child says with [`say`]; `None` when it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.trim_end().strip_prefix('@') {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Waits for the end of a child that must succeed; everything it said.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        let status = self.child.wait().unwrap();
        assert!(
            status.success(),
            "{status}, signal {:?}:\n{output}",
            status.signal()
        );
        output
            .lines()
            .filter_map(|line| line.strip_prefix('@'))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the parent something.
pub(crate) fn say(what: impl Display) {
    println!("\n@{what}");
}

/// In a child this is its whole life; in a test run it does nothing.
#[test]
fn child_process() {
    let Ok(role) = env::var(ROLE) else { return };
    let arguments = env::var(ARGUMENTS).unwrap_or_default();
    let arguments: Vec<&str> = arguments.lines().collect();
    match role.as_str() {
        "open" => crate::processes::open_once(arguments[0]),
        "increment" => crate::processes::increment(arguments[0], arguments[1].parse().unwrap()),
        "hammer" => crate::processes::hammer(arguments[0]),
        "watch" => crate::processes::watch(arguments[0]),
        "lock" => crate::processes::hold_lock(arguments[0]),
        "full disk" => crate::disks::on_a_full_disk(arguments[0]),
        "read-only disk" => crate::disks::on_a_read_only_disk(arguments[0]),
        role => panic!("no such role: {role}"),
    }
}
