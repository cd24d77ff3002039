// SPDX-License-Identifier: Apache-2.0
//! The story the playground tells, section by section. Each shows something real and stops where it is not as it should be.

use std::time::Instant;

use anyhow::Result;
use testbed::Container;
use testbed::cni::Target;

use crate::actor::Actor;
use crate::page::{Page, time};
use crate::scene::Scene;
use crate::sights::{joined, look_inside, look_outside, open_the_store};
use crate::trials::{ask_again, forget_one, leave, talk};

const NAMES: [&str; 3] = ["web", "db", "cache"];

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
    drop(scene);
    crate::hosts::tell(page)?;
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
