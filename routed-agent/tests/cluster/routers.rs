// SPDX-License-Identifier: Apache-2.0
//! Real routers as peers, and nodes as route reflectors.

use std::{fs, net::IpAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::{Value, json};
use testbed::{Container, Host, PATIENCE, Place, Program, Running, eventually, peers};

use crate::support::{Cluster, net, possible};

/// A BIRD on the router.
struct Bird {
    _process: Running,
    place: Place,
    control: PathBuf,
}

impl Bird {
    /// Starts one; `None` where it is not installed.
    fn start(cluster: &Cluster, protocols: &str) -> Result<Option<Self>> {
        let Some(program) = peers::find_program("bird") else {
            assert!(std::env::var_os("CI").is_none(), "CI has bird (package bird2)");
            eprintln!("SKIPPED: bird is missing (package bird2)");
            return Ok(None);
        };
        let at = |name: &str| cluster.folder().join(name);
        let text = format!(
            "router id 10.1.0.1; protocol device {{ scan time 1; }} protocol direct {{ ipv4; }}
             protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; merge paths on; }} {protocols}"
        );
        fs::write(at("bird.conf"), text)?;
        let log = fs::File::create(at("bird.log"))?;
        let process = Program::new(cluster.lan.place(), program)
            .args(["-f", "-c"])
            .args([at("bird.conf")])
            .args(["-s"])
            .args([at("bird.ctl")])
            .args(["-P"])
            .args([at("bird.pid")])
            .start(Stdio::from(log))?;
        let control = at("bird.ctl");
        eventually(PATIENCE, || control.exists().then_some(())).context("bird does not start")?;
        Ok(Some(Self {
            _process: process,
            place: cluster.lan.place().clone(),
            control,
        }))
    }

    fn ask(&self, question: &str) -> Result<String> {
        let program = peers::find_program("birdc").context("no program birdc")?;
        Program::new(&self.place, program)
            .args(["-s"])
            .args([&self.control])
            .args(question.split(' '))
            .succeed(PATIENCE)
    }

    /// Waits until an answer is as wanted.
    fn until(&self, question: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let found = eventually(Duration::from_secs(20), || {
            last = self
                .ask(question)
                .unwrap_or_else(|problem| format!("{problem:#}"));
            wanted(&last).then(|| last.clone())
        });
        found.with_context(|| format!("bird, {question}: {last}"))
    }
}

const TOP_OF_RACK: &str = "
    template bgp tor { local as 64600; ipv4 { import all; export none; next hop self; }; }
    protocol bgp n1 from tor { neighbor 10.1.0.11 as 64512; multihop; }
    protocol bgp n2 from tor { neighbor 10.1.0.12 as 64512; multihop; }
    protocol bgp n3 from tor { neighbor 10.2.0.13 as 64512; multihop; }";

fn unencapsulated() -> Result<Cluster> {
    Cluster::new(
        &[
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
            ("node3", "10.2.0.13/24", "lan1"),
        ],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )
}

fn peer_with_router(cluster: &Cluster, next_hop_mode: &str) -> Result<()> {
    for (node, router) in [
        ("node1", "10.1.0.1"),
        ("node2", "10.1.0.1"),
        ("node3", "10.2.0.1"),
    ] {
        cluster.apply(
            Kind::BgpPeer,
            &format!("tor-{node}"),
            &json!({ "node": node, "peerIP": router, "asNumber": 64600, "nextHopMode": next_hop_mode }),
        )?;
    }
    Ok(())
}

/// The router learns every block from its own node, so nothing needs encapsulation, and whoever knows the router reaches
/// the containers.
#[test]
fn a_top_of_rack_router_carries_everything_without_encapsulation() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = unencapsulated()?;
    let Some(bird) = Bird::start(&cluster, TOP_OF_RACK)? else {
        return Ok(());
    };
    cluster.start()?;
    let containers = cluster.containers()?;
    // With the mesh and Calico's default, every node tells the router that it is the way to every block.
    peer_with_router(&cluster, "Auto")?;
    let warned = |status: &Value| {
        status["warnings"]
            .to_string()
            .contains("CALICO_BGP_EXTERNAL_EXPORT=own")
    };
    cluster.members[0].until("/v1/status", warned)?;
    // One of the cures that the warning names.
    peer_with_router(&cluster, "Keep")?;
    cluster.members[0].until("/v1/status", |status| !warned(status))?;
    for member in &cluster.members {
        member.until_peers(3)?;
    }
    for (member, address) in cluster
        .members
        .iter()
        .zip(["10.1.0.11", "10.1.0.12", "10.2.0.13"])
    {
        for block in member.blocks()? {
            let shown = bird.until(&format!("show route for {block} all"), |shown| {
                shown.contains(address)
            })?;
            ensure!(shown.contains("BGP.as_path: 64512"), "{shown}");
            ensure!(
                !shown.contains("BGP.local_pref: 2147482623"),
                "stays inside the AS: {shown}"
            );
        }
    }
    cluster.assert_all_reach_all(&containers)?;
    // A host outside, which knows nothing but its router.
    let outside = Host::new("outside")?;
    cluster.lan.subnet("lan9", &[net("10.9.0.1/24")])?;
    cluster.lan.attach(
        &outside,
        "lan9",
        &[net("10.9.0.9/24")],
        &[IpAddr::from([10, 9, 0, 1])],
    )?;
    for (_, address) in &containers {
        let reached = eventually(Duration::from_secs(5), || {
            testbed::probe::ping(outside.place(), *address).ok()
        });
        reached.with_context(|| format!("{address} from outside"))?;
    }
    // A peer that goes away takes its routes with it.
    let own = cluster.members[0].blocks()?[0];
    cluster.members[0].agent_command(["leave"]).succeed(PATIENCE)?;
    cluster.members[0].until_ended()?;
    bird.until(&format!("show route for {own} all"), |shown| {
        !shown.contains("10.1.0.11")
    })?;
    Ok(())
}

/// The right password and a wrong one, as Kubernetes would mount them.
fn write_secrets(cluster: &Cluster) -> Result<String> {
    let secrets = cluster.folder().join("secrets");
    fs::create_dir_all(secrets.join("bgp"))?;
    fs::write(secrets.join("bgp/right"), "sesame\n")?;
    fs::write(secrets.join("bgp/wrong"), "open\n")?;
    Ok(secrets.display().to_string())
}

/// Filters on both sides, communities, and passwords; each seen at the router.
#[test]
fn filters_communities_and_passwords_as_the_router_sees_them() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[("node1", "10.1.0.11/24", "lan0")],
        true,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )?;
    let router = "
        protocol static { ipv4; route 172.30.0.0/16 blackhole; route 172.31.0.0/16 blackhole; }
        protocol bgp n1 {
            local 10.1.0.1 as 64600; neighbor 10.1.0.11 as 64512; multihop; password \"sesame\";
            ipv4 { import all; export where source = RTS_STATIC; next hop self; };
        }";
    let Some(bird) = Bird::start(&cluster, router)? else {
        return Ok(());
    };
    let secrets = write_secrets(&cluster)?;
    cluster.members[0].set("CALICO_SECRETS_DIR", &secrets);
    cluster.start()?;
    let member = &cluster.members[0];
    let container = Container::start("c")?;
    let address = member.add(&container)?[0];
    let block = member.blocks()?[0];
    cluster.apply(
        Kind::BgpFilter,
        "edge",
        &json!({
            "importV4": [{ "action": "Reject", "matchOperator": "In", "cidr": "172.31.0.0/16" }],
            "exportV4": [{
                "action": "Accept", "matchOperator": "In", "cidr": "192.168.0.0/16",
                "operations": [
                    { "addCommunity": { "value": "64512:77" } },
                    { "addCommunity": { "value": "64512:1:2" } },
                    { "prependASPath": { "prefix": [64512, 64512] } },
                ],
            }],
        }),
    )?;
    let peer = |password: &str, filters: &[&str]| {
        json!({
            "node": "node1", "peerIP": "10.1.0.1", "asNumber": 64600, "filters": filters,
            "password": { "secretKeyRef": { "name": "bgp", "key": password } },
        })
    };
    cluster.apply(Kind::BgpPeer, "tor", &peer("wrong", &["edge"]))?;
    member.until("/v1/peers", |answer| {
        answer["peers"].as_array().is_some_and(|peers| peers.len() == 1)
    })?;
    // With the wrong key no segment gets through.
    let up = eventually(Duration::from_secs(3), || {
        let answer = member.ask("/v1/peers").ok()?;
        (answer["peers"][0]["session"] == "Established").then_some(())
    });
    ensure!(up.is_none(), "the wrong password is accepted");
    cluster.apply(Kind::BgpPeer, "tor", &peer("right", &["edge"]))?;
    member.until_peers(1)?;
    let shown = bird.until(&format!("show route for {block} all"), |shown| {
        shown.contains("64512,77")
    })?;
    ensure!(shown.contains("(64512, 1, 2)"), "{shown}");
    ensure!(shown.contains("BGP.as_path: 64512 64512 64512"), "{shown}");
    member.until_route("172.30.0.0/16 via 10.1.0.1")?;
    member.until_no_route("172.31.0.0/16")?;
    let ups = member.ask("/v1/peers")?["peers"][0]["counters"]["ups"].clone();
    // Without the filter: what it kept out comes in, what it changed is as it was. The session stays.
    cluster.apply(Kind::BgpPeer, "tor", &peer("right", &[]))?;
    member.until_route("172.31.0.0/16 via 10.1.0.1")?;
    let shown = bird.until(&format!("show route for {block} all"), |shown| {
        !shown.contains("64512,77")
    })?;
    ensure!(shown.contains("BGP.as_path: 64512\n"), "{shown}");
    // Communities of prefixes, and pools that are not announced.
    cluster.apply(
        Kind::BgpConfiguration,
        "default",
        &json!({
            "communities": [{ "name": "green", "value": "64512:5" }],
            "prefixAdvertisements": [{ "cidr": "192.168.0.0/16", "communities": ["green", "64512:9:9"] }],
        }),
    )?;
    let shown = bird.until(&format!("show route for {block} all"), |shown| {
        shown.contains("64512,5")
    })?;
    ensure!(shown.contains("(64512, 9, 9)"), "{shown}");
    cluster.patch(Kind::IpPool, "default-ipv4-ippool", |pool| {
        pool["spec"]["disableBGPExport"] = json!(true);
    })?;
    bird.until(&format!("show route for {block} all"), |shown| {
        !shown.contains("10.1.0.11")
    })?;
    ensure!(
        member.ask("/v1/peers")?["peers"][0]["counters"]["ups"] == ups,
        "the session stayed up"
    );
    ensure!(address.is_ipv4());
    Ok(())
}

/// Two reflectors instead of the mesh: nodes that only know them reach each other.
#[test]
fn nodes_reflect_routes_for_each_other() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut cluster = Cluster::new(
        &[
            ("rr1", "10.1.0.1/24", "lan0"),
            ("rr2", "10.1.0.2/24", "lan0"),
            ("node1", "10.1.0.11/24", "lan0"),
            ("node2", "10.1.0.12/24", "lan0"),
        ],
        false,
        &[
            ("CALICO_IPV4POOL_CIDR", "192.168.0.0/16"),
            ("CALICO_IPV4POOL_IPIP", "Never"),
        ],
    )?;
    cluster.start()?;
    let containers = cluster.containers()?;
    cluster.assert_all_reach_all(&containers)?;
    for name in ["rr1", "rr2"] {
        cluster.patch(Kind::Node, name, |node| {
            node["spec"]["bgp"]["routeReflectorClusterID"] = json!("244.0.0.1");
            node["metadata"]["labels"] = json!({ "route-reflector": "true" });
        })?;
    }
    cluster.apply(
        Kind::BgpPeer,
        "reflectors",
        &json!({ "nodeSelector": "all()", "peerSelector": "route-reflector == 'true'" }),
    )?;
    cluster.apply(
        Kind::BgpConfiguration,
        "default",
        &json!({ "nodeToNodeMeshEnabled": false }),
    )?;
    for (place, member) in cluster.members.iter().enumerate() {
        let wanted = if place < 2 { 3 } else { 2 };
        member.until("/v1/peers", |answer| {
            let peers = answer["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
            peers.len() == wanted
                && peers
                    .iter()
                    .all(|peer| peer["session"] == "Established" && peer["type"] == "node specific")
        })?;
    }
    cluster.assert_all_reach_all(&containers)?;
    let block = cluster.members[3].blocks()?[0];
    let paths = cluster.members[2].until(&format!("/v1/routes?prefix={block}"), |answer| {
        answer["routes"]
            .as_array()
            .is_some_and(|routes| routes.len() == 2)
    })?;
    for path in paths["routes"].as_array().context("paths")? {
        ensure!(
            path["nextHop"] == "10.1.0.12",
            "reflectors leave the next hop alone: {paths:#}"
        );
    }
    // One of two is enough, and its death is not noticed.
    cluster.members[0].end(nix::sys::signal::Signal::SIGKILL)?;
    cluster.members[2].until("/v1/peers", |answer| {
        let peers = answer["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
        peers.iter().any(|peer| peer["session"] != "Established")
    })?;
    containers[2]
        .0
        .ping(containers[3].1)
        .context("with one reflector")?;
    Ok(())
}
