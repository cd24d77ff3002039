// SPDX-License-Identifier: Apache-2.0
//! Addresses and pools asked for that cannot be had, or only together: all of it or nothing.

use datastore::Write;
use model::{
    IpPool, Key, Kind,
    ip_pool::{AllowedUse, IpPoolSpec},
};
use serde_json::{Value, json};

use crate::{
    Attached, assert_refused, commit,
    host::{Answer, Host, Namespace, is_root},
};

/// Name, prefix, and what is special about a pool.
type Pool<'a> = (&'a str, &'a str, fn(&mut IpPoolSpec));

/// A host with a store and these pools besides the default ones.
fn host(pools: &[Pool<'_>]) -> Host {
    let (host, container) = (Host::new(), Namespace::new("c"));
    host.add("first", &container).ok();
    host.del("first", &container).ok();
    for (name, cidr, change) in pools {
        let mut spec = IpPoolSpec::new(cidr.parse().expect("a prefix"));
        change(&mut spec);
        let key = Key::resource(Kind::IpPool, *name);
        commit(&host, vec![Write::create(key, &IpPool::new(*name, spec))]);
    }
    host
}

fn plain(_: &mut IpPoolSpec) {}

fn add(host: &Host, container: &Namespace, config: &Value, arguments: &str) -> Answer {
    let mut command = host.command("ADD", "abc", Some(&container.path()), 0);
    command.env("CNI_ARGS", arguments);
    Host::finish(command, config)
}

fn listed(result: &Value) -> Vec<&str> {
    let ips = result["ips"].as_array().expect("addresses");
    ips.iter().filter_map(|ip| ip["address"].as_str()).collect()
}

#[test]
fn one_address_of_each_family_is_asked_for_at_once() {
    if !is_root() {
        return;
    }
    let host = host(&[("four", "10.66.0.0/24", plain), ("six", "fd66::/64", plain)]);
    // The families of the configuration do not matter to who asks for an address.
    let config = host.config(false);
    let mut asked = config.clone();
    asked["runtimeConfig"] = json!({"ips": ["10.66.0.8/24", "fd66::8"]});
    for (config, arguments, expected) in [
        (&config, "IP=10.66.0.7,fd66::7", ["10.66.0.7/32", "fd66::7/128"]),
        (&asked, "IP=10.66.0.7", ["10.66.0.8/32", "fd66::8/128"]),
    ] {
        let container = Namespace::new("c");
        let result = add(&host, &container, config, arguments).ok();
        assert_eq!(listed(&result), expected);
        host.del("abc", &container).ok();
    }
    let container = Namespace::new("c");
    let result = add(&host, &container, &config, "IP=fd66::7").ok();
    assert_eq!(listed(&result), ["fd66::7/128"]);
    host.del("abc", &container).ok();
    host.assert_clean("after all DELs");
}

#[test]
fn an_address_that_is_taken_costs_the_other_one_too() {
    if !is_root() {
        return;
    }
    let host = host(&[("four", "10.66.0.0/24", plain), ("six", "fd66::/64", plain)]);
    let mut config = host.config(true);
    config["runtimeConfig"] = json!({"ips": ["fd66::7"]});
    let holder = Attached::with(&host, "holder", config);
    let (kernel, store) = (host.kernel_state(), host.store_state());
    let container = Namespace::new("c");
    for (arguments, code, named) in [
        ("IP=10.66.0.7,fd66::7", 102, "fd66::7"),
        ("IP=10.66.0.7,fd77::1", 7, "fd77::1"),
        ("IP=10.66.0.7,10.66.0.8", 7, "10.66.0.8"),
    ] {
        let answer = add(&host, &container, &host.config(true), arguments);
        assert_eq!(answer.json["code"], code, "{arguments}: {}", answer.json);
        assert!(answer.json.to_string().contains(named), "{}", answer.json);
        assert_eq!(host.kernel_state(), kernel, "{arguments}");
        assert_eq!(host.store_state(), store, "{arguments}");
    }
    holder.check(&host).ok();
}

#[test]
fn without_an_address_of_one_family_there_is_none_of_the_other() {
    if !is_root() {
        return;
    }
    let host = host(&[("six", "fd66::/126", |spec| spec.block_size = Some(126))]);
    let mut config = host.config(true);
    config["ipam"]["ipv6_pools"] = json!(["six"]);
    let held: Vec<Attached> = (0..4)
        .map(|number| Attached::with(&host, &format!("c{number}"), config.clone()))
        .collect();
    let (kernel, store) = (host.kernel_state(), host.store_state());
    let container = Namespace::new("c");
    let answer = add(&host, &container, &config, "");
    assert_eq!(answer.json["code"], 101, "{}", answer.json);
    assert!(answer.json.to_string().contains("six"), "{}", answer.json);
    assert_eq!(host.kernel_state(), kernel);
    assert_eq!(host.store_state(), store, "the IPv4 address was kept");
    held[2].del(&host);
    let result = add(&host, &container, &config, "").ok();
    assert_eq!(
        listed(&result)[1],
        listed(&held[2].result)[1],
        "the one that came free"
    );
}

#[test]
fn pools_that_cannot_be_used_are_named() {
    if !is_root() {
        return;
    }
    let host = host(&[
        ("off", "10.67.0.0/24", |spec| spec.disabled = true),
        ("tunnels", "10.68.0.0/24", |spec| {
            spec.allowed_uses = vec![AllowedUse::Tunnel];
        }),
        ("six", "fd66::/64", plain),
    ]);
    let container = Namespace::new("c");
    for pool in ["off", "six", "10.67.0.0/24"] {
        let mut config = host.config(false);
        config["ipam"]["ipv4_pools"] = json!([pool]);
        let answer = add(&host, &container, &config, "");
        assert_refused(&host, &container, &answer, 7, &[pool]);
    }
    for address in ["10.67.0.7", "10.68.0.7"] {
        let answer = add(&host, &container, &host.config(false), &format!("IP={address}"));
        assert_refused(&host, &container, &answer, 7, &[address]);
    }
}

#[test]
fn a_malformed_mac_address_leaves_nothing() {
    if !is_root() {
        return;
    }
    let (host, container) = (host(&[]), Namespace::new("c"));
    for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "0a:58:0a:00:00", "text"] {
        let answer = add(&host, &container, &host.config(false), &format!("MAC={mac}"));
        assert_refused(&host, &container, &answer, 7, &[mac]);
    }
}
