// SPDX-License-Identifier: Apache-2.0
//! The store goes away for a while: what the agent knew last stays in force, it says what is wrong, and it goes on by itself
//! once the store is back.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;

use crate::{
    polite::row,
    stage::{HOSTILE, Stage, offer},
    support::apply_to,
    wire::{Line, announce, v4net},
    world::v4,
};

/// Longer than the store's thread waits between two attempts.
const A_WHILE: Duration = Duration::from_secs(4);

/// Both peers up, each with a route.
fn with_routes(stage: &Stage) -> Result<Line> {
    let mut line = stage.establish(&offer())?;
    line.send(&announce(
        &[crate::stage::AS],
        v4(HOSTILE),
        &[v4net("20.0.3.0/24")],
    ))?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    Ok(line)
}

/// Everything of before is in force.
fn assert_undisturbed(stage: &Stage, routes: &[String]) -> Result<()> {
    stage.unharmed()?;
    let row = stage.row()?;
    ensure!(
        row["session"] == "Established" && row["counters"]["downs"] == 0,
        "{row:#}"
    );
    let now = stage.agent().routes()?;
    ensure!(now == routes, "{now:#?} instead of {routes:#?}");
    Ok(())
}

/// Waits until the agent says so, and for a while longer.
fn until_away(stage: &Stage, code: &str, routes: &[String]) -> Result<()> {
    stage
        .agent()
        .until("/v1/status", |status| status["store"]["code"] == code)?;
    let text = stage.agent().ask("/v1/status")?["store"]["text"].to_string();
    ensure!(text.contains("store.db"), "{text}");
    let until = Instant::now() + A_WHILE;
    while Instant::now() < until {
        assert_undisturbed(stage, routes)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let ready = stage.agent().ask("/readyz")?;
    ensure!(ready["ready"] == true, "{ready:#}");
    Ok(())
}

/// A change of the store: another peer.
fn change(store: &Path) -> Result<()> {
    let spec = json!({ "peerIP": v4(9).to_string(), "asNumber": 64_609 });
    apply_to(store, Kind::BgpPeer, "meanwhile", &spec)
}

fn until_back(stage: &Stage, routes: &[String]) -> Result<()> {
    let agent = stage.agent();
    agent.until("/v1/status", |status| status["store"].is_null())?;
    agent.until("/v1/peers", |peers| !row(peers, 9).is_null())?;
    // Lines reach the journal a moment after what they tell of.
    agent.until("/v1/journal", |journal| {
        journal.to_string().contains("the store is back")
    })?;
    assert_undisturbed(stage, routes)
}

#[test]
fn the_stores_folder_is_moved_away_and_back() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let _line = with_routes(&stage)?;
    let routes = stage.agent().routes()?;
    let store = stage.world.store();
    let folder = store.parent().context("a folder")?;
    let aside = folder.with_extension("aside");
    fs::rename(folder, &aside)?;
    let away = until_away(&stage, "store-missing", &routes);
    let changed = change(&aside.join("store.db"));
    let is_new = folder.exists();
    fs::rename(&aside, folder)?;
    away.and(changed)?;
    ensure!(!is_new, "a new store was made");
    until_back(&stage, &routes)
}

#[test]
fn the_stores_file_is_moved_away_and_back() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let _line = with_routes(&stage)?;
    let routes = stage.agent().routes()?;
    let store = stage.world.store();
    let aside = store.with_extension("aside");
    fs::rename(&store, &aside)?;
    until_away(&stage, "store-missing", &routes)?;
    ensure!(!store.exists(), "a new store was made");
    fs::rename(&aside, &store)?;
    change(&store)?;
    until_back(&stage, &routes)
}

#[test]
fn the_stores_file_is_replaced_by_garbage() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let _line = with_routes(&stage)?;
    let routes = stage.agent().routes()?;
    let store = stage.world.store();
    let aside = store.with_extension("aside");
    for garbage in [b"garbage ".repeat(5000), Vec::new()] {
        fs::rename(&store, &aside)?;
        fs::write(&store, &garbage)?;
        until_away(&stage, "store-corrupt", &routes)?;
        ensure!(fs::read(&store)? == garbage, "it was repaired behind our back");
        fs::rename(&aside, &store)?;
        let agent = stage.agent();
        agent.until("/v1/status", |status| status["store"].is_null())?;
        assert_undisturbed(&stage, &routes)?;
    }
    change(&store)?;
    until_back(&stage, &routes)
}

/// Reading goes on while another program holds the database; what has to be written waits, and is written then.
#[test]
fn the_store_is_locked_by_another_program() -> Result<()> {
    let Some(stage) = Stage::new(&[("IP6", "autodetect")])? else {
        return Ok(());
    };
    let _line = with_routes(&stage)?;
    let routes = stage.agent().routes()?;
    let database = rusqlite::Connection::open(stage.world.store())?;
    database.execute_batch("BEGIN EXCLUSIVE")?;
    // Its address has to be written into the Node.
    stage.run("ip", "-6 address add fd00:1::99/64 dev eth1 nodad")?;
    stage.run("ip", "-6 address del fd00:1::11/64 dev eth1")?;
    until_away(&stage, "store-unavailable", &routes)?;
    database.execute_batch("ROLLBACK")?;
    change(&stage.world.store())?;
    until_back(&stage, &routes)?;
    stage.agent().until("/v1/status", |status| {
        status["addresses"].to_string().contains("fd00:1::99")
    })?;
    Ok(())
}

/// Reading goes on, and what others write is heard; what has to be written waits.
#[test]
fn the_stores_folder_is_read_only_for_the_agent() -> Result<()> {
    let Some(stage) = Stage::with_mounts(|_| String::new())? else {
        return Ok(());
    };
    let _line = with_routes(&stage)?;
    let routes = stage.agent().routes()?;
    let store = stage.world.store();
    let folder = store.parent().context("a folder")?.display().to_string();
    let agent = stage.agent();
    agent.run_beside_agent(&format!("mount --bind {folder} {folder}"))?;
    agent.run_beside_agent(&format!("mount -o remount,bind,ro {folder}"))?;
    // The agent's own connection is of before; one that is told to be another is not.
    let pool = json!({ "cidr": "192.168.0.0/16", "ipipMode": "Never", "vxlanMode": "Never" });
    apply_to(&store, Kind::IpPool, "default-ipv4-ippool", &pool)?;
    change(&store)?;
    stage
        .agent()
        .until("/v1/peers", |peers| !row(peers, 9).is_null())?;
    assert_undisturbed(&stage, &routes)?;
    // Opened anew, it can be read all the same, or the agent says that it cannot.
    let aside = store.with_extension("aside");
    fs::rename(&store, &aside)?;
    until_away(&stage, "store-missing", &routes)?;
    fs::rename(&aside, &store)?;
    until_away(&stage, "store-read-only", &routes)?;
    agent.run_beside_agent(&format!("umount {folder}"))?;
    until_back(&stage, &routes)
}
