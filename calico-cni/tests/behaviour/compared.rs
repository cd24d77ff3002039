// SPDX-License-Identifier: Apache-2.0
//! CHECK of single things, each of which a repeated ADD mends with the same result.

use datastore::{Store as _, Write};
use model::{IpamBlock, Key, KeyRange, Kind, WorkloadEndpoint};
use serde_json::json;

use crate::{
    Attached, commit, forget,
    host::{Host, Namespace, ip, is_root},
    record, store, stored,
};

/// Both families, with an MTU.
fn attach(host: &Host) -> Attached {
    let mut config = host.config(true);
    config["mtu"] = json!(1400);
    Attached::with(host, "abc", config)
}

/// Runs a shell command on one side, with the container's addresses in place of V4 and V6.
fn change(host: &Host, attached: &Attached, inside: bool, command: &str) {
    let namespace = if inside {
        &attached.container
    } else {
        &host.namespace
    };
    let v6 = attached.result["ips"][1]["address"]
        .as_str()
        .expect("an IPv6 address");
    let command = command
        .replace("V4", &attached.address())
        .replace("V6", v6.trim_end_matches("/128"));
    ip(&["netns", "exec", &namespace.0, "sh", "-ec", &command]);
}

fn assert_missed(host: &Host, attached: &Attached, what: &str, named: &[&str]) {
    let answer = attached.check(host);
    assert!(!answer.output.status.success(), "CHECK does not miss: {what}");
    let text = answer.json.to_string();
    for part in named {
        assert!(text.contains(part), "{what}: {part} is not named: {text}");
    }
}

/// Each change is missed by CHECK under its name, and mended by a repeated ADD.
fn assert_mended(cases: &[(bool, &str, &[&str])]) {
    let host = Host::new();
    let attached = attach(&host);
    let path = attached.container.path();
    for (inside, command, named) in cases {
        attached.check(&host).ok();
        change(&host, &attached, *inside, command);
        assert_missed(&host, &attached, command, named);
        let again = host.run("ADD", "abc", Some(&path), &attached.config, 0).ok();
        assert_eq!(again, attached.result, "ADD after: {command}");
        attached.check(&host).ok();
    }
    attached.del(&host);
    host.assert_clean("after DEL");
}

#[test]
fn changes_in_the_container_are_missed_and_mended() {
    if !is_root() {
        return;
    }
    assert_mended(&[
        (
            true,
            "ip route del 169.254.1.1 dev eth0",
            &["lacks its route 169.254.1.1/32"],
        ),
        (
            true,
            "ip route replace default dev eth0",
            &["lacks its route 0.0.0.0/0 via 169.254.1.1"],
        ),
        (
            true,
            "ip -6 route del default",
            &["lacks its route ::/0 via fe80::ecee"],
        ),
        (
            true,
            "ip addr del V4/32 dev eth0; ip addr add V4/31 dev eth0",
            &["eth0 lacks address"],
        ),
        (
            true,
            "ip neigh flush nud permanent",
            &["neighbour 169.254.1.1", "neighbour fe80::ecee"],
        ),
        (
            true,
            "ip link set eth0 down; ip link set eth0 name eth9; ip link set eth9 up",
            &["interface eth0 is missing"],
        ),
    ]);
}

#[test]
fn changes_on_the_host_are_missed_and_mended() {
    if !is_root() {
        return;
    }
    assert_mended(&[
        (
            false,
            "ip link set caliabc mtu 1300",
            &["caliabc has MTU 1300, not 1400"],
        ),
        (
            false,
            "ip link set caliabc alias other",
            &["alias", "calico:net/abc/eth0"],
        ),
        (false, "ip route del V4 dev caliabc", &["route to 192.168."]),
        (
            false,
            "echo 2 > /proc/sys/net/ipv4/conf/caliabc/rp_filter",
            &["ipv4/conf/caliabc/rp_filter is 2, not 1"],
        ),
        (
            false,
            "echo 1 > /proc/sys/net/ipv6/conf/caliabc/disable_ipv6",
            &["ipv6/conf/caliabc/disable_ipv6", "route to fd00:65"],
        ),
        (false, "ip link del caliabc", &["caliabc is missing"]),
    ]);
}

#[test]
fn a_default_route_in_a_table_that_nothing_looks_in_is_none() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = attach(&host);
    let elsewhere = "ip route del default; ip route add default via 169.254.1.1 dev eth0 table 77";
    change(&host, &attached, true, elsewhere);
    assert_missed(&host, &attached, elsewhere, &["lacks its route 0.0.0.0/0"]);
    // As `sbr` after us in the list leaves it: packets from the address find it.
    change(&host, &attached, true, "ip rule add from V4 table 77");
    attached.check(&host).ok();
}

#[test]
fn ipv6_that_is_not_forwarded_any_more_is_missed() {
    if !is_root() {
        return;
    }
    // Kernels before 6.17 have only the switch of the whole host.
    assert_mended(&[(
        false,
        "cd /proc/sys/net/ipv6/conf; if [ -e caliabc/force_forwarding ]; then cd caliabc; echo 0 > force_forwarding; else echo 0 > all/forwarding; fi",
        &["forwarding"],
    )]);
}

#[test]
fn what_chained_plugins_change_is_no_damage() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = attach(&host);
    for command in [
        // `tuning` does not say in its result that it changed the MTU.
        "ip link set eth0 mtu 1300",
        "ip addr add 10.9.9.9/32 dev eth0",
        "ip route add 10.8.0.0/16 via 169.254.1.1 dev eth0",
        "ip link add other0 type veth peer name other1",
    ] {
        change(&host, &attached, true, command);
        let answer = attached.check(&host);
        assert!(answer.output.status.success(), "{command}: {}", answer.json);
    }
}

#[test]
fn a_mac_address_that_tuning_set_is_no_damage() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut attached = attach(&host);
    // The kernel forgets the neighbours of a device whose address changes, permanent ones too.
    change(
        &host,
        &attached,
        true,
        "ip link set eth0 address 02:00:00:00:00:07",
    );
    assert_missed(
        &host,
        &attached,
        "a MAC address of nobody",
        &["has MAC", "02:00:00:00:00:07"],
    );
    attached.result["interfaces"][1]["mac"] = json!("02:00:00:00:00:07");
    attached.check(&host).ok();
}

#[test]
fn a_host_route_that_leads_elsewhere_is_missed() {
    if !is_root() {
        return;
    }
    for (command, named) in [
        ("ip route replace V4 dev lo", "route to 192.168."),
        (
            "ip -6 route del V6 dev caliabc; ip -6 route add V6 dev lo",
            "route to fd00:65",
        ),
        (
            "ip rule add to V4 table 77; ip route add blackhole V4 table 77",
            "route to 192.168.",
        ),
    ] {
        let host = Host::new();
        let attached = attach(&host);
        change(&host, &attached, false, command);
        assert_missed(&host, &attached, command, &[named]);
    }
}

#[test]
fn the_routes_of_a_further_interface_are_missed_and_mended() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let first = Attached::new(&host, "net", "abc");
    let mut config = host.config(false);
    config["name"] = json!("second");
    let run = |verb: &str, result: Option<&serde_json::Value>| {
        let mut config = config.clone();
        if let Some(result) = result {
            config["prevResult"] = result.clone();
        }
        let mut command = host.command(verb, "abc", Some(&first.container.path()), 0);
        command.env("CNI_IFNAME", "net1");
        Host::finish(command, &config)
    };
    let second = run("ADD", None).ok();
    run("CHECK", Some(&second)).ok();
    let inside = |arguments: &[&str]| ip(&[&["-n", &first.container.0], arguments].concat());
    let source = crate::address(&second);
    for (what, arguments) in [
        ("its rule", vec!["rule", "del", "from", &source]),
        (
            "the default route of its table",
            vec!["route", "del", "default", "table", "TABLE"],
        ),
        ("all of its table", vec!["route", "flush", "table", "TABLE"]),
        (
            "its place behind the first",
            vec!["route", "flush", "table", "main", "dev", "net1"],
        ),
    ] {
        // Its number is that of the interface, which a repeated ADD makes anew.
        let rule = inside(&["rule", "list", "from", &source]);
        let table = rule.split_whitespace().last().expect("a rule from its address");
        let arguments = arguments
            .iter()
            .map(|word| if *word == "TABLE" { table } else { *word });
        inside(&arguments.collect::<Vec<_>>());
        let answer = run("CHECK", Some(&second));
        assert!(!answer.output.status.success(), "CHECK does not miss {what}");
        assert_eq!(run("ADD", None).ok(), second, "{what}");
        run("CHECK", Some(&second)).ok();
        first.check(&host).ok();
    }
}

#[test]
fn a_record_that_is_gone_is_missed() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = attach(&host);
    forget(&host, record("net", "abc"));
    assert_missed(&host, &attached, "the record", &["net.abc", "eth0"]);
}

#[test]
fn an_address_that_is_somebody_elses_is_missed_with_both_names() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = attach(&host);
    let range = KeyRange::Blocks { v6: false };
    let entry = store(&host).list(&range).expect("blocks").entries.remove(0);
    let mut block: IpamBlock = entry.decode().expect("a block");
    block.attributes[0].handle_id = Some("net.thief".to_owned());
    commit(&host, vec![Write::update(entry.key, &block, entry.revision)]);
    assert_missed(
        &host,
        &attached,
        "the handle",
        &[&attached.address(), "net.abc", "net.thief"],
    );
}

type ChangeEndpoint = fn(&mut WorkloadEndpoint);

#[test]
fn an_endpoint_that_says_something_else_is_missed() {
    if !is_root() {
        return;
    }
    let key = || Key::namespaced(Kind::WorkloadEndpoint, "default", "node--a-cni-abc-eth0");
    let changes: [(&str, ChangeEndpoint); 3] = [
        ("ipNetworks", |endpoint| {
            endpoint.spec.ip_networks = vec!["10.1.1.1/32".parse().expect("a prefix")];
        }),
        ("interfaceName", |endpoint| {
            endpoint.spec.interface_name = "cali0".to_owned();
        }),
        ("containerID", |endpoint| {
            endpoint.spec.container_id = "other".to_owned();
        }),
    ];
    for (field, change) in changes {
        let host = Host::new();
        let attached = attach(&host);
        let entry = stored(&host, &key()).expect("the endpoint");
        let mut endpoint: WorkloadEndpoint = entry.decode().expect("an endpoint");
        change(&mut endpoint);
        commit(&host, vec![Write::update(key(), &endpoint, entry.revision)]);
        assert_missed(&host, &attached, field, &["node--a-cni-abc-eth0", field]);
    }
}

#[test]
fn a_namespace_that_is_gone_or_another_is_missed() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = attach(&host);
    let other = Namespace::new("c");
    let mut config = attached.config.clone();
    config["prevResult"] = attached.result.clone();
    let answer = host.run("CHECK", "abc", Some(&other.path()), &config, 0);
    assert!(
        answer
            .json
            .to_string()
            .contains("eth0 is missing from the container"),
        "{}",
        answer.json
    );
    let path = other.path();
    drop(other);
    let answer = host.run("CHECK", "abc", Some(&path), &config, 0);
    assert_eq!(answer.json["code"], 4, "{}", answer.json);
    assert!(answer.json.to_string().contains(&path), "{}", answer.json);
}
