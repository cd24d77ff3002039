// SPDX-License-Identifier: Apache-2.0
//! Malformed input of every kind: the right CNI code, a message that names what is wrong, and nothing half done.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, Write};
use model::{Key, Kind};
use serde_json::{Value, json};

use crate::host::{Host, Namespace, ip, is_root};

fn expect(host: &Host, config: &Value, code: u64, named: &str) {
    let container = Namespace::new("c");
    let answer = host.run("ADD", "bad", Some(&container.path()), config, 0);
    assert!(!answer.output.status.success(), "{config} was accepted");
    let text = answer.json.to_string();
    assert_eq!(answer.json["code"], code, "{text}");
    assert!(text.contains(named), "{named} is not named: {text}");
    assert_eq!(host.kernel_state(), [""; 0], "{config}");
    let inside = ip(&["-n", &container.0, "-br", "link"]);
    assert!(!inside.contains("eth0"), "{config} left {inside}");
}

#[test]
fn every_malformed_key_is_named() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let cases = [
        ("mtu", json!("large")),
        ("mtu", json!(12)),
        ("mtu", json!({})),
        ("num_queues", json!(99_999)),
        ("device_type", json!("macvlan")),
        ("datastore_type", json!("etcdv3")),
        ("datastore_type", json!("postgres")),
        ("datastore_path", json!("relative/node.db")),
        ("state_dir", json!("relative")),
        ("run_dir", json!(7)),
        ("nodename", json!("Not_Valid")),
        ("require_mtu_file", json!("perhaps")),
        ("readiness_gates", json!(["https://localhost/"])),
        ("readiness_gates", json!("http://localhost/")),
        ("policy_setup_timeout_seconds", json!(-1)),
        ("gc_minimum_age_seconds", json!("soon")),
        ("container_settings", json!([])),
        ("container_settings", json!({"allow_ip_forwarding": 3})),
        ("feature_control", json!("on")),
        ("log_level", json!(1)),
        ("log_file_max_size", json!(-5)),
        ("ipam", json!("calico-ipam")),
        ("policy", json!(true)),
        ("runtimeConfig", json!({"ips": ["10.0.0"]})),
        ("runtimeConfig", json!({"mac": "01:00:5e:00:00:01"})),
        ("prevResult", json!("text")),
        ("dns", json!({"nameservers": "8.8.8.8"})),
    ];
    for (key, value) in cases {
        let mut config = host.config(false);
        config[key] = value;
        let code = if key == "prevResult" { 6 } else { 7 };
        let named = match key {
            "runtimeConfig" if config[key].get("mac").is_some() => "01:00:5e",
            "nodename" => "Not_Valid",
            other => other,
        };
        expect(&host, &config, code, named);
    }
    for (key, value) in [
        ("type", json!(null)),
        ("type", json!("no-such-plugin")),
        ("assign_ipv4", json!("maybe")),
        ("assign_ipv4", json!("false")),
        ("ipv4_pools", json!("pool")),
        ("ipv4_pools", json!(["no-such-pool"])),
    ] {
        let mut config = host.config(false);
        config["ipam"][key] = value.clone();
        let named = value
            .as_str()
            .filter(|text| text.starts_with("no-such"))
            .unwrap_or(key);
        let named = if value == json!(["no-such-pool"]) {
            "no-such-pool"
        } else {
            named
        };
        let named = if value == json!("false") {
            "assign_ipv4"
        } else {
            named
        };
        expect(&host, &config, 7, named);
    }
    let mut unsupported = host.config(false);
    unsupported["dataplane_options"] = json!({"type": "grpc"});
    expect(&host, &unsupported, 2, "dataplane_options");
    host.assert_clean("after all of them");
}

#[test]
fn every_malformed_variable_is_named() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let container = Namespace::new("c");
    let cases = [
        ("CNI_CONTAINERID", "some-%%id", "CNI_CONTAINERID"),
        ("CNI_IFNAME", "a/b", "CNI_IFNAME"),
        ("CNI_ARGS", "IP=10.0.0", "IP=10.0.0"),
        ("CNI_ARGS", "UNKNOWN=1", "UNKNOWN"),
        ("CNI_NETNS", "/no/such/namespace", "/no/such/namespace"),
        ("CNI_NETNS", "/etc/hostname", "/etc/hostname"),
        ("FELIX_INTERFACEPREFIX", "much-too-long", "FELIX_INTERFACEPREFIX"),
        ("CALICO_IPV4POOL_CIDR", "10.0.0.0/99", "CALICO_IPV4POOL_CIDR"),
        (
            "CALICO_GC_MINIMUM_AGE_SECONDS",
            "soon",
            "CALICO_GC_MINIMUM_AGE_SECONDS",
        ),
    ];
    for (name, value, named) in cases {
        let mut command = host.command("ADD", "bad", Some(&container.path()), 0);
        command.env(name, value);
        let mut config = host.config(false);
        if name == "CALICO_GC_MINIMUM_AGE_SECONDS" {
            config.as_object_mut().unwrap().remove("gc_minimum_age_seconds");
        }
        let answer = Host::finish(command, &config);
        assert_eq!(answer.json["code"], 4, "{name}={value}: {}", answer.json);
        assert!(answer.json.to_string().contains(named), "{}", answer.json);
    }
    assert_eq!(host.kernel_state(), [""; 0]);
}

fn store_text(host: &Host, key: Key, text: &str) {
    let opened = EmbeddedStore::open(&host.state.join("node.db"), OpenOptions::default()).unwrap();
    let value = text.to_owned();
    let write = match opened.store.get(&key).unwrap() {
        Some(entry) => Write::Update {
            key,
            value,
            revision: entry.revision,
        },
        None => Write::Create { key, value },
    };
    opened
        .store
        .commit(&Batch {
            writes: vec![write],
            journal: Vec::new(),
        })
        .unwrap();
}

#[test]
fn damaged_objects_are_named_and_hurt_nobody_else() {
    if !is_root() {
        return;
    }
    let needed = [
        Key::resource(Kind::ClusterInformation, "default"),
        Key::resource(Kind::Node, "node-a"),
        Key::IpamConfig,
    ];
    for key in needed {
        let host = Host::new();
        // STATUS makes the store, and no block yet.
        host.run("STATUS", "unused", None, &host.config(false), 0).ok();
        for text in ["{", "[]", "7", r#"{"kind":"Elephant"}"#] {
            if key == Key::IpamConfig && text.contains("Elephant") {
                continue;
            }
            store_text(&host, key.clone(), text);
            expect(&host, &host.config(false), 7, &key.to_string());
        }
    }
    // Of several pools and blocks, a damaged one is left out.
    let host = Host::new();
    let (first, second) = (Namespace::new("c"), Namespace::new("c"));
    host.add("first", &first).ok();
    store_text(&host, Key::resource(Kind::IpPool, "aaa-broken"), "{");
    store_text(
        &host,
        Key::Block("192.168.77.0/26".parse().unwrap()),
        r#"{"cidr":7}"#,
    );
    host.add("second", &second).ok();
    host.del("first", &first).ok();
    host.del("second", &second).ok();
    assert_eq!(host.kernel_state(), [""; 0]);
}

/// A small file system of its own, mounted over a folder while the value lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path, options: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder)
            .status();
        assert!(status.unwrap().success());
        Self(folder)
    }

    /// The kernel may hold on to what an ended process had mapped for a moment.
    fn make_read_only(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let remount = || {
            let mut command = Command::new("mount");
            command.args(["-o", "remount,ro"]).arg(self.0);
            command
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        while !remount() {
            assert!(Instant::now() < deadline, "{} stays busy", self.0.display());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_or_read_only_disk_is_a_clear_error_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let disk = SmallDisk::mount(&host.state, "size=1m");
    let warm = Namespace::new("c");
    host.add("warm", &warm).ok();
    host.del("warm", &warm).ok();
    let filler = host.state.join("filler");
    let _ = fs::write(&filler, vec![0; 2 << 20]);
    expect(&host, &host.config(false), 11, "no space left");
    fs::remove_file(&filler).unwrap();
    host.assert_clean("after the full disk");
    disk.make_read_only();
    expect(&host, &host.config(false), 7, "read-only");
}
