// SPDX-License-Identifier: Apache-2.0
//! STATUS tells what ADD would say.

use datastore::Write;
use model::{ClusterInformation, IpPool, Key, Kind};
use serde_json::json;

use crate::{
    commit,
    host::{Answer, Host, Namespace, is_root},
    stored,
};

fn status(host: &Host) -> Answer {
    host.run("STATUS", "", None, &host.config(false), 0)
}

fn assert_unavailable(host: &Host, named: &str) {
    let answer = status(host);
    assert!(!answer.output.status.success(), "{named}: {}", answer.json);
    assert_eq!(answer.json["code"], 50, "{}", answer.json);
    assert!(
        answer.json.to_string().contains(named),
        "{named}: {}",
        answer.json
    );
    assert!(!host.add("abc", &Namespace::new("c")).output.status.success());
}

#[test]
fn status_is_what_add_would_say() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    status(&host).ok();
    let key = Key::resource(Kind::ClusterInformation, "default");
    let set_ready = |ready| {
        let entry = stored(&host, &key).unwrap();
        let mut information: ClusterInformation = entry.decode().unwrap();
        information.spec.datastore_ready = Some(ready);
        commit(
            &host,
            vec![Write::update(key.clone(), &information, entry.revision)],
        );
    };
    set_ready(false);
    assert_unavailable(&host, "datastoreReady");
    set_ready(true);
    status(&host).ok();

    let pool = Key::resource(Kind::IpPool, "default-ipv4-ippool");
    let entry = stored(&host, &pool).unwrap();
    let mut value: IpPool = entry.decode().unwrap();
    value.spec.disabled = true;
    commit(&host, vec![Write::update(pool, &value, entry.revision)]);
    assert_unavailable(&host, "IPPool");
}

#[test]
fn status_of_what_cannot_be_written_is_50() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut config = host.config(false);
    config["datastore_path"] = json!("/proc/node.db");
    let answer = host.run("STATUS", "", None, &config, 0);
    assert_eq!(answer.json["code"], 50, "{}", answer.json);
    assert!(
        answer.json.to_string().contains("/proc/node.db"),
        "{}",
        answer.json
    );
}
