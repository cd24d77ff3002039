// SPDX-License-Identifier: Apache-2.0
//! Every version of the specification, against both programs, through a whole life: the shape of the result, CHECK where
//! it exists, a second ADD, DEL twice.

use anyhow::{Context as _, Result, ensure};
use cni_plugin::Version;
use ipnet::IpNet;
use serde_json::{Value, json};
use testbed::cni::{NetworkList, Target};
use testbed::peers::{self, Peer};
use testbed::{Container, Host, StoreContent, view};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn list(version: &str) -> Result<NetworkList> {
    let text = json!({
        "name": "versions",
        "cniVersion": version,
        "plugins": [{"type": "calico", "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"}}],
    });
    Ok(NetworkList::parse(text.to_string(), Version::V1_1_0)?)
}

/// The addresses of a result, whatever its shape; fails where the shape is not the version's.
fn addresses(version: &str, result: &Value) -> Result<Vec<IpNet>> {
    ensure!(
        result["cniVersion"] == version,
        "the result is in another version: {result}"
    );
    let parse = |value: &Value| -> Result<IpNet> { Ok(value.as_str().context("no text")?.parse()?) };
    if matches!(version, "0.1.0" | "0.2.0") {
        ensure!(
            result.get("ips").is_none() && result.get("interfaces").is_none(),
            "members of later versions: {result}"
        );
        return [&result["ip4"]["ip"], &result["ip6"]["ip"]]
            .into_iter()
            .map(parse)
            .collect();
    }
    let ips = result["ips"].as_array().context("no ips")?;
    for ip in ips {
        let named = ip.get("version").is_some();
        ensure!(
            named != version.starts_with('1'),
            "ips[].version in {version}: {result}"
        );
        let index = ip["interface"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok());
        let interface = &result["interfaces"][index.context("no interface index")?];
        ensure!(
            interface["name"] == "eth0" && interface["sandbox"].is_string(),
            "not the container's: {interface}"
        );
        let has_mtu = interface.get("mtu").is_some();
        ensure!(
            !has_mtu || version == "1.1.0",
            "interfaces[].mtu in {version}: {result}"
        );
    }
    ips.iter().map(|ip| parse(&ip["address"])).collect()
}

#[test]
fn a_whole_life_in_every_version() -> Result<()> {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let host = Host::new("versions")?;
    host.install_plugins()?;
    let runtime = host.cni();
    let other = Container::start("other")?;
    let list_of_other = list("1.1.0")?;
    let target_of_other = Target::eth0(other.id(), other.path());
    let result = runtime.add(&list_of_other, &target_of_other)?;
    let others = addresses("1.1.0", &result.json)?;
    for version in VERSIONS {
        let list = list(version)?;
        let container = Container::start("versions")?;
        let target = Target::eth0(container.id(), container.path());
        let added = runtime
            .add(&list, &target)
            .with_context(|| format!("ADD, {version}"))?;
        let given = addresses(version, &added.json)?;
        ensure!(given.len() == 2, "{version}: {given:?}");
        let mut inside = view::addresses(container.place(), "eth0")?;
        inside.sort();
        let mut sorted = given.clone();
        sorted.sort();
        ensure!(
            inside == sorted,
            "{version}: result {sorted:?}, inside {inside:?}"
        );
        let again = runtime
            .add(&list, &target)
            .with_context(|| format!("second ADD, {version}"))?;
        ensure!(
            again.json == added.json,
            "{version}: second ADD gives {}",
            again.json
        );
        for address in &others {
            container
                .http(address.addr())
                .with_context(|| version.to_owned())?;
        }
        let check = runtime.check(&list, &target);
        ensure!(
            check.is_ok() == (list.version >= Version::V0_4_0),
            "{version}: CHECK: {check:?}"
        );
        runtime
            .del(&list, &target)
            .with_context(|| format!("DEL, {version}"))?;
        runtime
            .del(&list, &target)
            .with_context(|| format!("second DEL, {version}"))?;
        ensure!(
            view::links(container.place())?.is_empty(),
            "{version}: DEL left a link"
        );
    }
    runtime.status(&list("1.1.0")?)?;
    runtime.del(&list_of_other, &target_of_other)?;
    let left = StoreContent::read(&host.folders().store())?.leftovers();
    ensure!(left.is_empty(), "left in the store: {left:?}");
    ensure!(view::links(host.place())?.is_empty(), "links are left");
    Ok(())
}

#[test]
fn both_programs_name_every_version() -> Result<()> {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let host = Host::new("version")?;
    host.install_plugins()?;
    for plugin in ["calico", "calico-ipam"] {
        let reply = host.cni().version(plugin)?;
        ensure!(reply["supportedVersions"] == json!(VERSIONS), "{plugin}: {reply}");
    }
    Ok(())
}
