// SPDX-License-Identifier: Apache-2.0
//! The runtime itself, against plugins that write down how they were called: order, previous results, what is
//! remembered, garbage collection. The cases are those of the reference library's own tests (`libcni/api_test.go`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cni_plugin::Version;
use serde_json::{Value, json};
use testbed::Host;
use testbed::cni::{CniRuntime, NetworkList, RuntimeError, Target};
use testbed::peers::{self, Peer};

type Result = anyhow::Result<()>;

/// Writes its name and verb into the journal and its configuration beside it, and answers ADD with a result of its own.
/// A file `NAME.fails` makes it fail with what is in it, `NAME.waits` makes it wait.
const PLUGIN: &str = r#"#!/bin/sh
own=$(basename "$0") && folder=$(dirname "$0")
cat >"$folder/$own.$CNI_COMMAND.json"
echo "$own $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >>"$folder/journal"
if [ -e "$folder/$own.waits" ]; then echo $$ >"$folder/waiting"; exec sleep 100000; fi
if [ -e "$folder/$own.fails" ]; then cat "$folder/$own.fails"; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
    echo "{\"cniVersion\":\"$(cat "$folder/version")\",\"interfaces\":[{\"name\":\"$own\"}],\"ips\":[{\"version\":\"4\",\"address\":\"192.0.2.1/32\"}],\"ip4\":{\"ip\":\"192.0.2.1/32\"}}"
fi
"#;

/// A host with two such plugins and a list of them.
struct Stage {
    host: Host,
    list: NetworkList,
}

impl Stage {
    fn new(name: &str, version: &str, extra: &Value) -> anyhow::Result<Self> {
        let host = Host::new(name)?;
        let folder = host.folders().plugins();
        for plugin in ["first", "second"] {
            let path = folder.join(plugin);
            fs::write(&path, PLUGIN)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(folder.join("version"), version)?;
        let mut tree = json!({
            "name": "net", "cniVersion": version,
            "plugins": [{"type": "first", "own": 1}, {"type": "second", "capabilities": {"mac": true}}],
        });
        if let (Some(tree), Some(extra)) = (tree.as_object_mut(), extra.as_object()) {
            tree.extend(extra.clone());
        }
        let list = NetworkList::parse(tree.to_string(), Version::V1_1_0)?;
        Ok(Self { host, list })
    }

    fn runtime(&self) -> CniRuntime {
        self.host.cni()
    }

    fn write(&self, file: &str, text: &str) -> std::io::Result<()> {
        fs::write(self.host.folders().plugins().join(file), text)
    }

    /// The calls since the last time, as `plugin VERB`.
    fn calls(&self) -> Vec<String> {
        let path = self.host.folders().plugins().join("journal");
        let journal = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        journal.lines().map(words).collect()
    }

    /// What a plugin was given.
    fn config(&self, plugin: &str, verb: &str) -> anyhow::Result<Value> {
        let path = self
            .host
            .folders()
            .plugins()
            .join(format!("{plugin}.{verb}.json"));
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

fn target() -> Target {
    Target::eth0("c1", Path::new("/run/netns/none"))
        .arg("IgnoreUnknown", "1")
        .capability("mac", json!("c2:11:22:33:44:55"))
}

#[test]
fn a_list_is_run_in_order_and_backwards_for_del() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("order", "1.0.0", &json!({}))?;
    let (runtime, list) = (stage.runtime(), &stage.list);
    let added = runtime.add(list, &target())?;
    assert_eq!(stage.calls(), ["first ADD", "second ADD"]);
    assert_eq!(stage.config("first", "ADD")?.get("prevResult"), None);
    assert_eq!(stage.config("first", "ADD")?["own"], 1);
    assert_eq!(stage.config("first", "ADD")?.get("runtimeConfig"), None);
    let second = stage.config("second", "ADD")?;
    assert_eq!(second["prevResult"]["interfaces"][0]["name"], "first");
    assert_eq!(second["runtimeConfig"]["mac"], "c2:11:22:33:44:55");
    assert_eq!(
        (&second["name"], &second["cniVersion"]),
        (&json!("net"), &json!("1.0.0"))
    );
    assert_eq!(added.result.interfaces[0].name, "second");

    runtime.check(list, &target())?;
    assert_eq!(stage.calls(), ["first CHECK", "second CHECK"]);
    assert_eq!(stage.config("first", "CHECK")?["prevResult"], added.json);

    runtime.del(list, &target())?;
    assert_eq!(stage.calls(), ["second DEL", "first DEL"]);
    assert_eq!(stage.config("first", "DEL")?["prevResult"], added.json);
    runtime.del(list, &target())?;
    assert_eq!(
        stage.config("first", "DEL")?.get("prevResult"),
        None,
        "forgotten after the first"
    );
    Ok(())
}

#[test]
fn what_is_remembered_is_in_the_form_of_the_reference_library() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("cache", "1.0.0", &json!({}))?;
    stage.runtime().add(&stage.list, &target())?;
    let path = stage.host.folders().cache().join("results/net-c1-eth0");
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let cached: Value = serde_json::from_slice(&fs::read(path)?)?;
    assert_eq!(cached["kind"], "cniCacheV1");
    assert_eq!(cached["containerId"], "c1");
    assert_eq!(cached["ifName"], "eth0");
    assert_eq!(cached["networkName"], "net");
    assert_eq!(cached["netns"], "/run/netns/none");
    assert_eq!(cached["cniArgs"], json!([["IgnoreUnknown", "1"]]));
    assert_eq!(cached["capabilityArgs"], json!({"mac": "c2:11:22:33:44:55"}));
    assert!(
        cached["config"].as_str().is_some_and(|text| text.len() % 4 == 0),
        "{cached}"
    );
    Ok(())
}

#[test]
fn an_unreadable_memory_fails_check_and_not_del() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("corrupt", "1.0.0", &json!({}))?;
    let runtime = stage.runtime();
    runtime.add(&stage.list, &target())?;
    fs::write(runtime.cache().file("net", &target()), "{\"kind\":")?;
    stage.calls();
    let error = runtime
        .check(&stage.list, &target())
        .expect_err("nothing can be compared");
    assert!(matches!(error, RuntimeError::Cache { .. }), "{error}");
    assert_eq!(stage.calls(), Vec::<String>::new());
    runtime.del(&stage.list, &target())?;
    assert_eq!(stage.calls(), ["second DEL", "first DEL"]);
    assert_eq!(stage.config("first", "DEL")?.get("prevResult"), None);
    Ok(())
}

#[test]
fn a_failing_add_stops_the_chain_and_is_not_remembered() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("fails", "1.0.0", &json!({}))?;
    stage.write("first.fails", r#"{"code":11,"msg":"not now","details":"later"}"#)?;
    let runtime = stage.runtime();
    let error = runtime.add(&stage.list, &target()).expect_err("the plugin fails");
    assert_eq!(error.code(), Some(11));
    assert_eq!(error.to_string(), "plugin first ADD: not now; later");
    assert_eq!(stage.calls(), ["first ADD"]);
    assert!(runtime.cache().all().is_empty());
    // Without words of its own.
    stage.write("first.fails", "")?;
    let error = runtime.add(&stage.list, &target()).expect_err("the plugin fails");
    assert!(error.to_string().contains("exit status: 1"), "{error}");
    Ok(())
}

#[test]
fn a_missing_plugin_is_named_with_the_path() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("missing", "1.0.0", &json!({"plugins": [{"type": "absent"}]}))?;
    let error = stage
        .runtime()
        .add(&stage.list, &target())
        .expect_err("there is no such plugin");
    let folder = stage.host.folders().plugins().display().to_string();
    assert!(
        error.to_string().contains("absent") && error.to_string().contains(&folder),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_plugin_that_takes_too_long_is_killed() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("slow", "1.0.0", &json!({}))?;
    stage.write("first.waits", "")?;
    let start = Instant::now();
    let runtime = stage.runtime().with_limit(Duration::from_millis(500));
    let error = runtime.add(&stage.list, &target()).expect_err("it never answers");
    assert!(error.to_string().contains("did not end within"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
    let pid = fs::read_to_string(stage.host.folders().plugins().join("waiting"))?;
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it was waited for");
    Ok(())
}

#[test]
fn versions_decide_which_verbs_there_are() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    for (version, has_check, has_gc) in [
        ("0.2.0", false, false),
        ("0.3.1", false, false),
        ("0.4.0", true, false),
        ("1.1.0", true, true),
    ] {
        let stage = Stage::new("verbs", version, &json!({}))?;
        let (runtime, list) = (stage.runtime(), &stage.list);
        runtime.add(list, &target())?;
        assert_eq!(runtime.check(list, &target()).is_ok(), has_check, "{version}");
        stage.calls();
        runtime.status(list)?;
        assert_eq!(stage.calls().len(), if has_gc { 2 } else { 0 }, "{version}");
        runtime.gc(list, Some(&[("c1".to_owned(), "eth0".to_owned())]))?;
        assert_eq!(stage.calls().len(), if has_gc { 2 } else { 0 }, "{version}");
        runtime.del(list, &target())?;
        let has_previous = stage.config("second", "DEL")?.get("prevResult").is_some();
        assert_eq!(has_previous, has_check, "{version}");
    }
    Ok(())
}

#[test]
fn garbage_collection_first_deletes_what_is_not_valid() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("gc", "1.1.0", &json!({}))?;
    let (runtime, list) = (stage.runtime(), &stage.list);
    let other = Target::eth0("c2", Path::new(""));
    runtime.add(list, &target())?;
    runtime.add(list, &other)?;
    stage.calls();
    runtime.gc(list, Some(&[("c1".to_owned(), "eth0".to_owned())]))?;
    assert_eq!(
        stage.calls(),
        ["second DEL", "first DEL", "first GC", "second GC"]
    );
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let config = stage.config("first", "GC")?;
    assert_eq!(config["cni.dev/valid-attachments"], valid);
    assert_eq!(
        config["cni.dev/attachments"], valid,
        "the name of the first text of 1.1.0"
    );
    assert_eq!(runtime.cache().all().len(), 1);
    // cnitool gc: no list at all.
    runtime.gc(list, None)?;
    assert_eq!(
        stage.config("first", "GC")?.get("cni.dev/valid-attachments"),
        None
    );
    assert!(runtime.cache().all().is_empty());
    runtime.gc(list, Some(&[]))?;
    assert_eq!(
        stage.config("first", "GC")?["cni.dev/valid-attachments"],
        json!([])
    );
    // It goes on past failures and reports them all.
    stage.write("first.fails", r#"{"code":7,"msg":"one"}"#)?;
    stage.write("second.fails", r#"{"code":7,"msg":"two"}"#)?;
    let error = runtime.gc(list, Some(&[])).expect_err("both fail").to_string();
    assert!(error.contains("one") && error.contains("two"), "{error}");
    Ok(())
}

#[test]
fn garbage_collection_can_be_disabled() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("nogc", "1.1.0", &json!({"disableGC": true, "disableCheck": true}))?;
    let (runtime, list) = (stage.runtime(), &stage.list);
    runtime.add(list, &target())?;
    stage.calls();
    runtime.gc(list, Some(&[]))?;
    runtime.check(list, &target())?;
    assert_eq!(stage.calls(), Vec::<String>::new());
    Ok(())
}

#[test]
fn status_ends_at_the_first_failure() -> Result {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let stage = Stage::new("status", "1.1.0", &json!({}))?;
    stage.write("first.fails", r#"{"code":50,"msg":"not ready"}"#)?;
    let error = stage
        .runtime()
        .status(&stage.list)
        .expect_err("the first is not ready");
    assert_eq!(error.code(), Some(50));
    assert_eq!(stage.calls(), ["first STATUS"]);
    Ok(())
}
