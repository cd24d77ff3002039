// SPDX-License-Identifier: Apache-2.0
//! DEL of one container touches nothing of another, however alike their names and wherever they live.

use serde_json::json;

use crate::{
    Attached, holds,
    host::{Host, Namespace, is_root},
};

fn assert_unharmed(host: &Host, attached: &Attached, after: &str) {
    let address = attached.address();
    assert!(
        holds(host, &address),
        "{after} released {address} of {}",
        attached.id
    );
    let answer = attached.check(host);
    assert!(answer.output.status.success(), "{after}: {}", answer.json);
}

#[test]
fn a_repeated_del_spares_the_next_container_in_the_namespace() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let first = Attached::new(&host, "net", "first");
    first.del(&host);
    let next = Attached {
        id: "next".to_owned(),
        result: host.add("next", &first.container).ok(),
        ..first
    };
    host.del("first", &next.container).ok();
    assert_unharmed(&host, &next, "DEL of first, again");
    next.del(&host);
    host.assert_clean("after all DELs");
}

#[test]
fn a_container_id_that_reads_like_a_handle_releases_nothing() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let live = Attached::new(&host, "net", "abc");
    let elsewhere = Namespace::new("c");
    host.del("net.abc", &elsewhere).ok();
    assert_unharmed(&host, &live, "DEL of a container net.abc");
}

#[test]
fn networks_whose_names_start_alike_share_no_handle() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    // Either handle would be net.sub.abc.
    let live = Attached::new(&host, "net.sub", "abc");
    let other = Attached::new(&host, "net", "sub.abc");
    assert_ne!(live.address(), other.address());
    other.del(&host);
    assert_unharmed(&host, &live, "DEL of sub.abc in net");
    live.del(&host);
    host.assert_clean("after both DELs");
}

#[test]
fn a_pod_named_like_a_handle_releases_nothing() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let live = Attached::new(&host, "net", "abc");
    let elsewhere = Namespace::new("c");
    let mut command = host.command("DEL", "sandbox", Some(&elsewhere.path()), 0);
    command.env("CNI_ARGS", "K8S_POD_NAMESPACE=net;K8S_POD_NAME=abc");
    Host::finish(command, &host.config(false)).ok();
    assert_unharmed(&host, &live, "DEL of pod net/abc");
}

#[test]
fn an_older_handle_of_a_pod_is_released_with_it() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    // As a Calico before version 3 has left it: the handle is pod and namespace, and no record knows it.
    let old = Attached::new(&host, "shop", "web-0");
    old.lose_interface();
    crate::forget(&host, crate::record("shop", "web-0"));
    let delete = |pod: &str| {
        let mut command = host.command("DEL", "sandbox", None, 0);
        command.env("CNI_ARGS", format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}"));
        Host::finish(command, &host.config(false)).ok();
    };
    delete("web");
    assert!(holds(&host, &old.address()), "of web-0, not web");
    delete("web-0");
    assert!(!holds(&host, &old.address()), "the older handle stays");
}

#[test]
fn a_network_is_left_by_its_own_del_alone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let live = Attached::new(&host, "net", "abc");
    let elsewhere = Namespace::new("c");
    let mut other = host.config(false);
    other["name"] = json!("other");
    host.run("DEL", "abc", Some(&elsewhere.path()), &other, 0).ok();
    host.run("DEL", "abc", None, &other, 0).ok();
    assert_unharmed(&host, &live, "DEL of the same container in another network");
}
