// SPDX-License-Identifier: Apache-2.0
//! What ADD makes in the kernel, on both sides, and what it says of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::host::{Host, Namespace, ip, is_root};

/// The lines of an `ip` command in a namespace, each with single spaces.
fn lines(namespace: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = ip(&[&["-n", namespace], arguments].concat());
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    output.lines().map(words).collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn sysctl(namespace: &str, path: &str) -> String {
    let file = format!("/proc/sys/net/{path}");
    ip(&["netns", "exec", namespace, "cat", &file]).trim().to_owned()
}

fn families(host: &Host, v4: bool, v6: bool) -> Value {
    let mut config = host.config(v6);
    config["ipam"]["assign_ipv4"] = json!(v4);
    config
}

/// Addresses of the result by version, without their masks, which are always full.
fn addresses(result: &Value) -> (Option<String>, Option<String>) {
    let (mut v4, mut v6) = (None, None);
    for (index, ip) in result["ips"].as_array().unwrap().iter().enumerate() {
        assert_eq!(ip["interface"], 1, "{result}");
        let (address, length) = ip["address"].as_str().unwrap().split_once('/').unwrap();
        if address.contains(':') {
            assert_eq!(length, "128");
            v6 = Some(address.to_owned());
        } else {
            assert_eq!((length, index), ("32", 0), "IPv4 comes first");
            v4 = Some(address.to_owned());
        }
    }
    (v4, v6)
}

#[test]
fn both_sides_are_as_calico_makes_them() {
    if !is_root() {
        return;
    }
    for (v4, v6) in [(true, false), (false, true), (true, true)] {
        let (host, container) = (Host::new(), Namespace::new("c"));
        let config = families(&host, v4, v6);
        let result = host.run("ADD", "abc", Some(&container.path()), &config, 0).ok();
        let addresses = addresses(&result);
        assert_eq!(
            (addresses.0.is_some(), addresses.1.is_some()),
            (v4, v6),
            "{result}"
        );
        inside(&container, &result, &addresses);
        outside(&host, &result, &addresses);
    }
}

fn inside(container: &Namespace, result: &Value, (v4, v6): &(Option<String>, Option<String>)) {
    let namespace = &container.0;
    let present = ip(&["-n", namespace, "-o", "addr", "show", "eth0", "scope", "global"]);
    let present: BTreeSet<&str> = present
        .lines()
        .map(|line| line.split_whitespace().nth(3).unwrap())
        .collect();
    let expected: BTreeSet<String> = result["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["address"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(present, expected.iter().map(String::as_str).collect());
    let mut neighbours = BTreeSet::new();
    let mut routes = Vec::new();
    if v4.is_some() {
        let expected = [
            "default via 169.254.1.1 dev eth0",
            "169.254.1.1 dev eth0 scope link",
        ];
        assert_eq!(lines(namespace, &["-4", "route"]), set(&expected));
        neighbours.insert("169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT".to_owned());
        routes.push(json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}));
        assert_eq!(sysctl(namespace, "ipv4/ip_forward"), "0");
    } else {
        assert_eq!(lines(namespace, &["-4", "route"]), set(&[]));
    }
    if v6.is_some() {
        let present = lines(namespace, &["-6", "route", "show", "default"]);
        assert_eq!(
            present,
            set(&["default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024 pref medium"])
        );
        neighbours.insert("fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT".to_owned());
        routes.push(json!({"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"}));
        assert_eq!(sysctl(namespace, "ipv6/conf/all/forwarding"), "0");
        assert_eq!(sysctl(namespace, "ipv6/conf/eth0/accept_dad"), "0");
    }
    assert_eq!(result["routes"], json!(routes));
    let mut present = lines(namespace, &["-4", "neigh", "show", "nud", "permanent"]);
    present.extend(lines(namespace, &["-6", "neigh", "show", "nud", "permanent"]));
    assert_eq!(present, neighbours);
}

fn outside(host: &Host, result: &Value, (v4, v6): &(Option<String>, Option<String>)) {
    let namespace = &host.namespace.0;
    let name = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(name, "caliabc");
    assert_eq!(result["interfaces"][0]["mac"], "ee:ee:ee:ee:ee:ee");
    assert_eq!(result["interfaces"][1]["name"], "eth0");
    let link = ip(&["-n", namespace, "link", "show", name]);
    assert!(
        link.contains("ee:ee:ee:ee:ee:ee")
            && link.contains(",UP")
            && link.contains("alias calico:net/abc/eth0"),
        "{link}"
    );
    if let Some(v4) = v4 {
        assert_eq!(
            lines(namespace, &["-4", "route"]),
            set(&[&format!("{v4} dev {name} scope link")])
        );
        for (setting, value) in [
            ("rp_filter", "1"),
            ("route_localnet", "1"),
            ("proxy_arp", "1"),
            ("forwarding", "1"),
        ] {
            assert_eq!(
                sysctl(namespace, &format!("ipv4/conf/{name}/{setting}")),
                value,
                "{setting}"
            );
        }
        assert_eq!(sysctl(namespace, &format!("ipv4/neigh/{name}/proxy_delay")), "0");
    }
    if let Some(v6) = v6 {
        let present = lines(namespace, &["-6", "route", "show", v6]);
        assert_eq!(
            present,
            set(&[&format!("{v6} dev {name} metric 1024 pref medium")])
        );
        for (setting, value) in [("accept_ra", "0"), ("proxy_ndp", "1"), ("disable_ipv6", "0")] {
            assert_eq!(
                sysctl(namespace, &format!("ipv6/conf/{name}/{setting}")),
                value,
                "{setting}"
            );
        }
    }
}

#[test]
fn settings_of_the_configuration_reach_both_sides() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut config = host.config(true);
    config["mtu"] = json!(1371);
    config["num_queues"] = json!(3);
    config["container_settings"] = json!({"allow_ip_forwarding": true});
    config["include_default_routes"] = json!(false);
    config["ipam"]["routes"] = json!([{"dst": "10.0.0.0/8"}]);
    let container = Namespace::new("c");
    let result = host.run("ADD", "abc", Some(&container.path()), &config, 0).ok();
    for (namespace, name) in [(&host.namespace.0, "caliabc"), (&container.0, "eth0")] {
        let link = ip(&["-n", namespace, "-d", "link", "show", name]);
        assert!(
            link.contains("mtu 1371") && link.contains("numtxqueues 3"),
            "{link}"
        );
    }
    assert_eq!(result["interfaces"][1]["mtu"], 1371, "{result}");
    assert_eq!(sysctl(&container.0, "ipv4/ip_forward"), "1");
    assert_eq!(sysctl(&container.0, "ipv6/conf/all/forwarding"), "1");
}

#[test]
fn the_mtu_is_that_of_the_way_out_unless_something_says_otherwise() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let outside = Namespace::new("o");
    let namespace = &host.namespace.0;
    ip(&[
        "-n", namespace, "link", "add", "up0", "mtu", "1442", "type", "veth", "peer", "name", "down0",
        "netns", &outside.0,
    ]);
    ip(&["-n", namespace, "addr", "add", "10.250.0.2/24", "dev", "up0"]);
    ip(&["-n", namespace, "link", "set", "up0", "up"]);
    ip(&["-n", &outside.0, "link", "set", "down0", "up"]);
    let mtu_of = |id: &str| {
        let container = Namespace::new("c");
        host.add(id, &container).ok();
        let link = ip(&["-n", &container.0, "-o", "link", "show", "eth0"]);
        let mut words = link.split_whitespace().skip_while(|word| *word != "mtu");
        words.nth(1).unwrap().to_owned()
    };
    assert_eq!(mtu_of("no-way-out"), "1500", "the kernel's default");
    ip(&["-n", namespace, "route", "add", "default", "via", "10.250.0.1"]);
    assert_eq!(mtu_of("way-out"), "1442");
}
