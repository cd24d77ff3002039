// SPDX-License-Identifier: Apache-2.0
//! A hundred thousand routes from BIRD, of which a filter lets a few through.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;
use testbed::eventually;

use crate::{
    daemon::{Daemon, Make, Neighbour, SOON, Setup},
    world::{World, v4},
};

const ROUTES: u32 = 100_000;
/// Routes inside 20.0.0.0/24, which is what the filter lets through.
const ACCEPTED: u32 = 16;
/// A status may take so long.
const PROMPT: Duration = Duration::from_secs(1);

#[test]
fn a_hundred_thousand_routes_of_which_a_few_are_wanted() -> Result<()> {
    if !Make::Bird.is_here() {
        return Ok(());
    }
    let mut world = World::new(1, &[("CALICO_BGP_EBGP_MAX_PREFIXES", "200000")])?;
    let mut more = String::from("protocol static flood { ipv4;\n");
    for number in 0..ROUTES {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + number * 16);
        writeln!(more, "route {address}/28 blackhole;")?;
    }
    more.push_str("}\n");
    world.apply(
        Kind::BgpFilter,
        "few",
        &json!({ "importV4": [
            { "action": "Accept", "matchOperator": "In", "cidr": "20.0.0.0/24" },
            { "action": "Reject" },
        ] }),
    )?;
    world.start()?;
    let daemon = Daemon::start(
        &world,
        Make::Bird,
        Setup {
            number: 2,
            local_as: 64600,
            neighbours: vec![Neighbour {
                address: v4(11),
                peer_as: 64512,
                password: None,
                client: false,
            }],
            routes: Vec::new(),
            refused: Vec::new(),
            more,
        },
    )?;
    world.apply(
        Kind::BgpPeer,
        "flood",
        &json!({ "peerIP": v4(2).to_string(), "asNumber": 64600, "filters": ["few"] }),
    )?;
    let agent = &world.agents[0];
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    let complete = eventually(3 * SOON, || {
        let began = Instant::now();
        let status = agent.ask("/v1/status").ok();
        slowest = slowest.max(began.elapsed());
        asked += 1;
        let family = &status?["peers"][0]["families"][0];
        (family["received"] == ROUTES && family["endOfRib"] == true).then(|| family.clone())
    });
    let family = complete.with_context(|| format!("not all came: {}", agent.log()))?;
    ensure!(family["refused"] == ROUTES - ACCEPTED, "{family:#}");
    ensure!(slowest < PROMPT, "one of {asked} answers took {slowest:?}");
    let in_kernel = || -> Result<usize> {
        let routes = agent.routes()?;
        Ok(routes.iter().filter(|route| route.starts_with("20.")).count())
    };
    let arrived = eventually(SOON, || (in_kernel().ok()? == ACCEPTED as usize).then_some(()));
    ensure!(arrived.is_some(), "{:?}", in_kernel());
    // All are taken back at once.
    let block = world.block(0, true)?;
    daemon.until_seen(block, |seen| seen.as_path == [64512])?;
    daemon
        .site
        .ask("birdc", &["-s", &daemon.site.file("ctl"), "disable", "flood"])?;
    let gone = eventually(SOON, || {
        let began = Instant::now();
        let status = agent.ask("/v1/status").ok();
        slowest = slowest.max(began.elapsed());
        (status?["peers"][0]["families"][0]["received"] == 0 && in_kernel().ok()? == 0).then_some(())
    });
    ensure!(gone.is_some(), "{} are left: {}", in_kernel()?, agent.log());
    ensure!(slowest < PROMPT, "an answer took {slowest:?}");
    let peers = agent.ask("/v1/peers")?;
    ensure!(peers["peers"][0]["counters"]["downs"] == 0, "{peers:#}");
    Ok(())
}
