// SPDX-License-Identifier: Apache-2.0
//! CHECK: whatever is taken away, it is missed and named.

use datastore::Write;
use model::{IpamBlock, Key, KeyRange, Kind};
use serde_json::Value;

use datastore::Store as _;

use crate::{
    commit,
    host::{Answer, Host, Namespace, address, ip, is_root},
    store, stored,
};

struct Attached {
    host: Host,
    container: Namespace,
    result: Value,
}

impl Attached {
    fn new() -> Self {
        let (host, container) = (Host::new(), Namespace::new("c"));
        let result = host
            .run("ADD", "abc", Some(&container.path()), &host.config(true), 0)
            .ok();
        Self {
            host,
            container,
            result,
        }
    }

    fn check(&self) -> Answer {
        let mut config = self.host.config(true);
        config["prevResult"] = self.result.clone();
        self.host
            .run("CHECK", "abc", Some(&self.container.path()), &config, 0)
    }

    /// Runs `ip` on one side.
    fn ip(&self, inside: bool, arguments: &str) {
        let namespace = if inside {
            &self.container.0
        } else {
            &self.host.namespace.0
        };
        let arguments = arguments
            .replace("V4", &address(&self.result))
            .replace("V6", self.v6());
        ip(&[&["-n", namespace], &arguments.split(' ').collect::<Vec<_>>()[..]].concat());
    }

    fn v6(&self) -> &str {
        let address = self.result["ips"][1]["address"].as_str().unwrap();
        address.split('/').next().unwrap()
    }

    fn sysctl(&self, inside: bool, path: &str, value: &str) {
        let namespace = if inside {
            &self.container.0
        } else {
            &self.host.namespace.0
        };
        let command = format!("echo {value} > /proc/sys/net/{path}");
        ip(&["netns", "exec", namespace, "sh", "-c", &command]);
    }

    fn assert_missed(&self, what: &str, named: &[&str]) {
        let answer = self.check();
        assert!(!answer.output.status.success(), "{what} is not missed");
        let text = answer.json.to_string();
        for part in named {
            assert!(text.contains(part), "{what}: {part} is not named: {text}");
        }
    }
}

#[test]
fn what_is_missing_in_the_kernel_is_named() {
    if !is_root() {
        return;
    }
    // (inside, what `ip` takes away, what CHECK names)
    let cases: [(bool, &str, &[&str]); 14] = [
        (true, "addr del V4/32 dev eth0", &["eth0 lacks address"]),
        (
            true,
            "-6 addr del V6/128 dev eth0",
            &["eth0 lacks address", "fd00:65"],
        ),
        (true, "route del default", &["lacks its route", "0.0.0.0/0"]),
        (true, "-6 route del default", &["lacks its route", "::/0"]),
        (true, "neigh del 169.254.1.1 dev eth0", &["neighbour 169.254.1.1"]),
        (
            true,
            "neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:01 nud permanent dev eth0",
            &["neighbour 169.254.1.1"],
        ),
        (
            true,
            "neigh del fe80::ecee:eeff:feee:eeee dev eth0",
            &["neighbour fe80::ecee"],
        ),
        (true, "link set eth0 down", &["eth0 in the container is down"]),
        (true, "link set eth0 address 02:00:00:00:00:01", &["has MAC"]),
        (false, "link set caliabc down", &["caliabc is down"]),
        (
            false,
            "link set caliabc address 02:00:00:00:00:01",
            &["caliabc has MAC"],
        ),
        (false, "route del V4 dev caliabc", &["route to 192.168."]),
        (false, "-6 route del V6 dev caliabc", &["route to fd00:65"]),
        (
            false,
            "link del caliabc",
            &["caliabc is missing", "eth0 is missing"],
        ),
    ];
    for (inside, change, named) in cases {
        let attached = Attached::new();
        attached.check().ok();
        attached.ip(inside, change);
        attached.assert_missed(change, named);
    }
}

#[test]
fn a_setting_that_was_changed_is_named() {
    if !is_root() {
        return;
    }
    let attached = Attached::new();
    attached.check().ok();
    for (inside, path, changed) in [
        (false, "ipv4/conf/caliabc/rp_filter", "0"),
        (false, "ipv4/conf/caliabc/proxy_arp", "0"),
        (false, "ipv4/conf/caliabc/forwarding", "0"),
        (false, "ipv4/conf/caliabc/route_localnet", "0"),
        (false, "ipv6/conf/caliabc/proxy_ndp", "0"),
        (false, "ipv6/conf/caliabc/accept_ra", "1"),
        (true, "ipv4/ip_forward", "1"),
        (true, "ipv6/conf/all/forwarding", "1"),
    ] {
        attached.sysctl(inside, path, changed);
        attached.assert_missed(path, &[path]);
        attached.sysctl(inside, path, if changed == "0" { "1" } else { "0" });
        attached.check().ok();
    }
}

#[test]
fn what_is_missing_in_the_store_is_named() {
    if !is_root() {
        return;
    }
    let delete = |attached: &Attached, key: Key| {
        let revision = stored(&attached.host, &key).expect("it is there").revision;
        commit(&attached.host, vec![Write::Delete { key, revision }]);
    };
    let attached = Attached::new();
    delete(
        &attached,
        Key::namespaced(Kind::WorkloadEndpoint, "default", "node--a-cni-abc-eth0"),
    );
    attached.assert_missed("the endpoint", &["node--a-cni-abc-eth0"]);

    let attached = Attached::new();
    let entries = store(&attached.host)
        .list(&KeyRange::Blocks { v6: false })
        .unwrap()
        .entries;
    let mut block: IpamBlock = entries[0].decode().unwrap();
    let ordinal = block.allocations.iter().position(Option::is_some).unwrap();
    block.allocations[ordinal] = None;
    block.attributes.clear();
    block.unallocated.push(ordinal);
    block.sequence_number_for_allocation.clear();
    commit(
        &attached.host,
        vec![Write::update(entries[0].key.clone(), &block, entries[0].revision)],
    );
    attached.assert_missed("the allocation", &[&address(&attached.result)]);
}

#[test]
fn a_result_of_another_attachment_is_no_proof() {
    if !is_root() {
        return;
    }
    let mut attached = Attached::new();
    attached.result["ips"][0]["address"] = "192.168.255.1/32".into();
    attached.assert_missed("another address", &["prevResult"]);
    let mut attached = Attached::new();
    attached.result["interfaces"][1]["name"] = "eth1".into();
    attached.assert_missed("another interface", &["prevResult", "eth0"]);
    let attached = Attached::new();
    let answer = attached.host.run(
        "CHECK",
        "abc",
        Some(&attached.container.path()),
        &attached.host.config(true),
        0,
    );
    assert!(
        !answer.output.status.success() && answer.json.to_string().contains("prevResult"),
        "{}",
        answer.json
    );
}
