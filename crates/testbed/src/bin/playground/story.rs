// SPDX-License-Identifier: Apache-2.0
//! The story the playground tells, section by section. Each shows something real and stops where it is not as it should be.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kernel::Family;
use testbed::cni::{Added, Target};
use testbed::{Container, PATIENCE, PORT, StoreContent, eventually, probe, view};

use crate::page::{Page, time};
use crate::scene::Scene;

const NAMES: [&str; 3] = ["web", "db", "cache"];

/// A container and what ADD answered.
struct Actor {
    name: &'static str,
    container: Container,
    target: Target,
    added: Added,
}

impl Actor {
    /// Its addresses, IPv4 first.
    fn addresses(&self) -> Vec<IpAddr> {
        self.added.result.ips.iter().map(|ip| ip.address.addr()).collect()
    }

    /// The host's end of its pair.
    fn host_interface(&self) -> &str {
        let interfaces = &self.added.result.interfaces;
        let outside = interfaces.iter().find(|interface| interface.sandbox.is_empty());
        outside.map_or("?", |interface| &interface.name)
    }
}

/// Everything.
pub(crate) fn tell(page: &mut Page) -> Result<()> {
    page.step("make a host in namespaces");
    let scene = Scene::set()?;
    let start = Instant::now();
    introduce(page, &scene);
    let actors = enter(page, &scene)?;
    look_inside(page, &actors[0])?;
    look_outside(page, &scene)?;
    open_the_store(page, &scene, &actors)?;
    talk(page, &scene, &actors)?;
    ask_again(page, &scene, &actors)?;
    forget_one(page, &scene, &actors)?;
    leave(page, &scene, actors)?;
    page.space();
    page.line(&format!("Everything worked, in {}.", time(start.elapsed())));
    Ok(())
}

fn introduce(page: &mut Page, scene: &Scene) {
    page.title("Containers on one host");
    page.explain(
        "The host is a network namespace of this machine, and so is each container. The plugins are the real ones, and a \
         runtime's part is played by this program. Nothing outside the namespaces is touched.",
    );
    let uplink = scene.host.uplink();
    let addresses = uplink
        .map(|uplink| joined(uplink.addresses.iter()))
        .unwrap_or_default();
    let chain = scene.plugins().join(", ");
    page.table(
        &["", ""],
        &[
            vec![
                "host".into(),
                format!("node-1 at {addresses}  (ip netns: {})", scene.host.name()),
            ],
            vec![
                "network".into(),
                format!(
                    "{} from conf/10-calico.conflist, CNI {}",
                    scene.list.name, scene.list.version
                ),
            ],
            vec!["plugins".into(), format!("{chain}; addresses by calico-ipam")],
            vec!["store".into(), scene.host.folders().store().display().to_string()],
        ],
    );
    for omission in &scene.omissions {
        page.line(&format!("note     {omission}"));
    }
    if !scene.dual_stack {
        page.line("note     this kernel has no IPv6: IPv4 only");
    }
}

fn enter(page: &mut Page, scene: &Scene) -> Result<Vec<Actor>> {
    page.section("Three containers start");
    page.explain(
        "ADD asks for an address from a block of this host, makes a pair of interfaces, and gives the container its end. The \
         first one finds an empty store: it creates the default pools and claims a block of each.",
    );
    let mut actors = Vec::new();
    for name in NAMES {
        page.step(format!("start container {name}"));
        let container = Container::start(name)?;
        page.step(format!("ADD of container {name}"));
        let target = Target::eth0(container.id(), container.path());
        let added = scene.runtime.add(&scene.list, &target)?;
        actors.push(Actor {
            name,
            container,
            target,
            added,
        });
    }
    let mut header = vec!["container", "addresses", "", "host's end", "ADD"];
    header.extend(scene.plugins().iter().skip(1).map(|_| ""));
    let rows: Vec<Vec<String>> = actors.iter().map(|actor| row(actor, scene.dual_stack)).collect();
    page.table(&header, &rows);
    Ok(actors)
}

fn row(actor: &Actor, dual_stack: bool) -> Vec<String> {
    let mut row = vec![actor.name.to_owned()];
    row.extend(actor.added.result.ips.iter().map(|ip| ip.address.to_string()));
    if !dual_stack {
        row.push(String::new());
    }
    row.push(actor.host_interface().to_owned());
    let durations = actor.added.durations.iter();
    row.extend(durations.map(|(plugin, duration)| format!("{plugin} {}", time(*duration))));
    row
}

fn look_inside(page: &mut Page, actor: &Actor) -> Result<()> {
    page.section(&format!("What {} sees", actor.name));
    page.explain(
        "One address, alone on its link, and one way out: 169.254.1.1, which is nobody's address. The container has a permanent \
         entry for it, so whatever it sends goes to the host, which routes.",
    );
    page.step(format!("read addresses and routes inside {}", actor.name));
    let place = actor.container.place();
    let mut lines: Vec<String> = Vec::new();
    for link in view::links(place)? {
        let addresses = joined(view::addresses(place, &link.name)?.iter());
        lines.push(format!("{}  mtu {}  {addresses}", link.name, link.mtu));
    }
    page.command("ip address", &lines);
    let mut netlink = place.netlink()?;
    let neighbours = netlink.neighbours(None)?;
    let permanent = neighbours
        .iter()
        .filter(|neighbour| neighbour.is_permanent() && neighbour.mac.is_some());
    let lines: Vec<String> = permanent
        .map(|neighbour| {
            let mac = neighbour.mac.map(|mac| mac.to_string()).unwrap_or_default();
            format!("{} lladdr {mac} PERMANENT", neighbour.address)
        })
        .collect();
    page.command("ip neighbour", &lines);
    page.command("ip route", &view::routes(place, Family::Ipv4)?);
    let routes = view::routes(place, Family::Ipv6)?;
    if !routes.is_empty() {
        page.command("ip -6 route", &routes);
    }
    Ok(())
}

fn look_outside(page: &mut Page, scene: &Scene) -> Result<()> {
    page.section("What the host sees");
    page.explain("A route for each address, to the container's own interface. No bridge, no shared segment: the host is a router.");
    page.step("read the host's routes");
    page.command("ip route", &view::routes(scene.host.place(), Family::Ipv4)?);
    let routes = view::routes(scene.host.place(), Family::Ipv6)?;
    let ours: Vec<String> = routes
        .into_iter()
        .filter(|route| !route.starts_with("fe80"))
        .collect();
    if !ours.is_empty() {
        page.command("ip -6 route", &ours);
    }
    Ok(())
}

fn open_the_store(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
    page.section("What the store holds");
    page.explain(
        "Pools are cut into blocks, a block belongs to one host, and each address in use has a handle: network and container ID \
         (here its first digits). Keys and JSON are Calico's; the file is SQLite.",
    );
    page.step("read the node store");
    let content = StoreContent::read(&scene.host.folders().store())?;
    let mut rows = Vec::new();
    for pool in &content.pools {
        let spec = &pool.spec;
        let size = spec.effective_block_size();
        rows.push(vec![
            "pool".into(),
            spec.cidr.to_string(),
            format!("{}, blocks of /{size}", pool.metadata.name),
        ]);
    }
    for block in &content.blocks {
        let owner = block
            .affinity
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let in_use = StoreContent::in_use(block);
        rows.push(vec![
            "block".into(),
            block.cidr.to_string(),
            format!("{owner}, {in_use} of {} in use", block.allocations.len()),
        ]);
        for (ordinal, attribute) in block
            .allocations
            .iter()
            .enumerate()
            .filter_map(|(ordinal, index)| Some((ordinal, (*index)?)))
        {
            let address = block
                .address(ordinal)
                .map(|address| address.to_string())
                .unwrap_or_default();
            let handle = block
                .attributes
                .get(attribute)
                .and_then(|attribute| attribute.handle_id.clone());
            rows.push(vec![
                String::new(),
                address,
                shortened(&handle.unwrap_or_default()),
            ]);
        }
    }
    page.table(&["", "", ""], &rows);
    let expected: usize = actors.iter().map(|actor| actor.addresses().len()).sum();
    let in_use: usize = content.blocks.iter().map(StoreContent::in_use).sum();
    ensure!(
        in_use == expected,
        "{in_use} addresses are in use, but the containers have {expected}"
    );
    Ok(())
}

fn talk(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
    page.section("They reach each other");
    page.explain("A ping and an HTTP request each way. The host routes between its interfaces; no bridge and no NAT is involved, so the server sees who asks.");
    let [web, db, cache] = actors else {
        unreachable!("three containers were started")
    };
    let mut rows = Vec::new();
    for (from, to) in [(web, db), (db, cache), (cache, web)] {
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

fn ask_again(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
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

fn forget_one(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
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

fn leave(page: &mut Page, scene: &Scene, actors: Vec<Actor>) -> Result<()> {
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

/// A handle with as much of the container ID as people compare.
fn shortened(handle: &str) -> String {
    let end = handle
        .rfind('.')
        .map_or(handle.len(), |dot| (dot + 13).min(handle.len()));
    handle.get(..end).unwrap_or(handle).to_owned()
}

fn joined<'a>(prefixes: impl Iterator<Item = &'a IpNet>) -> String {
    prefixes.map(ToString::to_string).collect::<Vec<_>>().join("  ")
}
