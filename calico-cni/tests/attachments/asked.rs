// SPDX-License-Identifier: Apache-2.0
//! What can be asked for: addresses, pools, MAC addresses.

use datastore::Write;
use model::{IpPool, Key, Kind, ip_pool::IpPoolSpec};
use serde_json::{Value, json};

use crate::{
    add_with, assert_refused, commit, create_pool,
    host::{Answer, Host, Namespace, address, ip, is_root},
};

/// A host with a store and a second pool.
fn host() -> Host {
    let (host, container) = (Host::new(), Namespace::new("c"));
    host.add("first", &container).ok();
    host.del("first", &container).ok();
    create_pool(&host, "special", "10.66.0.0/24");
    host
}

fn add(host: &Host, container: &Namespace, config: &Value) -> Answer {
    host.run("ADD", "abc", Some(&container.path()), config, 0)
}

#[test]
fn a_pool_is_asked_for_by_name_or_prefix() {
    if !is_root() {
        return;
    }
    let host = host();
    for reference in ["special", "10.66.0.0/24"] {
        let container = Namespace::new("c");
        let mut config = host.config(false);
        config["ipam"]["ipv4_pools"] = json!([reference]);
        let result = add(&host, &container, &config).ok();
        assert!(address(&result).starts_with("10.66.0."), "{reference}: {result}");
        host.run("DEL", "abc", None, &config, 0).ok();
    }
    let container = Namespace::new("c");
    for reference in ["no-such", "10.67.0.0/24"] {
        let mut config = host.config(false);
        config["ipam"]["ipv4_pools"] = json!([reference]);
        let answer = add(&host, &container, &config);
        assert_refused(&host, &container, &answer, 7, &[reference]);
    }
}

#[test]
fn an_address_is_asked_for_in_either_way() {
    if !is_root() {
        return;
    }
    let host = host();
    let container = Namespace::new("c");
    let result = add_with(
        &host,
        "abc",
        &container,
        &host.config(false),
        "IgnoreUnknown=1;IP=10.66.0.7",
    )
    .ok();
    assert_eq!(address(&result), "10.66.0.7");
    let inside = ip(&["-n", &container.0, "-o", "addr", "show", "eth0"]);
    assert!(inside.contains("10.66.0.7/32"), "{inside}");

    let taken = Namespace::new("c");
    let mut config = host.config(false);
    config["runtimeConfig"] = json!({"ips": ["10.66.0.7"]});
    let answer = host.run("ADD", "other", Some(&taken.path()), &config, 0);
    assert_eq!(answer.json["code"], 102, "{}", answer.json);
    assert!(answer.json.to_string().contains("10.66.0.7"), "{}", answer.json);
    host.del("abc", &container).ok();
    host.assert_clean("after DEL");

    let result = host.run("ADD", "other", Some(&taken.path()), &config, 0).ok();
    assert_eq!(address(&result), "10.66.0.7", "free again");
    host.run("DEL", "other", None, &config, 0).ok();

    for outside in ["10.99.0.1", "fd77::1"] {
        let mut config = host.config(true);
        config["runtimeConfig"] = json!({"ips": [outside]});
        let answer = add(&host, &container, &config);
        assert_refused(&host, &container, &answer, 7, &[outside]);
    }
}

#[test]
fn a_mac_address_is_asked_for_in_either_way() {
    if !is_root() {
        return;
    }
    let host = host();
    let wanted = ["0a:58:0a:00:00:01", "0a:58:0a:00:00:02"];
    let arguments = format!("IgnoreUnknown=1;MAC={}", wanted[0]);
    let mut config = host.config(false);
    for mac in wanted {
        let container = Namespace::new("c");
        let result = add_with(&host, "abc", &container, &config, &arguments).ok();
        assert_eq!(result["interfaces"][1]["mac"], mac);
        let link = ip(&["-n", &container.0, "link", "show", "eth0"]);
        assert!(link.contains(mac), "{link}");
        host.run("DEL", "abc", None, &config, 0).ok();
        // The runtime's own way wins.
        config["runtimeConfig"] = json!({"mac": wanted[1]});
    }
}

#[test]
fn without_a_free_address_the_pool_is_named() {
    if !is_root() {
        return;
    }
    let host = host();
    let mut spec = IpPoolSpec::new("10.68.0.0/30".parse().unwrap());
    spec.block_size = Some(30);
    let key = Key::resource(Kind::IpPool, "tiny");
    commit(&host, vec![Write::create(key, &IpPool::new("tiny", spec))]);
    let mut config = host.config(false);
    config["ipam"]["ipv4_pools"] = json!(["tiny"]);
    let containers: Vec<Namespace> = (0..5).map(|_| Namespace::new("c")).collect();
    let run = |verb: &str, index: usize| {
        let path = containers[index].path();
        host.run(verb, &format!("c{index}"), Some(&path), &config, 0)
    };
    let mut given: Vec<String> = (0..4).map(|index| address(&run("ADD", index).ok())).collect();
    given.sort();
    assert_eq!(given, ["10.68.0.0", "10.68.0.1", "10.68.0.2", "10.68.0.3"]);
    let answer = run("ADD", 4);
    assert_eq!(answer.json["code"], 101, "{}", answer.json);
    assert!(answer.json.to_string().contains("tiny"), "{}", answer.json);
    let inside = ip(&["-n", &containers[4].0, "-br", "link"]);
    assert!(!inside.contains("eth0"), "left {inside}");
    run("DEL", 1).ok();
    assert_eq!(
        address(&run("ADD", 4).ok()),
        "10.68.0.1",
        "the one that came free"
    );
    for index in [0, 2, 3, 4] {
        run("DEL", index).ok();
    }
    host.assert_clean("after DEL");
}
