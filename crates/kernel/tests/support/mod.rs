// SPDX-License-Identifier: Apache-2.0
//! What the tests share: a fresh namespace each, and `ip -j` as the second witness.
//!
//! Namespaces have no name and go with their last handle, so nothing has to be cleaned up, also after a failure.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program includes it and uses its own part"
)]

use std::fmt::Debug;
use std::net::IpAddr;
use std::process::Command;

use ipnet::IpNet;
use kernel::{Link, MacAddress, Namespace, Netlink, PairKind, PairSpec, PeerSpec};
use serde_json::Value;

/// Runs a test inside a fresh namespace, with a socket there. Needs root: says so visibly, and fails where it must run.
pub fn in_namespace(test: impl FnOnce(&mut Netlink) + Send) {
    if !may_run() {
        return;
    }
    let namespace = Namespace::create().expect("root creates namespaces");
    namespace
        .run(|| test(&mut Netlink::open().expect("a socket")))
        .expect("the test, see above");
}

/// Whether this is root.
pub fn may_run() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        assert!(std::env::var_os("CI").is_none(), "CI runs these tests as root");
        eprintln!("SKIPPED: network namespaces need root");
    }
    is_root
}

/// `ip -j` with these words, in the calling thread's namespace.
pub fn ip(words: &str) -> Value {
    let output = Command::new("ip")
        .arg("-j")
        .arg("-d")
        .args(words.split(' '))
        .output()
        .expect("iproute2");
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Array(Vec::new()))
}

/// A command that must succeed.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A veth pair with both ends in the socket's own namespace.
pub fn veth(socket: &mut Netlink, name: &str, peer: &str) -> Link {
    let peer = PeerSpec {
        name: peer,
        namespace: None,
        mac: None,
    };
    let spec = PairSpec {
        kind: PairKind::Veth,
        name,
        mac: None,
        mtu: None,
        queues: None,
        peer,
    };
    socket.create_pair(&spec).expect("a veth pair")
}

pub fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn mac(text: &str) -> MacAddress {
    text.parse().expect("a MAC address")
}

/// The error of what must fail.
pub fn refused<T: Debug>(result: kernel::Result<T>) -> kernel::Error {
    result.expect_err("must be refused")
}
