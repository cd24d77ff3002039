// SPDX-License-Identifier: Apache-2.0
//! Very many routes from a BIRD into the table of each contender, and out of it again.
//!
//! The clock runs from the moment the feeder calls its session established until the taker last used its processor, as
//! seen from outside; then the taker is asked how many routes it has.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use model::{Key, Kind};
use serde_json::json;
use testbed::{Host, Running, eventually};

use crate::{
    options::Options,
    report::{Report, Row, median},
    stage::{FEEDER, FEEDER_AS, Site, Stage},
    store,
    takers::Taker,
    usage::Watched,
};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// What a taker needed in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    wall: f64,
    cpu: f64,
    memory: f64,
    wall_out: f64,
    cpu_out: f64,
}

/// The rounds of a contender.
struct Rounds(Vec<Round>);

impl Rounds {
    fn of(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(&self.0.iter().map(value).collect::<Vec<_>>())
    }
}

/// A running taker; the process ends before its host.
struct Started {
    process: Running,
    site: Site,
    _host: Host,
    _folder: tempfile::TempDir,
}

fn start(stage: &Stage, taker: Taker) -> Result<Started> {
    let host = stage.taker()?;
    let folder = tempfile::tempdir()?;
    let site = Site {
        place: host.place().clone(),
        folder: folder.path().to_owned(),
    };
    // FRR gives up root's rights.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let command = taker.prepare(&site)?;
    if taker == Taker::Agent {
        let peer = json!({ "peerIP": FEEDER.to_string(), "asNumber": FEEDER_AS });
        let mesh = json!({ "nodeToNodeMeshEnabled": false });
        store::create(
            &folder.path().join("store.db"),
            [
                (
                    Key::resource(Kind::BgpPeer, "feeder"),
                    store::resource(Kind::BgpPeer, "feeder", &peer),
                ),
                (
                    Key::resource(Kind::BgpConfiguration, "default"),
                    store::resource(Kind::BgpConfiguration, "default", &mesh),
                ),
            ],
        )?;
    }
    let process = site.start(&command)?;
    let running = Started {
        process,
        site,
        _host: host,
        _folder: folder,
    };
    let up = || taker.count(&running.site, &running.process);
    eventually(Duration::from_secs(30), up).with_context(|| {
        let log = std::fs::read_to_string(running.site.folder.join("log")).unwrap_or_default();
        format!("{} does not start: {log}", taker.name())
    })?;
    Ok(running)
}

fn count_is(taker: Taker, running: &Started, wanted: u64) -> Result<()> {
    let mut last = None;
    let reached = eventually(Duration::from_secs(20), || {
        last = taker.count(&running.site, &running.process);
        (last? == wanted).then_some(())
    });
    ensure!(
        reached.is_some(),
        "{} has {last:?} routes, not {wanted}",
        taker.name()
    );
    Ok(())
}

fn round(stage: &Stage, taker: Taker, routes: u32) -> Result<Round> {
    let running = start(stage, taker)?;
    let watched = Watched(running.process.pid());
    // Whatever the start has left to do.
    std::thread::sleep(Duration::from_millis(700));
    let before = watched.cpu()?;
    let up = stage.feed()?;
    let (through, cpu) = watched.until_through(before, LIMIT)?;
    let memory = watched.peak_memory()?;
    count_is(taker, &running, routes.into())?;
    std::thread::sleep(Duration::from_millis(700));
    let before = watched.cpu()?;
    let taken_back = stage.withdraw()?;
    let (out, cpu_out) = watched.until_through(before, LIMIT)?;
    count_is(taker, &running, 0)?;
    stage.reset()?;
    let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let memory = memory as f64 / 1e6;
    Ok(Round {
        wall: seconds(up, through),
        cpu: cpu.as_secs_f64(),
        memory,
        wall_out: seconds(taken_back, out),
        cpu_out: cpu_out.as_secs_f64(),
    })
}

fn measure(
    stage: &Stage,
    takers: &[Taker],
    routes: u32,
    rounds: usize,
    report: &mut Report,
) -> Result<Vec<Rounds>> {
    let mut all: Vec<Rounds> = takers.iter().map(|_| Rounds(Vec::new())).collect();
    for turn in 0..rounds {
        for place in 0..takers.len() {
            let place = (place + turn) % takers.len();
            let taker = takers[place];
            all[place]
                .0
                .push(round(stage, taker, routes).with_context(|| taker.name())?);
        }
    }
    for (taker, rounds) in takers.iter().zip(&all) {
        report.row(Row {
            what: format!("{routes} routes in"),
            who: taker.name().to_owned(),
            values: vec![
                ("wall s", rounds.of(|round| round.wall)),
                ("CPU s", rounds.of(|round| round.cpu)),
                ("peak MB", rounds.of(|round| round.memory)),
            ],
        });
    }
    for (taker, rounds) in takers.iter().zip(&all) {
        report.row(Row {
            what: format!("{routes} routes out"),
            who: taker.name().to_owned(),
            values: vec![
                ("wall s", rounds.of(|round| round.wall_out)),
                ("CPU s", rounds.of(|round| round.cpu_out)),
            ],
        });
    }
    Ok(all)
}

/// Tables and nothing else.
pub fn compare(routes: u32, options: &Options, report: &mut Report) -> Result<()> {
    let stage = Stage::new(routes)?;
    let all = measure(&stage, &options.takers, routes, options.rounds, report)?;
    let of = |taker: Taker| {
        options
            .takers
            .iter()
            .position(|other| *other == taker)
            .map(|place| &all[place])
    };
    let (Some(ours), Some(bird), Some(frr), Some(gobgp)) = (
        of(Taker::Speaker),
        of(Taker::Bird),
        of(Taker::Frr),
        of(Taker::GoBgp),
    ) else {
        return Ok(());
    };
    let cpu = |rounds: &Rounds| rounds.of(|round| round.cpu);
    let wall = |rounds: &Rounds| rounds.of(|round| round.wall);
    let memory = |rounds: &Rounds| rounds.of(|round| round.memory);
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    report.target(
        &format!("{routes} in, CPU, of the better of BIRD and FRR"),
        cpu(ours) / least(&[cpu(bird), cpu(frr)]),
        0.7,
        "",
    );
    report.target(
        &format!("{routes} in, wall, of the best"),
        wall(ours) / least(&[wall(bird), wall(frr), wall(gobgp)]),
        1.1,
        "",
    );
    report.target(
        &format!("{routes} in, memory, of BIRD"),
        memory(ours) / memory(bird),
        1.3,
        "",
    );
    report.target(
        &format!("{routes} in, memory, of FRR"),
        memory(ours) / memory(frr),
        0.5,
        "",
    );
    Ok(())
}

/// With the kernel's table behind: for information.
pub fn with_kernel(routes: u32, rounds: usize, report: &mut Report) -> Result<()> {
    let stage = Stage::new(routes)?;
    measure(&stage, &Taker::WITH_KERNEL, routes, rounds, report)?;
    Ok(())
}
