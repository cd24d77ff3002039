// SPDX-License-Identifier: Apache-2.0
//! GC of allocations that no record knows, as another program leaves them: only this network's and this node's, and none
//! that is young, valid or in use.

use serde_json::{Value, json};

use crate::{
    Attached, forget, holds,
    host::{Host, is_root},
    record,
};

/// Leaves an allocation without record and interface. Returns its address.
fn orphan(host: &Host, network: &str, id: &str) -> String {
    let attached = Attached::new(host, network, id);
    attached.lose_interface();
    forget(host, record(network, id));
    attached.address()
}

fn collect(host: &Host, valid: &Value, age: u32) {
    let mut config = host.config(false);
    config["cni.dev/valid-attachments"] = valid.clone();
    config["gc_minimum_age_seconds"] = json!(age);
    host.run("GC", "", None, &config, 0).ok();
}

#[test]
fn an_orphan_goes_when_it_is_old_and_not_valid() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let address = orphan(&host, "net", "gone");
    collect(&host, &json!([]), 300);
    assert!(holds(&host, &address), "it is seconds old");
    // A handle does not tell its interface: any of the container keeps it.
    collect(&host, &json!([{"containerID": "gone", "ifname": "net7"}]), 0);
    assert!(holds(&host, &address), "its container is valid");
    collect(&host, &json!([{"containerID": "other", "ifname": "eth0"}]), 0);
    assert!(!holds(&host, &address), "it is not collected");
}

#[test]
fn orphans_of_other_networks_and_nodes_stay() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let neighbour = Host::sharing(Some(&host.state), "node-b");
    let other_network = orphan(&host, "other", "gone");
    let longer_name = orphan(&host, "network", "gone");
    let there = Attached::new(&neighbour, "net", "gone");
    there.lose_interface();
    forget(
        &host,
        model::Key::local(model::LocalTable::Attachment, "node-b/net/gone/eth0"),
    );
    let own = orphan(&host, "net", "own");
    collect(&host, &json!([]), 0);
    assert!(!holds(&host, &own), "nothing was collected at all");
    for (address, why) in [
        (&other_network, "another network"),
        (&longer_name, "a network whose name goes on"),
        (&there.address(), "another node"),
    ] {
        assert!(holds(&host, address), "{address} of {why} was collected");
    }
}

#[test]
fn a_network_with_a_dot_in_its_name_is_another_network() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    // Stopped, and its DEL still to come: the record is there, the interface is not.
    let stopped = Attached::new(&host, "net.sub", "abc");
    stopped.lose_interface();
    collect(&host, &json!([]), 0);
    assert!(
        holds(&host, &stopped.address()),
        "GC of net collected what net.sub has"
    );
}

#[test]
fn an_orphan_that_is_in_use_stays() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let live = Attached::new(&host, "net", "live");
    forget(&host, record("net", "live"));
    collect(&host, &json!([]), 0);
    assert!(holds(&host, &live.address()), "an interface has it");
    live.lose_interface();
    collect(&host, &json!([]), 0);
    assert!(!holds(&host, &live.address()), "no interface has it any more");
}

#[test]
fn the_earlier_name_of_the_list_is_understood_and_null_is_empty() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (kept, gone) = (
        Attached::new(&host, "net", "kept"),
        Attached::new(&host, "net", "gone"),
    );
    kept.lose_interface();
    gone.lose_interface();
    let mut config = host.config(false);
    config["cni.dev/attachments"] = json!([{"containerID": "kept", "ifname": "eth0"}]);
    host.run("GC", "", None, &config, 0).ok();
    assert!(holds(&host, &kept.address()) && !holds(&host, &gone.address()));
    let mut config = host.config(false);
    config["cni.dev/valid-attachments"] = Value::Null;
    host.run("GC", "", None, &config, 0).ok();
    host.assert_clean("nothing is valid");
}

#[test]
fn a_valid_attachment_is_container_and_interface() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let attached = Attached::new(&host, "net", "abc");
    attached.lose_interface();
    collect(&host, &json!([{"containerID": "abc", "ifname": "eth0"}]), 0);
    assert!(holds(&host, &attached.address()), "it is valid");
    collect(&host, &json!([{"containerID": "abc", "ifname": "eth1"}]), 0);
    host.assert_clean("another interface of the container is valid");
}
