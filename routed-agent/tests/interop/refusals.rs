// SPDX-License-Identifier: Apache-2.0
//! A route that would cut the host off is refused, and it is said since when and why.

use anyhow::{Result, ensure};
use model::Kind;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Make, Neighbour, Setup},
    support::net,
    world::{World, v4},
};

#[test]
fn a_refusal_is_said_once_with_its_cause_and_ends_with_the_route() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(1, &[])?;
    let harmful = "10.1.0.11/32";
    let setup = Setup {
        number: 2,
        local_as: 64600,
        neighbours: vec![Neighbour {
            address: v4(11),
            peer_as: 64512,
            password: None,
            client: false,
        }],
        routes: vec![net(harmful), net("20.0.0.0/24")],
        refused: Vec::new(),
        more: String::new(),
    };
    let daemon = Daemon::start(&world, Make::Bird, setup)?;
    let spec = json!({ "peerIP": v4(2).to_string(), "asNumber": 64600 });
    world.apply(Kind::BgpPeer, "router", &spec)?;
    world.start()?;
    let agent = &world.agents[0];
    agent.until_peers(1)?;
    agent.until_route("20.0.0.0/24 ")?;
    let path = format!("/v1/journal?kind=refusal&prefix={harmful}");
    agent.until(&path, |answer| answer["journal"][0]["change"] == "refused")?;
    // Everything is planned anew, which is no news of the refusal, but of the firewall.
    let firewall = "/v1/journal?kind=firewall";
    let count = |answer: &Value| answer["journal"].as_array().map_or(0, Vec::len);
    let before = count(&agent.ask(firewall)?);
    world.apply(
        Kind::IpPool,
        "more",
        &json!({ "cidr": "172.20.0.0/16", "ipipMode": "Never", "vxlanMode": "Never", "natOutgoing": true }),
    )?;
    agent.until(firewall, |answer| count(answer) > before)?;
    daemon
        .site
        .ask("birdc", &["-s", &daemon.site.file("ctl"), "disable", "static1"])?;
    let answer = agent.until(&path, |answer| answer["journal"][1]["change"] == "cleared")?;
    let lines = answer["journal"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    ensure!(lines.len() == 2, "{answer:#}");
    let cause = lines[0]["cause"].as_str().unwrap_or_default();
    ensure!(
        cause.starts_with("covers-needed-address: ") && lines[0]["peer"] == v4(2).to_string(),
        "{answer:#}"
    );
    let status = agent.ask("/v1/status")?;
    ensure!(status["routes"]["refused"] == json!([]), "{:#}", status["routes"]);
    Ok(())
}
