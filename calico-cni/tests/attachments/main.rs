// SPDX-License-Identifier: Apache-2.0
//! What an attachment is: what ADD makes on both sides and in the store, what can be asked for, what CHECK compares,
//! what GC collects. Real program, real namespaces; root only.

mod advertised;
mod asked;
mod checked;
mod collected;
mod endpoints;
#[path = "../support/host.rs"]
#[expect(dead_code, reason = "the other target of these tests uses more of it")]
mod host;
mod interrupted;
mod misuse;
mod namespaces;
mod status;
mod wired;

use datastore::{Batch, EmbeddedStore, Entry, OpenOptions, Store as _, Write};
use host::{Answer, Host, Namespace, ip};
use model::{IpPool, Key, Kind, ip_pool::IpPoolSpec};
use serde_json::Value;

/// The host's store, for changes an administrator would make.
fn store(host: &Host) -> EmbeddedStore {
    let path = host.state.join("node.db");
    EmbeddedStore::open(&path, OpenOptions::default())
        .expect("the store opens")
        .store
}

fn commit(host: &Host, writes: Vec<Write>) {
    let batch = Batch {
        writes,
        ..Batch::default()
    };
    store(host).commit(&batch).expect("the change is committed");
}

fn stored(host: &Host, key: &Key) -> Option<Entry> {
    store(host).get(key).expect("the store answers")
}

/// Makes a pool.
fn create_pool(host: &Host, name: &str, cidr: &str) {
    let spec = IpPoolSpec::new(cidr.parse().expect("a prefix"));
    let key = Key::resource(Kind::IpPool, name);
    commit(host, vec![Write::create(key, &IpPool::new(name, spec))]);
}

/// ADD with `CNI_ARGS`.
fn add_with(host: &Host, id: &str, container: &Namespace, config: &Value, arguments: &str) -> Answer {
    let mut command = host.command("ADD", id, Some(&container.path()), 0);
    command.env("CNI_ARGS", arguments);
    Host::finish(command, config)
}

/// An interface of the container removed by DEL, or everything checked to be as before a refused ADD.
fn assert_refused(host: &Host, container: &Namespace, answer: &Answer, code: u64, named: &[&str]) {
    assert!(!answer.output.status.success(), "accepted: {}", answer.json);
    assert_eq!(answer.json["code"], code, "{}", answer.json);
    let text = answer.json.to_string();
    for part in named {
        assert!(text.contains(part), "{part} is not named: {text}");
    }
    host.assert_clean(&text);
    let inside = ip(&["-n", &container.0, "-br", "link"]);
    assert!(!inside.contains("eth0"), "left {inside}");
}
