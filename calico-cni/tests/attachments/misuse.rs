// SPDX-License-Identifier: Apache-2.0
//! What no runtime should do, and what must not cost anybody anything when one does.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, symlink},
    thread,
};

use serde_json::json;

use crate::{
    add_with, assert_refused,
    host::{Host, Namespace, ip, is_root},
};

/// A host whose store is there, so that "nothing is left" can be read.
fn host() -> (Host, Namespace) {
    let (host, container) = (Host::new(), Namespace::new("c"));
    host.add("first", &container).ok();
    host.del("first", &container).ok();
    (host, container)
}

#[test]
fn names_that_no_key_can_have_are_refused() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    for (arguments, named) in [
        ("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a/b", "K8S_POD_NAME"),
        ("K8S_POD_NAMESPACE=../x;K8S_POD_NAME=web", "K8S_POD_NAMESPACE"),
        ("CNI_TEST_NAMESPACE=a/b", "CNI_TEST_NAMESPACE"),
    ] {
        let answer = add_with(&host, "abc", &container, &host.config(false), arguments);
        assert_refused(&host, &container, &answer, 4, &["CNI_ARGS", named]);
    }
    for name in ["eth%d", "%s", "all", "default"] {
        let mut command = host.command("ADD", "abc", Some(&container.path()), 0);
        command.env("CNI_IFNAME", name);
        let answer = Host::finish(command, &host.config(false));
        assert_refused(&host, &container, &answer, 4, &["CNI_IFNAME", name]);
    }
    let mut config = host.config(false);
    config["state_dir"] = json!("/var/lib/cal\u{0}ico");
    let answer = host.run("ADD", "abc", Some(&container.path()), &config, 0);
    assert_refused(&host, &container, &answer, 7, &["state_dir"]);
}

#[test]
fn the_host_itself_gets_no_interface() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    let path = host.namespace.path();
    let mut command = host.command("ADD", "abc", Some(&path), 0);
    command.env("CNI_NETNS_OVERRIDE", "1");
    let answer = Host::finish(command, &host.config(false));
    assert_refused(
        &host,
        &container,
        &answer,
        4,
        &["CNI_NETNS", "own network namespace"],
    );
}

#[test]
fn the_same_interface_on_a_second_network_harms_the_first_in_nothing() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    let first = host.add("abc", &container).ok();
    let before = host.store_state();
    let mut second = host.config(false);
    second["name"] = json!("second");
    let answer = host.run("ADD", "abc", Some(&container.path()), &second, 0);
    assert_eq!(answer.json["code"], 7, "{}", answer.json);
    assert!(answer.json.to_string().contains("eth0"), "{}", answer.json);
    assert_eq!(host.store_state(), before, "the first network's records");
    host.run("DEL", "abc", Some(&container.path()), &second, 0).ok();
    assert_eq!(host.store_state(), before, "after DEL of the second network");
    let mut config = host.config(false);
    config["prevResult"] = first;
    host.run("CHECK", "abc", Some(&container.path()), &config, 0).ok();
    host.del("abc", &container).ok();
    host.assert_clean("at the end");
}

#[test]
fn add_and_del_of_one_container_at_once_leave_nothing_that_del_does_not_remove() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    for round in 0..4 {
        thread::scope(|scope| {
            for number in 0..16 {
                let (host, container) = (&host, &container);
                scope.spawn(move || {
                    let verb = if number % 2 == 0 { "ADD" } else { "DEL" };
                    host.run(verb, "abc", Some(&container.path()), &host.config(false), 0)
                });
            }
        });
        let answer = host.del("abc", &container);
        assert!(answer.output.status.success(), "round {round}: {}", answer.json);
        host.assert_clean(&format!("round {round}"));
        let inside = ip(&["-n", &container.0, "-br", "link"]);
        assert!(!inside.contains("eth0"), "round {round} left {inside}");
        host.add("abc", &container).ok();
        host.del("abc", &container).ok();
    }
}

#[test]
fn an_interface_of_its_own_that_no_record_knows_is_replaced() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    host.add("abc", &container).ok();
    // As a store that was lost and restored from before leaves it.
    fs::remove_dir_all(&host.state).unwrap();
    let other = Namespace::new("c");
    host.add("other", &other).ok();
    let result = host.add("abc", &container).ok();
    assert_eq!(result["interfaces"][1]["name"], "eth0");
    host.del("abc", &container).ok();
    host.del("other", &other).ok();
    host.assert_clean("at the end");
}

#[test]
fn del_succeeds_whatever_cni_netns_leads_to() {
    if !is_root() {
        return;
    }
    let (host, _) = host();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let circle = folder.path().join("circle");
    symlink(&circle, &circle).unwrap();
    let long = format!("/run/{}", "x/".repeat(3000));
    let paths = [
        "/proc/self/ns/mnt",
        "/proc/version",
        circle.to_str().unwrap(),
        &long,
        "/dev/null",
    ];
    for path in paths {
        for _ in 0..2 {
            let answer = host.run("DEL", "never-added", Some(path), &host.config(false), 0);
            assert!(answer.output.status.success(), "{path}: {}", answer.json);
        }
    }
}

#[test]
fn a_del_needs_nothing_that_only_its_add_needed() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    let annotations = |key: &str, value: &str| json!({"io.kubernetes.cri.pod-annotations": {key: value}});
    for (key, value) in [
        ("runtimeConfig", annotations("cni.projectcalico.org/ipAddrs", "x")),
        ("runtimeConfig", annotations("cni.projectcalico.org/hwAddr", "x")),
        ("runtimeConfig", json!({"portMappings": "x"})),
        ("runtimeConfig", json!({"ips": ["x"]})),
        ("dns", json!(7)),
        ("mtu", json!("large")),
        ("num_queues", json!(99_999)),
        ("device_type", json!("macvlan")),
        ("readiness_gates", json!(["https://localhost/"])),
        ("policy_setup_timeout_seconds", json!(-1)),
        ("gc_minimum_age_seconds", json!("soon")),
        ("container_settings", json!([])),
        ("feature_control", json!("on")),
        ("log_level", json!(1)),
        ("require_mtu_file", json!("perhaps")),
    ] {
        let mut config = host.config(false);
        config[key] = value;
        let answer = host.run("ADD", "abc", Some(&container.path()), &config, 0);
        assert_eq!(answer.json["code"], 7, "{config}: {}", answer.json);
        host.add("abc", &container).ok();
        let answer = host.run("DEL", "abc", Some(&container.path()), &config, 0);
        assert!(answer.output.status.success(), "{config}: {}", answer.json);
        host.assert_clean(key);
    }
    let mut config = host.config(false);
    config["ipam"]["ipv4_pools"] = json!(7);
    host.add("abc", &container).ok();
    host.run("DEL", "abc", Some(&container.path()), &config, 0).ok();
    host.assert_clean("ipv4_pools");
}

#[test]
fn a_new_sandbox_that_fails_leaves_the_old_one_its_records() {
    if !is_root() {
        return;
    }
    let (host, _) = host();
    let (old, new) = (Namespace::new("c"), Namespace::new("c"));
    let config = host.config(false);
    let pod = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
    let result = add_with(&host, "old", &old, &config, pod).ok();
    let before = host.store_state();
    ip(&[
        "-n", &new.0, "link", "add", "eth0", "type", "veth", "peer", "name", "other",
    ]);
    let answer = add_with(&host, "new", &new, &config, pod);
    assert_eq!(answer.json["code"], 7, "{}", answer.json);
    assert_eq!(host.store_state(), before);
    let mut check = host.command("CHECK", "old", Some(&old.path()), 0);
    check.env("CNI_ARGS", pod);
    let mut config = config;
    config["prevResult"] = result;
    Host::finish(check, &config).ok();
}

#[test]
fn what_is_no_regular_file_is_neither_replaced_nor_waited_for() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let make = |name: &str, kind: &[&str]| {
        let path = folder.path().join(name);
        let status = std::process::Command::new("mknod").arg(&path).args(kind).status();
        assert!(status.unwrap().success());
        path
    };
    let (pipe, device) = (make("pipe", &["p"]), make("device", &["c", "1", "3"]));
    let link = folder.path().join("link");
    symlink(&device, &link).unwrap();
    for path in [&pipe, &device, &link, &folder.path().to_owned()] {
        let (host, container) = (Host::new(), Namespace::new("c"));
        let mut config = host.config(false);
        config["datastore_path"] = json!(path);
        for verb in ["ADD", "STATUS", "DEL"] {
            let answer = host.run(verb, "abc", Some(&container.path()), &config, 0);
            let text = answer.json.to_string();
            assert!(
                !answer.output.status.success() && text.contains("regular file"),
                "{verb}: {text}"
            );
        }
    }
    assert!(
        fs::metadata(&device).unwrap().file_type().is_char_device(),
        "replaced"
    );
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo(), "replaced");
    // Beside the store, and for lock and log.
    for key in ["ipam_lock_file", "log_file_path"] {
        let (host, container) = (Host::new(), Namespace::new("c"));
        let mut config = host.config(false);
        config[key] = json!(pipe);
        let answer = host.run("ADD", "abc", Some(&container.path()), &config, 0);
        assert_eq!(
            answer.output.status.success(),
            key == "log_file_path",
            "{key}: {}",
            answer.json
        );
    }
    for suffix in ["bell", "lock"] {
        let (host, container) = host();
        let beside = host.state.join(format!("node.db.{suffix}"));
        fs::remove_file(&beside).unwrap();
        fs::rename(make(suffix, &["p"]), &beside).unwrap();
        let answer = host.add("abc", &container);
        assert!(!answer.output.status.success(), "{suffix}");
        assert!(
            answer.json.to_string().contains("regular file"),
            "{}",
            answer.json
        );
    }
}

#[test]
fn a_repeated_add_of_an_older_sandbox_leaves_its_successor_alone() {
    if !is_root() {
        return;
    }
    let (host, _) = host();
    let (old, new) = (Namespace::new("c"), Namespace::new("c"));
    let config = host.config(false);
    let pod = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
    add_with(&host, "old", &old, &config, pod).ok();
    let result = add_with(&host, "new", &new, &config, pod).ok();
    let answer = add_with(&host, "old", &old, &config, pod);
    assert_eq!(answer.json["code"], 7, "{}", answer.json);
    let mut check = host.command("CHECK", "new", Some(&new.path()), 0);
    check.env("CNI_ARGS", pod);
    let mut config = config;
    config["prevResult"] = result;
    Host::finish(check, &config).ok();
}

#[test]
fn no_block_is_claimed_inside_a_prefix_that_is_on_link_by_a_route_only() {
    if !is_root() {
        return;
    }
    let (host, outside, container) = (Host::new(), Namespace::new("o"), Namespace::new("c"));
    let inside = &host.namespace.0;
    ip(&[
        "-n", inside, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", &outside.0,
    ]);
    ip(&["-n", inside, "link", "set", "up0", "up"]);
    ip(&[
        "-n",
        inside,
        "route",
        "add",
        "192.168.0.0/16",
        "dev",
        "up0",
        "scope",
        "link",
    ]);
    let result = host.add("abc", &container).ok();
    let address = crate::host::address(&result);
    assert!(
        address.starts_with("172.16."),
        "{address}: the default pool avoids what is on link"
    );
}

#[test]
fn variables_of_the_datastore_are_named() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    for (variable, value) in [
        ("DATASTORE_TYPE", "foo"),
        ("ETCD_ENDPOINTS", "http://127.0.0.1:1"),
    ] {
        let mut command = host.command("ADD", "abc", Some(&container.path()), 0);
        command.env(variable, value);
        let answer = Host::finish(command, &host.config(false));
        assert_refused(&host, &container, &answer, 4, &[variable]);
    }
}

#[test]
fn an_mtu_that_ipv6_cannot_have_is_named() {
    if !is_root() {
        return;
    }
    let (host, container) = host();
    let mut config = host.config(true);
    config["mtu"] = json!(1000);
    let answer = host.run("ADD", "abc", Some(&container.path()), &config, 0);
    assert_refused(&host, &container, &answer, 7, &["MTU of 1000", "1280"]);
}
