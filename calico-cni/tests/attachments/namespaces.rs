// SPDX-License-Identifier: Apache-2.0
//! Namespaces that are gone, are none, or have an interface already.

use std::fs;

use crate::{
    assert_refused,
    host::{Host, Namespace, ip, is_root},
};

#[test]
fn add_needs_a_namespace_and_names_what_it_got() {
    if !is_root() {
        return;
    }
    let (host, container) = (Host::new(), Namespace::new("c"));
    // The store is there, so that "clean" can be read.
    host.add("first", &container).ok();
    host.del("first", &container).ok();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    let gone = folder.path().join("gone");
    for path in [file.to_str().unwrap(), gone.to_str().unwrap()] {
        let answer = host.run("ADD", "abc", Some(path), &host.config(false), 0);
        assert_refused(&host, &container, &answer, 4, &["CNI_NETNS", path]);
    }
}

#[test]
fn an_interface_of_somebody_else_stays_and_is_named() {
    if !is_root() {
        return;
    }
    let (host, container) = (Host::new(), Namespace::new("c"));
    ip(&[
        "-n",
        &container.0,
        "link",
        "add",
        "eth0",
        "type",
        "veth",
        "peer",
        "name",
        "other",
    ]);
    let answer = host.add("abc", &container);
    assert!(
        !answer.output.status.success() && answer.json.to_string().contains("eth0"),
        "{}",
        answer.json
    );
    host.assert_clean("after a refused ADD");
    host.del("abc", &container).ok();
    ip(&["-n", &container.0, "link", "show", "eth0"]);
}

#[test]
fn del_succeeds_whatever_is_gone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let config = host.config(false);
    host.run("DEL", "never-added", None, &config, 0).ok();
    let container = Namespace::new("c");
    host.add("abc", &container).ok();
    let path = container.path();
    drop(container);
    host.run("DEL", "abc", Some(&path), &config, 0).ok();
    host.assert_clean("namespace gone");
    let container = Namespace::new("c");
    host.add("abc", &container).ok();
    host.run("DEL", "abc", None, &config, 0).ok();
    host.assert_clean("no CNI_NETNS");
    fs::remove_dir_all(&host.state).unwrap();
    host.run("DEL", "abc", Some(&path), &config, 0).ok();
}
