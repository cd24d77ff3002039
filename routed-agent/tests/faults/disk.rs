// SPDX-License-Identifier: Apache-2.0
//! Disks that are full: the agent goes on routing, says what it cannot write, and writes it once there is room.

use anyhow::{Context as _, Result, ensure};
use testbed::cluster::Member;

use crate::{
    polite::until,
    stage::{AS, HOSTILE, Stage, offer},
    wire::{announce, v4net, withdraw},
    world::v4,
};

/// Fills a file system where the agent has it, to the last byte and the last file.
fn fill(agent: &Member, folder: &str) -> Result<()> {
    let script = format!(
        "dd if=/dev/zero of={folder}/fill bs=4k 2>/dev/null || true\n\
         i=0; while [ $i -lt 100 ] && true > {folder}/fill.$i; do i=$((i + 1)); done 2>/dev/null || true\n\
         ! echo x 2>/dev/null > {folder}/probe || ! echo x 2>/dev/null >> {folder}/fill"
    );
    agent.run_beside_agent(&script).map(drop).context("fill a disk")
}

fn empty(agent: &Member, folder: &str) -> Result<()> {
    agent
        .run_beside_agent(&format!("rm -f {folder}/fill {folder}/fill.*"))
        .map(drop)
}

#[test]
fn full_disks_for_state_and_logs_stop_no_route() -> Result<()> {
    let Some(stage) = Stage::with_mounts(|folders| {
        let each = [folders.state(), folders.log(), folders.run()];
        let mounts = each.map(|folder| {
            format!(
                "mount -t tmpfs -o size=256k,nr_inodes=64 tmpfs {}",
                folder.display()
            )
        });
        mounts.join("\n")
    })?
    else {
        return Ok(());
    };
    let agent = stage.agent();
    let folders = agent.host().folders();
    let [state, log, run] =
        [folders.state(), folders.log(), folders.run()].map(|folder| folder.display().to_string());
    for folder in [&state, &log, &run] {
        fill(agent, folder)?;
    }
    // Routes come and go, with a line in the log for each change of a session.
    for number in 0..20 {
        let mut line = stage.establish(&offer())?;
        let prefix = v4net("20.0.3.0/24");
        line.send(&announce(&[AS], v4(HOSTILE), &[prefix]))?;
        agent.until_route("20.0.3.0/24 via 10.1.0.3")?;
        if number % 2 == 0 {
            line.send(&withdraw(&[prefix]))?;
        }
        drop(line);
        agent.until_no_route("20.0.3.0/24")?;
    }
    // Something has to be written.
    stage.run("ip", "link set eth1 mtu 1400")?;
    let status = agent.until("/v1/status", |status| status["failures"]["MTU file"].is_string())?;
    let text = status["failures"]["MTU file"].to_string();
    ensure!(text.contains("No space left"), "{text}");
    stage.unharmed()?;
    let mut line = stage.establish(&offer())?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    agent.until_route("20.0.3.0/24 via 10.1.0.3")?;
    for folder in [&state, &log, &run] {
        empty(agent, folder)?;
    }
    agent.until("/v1/status", |status| status["failures"]["MTU file"].is_null())?;
    let written = agent.run_beside_agent(&format!("cat {state}/mtu"))?;
    ensure!(written.trim() == "1400", "{written}");
    // The log goes on.
    drop(line);
    agent.until_no_route("20.0.3.0/24")?;
    until(agent, "the log does not go on", || {
        let text = agent
            .run_beside_agent(&format!("tail -n 3 {log}/bird/current"))
            .ok()?;
        text.contains("down: the connection was closed").then_some(())
    })?;
    let left = agent.run_beside_agent(&format!("ls {state} {run}"))?;
    ensure!(!left.contains(".tmp"), "{left}");
    stage.unharmed()
}

#[test]
fn a_full_disk_for_the_store_stops_no_route() -> Result<()> {
    let Some(stage) = Stage::with_small_store(4)? else {
        return Ok(());
    };
    let mut line = stage.establish(&offer())?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    let agent = stage.agent();
    agent.until_route("20.0.3.0/24 via 10.1.0.3")?;
    let routes = agent.routes()?;
    let store = stage.world.store();
    let folder = store.parent().context("a folder")?.display().to_string();
    fill(agent, &folder)?;
    // Its new address has to be written into the Node.
    stage.run("ip", "-6 address add fd00:1::99/64 dev eth1 nodad")?;
    stage.run("ip", "-6 address del fd00:1::11/64 dev eth1")?;
    agent.until("/v1/status", |status| status["store"]["code"] == "store-full")?;
    stage.unharmed()?;
    ensure!(agent.routes()? == routes, "{:#?}", agent.routes());
    // Sessions come and go all the same.
    drop(line);
    agent.until_no_route("20.0.3.0/24")?;
    let mut line = stage.establish(&offer())?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    agent.until_route("20.0.3.0/24 via 10.1.0.3")?;
    empty(agent, &folder)?;
    agent.until("/v1/status", |status| {
        status["store"].is_null() && status["addresses"].to_string().contains("fd00:1::99")
    })?;
    stage.unharmed()
}
