// SPDX-License-Identifier: Apache-2.0
//! What an attachment does beside others and over time: strangers' DELs, GC of what no record knows, CHECK of each single
//! thing, repeated ADD, annotations, hosts with unusual settings. `attachments` has the plain cases. Real program, real
//! namespaces; root only.

mod annotated;
mod churn;
mod compared;
#[path = "../support/host.rs"]
#[allow(dead_code, reason = "shared with other targets")]
mod host;
mod hosts;
mod orphans;
mod requested;
mod strangers;

use datastore::{Batch, EmbeddedStore, Entry, OpenOptions, Store as _, Write};
use host::{Answer, Host, Namespace, address, ip};
use model::{Key, LocalTable};
use serde_json::{Value, json};

/// The host's store, for changes that somebody else would make.
fn store(host: &Host) -> EmbeddedStore {
    let path = host.state.join("node.db");
    EmbeddedStore::open(&path, OpenOptions::default())
        .expect("the store opens")
        .store
}

fn stored(host: &Host, key: &Key) -> Option<Entry> {
    store(host).get(key).expect("the store answers")
}

fn commit(host: &Host, writes: Vec<Write>) {
    let batch = Batch {
        writes,
        ..Batch::default()
    };
    store(host).commit(&batch).expect("the change is committed");
}

/// Takes an object out of the store, which must be there.
fn forget(host: &Host, key: Key) {
    let revision = stored(host, &key)
        .unwrap_or_else(|| panic!("{key} is stored"))
        .revision;
    commit(host, vec![Write::Delete { key, revision }]);
}

/// Whether the store has this address allocated.
fn holds(host: &Host, address: &str) -> bool {
    host.store_state().iter().any(|found| found == address)
}

/// The record of an attachment of the node `node-a`.
fn record(network: &str, id: &str) -> Key {
    Key::local(LocalTable::Attachment, format!("node-a/{network}/{id}/eth0"))
}

/// A container that was added, and the result.
struct Attached {
    container: Namespace,
    id: String,
    config: Value,
    result: Value,
}

impl Attached {
    fn new(host: &Host, network: &str, id: &str) -> Self {
        let mut config = host.config(false);
        config["name"] = json!(network);
        Self::with(host, id, config)
    }

    fn with(host: &Host, id: &str, config: Value) -> Self {
        let container = Namespace::new("c");
        let result = host.run("ADD", id, Some(&container.path()), &config, 0).ok();
        Self {
            container,
            id: id.to_owned(),
            config,
            result,
        }
    }

    fn address(&self) -> String {
        address(&self.result)
    }

    fn check(&self, host: &Host) -> Answer {
        let mut config = self.config.clone();
        config["prevResult"] = self.result.clone();
        host.run("CHECK", &self.id, Some(&self.container.path()), &config, 0)
    }

    fn del(&self, host: &Host) {
        host.run("DEL", &self.id, Some(&self.container.path()), &self.config, 0)
            .ok();
    }

    /// Takes the interface away at once, as the end of a container does.
    fn lose_interface(&self) {
        ip(&["-n", &self.container.0, "link", "del", "eth0"]);
    }
}

/// A refused ADD: this code, these names in the message, and nothing left anywhere.
fn assert_refused(host: &Host, container: &Namespace, answer: &Answer, code: u64, named: &[&str]) {
    assert!(!answer.output.status.success(), "accepted: {}", answer.json);
    let text = answer.json.to_string();
    assert_eq!(answer.json["code"], code, "{text}");
    for part in named {
        let quoted = Value::from(*part).to_string();
        assert!(
            text.contains(quoted.trim_matches('"')),
            "{part} is not named: {text}"
        );
    }
    host.assert_clean(&text);
    let inside = ip(&["-n", &container.0, "-br", "link"]);
    assert!(!inside.contains("eth0"), "left {inside}");
}
