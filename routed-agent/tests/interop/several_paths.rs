// SPDX-License-Identifier: Apache-2.0
//! A node as route reflector tells its clients every path to a prefix (RFC 7911): to daemons that ask for it, and to nodes.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::{Value, json};
use testbed::eventually;

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    support::net,
    world::{World, v4},
};

const SHARED: &str = "192.168.250.0/24";

/// The next hops of all paths that the daemon has to the prefix.
fn ways(make: Make, daemon: &Daemon) -> Result<BTreeSet<IpAddr>> {
    let site = &daemon.site;
    if make == Make::Bird {
        let question = format!("show route for {SHARED} all");
        let control = site.file("ctl");
        let arguments = ["-s", control.as_str()].into_iter().chain(question.split(' '));
        let shown = site
            .ask("birdc", &arguments.collect::<Vec<_>>())
            .unwrap_or_default();
        let hops = shown
            .lines()
            .filter_map(|line| line.trim().strip_prefix("BGP.next_hop: "));
        return hops.map(|hop| Ok(hop.trim().parse()?)).collect();
    }
    let folder = site.folder.display().to_string();
    let question = format!("show bgp ipv4 unicast {SHARED} json");
    let shown = site.ask("vtysh", &["--vty_socket", &folder, "-c", &question])?;
    let shown: Value = serde_json::from_str(&shown)?;
    let hops = shown["paths"].as_array().into_iter().flatten();
    let hops = hops.filter_map(|path| path["nexthops"][0]["ip"].as_str());
    hops.map(|hop| Ok(hop.parse()?)).collect()
}

fn origin(world: &World, number: u8) -> Result<Daemon> {
    let setup = Setup {
        number,
        local_as: 64512,
        neighbours: vec![Neighbour {
            address: v4(11),
            peer_as: 64512,
            password: None,
            client: false,
        }],
        routes: vec![net(SHARED)],
        refused: Vec::new(),
        more: String::new(),
    };
    Daemon::start(world, Make::Bird, setup)
}

fn reflector_tells_all_to(make: Make) -> Result<()> {
    if !Make::Bird.is_here() || !make.is_here() {
        return Ok(());
    }
    let mut world = World::new(2, &[])?;
    world.agents[0].set("CALICO_ROUTE_REFLECTOR_CLUSTER_ID", "244.0.0.9");
    let origins = [origin(&world, 2)?, origin(&world, 3)?];
    let mut setup = Setup {
        number: 4,
        local_as: 64512,
        neighbours: Vec::new(),
        routes: Vec::new(),
        refused: Vec::new(),
        more: String::new(),
    };
    if make == Make::Bird {
        // It asks only if told to.
        setup.more = format!(
            "protocol bgp reflector {{ local {} as 64512; neighbor {} as 64512; connect delay time 1; connect retry time 1;\n\
             error wait time 1, 2; debug {{ routes, states, events }}; ipv4 {{ import all; export none; add paths rx; }}; }}\n",
            v4(4),
            v4(11),
        );
    } else {
        setup.neighbours.push(Neighbour {
            address: v4(11),
            peer_as: 64512,
            password: None,
            client: false,
        });
    }
    let client = Daemon::start(&world, make, setup)?;
    for number in [2, 3, 4, 12] {
        let address = v4(number).to_string();
        let spec = json!({ "node": "node1", "peerIP": address, "asNumber": 64512 });
        world.apply(Kind::BgpPeer, &format!("client-{number}"), &spec)?;
    }
    let spec = json!({ "node": "node2", "peerIP": v4(11).to_string(), "asNumber": 64512 });
    world.apply(Kind::BgpPeer, "reflector", &spec)?;
    world.start()?;
    world.agents[0].until_peers(4)?;
    world.agents[1].until_peers(1)?;
    let until = |wanted: &[u8]| -> Result<()> {
        let wanted: BTreeSet<IpAddr> = wanted.iter().map(|number| v4(*number)).collect();
        let mut last = String::new();
        let found = eventually(SOON, || {
            let ways = ways(make, &client);
            last = format!("{ways:?}");
            (ways.ok()? == wanted).then_some(())
        });
        found.with_context(|| format!("{wanted:?} wanted, {last} there\n{}", client.site.log()))?;
        // The node that is a client has them, and uses them.
        world.agents[1].until(&format!("/v1/routes?prefix={SHARED}"), |answer| {
            let routes = answer["routes"].as_array().into_iter().flatten();
            let used = routes.filter(|route| route["used"] == true);
            let hops = used.filter_map(|route| route["nextHop"].as_str()?.parse().ok());
            hops.collect::<BTreeSet<IpAddr>>() == wanted
        })?;
        Ok(())
    };
    until(&[2, 3])?;
    let bird = |number: usize, what: &str| {
        let site = &origins[number].site;
        site.ask("birdc", &["-s", &site.file("ctl"), what, "static1"])
    };
    bird(1, "disable")?;
    until(&[2])?;
    bird(1, "enable")?;
    until(&[2, 3])?;
    bird(0, "disable")?;
    until(&[3])?;
    bird(1, "disable")?;
    until(&[])?;
    for agent in &world.agents {
        let failed = agent.ask("/v1/journal?kind=kernel")?;
        ensure!(
            failed["journal"].as_array().is_some_and(Vec::is_empty),
            "{failed:#}"
        );
    }
    let peers = world.agents[0].ask("/v1/peers")?;
    let peers = peers["peers"].as_array().into_iter().flatten();
    let sends: BTreeSet<String> = peers
        .filter(|peer| peer["families"][0]["addPath"]["send"] == true)
        .map(|peer| peer["address"].to_string())
        .collect();
    // Who does not ask is told one path, in the old form.
    let asked = [v4(4), v4(12)].map(|address| format!("\"{address}\""));
    ensure!(sends == asked.into(), "{sends:?}");
    Ok(())
}

#[test]
fn a_node_tells_bird_every_path() -> Result<()> {
    reflector_tells_all_to(Make::Bird)
}

#[test]
fn a_node_tells_frr_every_path() -> Result<()> {
    reflector_tells_all_to(Make::Frr)
}
