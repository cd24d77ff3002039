// SPDX-License-Identifier: Apache-2.0
//! What is tried: packets, the same questions again, a runtime that forgets, and the end.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kernel::Family;
use testbed::cni::Target;
use testbed::{Container, PATIENCE, PORT, StoreContent, eventually, probe, view};

use crate::actor::Actor;
use crate::page::{Page, time};
use crate::scene::Scene;

/// Packets between the containers, to them from the host, and from one of them to the host.
pub(crate) fn talk(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
    page.section("They reach each other");
    page.explain(
        "A ping and an HTTP request each way. The host routes between its interfaces; no bridge and no NAT is involved, so the \
         server sees who asks.",
    );
    let web = &actors[0];
    let mut rows = Vec::new();
    for (from, to) in actors.iter().zip(actors.iter().cycle().skip(1)) {
        for address in to.addresses() {
            page.step(format!("reach {} at {address} from {}", to.name, from.name));
            let ping = from.container.ping(address)?;
            let answer = from.container.http(address)?;
            ensure!(answer.starts_with(to.name), "another server answered: {answer}");
            rows.push(way(from.name, to.name, address, ping, &answer));
        }
    }
    for address in web.addresses() {
        page.step(format!("reach web at {address} from the host"));
        let ping = probe::ping(scene.host.place(), address)?;
        let answer = probe::http(scene.host.place(), SocketAddr::new(address, PORT))?;
        rows.push(way("host", "web", address, ping, &answer));
    }
    for address in scene.host.uplink().iter().flat_map(|uplink| &uplink.addresses) {
        page.step(format!("reach the host at {} from web", address.addr()));
        let ping = web.container.ping(address.addr())?;
        rows.push(way("web", "host", address.addr(), ping, ""));
    }
    page.table(&["from", "to", "", "ping", "HTTP"], &rows);
    Ok(())
}

/// A row: one way, and what came of it.
fn way(from: &str, to: &str, address: IpAddr, ping: Duration, answer: &str) -> Vec<String> {
    let answer = answer.trim_end().to_owned();
    vec![
        from.to_owned(),
        to.to_owned(),
        address.to_string(),
        time(ping),
        answer,
    ]
}

/// CHECK, ADD for the second time, STATUS.
pub(crate) fn ask_again(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
    page.section("Asked again, the answer is the same");
    let Scene { runtime, list, .. } = scene;
    let web = &actors[0];
    page.step("CHECK of container web");
    let start = Instant::now();
    runtime.check(list, &web.target)?;
    page.success(&format!(
        "CHECK of web: store, links, addresses, routes and settings are as ADD left them ({})",
        time(start.elapsed())
    ));
    page.step("ADD of container web, for the second time");
    let start = Instant::now();
    let again = runtime.add(list, &web.target)?;
    ensure!(
        again.json == web.added.json,
        "the second result differs: {}",
        again.json
    );
    page.success(&format!(
        "ADD of web a second time: the same result ({})",
        time(start.elapsed())
    ));
    page.step("STATUS");
    let start = Instant::now();
    runtime.status(list)?;
    page.success(&format!(
        "STATUS: ready for the next container ({})",
        time(start.elapsed())
    ));
    Ok(())
}

/// A container without DEL, and what GC does about it.
pub(crate) fn forget_one(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
    page.section("A runtime forgets one");
    page.explain(
        "A container ends without DEL, as after a crash of the runtime. Its interfaces go with its namespace, its addresses stay \
         taken. GC hands over the list of containers that are still there, and frees what is not among them.",
    );
    let store = scene.host.folders().store();
    let in_use = || -> Result<usize> {
        Ok(StoreContent::read(&store)?
            .blocks
            .iter()
            .map(StoreContent::in_use)
            .sum())
    };
    let Scene { runtime, list, .. } = scene;
    page.step("start and forget a container");
    let before = in_use()?;
    let lost = Container::start("lost")?;
    let target = Target::eth0(lost.id(), lost.path());
    let added = runtime.add(list, &target)?;
    runtime.cache().forget(&list.name, &target);
    drop(lost);
    // The kernel takes a namespace apart in its own time.
    let outside = added
        .result
        .interfaces
        .iter()
        .find(|interface| interface.sandbox.is_empty());
    let outside = outside.context("the result names no interface of the host")?;
    let mut netlink = scene.host.netlink()?;
    eventually(PATIENCE, || {
        matches!(netlink.link_by_name(&outside.name), Ok(None)).then_some(())
    })
    .with_context(|| format!("interface {} outlives its namespace", outside.name))?;
    let during = in_use()?;
    page.step("GC");
    let valid: Vec<_> = actors
        .iter()
        .map(|actor| (actor.target.container_id.clone(), "eth0".to_owned()))
        .collect();
    let start = Instant::now();
    runtime.gc(list, Some(&valid))?;
    let elapsed = start.elapsed();
    let after = in_use()?;
    ensure!(
        during > before && after == before,
        "addresses in use: {before}, then {during}, after GC {after}"
    );
    page.success(&format!(
        "GC: {during} addresses in use before, {after} after ({})",
        time(elapsed)
    ));
    for actor in actors {
        runtime.check(list, &actor.target)?;
    }
    page.success("the other three were not touched");
    Ok(())
}

/// DEL, twice for one, and a look for what is left.
pub(crate) fn leave(page: &mut Page, scene: &Scene, actors: Vec<Actor>) -> Result<()> {
    page.section("They go");
    let mut rows = Vec::new();
    for actor in &actors {
        page.step(format!("DEL of container {}", actor.name));
        let start = Instant::now();
        scene.runtime.del(&scene.list, &actor.target)?;
        rows.push(vec![
            actor.name.to_owned(),
            format!("DEL {}", time(start.elapsed())),
        ]);
    }
    page.table(&["", ""], &rows);
    page.step("DEL of container web, for the second time");
    scene.runtime.del(&scene.list, &actors[0].target)?;
    page.success("DEL of web a second time: nothing to do, no error");

    page.step("look for leftovers");
    let links = view::links(scene.host.place())?;
    let left: Vec<String> = links
        .into_iter()
        .map(|link| link.name)
        .filter(|name| name != "eth0")
        .collect();
    ensure!(left.is_empty(), "links are left on the host: {}", left.join(", "));
    for family in [Family::Ipv4, Family::Ipv6] {
        let routes = view::routes(scene.host.place(), family)?;
        let left: Vec<String> = routes
            .into_iter()
            .filter(|route| !route.contains("dev eth0"))
            .collect();
        ensure!(
            left.is_empty(),
            "routes are left on the host: {}",
            left.join("; ")
        );
    }
    for actor in &actors {
        let left = view::links(actor.container.place())?;
        ensure!(left.is_empty(), "links are left in {}", actor.name);
    }
    let left = StoreContent::read(&scene.host.folders().store())?.leftovers();
    ensure!(left.is_empty(), "the store still has {}", left.join(", "));
    ensure!(
        scene.runtime.cache().all().is_empty(),
        "the runtime still remembers an attachment"
    );
    page.success("no interface, route, address, handle, endpoint or record is left");

    page.step("end the containers");
    let paths: Vec<_> = actors
        .iter()
        .map(|actor| actor.container.path().to_owned())
        .collect();
    drop(actors);
    let still = paths.iter().find(|path| path.exists());
    ensure!(
        still.is_none(),
        "namespace {} is still there",
        still.context("just found")?.display()
    );
    page.success("the containers' processes and namespaces are gone; the host's follow");
    Ok(())
}
