// SPDX-License-Identifier: Apache-2.0
//! With another IPAM plugin (`host-local`), whose addresses are in its own files: a kill at any step leaves none there.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    MAX_STEPS,
    host::{Host, Namespace, address, is_root},
};

const HOST_LOCAL: &str = "/usr/lib/cni/host-local";

fn is_installed() -> bool {
    let found = Path::new(HOST_LOCAL).exists();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "CI has {HOST_LOCAL}");
        eprintln!("SKIPPED: {HOST_LOCAL} is missing (package containernetworking-plugins)");
    }
    found
}

fn config(host: &Host, folder: &Path) -> Value {
    let mut config = host.config(false);
    // Debian's host-local is older than 1.1.0.
    config["cniVersion"] = "1.0.0".into();
    config["ipam"] = json!({"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": folder});
    config
}

/// The addresses that host-local has given out.
fn reserved(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("net")).into_iter().flatten();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("10.")).collect()
}

#[test]
fn an_add_killed_at_any_step_leaves_no_delegated_address() {
    if !is_root() || !is_installed() {
        return;
    }
    let (host, folder) = (
        Host::new(),
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    );
    let config = config(&host, folder.path());
    let mut held_when_killed = false;
    for step in 1..MAX_STEPS {
        let container = Namespace::new("c");
        let run = |verb, step| host.run(verb, "victim", Some(&container.path()), &config, step);
        let killed = run("ADD", step).killed();
        held_when_killed |= killed && !reserved(folder.path()).is_empty();
        run("DEL", 0).ok();
        host.assert_clean(&format!("ADD killed at step {step}"));
        assert_eq!(reserved(folder.path()), [""; 0], "ADD killed at step {step}");
        let result = run("ADD", 0).ok();
        assert_eq!(reserved(folder.path()), [address(&result)], "step {step}");
        run("DEL", 0).ok();
        if !killed {
            assert!(held_when_killed, "no kill hit an ADD that had an address");
            return;
        }
    }
    panic!("ADD never ended");
}

#[test]
fn a_del_killed_at_any_step_leaves_no_delegated_address() {
    if !is_root() || !is_installed() {
        return;
    }
    let (host, folder) = (
        Host::new(),
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    );
    let config = config(&host, folder.path());
    for step in 1..MAX_STEPS {
        let container = Namespace::new("c");
        let run = |verb, step| host.run(verb, "victim", Some(&container.path()), &config, step);
        run("ADD", 0).ok();
        let killed = run("DEL", step).killed();
        run("DEL", 0).ok();
        host.assert_clean(&format!("DEL killed at step {step}"));
        assert_eq!(reserved(folder.path()), [""; 0], "DEL killed at step {step}");
        if !killed {
            assert!(step > 3, "DEL with a delegate has more steps than {step}");
            return;
        }
    }
    panic!("DEL never ended");
}

#[test]
fn a_repeated_add_returns_the_resolver_settings_again() {
    if !is_root() || !is_installed() {
        return;
    }
    let (host, folder) = (
        Host::new(),
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    );
    let resolver = folder.path().join("resolv.conf");
    fs::write(&resolver, "nameserver 9.9.9.9\nsearch example.org\n").unwrap();
    let mut config = config(&host, folder.path());
    config["ipam"]["resolvConf"] = json!(resolver);
    let container = Namespace::new("c");
    let run = |verb| host.run(verb, "abc", Some(&container.path()), &config, 0).ok();
    let first = run("ADD");
    assert_eq!(first["dns"]["nameservers"], json!(["9.9.9.9"]), "{first}");
    assert_eq!(run("ADD"), first);
    run("DEL");
}
