// SPDX-License-Identifier: Apache-2.0
//! Names that several containers could have: of the host interface, of the pod. Each keeps what is its own.

use std::fs;

use serde_json::Value;

use crate::host::{Answer, Host, Namespace, address, ip, is_root};

/// Both IDs begin with the eleven characters that Calico makes the interface's name of.
const ALIKE: [&str; 2] = ["cnitool-77383ca0a0715733ca6f", "cnitool-773f00d5e1a2b3c4d5e6"];

/// Runs a verb for a sandbox of pod `shop/web-0`.
fn pod(host: &Host, verb: &str, sandbox: &str, container: &Namespace) -> Answer {
    let mut command = host.command(verb, sandbox, Some(&container.path()), 0);
    command.env(
        "CNI_ARGS",
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID={sandbox}"
        ),
    );
    Host::finish(command, &host.config(false))
}

fn host_interface(result: &Value) -> &str {
    result["interfaces"][0]["name"]
        .as_str()
        .expect("a host interface")
}

fn assert_wired(host: &Host, result: &Value, when: &str) {
    let (address, name) = (address(result), host_interface(result));
    let route = ip(&["-n", &host.namespace.0, "route", "get", &address]);
    assert!(
        route.contains(&format!("dev {name} ")),
        "{when}: {address} is not on {name} but: {route}"
    );
}

#[test]
fn containers_whose_ids_start_alike_have_interfaces_of_their_own() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (first, second) = (Namespace::new("c"), Namespace::new("c"));
    let one = host.add(ALIKE[0], &first).ok();
    let two = host.add(ALIKE[1], &second).ok();
    assert_ne!(host_interface(&one), host_interface(&two));
    assert_wired(&host, &one, "after the second ADD");
    host.del(ALIKE[1], &second).ok();
    assert_wired(&host, &one, "after DEL of the second");
    host.del(ALIKE[0], &first).ok();
    host.assert_clean("at the end");
}

#[test]
fn a_lost_store_does_not_cost_a_container_its_interface_name() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (first, second) = (Namespace::new("c"), Namespace::new("c"));
    let one = host.add(ALIKE[0], &first).ok();
    fs::remove_dir_all(&host.state).unwrap();
    let two = host.add(ALIKE[1], &second).ok();
    assert_ne!(host_interface(&one), host_interface(&two));
    assert_wired(&host, &one, "after ADD in a new store");
    host.del(ALIKE[0], &first).ok();
    host.del(ALIKE[1], &second).ok();
    host.assert_clean("at the end");
}

#[test]
fn a_container_that_nothing_names_keeps_its_address_when_a_stranger_is_deleted() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (first, second) = (Namespace::new("c"), Namespace::new("c"));
    let one = host.add(ALIKE[0], &first).ok();
    // As another program leaves it: no alias, and the store knows nothing.
    let link = format!("/sys/class/net/{}/ifalias", host_interface(&one));
    ip(&[
        "netns",
        "exec",
        &host.namespace.0,
        "sh",
        "-c",
        &format!("echo > {link}"),
    ]);
    fs::remove_dir_all(&host.state).unwrap();
    host.add("other", &second).ok();
    let adopted = address(&one);
    assert!(host.store_state().contains(&adopted), "adopted from the kernel");
    let gone = Namespace::new("c");
    host.del(ALIKE[1], &gone).ok();
    assert!(
        host.store_state().contains(&adopted),
        "{adopted} was released under a live interface"
    );
    assert_wired(&host, &one, "after DEL of the stranger");
    host.del(ALIKE[0], &first).ok();
    host.del("other", &second).ok();
    host.assert_clean("at the end");
}

#[test]
fn a_new_sandbox_takes_over_and_the_late_del_of_the_old_hurts_nothing() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (old, new) = (Namespace::new("c"), Namespace::new("c"));
    let before = pod(&host, "ADD", "sandbox-old", &old).ok();
    let after = pod(&host, "ADD", "sandbox-new", &new).ok();
    assert_eq!(host_interface(&before), host_interface(&after), "the pod's name");
    assert_ne!(
        address(&before),
        address(&after),
        "the old address is not free yet"
    );
    pod(&host, "DEL", "sandbox-old", &old).ok();
    assert_wired(&host, &after, "after the late DEL");
    let state = host.store_state();
    let has = |part: &str| state.iter().any(|found| found.contains(part));
    assert!(
        has(&address(&after)) && has("web--0") && has("sandbox-new"),
        "{state:?}"
    );
    assert!(!has(&address(&before)) && !has("sandbox-old"), "{state:?}");
    pod(&host, "DEL", "sandbox-old", &old).ok();
    assert_wired(&host, &after, "after the DEL was repeated");
    pod(&host, "DEL", "sandbox-new", &new).ok();
    host.assert_clean("at the end");
}
