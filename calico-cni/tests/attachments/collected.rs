// SPDX-License-Identifier: Apache-2.0
//! GC: what belongs to no valid attachment and to nothing alive goes; nothing else does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::{Answer, Host, Namespace, address, is_root};

fn collect(host: &Host, config: &Value, valid: Option<Value>) -> Answer {
    let mut config = config.clone();
    if let Some(valid) = valid {
        config["cni.dev/valid-attachments"] = valid;
    }
    host.run("GC", "", None, &config, 0)
}

/// An attachment whose container is gone without DEL. Returns its address.
fn leftover(host: &Host, id: &str, config: &Value) -> String {
    let container = Namespace::new("c");
    let result = host.run("ADD", id, Some(&container.path()), config, 0).ok();
    drop(container);
    // The interface goes a little after its namespace.
    let deadline = Instant::now() + Duration::from_secs(20);
    let address = address(&result);
    while host.kernel_state().iter().any(|line| line.contains(&address)) {
        assert!(Instant::now() < deadline, "the interface of {address} stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    address
}

fn holds(host: &Host, address: &str) -> bool {
    host.store_state().iter().any(|found| found == address)
}

#[test]
fn only_what_is_named_nowhere_and_lives_nowhere_goes() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let config = host.config(false);
    let mut other_network = config.clone();
    other_network["name"] = "other".into();
    let neighbour = Host::sharing(Some(&host.state), "node-b");
    let alive = Namespace::new("c");
    let living = address(&host.add("living", &alive).ok());
    let gone = leftover(&host, "gone", &config);
    let valid = leftover(&host, "valid", &config);
    let in_other_network = leftover(&host, "gone", &other_network);
    let of_other_node = leftover(&neighbour, "gone-there", &neighbour.config(false));
    collect(
        &host,
        &config,
        Some(json!([{"containerID": "valid", "ifname": "eth0"}])),
    )
    .ok();
    assert!(!holds(&host, &gone), "not collected");
    for (address, why) in [
        (&living, "is alive"),
        (&valid, "is valid"),
        (&in_other_network, "is of another network"),
        (&of_other_node, "is of another node"),
    ] {
        assert!(holds(&host, address), "{address} {why}, and was collected");
    }
    collect(&host, &config, Some(json!([]))).ok();
    assert!(
        !holds(&host, &valid) && holds(&host, &living),
        "{:?}",
        host.store_state()
    );
}

#[test]
fn without_a_list_nothing_goes_and_a_malformed_one_is_refused() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let config = host.config(false);
    let gone = leftover(&host, "gone", &config);
    collect(&host, &config, None).ok();
    assert!(holds(&host, &gone), "a missing list was taken for an empty one");
    for malformed in [
        json!("none"),
        json!([1]),
        json!([{"containerID": 5, "ifname": "eth0"}]),
        json!({}),
    ] {
        let answer = collect(&host, &config, Some(malformed.clone()));
        assert!(!answer.output.status.success(), "{malformed} was accepted");
        assert!(
            answer.json.to_string().contains("valid-attachments"),
            "{}",
            answer.json
        );
        assert!(holds(&host, &gone), "{malformed}");
    }
}

#[test]
fn what_is_young_is_left_alone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut config = host.config(false);
    let gone = leftover(&host, "gone", &config);
    config["gc_minimum_age_seconds"] = json!(300);
    collect(&host, &config, Some(json!([]))).ok();
    assert!(holds(&host, &gone), "it is seconds old");
    config.as_object_mut().unwrap().remove("gc_minimum_age_seconds");
    collect(&host, &config, Some(json!([]))).ok();
    assert!(holds(&host, &gone), "five minutes are the default");
    config["gc_minimum_age_seconds"] = json!(0);
    collect(&host, &config, Some(json!([]))).ok();
    host.assert_clean("at last");
}
