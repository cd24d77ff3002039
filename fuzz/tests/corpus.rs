// SPDX-License-Identifier: Apache-2.0
//! Every input that fuzzing was seeded with, or once failed on, again.

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/fuzz")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(
        paths.len() > 5,
        "{}: only {} inputs",
        folder.display(),
        paths.len()
    );
    for path in paths {
        // Shown when the run below panics.
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
    }
}

#[test]
fn configurations() {
    replay("cni_config", fuzz::cni_config);
}

#[test]
fn arguments() {
    replay("cni_args", fuzz::cni_args);
}

#[test]
fn stored_objects() {
    replay("stored_block", fuzz::stored_block);
}

#[test]
fn messages_of_peers() {
    replay("bgp_message", fuzz::bgp_message);
}

#[test]
fn sessions_with_peers() {
    replay("bgp_session", fuzz::bgp_session);
}
