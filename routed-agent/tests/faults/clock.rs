// SPDX-License-Identifier: Apache-2.0
//! The wall clock jumps, as when somebody sets it or NTP finds the hour after a boot without a battery: no timer of the
//! agent may depend on it. The machine's clock stays as it is; the agent alone is shown another, by a small library that
//! stands before the C library's clock functions and adds seconds from a file.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use model::Kind;
use serde_json::json;
use testbed::{PATIENCE, Program, eventually, peers};

use crate::{
    polite::row,
    stage::{AS, HOSTILE, Stage},
    wire::{Offer, announce, v4net},
    world::v4,
};

/// Only clocks that can be set are another; the monotonic one is not.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = "";
    int file = open(OFFSET_FILE, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += offset();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *time, void *zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"#;

/// Builds the library in a folder.
fn build(stage_folder: &Path) -> Result<String> {
    let (source, library) = (stage_folder.join("clock.c"), stage_folder.join("clock.so"));
    let file = format!("-DOFFSET_FILE=\"{}\"", stage_folder.join("offset").display());
    fs::write(&source, LIBRARY)?;
    let compiler = peers::find_program("cc").context("no program cc")?;
    let status = std::process::Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", &file, "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()?;
    ensure!(status.success(), "the library does not build");
    Ok(library.display().to_string())
}

/// What the agent's wall clock was when it wrote its latest line on a peer, in seconds.
fn journal_time(stage: &Stage) -> Result<i64> {
    let journal = stage.agent().ask("/v1/journal")?;
    let lines = journal["journal"].as_array().cloned().unwrap_or_default();
    let mut newest = lines.iter().rev();
    let line = newest.find(|line| line.to_string().contains("10_1_0_9"));
    let time = line.and_then(|line| line["time"].as_str());
    let time = time.with_context(|| format!("no line on the peer: {journal:#}"))?;
    let seconds = Program::new(stage.agent().host().place(), "date").args(["-d", time, "+%s"]);
    Ok(seconds.succeed(PATIENCE)?.trim().parse()?)
}

#[test]
fn jumps_of_the_wall_clock_go_unnoticed() -> Result<()> {
    const DAY: i64 = 24 * 3600;
    if !peers::available(&[peers::Peer::Program("cc", "gcc")]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let library = build(folder.path())?;
    let Some(stage) = Stage::with_mounts(|_| format!("export LD_PRELOAD={library}"))? else {
        return Ok(());
    };
    let agent = stage.agent();
    let short = Offer::new(AS, 3, [10, 1, 0, HOSTILE]);
    let routes = agent.routes()?;
    let real = || -> Result<i64> {
        let text = Program::new(agent.host().place(), "date")
            .args(["+%s"])
            .succeed(PATIENCE)?;
        Ok(text.trim().parse()?)
    };
    for offset in [DAY, -DAY, 20 * 365 * DAY, 0] {
        // In one step, as a clock is set.
        let next = folder.path().join("next");
        fs::write(&next, offset.to_string())?;
        fs::rename(&next, folder.path().join("offset"))?;
        // Something happens, so that it can be seen that the agent's clock has jumped.
        let spec = json!({ "peerIP": v4(9).to_string(), "asNumber": 64_609 });
        stage.world.apply(Kind::BgpPeer, "meanwhile", &spec)?;
        agent.until("/v1/peers", |peers| !row(peers, 9).is_null())?;
        let apart = journal_time(&stage)? - real()?;
        ensure!(
            (apart - offset).abs() < 60,
            "the agent's clock is {apart} s off, not {offset}"
        );
        // Hold and keepalive timers of sessions of before and of after: longer than the hold time of three seconds.
        let mut line = stage.establish(&short)?;
        line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
        agent.until_route("20.0.3.0/24 via 10.1.0.3")?;
        let refusal = line.refusal(Duration::from_secs(6))?;
        ensure!((refusal.code, refusal.subcode) == (4, 0), "{refusal:?}");
        agent.until_no_route("20.0.3.0/24")?;
        stage
            .unharmed()
            .with_context(|| format!("after a jump to {offset} s"))?;
        let now = agent.routes()?;
        ensure!(now == routes, "{now:#?} instead of {routes:#?}");
        let peer = row(&agent.ask("/v1/peers")?, 2);
        ensure!(
            peer["upSeconds"].as_u64().is_some_and(|time| time < 600),
            "{peer:#}"
        );
        // What is damaged is repaired as ever.
        stage.run("ip", "route del 20.0.2.0/24")?;
        agent.until_route("20.0.2.0/24 via 10.1.0.2")?;
        stage.remove(Kind::BgpPeer, "meanwhile")?;
        agent.until("/v1/peers", |peers| row(peers, 9).is_null())?;
    }
    // Nothing was released, and nothing is reported, because of the clock.
    let status = agent.ask("/v1/status")?;
    ensure!(
        status["failures"]
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
            && status["addressUpkeep"]["collected"] == 0
            && status["store"].is_null(),
        "{status:#}"
    );
    let container = &stage.world.containers[0];
    eventually(PATIENCE, || container.ping(v4(11)).ok()).context("the container reaches its host")?;
    Ok(())
}
