// SPDX-License-Identifier: Apache-2.0
//! What there is to see: in a container, on the host, in the store.

use anyhow::{Result, ensure};
use ipnet::IpNet;
use kernel::Family;
use model::IpamBlock;
use testbed::{StoreContent, view};

use crate::actor::Actor;
use crate::page::Page;
use crate::scene::Scene;

/// Addresses, neighbours and routes of a container.
pub(crate) fn look_inside(page: &mut Page, actor: &Actor) -> Result<()> {
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

/// Routes of the host.
pub(crate) fn look_outside(page: &mut Page, scene: &Scene) -> Result<()> {
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

/// Pools, blocks and handles.
pub(crate) fn open_the_store(page: &mut Page, scene: &Scene, actors: &[Actor]) -> Result<()> {
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
    rows.extend(content.blocks.iter().flat_map(block_rows));
    page.table(&["", "", ""], &rows);
    let expected: usize = actors.iter().map(|actor| actor.addresses().len()).sum();
    let in_use: usize = content.blocks.iter().map(StoreContent::in_use).sum();
    ensure!(
        in_use == expected,
        "{in_use} addresses are in use, but the containers have {expected}"
    );
    Ok(())
}

/// A block, and below it each of its addresses that is in use.
fn block_rows(block: &IpamBlock) -> Vec<Vec<String>> {
    let owner = block
        .affinity
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (in_use, size) = (StoreContent::in_use(block), block.allocations.len());
    let mut rows = vec![vec![
        "block".to_owned(),
        block.cidr.to_string(),
        format!("{owner}, {in_use} of {size} in use"),
    ]];
    let used = (0..size).filter_map(|ordinal| Some((block.address(ordinal)?, block.attribute(ordinal)?)));
    rows.extend(used.map(|(address, attribute)| {
        let handle = attribute.handle_id.as_deref().unwrap_or_default();
        vec![String::new(), address.to_string(), shortened(handle)]
    }));
    rows
}

/// A handle with as much of the container ID as people compare.
fn shortened(handle: &str) -> String {
    let end = handle
        .rfind('.')
        .map_or(handle.len(), |dot| (dot + 13).min(handle.len()));
    handle.get(..end).unwrap_or(handle).to_owned()
}

/// Prefixes in one line.
pub(crate) fn joined<'a>(prefixes: impl Iterator<Item = &'a IpNet>) -> String {
    prefixes.map(ToString::to_string).collect::<Vec<_>>().join("  ")
}
