// SPDX-License-Identifier: Apache-2.0
//! The agent among mesh peers: a thousand from cold, one change, nothing at all.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use datastore::{EmbeddedStore, OpenOptions, Store as _, Write};
use ipnet::IpNet;
use model::Key;

use super::field::{self, Field, LIMIT, NODE};
use super::meter::Meter;
use super::options::{Options, Part};
use super::{progress, store};
use crate::report::{Limit, Report};
use crate::sample::Sample;

/// Peers from cold, and blocks of each.
const COLD: (usize, usize) = (1000, 4);
const COLD_ROUNDS: usize = 3;
/// Peers of the running agent.
const PEERS: usize = 100;
/// Blocks that come and go again.
const CHANGES: usize = 100;
/// Between two changes, so that each is a change by itself.
const PAUSE: Duration = Duration::from_millis(30);
/// How long nothing is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// How long an agent may take to come to rest before.
const REST: Duration = Duration::from_secs(120);

/// A thousand peers, from the agent's start until all their routes are in the kernel.
pub fn cold(options: &Options, report: &mut Report) -> Result<()> {
    let (peers, blocks) = COLD;
    let what = format!("{peers} peers from cold");
    let (mut sessions, mut routes, mut all) = (Sample::default(), Sample::default(), Sample::default());
    let (mut ours, mut theirs, mut memory) = (Sample::default(), Sample::default(), Vec::new());
    for round in 1..=COLD_ROUNDS {
        progress(format_args!(
            "{what}, {blocks} blocks each: round {round} of {COLD_ROUNDS}"
        ));
        let mut field = Field::new(options, peers, blocks)?;
        let before = field.crowd.cpu()?;
        let began = Instant::now();
        let meter = field.start()?;
        let established = field
            .crowd
            .until_established(peers, LIMIT)
            .with_context(|| field.log())?;
        let done = field.until_routes(peers * blocks)?;
        sessions.push(established - began);
        routes.push(done.saturating_duration_since(established));
        all.push(done - began);
        ours.push(meter.cpu()?);
        theirs.push(field.crowd.cpu()?.saturating_sub(before));
        memory.push(meter.peak_memory()?);
        let problems = field.crowd.problems();
        ensure!(problems.is_empty(), "sessions ended: {problems:?}");
    }
    report.times(&what, "start to the last session", &sessions);
    report.times(&what, "from there to all routes", &routes);
    report.times(&what, "start to all routes", &all);
    report.times(&what, "CPU of the agent", &ours);
    report.times(&what, "CPU of all the peers", &theirs);
    report.figure(&what, "peak memory of the agent", &memory, "MB");
    let seconds = routes.median().as_secs_f64();
    let what = format!("{what}, last session to {} routes", peers * blocks);
    report.target(&what, seconds, Limit::Seconds(5.0));
    Ok(())
}

/// An agent with peers: what a change takes, and what no change takes.
pub fn running(options: &Options, report: &mut Report) -> Result<()> {
    progress(format_args!("an agent with {PEERS} peers"));
    let mut field = Field::new(options, PEERS, COLD.1)?;
    let meter = field.start()?;
    field
        .crowd
        .until_established(PEERS, LIMIT)
        .with_context(|| field.log())?;
    field.until_routes(PEERS * COLD.1)?;
    meter.until_quiet((Instant::now(), meter.cpu()?), REST, || Ok(true))?;
    if options.has(Part::Change) {
        changes(&field, report)?;
    }
    if options.has(Part::Idle) {
        idle(&meter, report)?;
    }
    let problems = field.crowd.problems();
    ensure!(problems.is_empty(), "sessions ended: {problems:?}");
    Ok(())
}

/// Blocks of the agent's node come and go in the store.
fn changes(field: &Field, report: &mut Report) -> Result<()> {
    progress(format_args!("{CHANGES} blocks come and go"));
    let store = EmbeddedStore::open(&field.store(), OpenOptions::default())?.store;
    let (mut commits, mut announced, mut withdrawn) =
        (Sample::default(), Sample::default(), Sample::default());
    let mut both = Sample::default();
    for number in 0..CHANGES {
        let block = field::spare_block(number)?;
        for (is_withdrawal, sample) in [(false, &mut announced), (true, &mut withdrawn)] {
            let writes = if is_withdrawal {
                released(&store, block)?
            } else {
                field::claimed(block, NODE)?.into()
            };
            field.crowd.watch(block, is_withdrawal);
            let began = Instant::now();
            store::commit(&store, writes)?;
            commits.push(began.elapsed());
            let last = field
                .crowd
                .until_told(PEERS, LIMIT)
                .with_context(|| format!("{block}: {}", field.log()))?;
            sample.push(last - began);
            both.push(last - began);
            thread::sleep(PAUSE);
        }
    }
    let what = format!("one block, last of {PEERS} peers");
    report.times(&what, "claimed", &announced);
    report.times(&what, "given back", &withdrawn);
    report.times(&what, "the commit alone", &commits);
    let slow = both.percentile(99).as_secs_f64() * 1e3;
    let what = format!("{what}, p99 of {}", both.len());
    report.target(&what, slow, Limit::Milliseconds(50.0));
    Ok(())
}

fn released(store: &EmbeddedStore, block: IpNet) -> Result<Vec<Write>> {
    let keys = [Key::Block(block), Key::host_affinity(NODE, block)];
    keys.into_iter()
        .map(|key| {
            let entry = store.get(&key)?.with_context(|| format!("{key} is gone"))?;
            Ok(Write::Delete {
                key,
                revision: entry.revision,
            })
        })
        .collect()
}

fn idle(meter: &Meter, report: &mut Report) -> Result<()> {
    meter.until_quiet((Instant::now(), meter.cpu()?), REST, || Ok(true))?;
    progress(format_args!("idle for {IDLE:?}"));
    let (began, before) = (Instant::now(), meter.cpu()?);
    thread::sleep(IDLE);
    let used = meter.cpu()?.saturating_sub(before);
    let percent = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let mebibytes = meter.memory()? * 1e6 / f64::from(1 << 20);
    let what = format!("idle with {PEERS} peers");
    report.figure(&what, "CPU", &[percent], "%");
    report.figure(&what, "memory", &[mebibytes], "MiB");
    report.target(&format!("{what}, CPU"), percent, Limit::Percent(0.3));
    report.target(&format!("{what}, memory"), mebibytes, Limit::Mebibytes(20.0));
    Ok(())
}
