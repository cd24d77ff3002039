// SPDX-License-Identifier: Apache-2.0
//! Network namespaces on a real kernel.

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use kernel::{Namespace, Netlink, Opened, netns};
use support::{may_run, refused, veth};

/// A named namespace that goes also when the test fails.
struct Named(String);

impl Named {
    fn new(subject: &str) -> Self {
        Self(format!("kernel-test-{subject}-{}", std::process::id()))
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = netns::delete_named(&self.0);
    }
}

fn open(path: impl AsRef<Path>) -> Namespace {
    match Namespace::open(path).unwrap() {
        Opened::Namespace(namespace) => namespace,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_are_judged_by_their_file_system() {
    if !may_run() {
        return;
    }
    assert!(matches!(
        Namespace::open("/run/netns/nobody/at/all").unwrap(),
        Opened::Missing
    ));
    assert!(matches!(
        Namespace::open("/etc/passwd/x").unwrap(),
        Opened::Missing
    ));
    assert!(matches!(
        Namespace::open("/etc/passwd").unwrap(),
        Opened::NotANamespace
    ));
    assert!(matches!(Namespace::open("/etc").unwrap(), Opened::NotANamespace));
    assert!(open("/proc/self/ns/net").is_current().unwrap());
    assert!(
        open(format!("/proc/{}/ns/net", std::process::id()))
            .is_current()
            .unwrap()
    );
}

#[test]
fn named_namespaces_are_those_of_ip_netns() {
    if !may_run() {
        return;
    }
    let name = Named::new("named");
    let made = netns::create_named(&name.0).unwrap();
    assert!(!made.is_current().unwrap());
    assert_eq!(open(name.path()).id().unwrap(), made.id().unwrap());
    let status = Command::new("ip")
        .args(["netns", "exec", &name.0, "true"])
        .status()
        .unwrap();
    assert!(status.success());
    assert!(refused(netns::create_named(&name.0)).is_exists());
    for wrong in ["", ".", "..", "a/b"] {
        refused(netns::create_named(wrong));
    }
    drop(made);
    assert!(netns::delete_named(&name.0).unwrap());
    assert!(!netns::delete_named(&name.0).unwrap());
    assert!(!Path::new(&name.path()).exists());

    // What a reboot leaves: the file without its mount.
    fs::write(name.path(), "").unwrap();
    assert!(matches!(
        Namespace::open(name.path()).unwrap(),
        Opened::NotANamespace
    ));
    assert!(netns::delete_named(&name.0).unwrap());
}

#[test]
fn actions_run_inside_and_the_caller_stays() {
    if !may_run() {
        return;
    }
    let home = Namespace::current().unwrap().id().unwrap();
    let namespace = Namespace::create().unwrap();
    let here = || Namespace::current().unwrap().id().unwrap();
    let id = namespace.id().unwrap();
    assert_eq!(namespace.run(here).unwrap(), id);
    assert_eq!(namespace.visit(here).unwrap(), id);
    assert_eq!(here(), home);

    let error = refused(namespace.run(|| panic!("on purpose")));
    assert!(
        error.to_string().starts_with("run in network namespace"),
        "{error}"
    );
    let panicked = std::panic::catch_unwind(|| namespace.visit(|| panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(here(), home);

    let mut inside = namespace.socket().unwrap();
    assert_eq!(here(), home);
    veth(&mut inside, "only-inside", "peer");
    assert!(
        namespace
            .run(|| Netlink::open()
                .unwrap()
                .link_by_name("only-inside")
                .unwrap()
                .is_some())
            .unwrap()
    );
    assert_eq!(
        Netlink::open().unwrap().link_by_name("only-inside").unwrap(),
        None
    );
}

#[test]
fn descriptors_are_not_inherited() {
    if !may_run() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let socket = namespace.socket().unwrap();
    for descriptor in [namespace.as_fd().as_raw_fd(), socket.as_fd().as_raw_fd()] {
        let path = format!("/proc/self/fd/{descriptor}");
        let child = Command::new("readlink").arg(&path).output().unwrap();
        assert!(
            !child.status.success(),
            "{descriptor}: {}",
            String::from_utf8_lossy(&child.stdout)
        );
    }
}

#[test]
fn namespaces_of_processes_and_of_mounts_are_found_once_each() {
    if !may_run() {
        return;
    }
    let found = |wanted: &Namespace| {
        let wanted = wanted.id().unwrap();
        let all = netns::reachable().unwrap().namespaces;
        all.iter()
            .filter(|namespace| namespace.id().unwrap() == wanted)
            .count()
    };
    assert_eq!(found(&open("/proc/self/ns/net")), 1);
    let name = Named::new("reachable");
    let mounted = netns::create_named(&name.0).unwrap();
    assert_eq!(found(&mounted), 1, "it has no process");
    netns::delete_named(&name.0).unwrap();
    assert_eq!(found(&mounted), 0, "only this test's descriptor keeps it");
    let inside = mounted.as_fd().as_raw_fd();
    let mut process = Command::new("nsenter")
        .args([
            &format!("--net=/proc/{}/fd/{inside}", std::process::id()),
            "sleep",
            "60",
        ])
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while found(&mounted) == 0 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    let while_it_ran = found(&mounted);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(while_it_ran, 1, "a process is in it");
}
