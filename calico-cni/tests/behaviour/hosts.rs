// SPDX-License-Identifier: Apache-2.0
//! ADD on hosts and in containers whose settings are unusual, and where its MTU comes from.

use std::fs;

use serde_json::{Value, json};

use crate::{
    Attached, assert_refused,
    host::{Host, Namespace, address, ip, is_root},
};

fn json_of(namespace: &Namespace, arguments: &[&str]) -> Value {
    let output = ip(&[&["-n", &namespace.0, "-j"], arguments].concat());
    serde_json::from_str(&output).expect("iproute2 prints JSON")
}

/// A device that is up and leads nowhere in particular: one end of a pair.
fn add_device(namespace: &Namespace, name: &str, mtu: &str) {
    let other_end = format!("{name}x");
    ip(&[
        "-n",
        &namespace.0,
        "link",
        "add",
        name,
        "mtu",
        mtu,
        "type",
        "veth",
        "peer",
        "name",
        &other_end,
    ]);
    ip(&["-n", &namespace.0, "link", "set", &other_end, "up"]);
    ip(&["-n", &namespace.0, "link", "set", name, "up"]);
}

fn shell(namespace: &Namespace, command: &str) -> String {
    ip(&["netns", "exec", &namespace.0, "sh", "-ec", command])
}

#[test]
fn the_result_is_what_is_there_and_nothing_else() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut config = host.config(true);
    config["mtu"] = json!(1400);
    let attached = Attached::with(&host, "abc", config);
    let (inside, outside) = (
        json_of(&attached.container, &["addr", "show", "eth0"]),
        json_of(&host.namespace, &["addr", "show", "caliabc"]),
    );
    let local = |family: &str| {
        let all = inside[0]["addr_info"].as_array().expect("addresses");
        let mut found = all
            .iter()
            .filter(|info| info["family"] == family && info["scope"] == "global");
        let first = found.next().expect("an address");
        assert!(found.next().is_none(), "{inside}");
        format!(
            "{}/{}",
            first["local"].as_str().expect("text"),
            first["prefixlen"]
        )
    };
    assert_eq!(
        attached.result,
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "caliabc", "mac": outside[0]["address"], "mtu": outside[0]["mtu"]},
                {"name": "eth0", "mac": inside[0]["address"], "mtu": inside[0]["mtu"],
                 "sandbox": attached.container.path()},
            ],
            "ips": [
                {"interface": 1, "address": local("inet")},
                {"interface": 1, "address": local("inet6")},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"},
            ],
        })
    );
    // The next hop is there and usable at once, and the host side has no other address.
    let addresses = outside[0]["addr_info"].as_array().expect("addresses");
    assert_eq!(addresses.len(), 1, "{outside}");
    assert_eq!(addresses[0]["local"], "fe80::ecee:eeff:feee:eeee");
    assert_eq!(addresses[0]["tentative"], Value::Null, "{outside}");
    let mac = inside[0]["address"].as_str().expect("text");
    let first = u8::from_str_radix(&mac[..2], 16).expect("hexadecimal");
    assert_eq!(first & 3, 2, "{mac} is not local and unicast");
}

#[test]
fn settings_of_host_and_container_that_are_in_the_way_are_overruled() {
    if !is_root() {
        return;
    }
    // (what is set on the host, what in the container)
    for (on_host, in_container) in [
        ("echo 1 > ipv6/conf/default/disable_ipv6", ":"),
        ("echo 1 > ipv6/conf/default/addr_gen_mode", ":"),
        ("echo 3 > ipv6/conf/default/addr_gen_mode", ":"),
        (
            "echo 2 > ipv4/conf/default/rp_filter; echo 2 > ipv4/conf/all/arp_ignore",
            ":",
        ),
        (
            ":",
            "echo 1 > ipv6/conf/all/disable_ipv6; echo 1 > ipv6/conf/default/disable_ipv6",
        ),
        (":", "echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding"),
    ] {
        let host = Host::new();
        let container = Namespace::new("c");
        shell(&host.namespace, &format!("cd /proc/sys/net; {on_host}"));
        for own in ["10.250.0.1/32", "fd77::1/128"] {
            ip(&["-n", &host.namespace.0, "addr", "add", own, "dev", "lo"]);
        }
        shell(&container, &format!("cd /proc/sys/net; {in_container}"));
        let mut config = host.config(true);
        let result = host.run("ADD", "abc", Some(&container.path()), &config, 0).ok();
        config["prevResult"] = result.clone();
        host.run("CHECK", "abc", Some(&container.path()), &config, 0).ok();
        let settings = shell(
            &container,
            "cd /proc/sys/net/ipv6/conf; for name in all default lo eth0; do cat $name/disable_ipv6; done",
        );
        assert_eq!(settings, "0\n0\n0\n0\n", "{on_host} {in_container}");
        for index in 0..2 {
            let target = result["ips"][index]["address"].as_str().expect("an address");
            let target = target.split('/').next().expect("a part");
            shell(&host.namespace, &format!("ping -c1 -W2 {target}"));
        }
    }
}

#[test]
fn the_mtu_is_configured_or_in_the_file_or_that_of_the_best_way_out() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    for (name, mtu, metric) in [("up0", "1442", "200"), ("up1", "1443", "100")] {
        let namespace = &host.namespace.0;
        add_device(&host.namespace, name, mtu);
        ip(&[
            "-n", namespace, "-6", "route", "add", "default", "dev", name, "metric", metric,
        ]);
    }
    let file = host.config(false)["state_dir"].as_str().expect("text").to_owned() + "/mtu";
    fs::create_dir_all(file.trim_end_matches("/mtu")).expect("the folder");
    // (content of the file, "mtu", result)
    for (content, configured, expected) in [
        (None, 0, 1443),
        (Some("0\n"), 0, 1443),
        (Some(" 3000 \n"), 0, 3000),
        (Some("3000"), 1371, 1371),
    ] {
        let _ = fs::remove_file(&file);
        if let Some(content) = content {
            fs::write(&file, content).expect("the file");
        }
        let mut config = host.config(false);
        config["mtu"] = json!(configured);
        let attached = Attached::with(&host, "abc", config);
        for (namespace, name) in [(&attached.container, "eth0"), (&host.namespace, "caliabc")] {
            let link = json_of(namespace, &["link", "show", name]);
            assert_eq!(link[0]["mtu"], expected, "{content:?} {configured}");
        }
        attached.del(&host);
    }
    let container = Namespace::new("c");
    let mut config = host.config(false);
    config["require_mtu_file"] = json!(true);
    fs::write(&file, "many").expect("the file");
    let add = || host.run("ADD", "abc", Some(&container.path()), &config, 0);
    assert_refused(&host, &container, &add(), 7, &[&file, "many"]);
    fs::remove_file(&file).expect("the file");
    assert_refused(&host, &container, &add(), 11, &[&file, "require_mtu_file"]);
}

#[test]
fn a_stale_route_to_the_address_is_named_and_nothing_is_left() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let first = Attached::new(&host, "net", "first");
    let wanted = first.address();
    first.del(&host);
    let namespace = &host.namespace.0;
    add_device(&host.namespace, "stale0", "1500");
    ip(&["-n", namespace, "route", "add", &wanted, "dev", "stale0"]);
    let other = Attached::new(&host, "net", "other");
    assert_ne!(other.address(), wanted, "it is in use");
    other.del(&host);
    let container = Namespace::new("c");
    let mut config = host.config(false);
    config["runtimeConfig"] = json!({"ips": [wanted]});
    let answer = host.run("ADD", "abc", Some(&container.path()), &config, 0);
    assert_refused(&host, &container, &answer, 102, &[&wanted, "stale0"]);
    let routes = ip(&["-n", namespace, "route"]);
    assert!(
        routes.contains(&format!("{wanted} dev stale0")),
        "somebody else's route is gone: {routes}"
    );
    ip(&["-n", namespace, "link", "del", "stale0"]);
    let result = host.run("ADD", "abc", Some(&container.path()), &config, 0).ok();
    assert_eq!(address(&result), wanted, "free again");
}

#[test]
fn an_interface_of_somebody_else_with_the_name_on_the_host_stays() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let namespace = &host.namespace.0;
    add_device(&host.namespace, "caliabc", "1500");
    let attached = Attached::new(&host, "net", "abc");
    assert_ne!(attached.result["interfaces"][0]["name"], "caliabc");
    attached.check(&host).ok();
    attached.del(&host);
    host.del("abc", &attached.container).ok();
    ip(&["-n", namespace, "link", "del", "caliabc"]);
    host.assert_clean("after DEL");
}

#[test]
fn the_hosts_own_namespace_and_none_are_refused() {
    if !is_root() {
        return;
    }
    let (host, container) = (Host::new(), Namespace::new("c"));
    host.add("first", &container).ok();
    host.del("first", &container).ok();
    let own = host.namespace.path();
    let answer = host.run("ADD", "abc", Some(&own), &host.config(false), 0);
    assert_refused(&host, &container, &answer, 8, &[&own]);
    let answer = host.run("ADD", "abc", None, &host.config(false), 0);
    assert_refused(&host, &container, &answer, 4, &["CNI_NETNS"]);
}

#[test]
fn del_takes_a_file_for_a_namespace_that_is_gone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = Attached::new(&host, "net", "abc");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let file = folder.path().join("unmounted");
    fs::write(&file, "").expect("the file");
    for _ in 0..2 {
        host.run("DEL", "abc", file.to_str(), &attached.config, 0).ok();
        host.assert_clean("after DEL");
    }
    assert!(file.exists(), "DEL removed what is the runtime's");
}
