// SPDX-License-Identifier: Apache-2.0
//! `calico-ipam` by itself, as `bridge` or Calico's own plugin call it. By itself it touches no network and
//! needs no root; only the plugin that calls it does.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use datastore::{EmbeddedStore, OpenOptions, Store as _};
use model::KeyRange;
use serde_json::{Value, json};

struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        }
    }

    fn config(&self) -> Value {
        let at = |name: &str| self.folder.path().join(name);
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "ptp", "nodename": "node-a",
            "state_dir": at("state"), "run_dir": at("run"), "gc_minimum_age_seconds": 0,
            "ipam": {"type": "calico-ipam", "assign_ipv6": "true"},
        })
    }

    /// Runs a verb; the reply, or the error as one.
    fn run(verb: &str, id: &str, config: &Value) -> Result<Value, Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_calico-ipam"));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", "/opt/cni/bin")
            // Whatever networks this machine has.
            .env("CALICO_IPV4POOL_CIDR", "10.199.0.0/16")
            .env("CALICO_IPV6POOL_CIDR", "fd00:65::/64");
        if !["STATUS", "GC", "VERSION"].contains(&verb) {
            command
                .env("CNI_CONTAINERID", id)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_NETNS", "/run/netns/elsewhere");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // VERSION ends without reading.
        let _ = input.write_all(config.to_string().as_bytes());
        drop(input);
        let output = child.wait_with_output().unwrap();
        let reply = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() {
            Ok(reply)
        } else {
            Err(reply)
        }
    }

    /// The stored handles.
    fn handles(&self) -> Vec<String> {
        let path = self.folder.path().join("state/node.db");
        let store = EmbeddedStore::open(&path, OpenOptions::read_only())
            .unwrap()
            .store;
        let entries = store.list(&KeyRange::Handles).unwrap().entries;
        entries.iter().map(|entry| entry.key.to_string()).collect()
    }
}

#[test]
fn one_address_of_each_family_and_the_same_again() {
    let node = Node::new();
    let config = node.config();
    let reply = Node::run("ADD", "abc", &config).unwrap();
    let ips = reply["ips"].as_array().unwrap();
    assert_eq!(ips.len(), 2, "{reply}");
    // As Calico's: the mask is the block's.
    for (ip, (start, end)) in ips.iter().zip([("10.199.", "/26"), ("fd00:65:", "/122")]) {
        let address = ip["address"].as_str().unwrap();
        assert!(address.starts_with(start) && address.ends_with(end), "{reply}");
    }
    assert!(
        reply.get("interfaces").is_none_or(|found| *found == json!([])),
        "an IPAM plugin makes none: {reply}"
    );
    assert_eq!(Node::run("ADD", "abc", &config).unwrap(), reply);
    assert_ne!(Node::run("ADD", "def", &config).unwrap()["ips"], reply["ips"]);
    assert_eq!(node.handles().len(), 2);
    for _ in 0..2 {
        Node::run("DEL", "abc", &config).unwrap();
        assert_eq!(node.handles(), ["/calico/ipam/v2/handle/net.def"]);
    }
}

#[test]
fn an_address_that_was_asked_for_has_the_full_mask_every_time() {
    let node = Node::new();
    let mut config = node.config();
    config["runtimeConfig"] = json!({"ips": ["10.199.7.7"]});
    for _ in 0..2 {
        let reply = Node::run("ADD", "abc", &config).unwrap();
        assert_eq!(reply["ips"], json!([{"address": "10.199.7.7/32"}]), "{reply}");
    }
}

#[test]
fn check_compares_with_the_store() {
    let node = Node::new();
    let mut config = node.config();
    let reply = Node::run("ADD", "abc", &config).unwrap();
    config["prevResult"] = reply.clone();
    config["prevResult"]["interfaces"] = json!([{"name": "eth0", "sandbox": "/run/netns/elsewhere"}]);
    Node::run("CHECK", "abc", &config).unwrap();
    let error = Node::run("CHECK", "other", &config).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("other"), "{error}");
    Node::run("DEL", "abc", &config).unwrap();
    let error = Node::run("CHECK", "abc", &config).unwrap_err();
    let address = reply["ips"][0]["address"]
        .as_str()
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    assert!(
        error.to_string().contains(address) || error.to_string().contains("abc"),
        "{error}"
    );
}

#[test]
fn gc_releases_what_is_not_valid() {
    let node = Node::new();
    let mut config = node.config();
    for id in ["abc", "def"] {
        Node::run("ADD", id, &config).unwrap();
    }
    Node::run("GC", "", &config).unwrap();
    assert_eq!(node.handles().len(), 2, "a missing list frees nothing");
    config["cni.dev/valid-attachments"] = json!([{"containerID": "def", "ifname": "eth0"}]);
    Node::run("GC", "", &config).unwrap();
    assert_eq!(node.handles(), ["/calico/ipam/v2/handle/net.def"]);
}

#[test]
fn version_and_status_answer_and_errors_are_cni_errors() {
    let node = Node::new();
    let mut config = node.config();
    let versions = Node::run("VERSION", "", &json!({"cniVersion": "1.1.0"})).unwrap();
    assert!(
        versions["supportedVersions"]
            .as_array()
            .unwrap()
            .contains(&json!("1.1.0")),
        "{versions}"
    );
    Node::run("STATUS", "", &config).unwrap();
    config["ipam"]["ipv4_pools"] = json!(["no-such"]);
    let error = Node::run("ADD", "abc", &config).unwrap_err();
    assert_eq!(error["code"], 7, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("no-such"), "{error}");
    config["datastore_path"] = json!("relative");
    let error = Node::run("ADD", "abc", &config).unwrap_err();
    assert!(error.to_string().contains("datastore_path"), "{error}");
}

/// A named network namespace, gone with the value.
struct Namespace(String);

impl Namespace {
    fn new(tag: &str) -> Self {
        let name = format!("ci{}-{tag}", std::process::id());
        ip(&["netns", "add", &name]);
        Self(name)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs the reference plugin `bridge` on a host, with our program as its IPAM plugin. The reply, or the error as one.
fn bridge(verb: &str, id: &str, config: &Value, host: &Namespace, container: &str) -> Result<Value, Value> {
    let ours = Path::new(env!("CARGO_BIN_EXE_calico-ipam"));
    let folder = ours.parent().expect("a folder").display();
    let mut child = Command::new("ip")
        .args(["netns", "exec", &host.0, BRIDGE])
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", format!("{folder}:/usr/lib/cni"))
        .env("CNI_CONTAINERID", id)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", container)
        .env("CALICO_IPV4POOL_CIDR", "10.199.0.0/16")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(config.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let reply = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    if output.status.success() {
        Ok(reply)
    } else {
        Err(reply)
    }
}

const BRIDGE: &str = "/usr/lib/cni/bridge";

#[test]
fn bridge_has_its_addresses_from_us() {
    if !nix::unistd::geteuid().is_root() || !Path::new(BRIDGE).exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI runs this as root, with {BRIDGE}"
        );
        eprintln!("SKIPPED: needs root and {BRIDGE}");
        return;
    }
    let node = Node::new();
    let host = Namespace::new("h");
    let containers = [Namespace::new("a"), Namespace::new("b")];
    let mut config = node.config();
    config["type"] = json!("bridge");
    // What the distribution's plugin speaks.
    config["cniVersion"] = json!("0.4.0");
    config["ipam"]["assign_ipv6"] = json!("false");
    let add = |index: usize, config: &Value| {
        bridge(
            "ADD",
            &format!("c{index}"),
            config,
            &host,
            &containers[index].path(),
        )
        .unwrap()
    };
    let results = [add(0, &config), add(1, &config)];
    // A bridge takes the lowest MAC address of its ports, so only the last result is surely right about it.
    let mut check = config.clone();
    check["prevResult"] = results[1].clone();
    bridge("CHECK", "c1", &check, &host, &containers[1].path()).unwrap();
    assert_eq!(node.handles().len(), 2);
    // They are in one block, whose mask both have, so they reach each other over the bridge.
    let other = results[1]["ips"][0]["address"].as_str().unwrap();
    let other = other.strip_suffix("/26").expect("the mask of the block");
    ip(&["netns", "exec", &containers[0].0, "ping", "-c1", "-W5", other]);
    let mut check = config.clone();
    check["prevResult"] = results[0].clone();
    bridge("DEL", "c0", &config, &host, &containers[0].path()).unwrap();
    assert_eq!(node.handles(), ["/calico/ipam/v2/handle/net.c1"]);
    let error = bridge("CHECK", "c0", &check, &host, &containers[0].path()).unwrap_err();
    assert!(error.to_string().contains("net.c0"), "{error}");
    // A container that is gone, twice.
    for _ in 0..2 {
        bridge("DEL", "c1", &config, &host, "").unwrap();
        assert_eq!(node.handles(), [""; 0]);
    }
}

#[test]
fn status_of_a_locked_store_is_50() {
    use datastore::{Batch, Write};
    use model::{ClusterInformation, Key, Kind};

    let node = Node::new();
    let config = node.config();
    Node::run("STATUS", "", &config).unwrap();
    let path = node.folder.path().join("state/node.db");
    let key = Key::resource(Kind::ClusterInformation, "default");
    let set_ready = |ready| {
        let store = EmbeddedStore::open(&path, OpenOptions::default()).unwrap().store;
        let entry = store.get(&key).unwrap().unwrap();
        let mut information: ClusterInformation = entry.decode().unwrap();
        information.spec.datastore_ready = Some(ready);
        let batch = Batch {
            writes: vec![Write::update(key.clone(), &information, entry.revision)],
            ..Batch::default()
        };
        store.commit(&batch).unwrap();
    };
    set_ready(false);
    let error = Node::run("STATUS", "", &config).unwrap_err();
    assert_eq!(error["code"], 50, "{error}");
    assert!(error.to_string().contains("datastoreReady"), "{error}");
    let error = Node::run("ADD", "abc", &config).unwrap_err();
    assert_eq!(error["code"], 11, "{error}");
    assert_eq!(node.handles(), [""; 0]);
    set_ready(true);
    Node::run("STATUS", "", &config).unwrap();
    Node::run("ADD", "abc", &config).unwrap();
}
