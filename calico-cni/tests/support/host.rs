// SPDX-License-Identifier: Apache-2.0
//! A host for these tests: a network namespace, its own state, and the real program run in it. Gone with the value.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use datastore::{EmbeddedStore, OpenOptions, Store as _};
use model::{IpamBlock, KeyRange, Kind, LocalTable};
use serde_json::{Value, json};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Whether network namespaces can be made; CI must be able to.
pub(crate) fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        assert!(std::env::var_os("CI").is_none(), "CI runs these tests as root");
        eprintln!("SKIPPED: network namespaces need root");
    }
    is_root
}

/// A name that no other test, of this run or another, has.
fn unique(tag: &str) -> String {
    format!(
        "cs{}-{}{tag}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

/// A named network namespace.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new(tag: &str) -> Self {
        let name = unique(tag);
        ip(&["netns", "add", &name]);
        Self(name)
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.0])
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs iproute2, which must succeed, and returns its output.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A host.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) state: PathBuf,
    run: tempfile::TempDir,
    node: String,
}

/// What one run of the program came to.
pub(crate) struct Answer {
    pub(crate) output: Output,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn ok(self) -> Value {
        assert!(
            self.output.status.success(),
            "{}",
            String::from_utf8_lossy(&self.output.stderr)
        );
        self.json
    }

    pub(crate) fn killed(&self) -> bool {
        std::os::unix::process::ExitStatusExt::signal(&self.output.status) == Some(9)
    }
}

/// The first IPv4 address of a result.
pub(crate) fn address(result: &Value) -> String {
    let address = result["ips"][0]["address"]
        .as_str()
        .expect("a result with an address");
    address.split('/').next().unwrap_or_default().to_owned()
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::sharing(None, "node-a")
    }

    /// A host with this node name; with `store`, one that shares the store of another.
    pub(crate) fn sharing(store: Option<&Path>, node: &str) -> Self {
        let namespace = Namespace::new("h");
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
        let run = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let state = store.map_or_else(|| run.path().join("state"), Path::to_owned);
        Self {
            namespace,
            state,
            run,
            node: node.to_owned(),
        }
    }

    pub(crate) fn config(&self, v6: bool) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "calico", "nodename": self.node,
            "state_dir": self.run.path().join("own"), "run_dir": self.run.path().join("run"),
            "datastore_path": self.state.join("node.db"), "gc_minimum_age_seconds": 0,
            "ipam": {"type": "calico-ipam", "assign_ipv6": v6},
        })
    }

    /// Starts the program; `kill_at` makes it kill itself at that step.
    pub(crate) fn command(&self, verb: &str, id: &str, netns: Option<&str>, kill_at: u32) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace.0, env!("CARGO_BIN_EXE_calico")])
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni")
            .env("CALICO_IPV6POOL_CIDR", "fd00:65::/64")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(netns) = netns {
            command.env("CNI_NETNS", netns);
        }
        if kill_at > 0 {
            command.env("CALICO_TEST_KILL_AT", kill_at.to_string());
        }
        command
    }

    pub(crate) fn run(
        &self,
        verb: &str,
        id: &str,
        netns: Option<&str>,
        config: &Value,
        kill_at: u32,
    ) -> Answer {
        Self::finish(self.command(verb, id, netns, kill_at), config)
    }

    /// Runs a prepared command with a configuration.
    pub(crate) fn finish(mut command: Command, config: &Value) -> Answer {
        let mut child = command.spawn().expect("the program starts");
        // A killed program may not have read everything.
        let _ = child
            .stdin
            .take()
            .expect("piped")
            .write_all(config.to_string().as_bytes());
        let output = child.wait_with_output().expect("the program ends");
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { output, json }
    }

    pub(crate) fn add(&self, id: &str, container: &Namespace) -> Answer {
        self.run("ADD", id, Some(&container.path()), &self.config(false), 0)
    }

    pub(crate) fn del(&self, id: &str, container: &Namespace) -> Answer {
        self.run("DEL", id, Some(&container.path()), &self.config(false), 0)
    }

    /// GC with nothing valid.
    pub(crate) fn collect(&self, v6: bool) -> Answer {
        let mut config = self.config(v6);
        config["cni.dev/valid-attachments"] = json!([]);
        self.run("GC", "unused", None, &config, 0)
    }

    /// Host interfaces of containers, with their routes.
    pub(crate) fn kernel_state(&self) -> Vec<String> {
        let links = ip(&["-n", &self.namespace.0, "-br", "link"]);
        let mut found: Vec<String> = links
            .lines()
            .filter(|line| line.starts_with("cali"))
            .map(str::to_owned)
            .collect();
        for family in ["-4", "-6"] {
            let routes = ip(&["-n", &self.namespace.0, family, "route"]);
            found.extend(
                routes
                    .lines()
                    .filter(|line| line.contains("dev cali"))
                    .map(str::to_owned),
            );
        }
        found
    }

    /// Everything in the store that belongs to a container.
    pub(crate) fn store_state(&self) -> Vec<String> {
        let path = self.state.join("node.db");
        let opened = EmbeddedStore::open(&path, OpenOptions::read_only()).expect("the store opens");
        let list = |range: &KeyRange| opened.store.list(range).expect("a listing").entries;
        let mut found = Vec::new();
        for v6 in [false, true] {
            for entry in list(&KeyRange::Blocks { v6 }) {
                let block: IpamBlock = entry.decode().expect("a block");
                assert_eq!(block.validate(None), [], "{}", entry.key);
                let taken = block
                    .allocations
                    .iter()
                    .enumerate()
                    .filter(|(_, index)| index.is_some());
                found.extend(taken.filter_map(|(ordinal, _)| Some(block.address(ordinal)?.to_string())));
            }
        }
        let interfaces = KeyRange::Local {
            table: LocalTable::NodeState,
            prefix: format!("{}/interface/", self.node),
        };
        let attachments = KeyRange::Local {
            table: LocalTable::Attachment,
            prefix: String::new(),
        };
        for range in [
            KeyRange::Handles,
            KeyRange::Kind(Kind::WorkloadEndpoint),
            attachments,
            interfaces,
        ] {
            found.extend(list(&range).into_iter().map(|entry| entry.key.to_string()));
        }
        found
    }

    /// Nothing of any container is left, in the kernel or the store.
    pub(crate) fn assert_clean(&self, when: &str) {
        assert_eq!(self.kernel_state(), [""; 0], "{when}");
        assert_eq!(self.store_state(), [""; 0], "{when}");
    }
}
