// SPDX-License-Identifier: Apache-2.0
//! What must hold however a plugin ends, whatever it is given and whatever happens to its store: nothing is lost, leaked or given twice.
//! Real program, real namespaces, real kill -9; root only.

mod bad_input;
mod delegated;
#[path = "../support/host.rs"]
mod host;
mod names;

use std::{collections::BTreeSet, fs, io::Write as _, net::IpAddr, path::Path};

use host::{Host, Namespace, address, ip, is_root};
use serde_json::{Value, json};

/// More steps than any verb has.
const MAX_STEPS: u32 = 40;

/// Kills ADD at each step in turn, until one run survives; `check` says what has to hold after each kill.
fn kill_add_at_every_step(v6: bool, check: impl Fn(&Host, &Namespace, u32)) {
    let host = Host::new();
    let warm = Namespace::new("w");
    host.run("ADD", "warm", Some(&warm.path()), &host.config(v6), 0)
        .ok();
    host.run("DEL", "warm", Some(&warm.path()), &host.config(v6), 0)
        .ok();
    for step in 1..MAX_STEPS {
        let container = Namespace::new("c");
        let answer = host.run("ADD", "victim", Some(&container.path()), &host.config(v6), step);
        if !answer.killed() {
            answer.ok();
            assert!(step > 3, "ADD has more steps than {step}");
            host.run("DEL", "victim", Some(&container.path()), &host.config(v6), 0)
                .ok();
            return;
        }
        check(&host, &container, step);
        host.assert_clean(&format!("after the kill at step {step}"));
        let result = host
            .run("ADD", "victim", Some(&container.path()), &host.config(v6), 0)
            .ok();
        assert!(
            !address(&result).is_empty(),
            "ADD works again after the kill at step {step}"
        );
        host.run("DEL", "victim", Some(&container.path()), &host.config(v6), 0)
            .ok();
    }
    panic!("ADD never ended");
}

#[test]
fn an_add_killed_at_any_step_is_undone_by_del() {
    if !is_root() {
        return;
    }
    for v6 in [false, true] {
        kill_add_at_every_step(v6, |host, container, step| {
            let answer = host.run("DEL", "victim", Some(&container.path()), &host.config(v6), 0);
            assert!(answer.output.status.success(), "step {step}: {}", answer.json);
        });
    }
}

#[test]
fn an_add_killed_at_any_step_is_collected_when_its_namespace_is_gone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    for step in 1..MAX_STEPS {
        let container = Namespace::new("c");
        let answer = host.run("ADD", "victim", Some(&container.path()), &host.config(true), step);
        let killed = answer.killed();
        // As after a crash of the runtime: the container goes without DEL. The interface goes with its namespace, a
        // little later; GC leaves it alone until then.
        drop(container);
        for _ in 0..200 {
            if host.kernel_state().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        host.collect(true).ok();
        host.assert_clean(&format!("after the kill at step {step}"));
        if !killed {
            return;
        }
    }
    panic!("ADD never ended");
}

#[test]
fn an_add_repeated_after_a_kill_keeps_its_address() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    for step in 1..MAX_STEPS {
        let container = Namespace::new("c");
        let killed = host
            .run(
                "ADD",
                "victim",
                Some(&container.path()),
                &host.config(false),
                step,
            )
            .killed();
        let committed: Vec<String> = host
            .store_state()
            .into_iter()
            .filter(|found| found.parse::<IpAddr>().is_ok())
            .collect();
        let result = host.add("victim", &container).ok();
        if let [committed] = &committed[..] {
            assert_eq!(&address(&result), committed, "step {step}");
        }
        assert_eq!(
            host.store_state()
                .iter()
                .filter(|found| found.parse::<IpAddr>().is_ok())
                .count(),
            1
        );
        let inside = ip(&["-n", &container.0, "-br", "address", "show", "eth0"]);
        assert!(
            inside.contains(&format!("{}/32", address(&result))),
            "step {step}: {inside}"
        );
        host.del("victim", &container).ok();
        host.assert_clean(&format!("step {step}"));
        if !killed {
            return;
        }
    }
    panic!("ADD never ended");
}

#[test]
fn a_del_killed_at_any_step_is_completed_by_the_next() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    for step in 1..MAX_STEPS {
        let container = Namespace::new("c");
        host.add("victim", &container).ok();
        let killed = host
            .run(
                "DEL",
                "victim",
                Some(&container.path()),
                &host.config(false),
                step,
            )
            .killed();
        host.del("victim", &container).ok();
        host.assert_clean(&format!("DEL killed at step {step}"));
        if !killed {
            assert!(step > 2, "DEL has more steps than {step}");
            return;
        }
    }
    panic!("DEL never ended");
}

/// Starts all ADDs before it waits for any.
fn add_all(hosts: &[&Host], each: usize) -> Vec<(usize, String, Namespace, Value)> {
    let mut running = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        for number in 0..each {
            let (id, container) = (format!("c{index}x{number}"), Namespace::new("c"));
            let mut child = host
                .command("ADD", &id, Some(&container.path()), 0)
                .spawn()
                .expect("it starts");
            let config = host.config(false).to_string();
            child
                .stdin
                .take()
                .expect("piped")
                .write_all(config.as_bytes())
                .expect("it reads");
            running.push((index, id, container, child));
        }
    }
    let finish = |(index, id, container, child): (usize, String, Namespace, std::process::Child)| {
        let output = child.wait_with_output().expect("it ends");
        assert!(
            output.status.success(),
            "{id}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        (
            index,
            id,
            container,
            serde_json::from_slice(&output.stdout).expect("a result"),
        )
    };
    running.into_iter().map(finish).collect()
}

#[test]
fn sixty_four_adds_at_once_get_sixty_four_addresses() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let added = add_all(&[&host], 64);
    let addresses: BTreeSet<String> = added.iter().map(|(.., result)| address(result)).collect();
    assert_eq!(addresses.len(), 64, "no duplicate");
    let stored: BTreeSet<String> = host
        .store_state()
        .into_iter()
        .filter(|found| found.parse::<IpAddr>().is_ok())
        .collect();
    assert_eq!(stored, addresses, "no loss");
    for (_, id, container, _) in &added {
        host.del(id, container).ok();
    }
    host.assert_clean("after all DELs");
}

#[test]
fn four_hosts_on_one_store_share_no_address() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let hosts: Vec<Host> = ["a", "b", "c", "d"]
        .map(|name| Host::sharing(Some(folder.path()), &format!("node-{name}")))
        .into();
    let added = add_all(&hosts.iter().collect::<Vec<_>>(), 16);
    let addresses: BTreeSet<String> = added.iter().map(|(.., result)| address(result)).collect();
    assert_eq!(addresses.len(), 64);
    for (index, id, container, _) in &added {
        hosts[*index].del(id, container).ok();
    }
    for host in &hosts {
        host.assert_clean("after all DELs");
    }
}

/// Does something to the store under three running containers, then looks whether they and their addresses are safe.
fn damage(what: &str, harm: impl Fn(&Path)) {
    let host = Host::new();
    let old = Namespace::new("o");
    host.add("old", &old).ok();
    let copy = host.state.with_extension("copy");
    fs::create_dir_all(&copy).unwrap();
    for name in ["node.db", "node.db-wal"] {
        let _ = fs::copy(host.state.join(name), copy.join(name));
    }
    let mut live = BTreeSet::from([address(&host.add("old", &old).ok())]);
    let containers: Vec<(String, Namespace)> = (0..3)
        .map(|n| (format!("live{n}"), Namespace::new("l")))
        .collect();
    for (id, container) in &containers {
        live.insert(address(&host.add(id, container).ok()));
    }
    let before = host.kernel_state();
    harm(&host.state);

    let mut fresh = Vec::new();
    for number in 0..8 {
        let container = Namespace::new("f");
        let id = format!("fresh{number}");
        let result = host.add(&id, &container).ok();
        assert!(
            live.insert(address(&result)),
            "{what}: {} is given twice",
            address(&result)
        );
        fresh.push((id, container));
    }
    let after = host.kernel_state();
    for line in &before {
        assert!(after.contains(line), "{what}: {line} was touched");
    }
    host.del("old", &old).ok();
    for (id, container) in containers.iter().chain(&fresh) {
        host.del(id, container).ok();
    }
    host.assert_clean(what);
}

#[test]
fn a_store_that_is_deleted_or_damaged_costs_no_container_its_address() {
    if !is_root() {
        return;
    }
    let file = |state: &Path| state.join("node.db");
    damage("deleted with its log", |state| fs::remove_dir_all(state).unwrap());
    damage("database deleted", |state| fs::remove_file(file(state)).unwrap());
    damage("truncated", |state| {
        fs::OpenOptions::new()
            .write(true)
            .open(file(state))
            .unwrap()
            .set_len(5000)
            .unwrap();
    });
    damage("overwritten with garbage", |state| {
        fs::write(file(state), vec![0x5a; 40_000]).unwrap();
    });
    damage("bell deleted", |state| {
        fs::remove_file(state.join("node.db.bell")).unwrap();
    });
}

#[test]
fn a_store_restored_from_an_old_copy_costs_no_container_its_address() {
    if !is_root() {
        return;
    }
    let copied = |state: &Path, name: &str| state.with_extension("copy").join(name);
    damage("restored in place", |state| {
        fs::copy(copied(state, "node.db"), state.join("node.db"))
            .map(drop)
            .unwrap();
    });
    damage("restored by rename, with its log", |state| {
        fs::rename(copied(state, "node.db"), state.join("node.db")).unwrap();
        let log = copied(state, "node.db-wal");
        if log.exists() {
            fs::rename(log, state.join("node.db-wal")).unwrap();
        }
    });
    damage("restored without its log", |state| {
        let _ = fs::remove_file(state.join("node.db-wal"));
        let _ = fs::remove_file(state.join("node.db-shm"));
        fs::rename(copied(state, "node.db"), state.join("node.db")).unwrap();
    });
}

#[test]
fn a_locked_datastore_refuses_add_and_remembers_del() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let container = Namespace::new("c");
    host.add("c1", &container).ok();
    set_ready(&host, false);
    let other = Namespace::new("c");
    let refused = host.add("c2", &other);
    assert_eq!(refused.json["code"], 11, "{}", refused.json);
    host.del("c1", &container).ok();
    assert_eq!(host.kernel_state(), [""; 0], "DEL cleans up locally");
    assert!(
        !host.store_state().is_empty(),
        "and changes nothing in a locked store but its own note"
    );
    set_ready(&host, true);
    host.add("c2", &other).ok();
    host.del("c2", &other).ok();
    host.assert_clean("the release was replayed");
}

fn set_ready(host: &Host, ready: bool) {
    use datastore::{Batch, EmbeddedStore, OpenOptions, Store as _, Write};
    let opened = EmbeddedStore::open(&host.state.join("node.db"), OpenOptions::default()).unwrap();
    let key = model::Key::resource(model::Kind::ClusterInformation, "default");
    let entry = opened.store.get(&key).unwrap().unwrap();
    let mut information: Value = entry.decode().unwrap();
    information["spec"]["datastoreReady"] = json!(ready);
    let write = Write::update(key, &information, entry.revision);
    opened
        .store
        .commit(&Batch {
            writes: vec![write],
            journal: Vec::new(),
        })
        .unwrap();
}

#[test]
fn collection_needs_a_list_and_spares_what_lives() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (live, dead) = (Namespace::new("c"), Namespace::new("c"));
    host.add("live", &live).ok();
    host.add("dead", &dead).ok();
    ip(&["-n", &dead.0, "link", "del", "eth0"]);
    let before = host.store_state();
    host.run("GC", "unused", None, &host.config(false), 0).ok();
    assert_eq!(host.store_state(), before, "without a list nothing is known");
    host.collect(false).ok();
    let after = host.store_state().join(" ");
    assert!(
        after.contains("net.live") && !after.contains("net.dead"),
        "{after}"
    );
    host.del("live", &live).ok();
    host.assert_clean("at the end");
}
