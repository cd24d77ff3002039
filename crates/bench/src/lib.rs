// SPDX-License-Identifier: Apache-2.0
//! The comparison of our plugin with real peers, in one run on one machine; and, in [`bgp`], that of the daemon.
//!
//! - [`machine`] is the host: private network and mount namespaces, an uplink, folders on a real file system; its
//!   [`Container`](machine::Container)s are namespaces made before the clock runs.
//! - [`contender`] says what is compared: our plugin, ptp + host-local, and `bare`, which does only the kernel's part.
//! - [`invocation`] times one program, from before it is spawned until it is reaped.
//! - [`turns`], [`burst`], [`footprint`] measure; [`prefill`] makes a store with many addresses in use.
//! - [`sample`] and [`report`] turn it into medians, ratios and verdicts.
//!
//! Contenders take turns, in changing order, so that whatever else the machine does hits all of them alike. Ratios are
//! of medians.

pub mod bgp;
pub mod burst;
pub mod contender;
pub mod footprint;
pub mod invocation;
pub mod machine;
pub mod options;
pub mod prefill;
pub mod report;
pub mod sample;
pub mod turns;

use anyhow::{Context as _, Result};

use contender::{Contender, Programs};
use datastore::{EmbeddedStore, OpenOptions};
use machine::Machine;
use options::Options;
use report::{Limit, Report};

/// Measures everything, prints the table and writes the numbers. Whether all is well: false only where a target was
/// missed and `--strict` given.
pub fn compare(options: &Options) -> Result<bool> {
    let programs = Programs::find(options.bare.as_deref())?;
    let mut machine = Machine::enter(&options.folder)?;
    let mut report = Report::new(&machine, options);
    one_by_one(&mut machine, &programs, options, &mut report)?;
    at_once(&mut machine, &programs, options, &mut report)?;
    full_store(&mut machine, &programs, options, &mut report)?;
    programs_themselves(&mut machine, &programs, &mut report)?;
    report.write(&options.json)?;
    print!("{report}");
    Ok(report.all_met() || !options.strict)
}

fn one_by_one(
    machine: &mut Machine,
    programs: &Programs,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let held = Contender::ours(programs, machine, "held")?.called("ours, store held open");
    turns::warm_up(machine, &held)?;
    // As routed-agent will: whoever opens the store next need not read its log.
    let _holder = EmbeddedStore::open(&machine.store("held"), OpenOptions::default())?;
    let contenders = [
        Contender::ours(programs, machine, "turns")?,
        Contender::ptp(programs, machine)?,
        Contender::bare(programs, false),
        Contender::bare(programs, true),
        held,
    ];
    progress(format_args!(
        "{} rounds of ADD and DEL, {} contenders in turns",
        options.rounds,
        contenders.len()
    ));
    let times = turns::measure(machine, &contenders, options.rounds)?;
    let [ours, ptp, bare, ..] = times.as_slice() else {
        unreachable!("one result per contender")
    };
    for verb in ["ADD", "DEL", "ADD + DEL"] {
        for (contender, times) in contenders.iter().zip(&times) {
            let sample = match verb {
                "ADD" => times.add.clone(),
                "DEL" => times.del.clone(),
                _ => times.both(),
            };
            report.times(verb, contender.name, &sample);
        }
    }
    let ratio = ours.both().median_ratio(&ptp.both());
    report.target("ADD + DEL, of ptp + host-local", ratio, Limit::Ratio(0.30));
    let ratio = ours.add.median_ratio(&bare.add);
    report.target("ADD, of the bare kernel operations", ratio, Limit::Ratio(1.30));
    Ok(())
}

fn at_once(machine: &mut Machine, programs: &Programs, options: &Options, report: &mut Report) -> Result<()> {
    let contenders = [
        Contender::ours(programs, machine, "burst")?,
        Contender::ptp(programs, machine)?,
    ];
    progress(format_args!(
        "{} ADDs at once, {} times each",
        options.burst,
        burst::ROUNDS
    ));
    let bursts = burst::measure(machine, &contenders, options.burst)?;
    for (contender, burst) in contenders.iter().zip(&bursts) {
        report.times(
            &format!("{} ADDs at once, all", options.burst),
            contender.name,
            &burst.total,
        );
    }
    for (contender, burst) in contenders.iter().zip(&bursts) {
        report.times(
            &format!("{} ADDs at once, slowest", options.burst),
            contender.name,
            &burst.slowest,
        );
    }
    let [ours, ptp] = bursts.as_slice() else {
        unreachable!("one result per contender")
    };
    let what = format!("{} ADDs at once, of ptp + host-local", options.burst);
    report.target(&what, ours.total.median_ratio(&ptp.total), Limit::Ratio(0.35));
    let what = format!("the slowest of {} ADDs at once", options.burst);
    report.target(&what, ours.slowest.median().as_secs_f64(), Limit::Seconds(1.0));
    Ok(())
}

fn full_store(
    machine: &mut Machine,
    programs: &Programs,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let in_use = options.addresses;
    progress(format_args!("filling a store with {in_use} addresses"));
    let full = Contender::ours(programs, machine, "full")?.called("ours, full store");
    turns::warm_up(machine, &full)?;
    prefill::fill(&machine.store("full"), contender::NODE, in_use).context("fill the store")?;
    let empty = Contender::ours(programs, machine, "empty")?.called("ours, empty store");
    progress(format_args!(
        "{} rounds with {in_use} addresses in use and with none",
        options.rounds
    ));
    let times = turns::measure(machine, &[empty, full], options.rounds)?;
    let [empty, full] = times.as_slice() else {
        unreachable!("one result per contender")
    };
    report.times("ADD", "ours, no address in use", &empty.add);
    report.times("ADD", &format!("ours, {in_use} in use"), &full.add);
    report.times("DEL", "ours, no address in use", &empty.del);
    report.times("DEL", &format!("ours, {in_use} in use"), &full.del);
    let what = format!("ADD with {in_use} addresses in use, of ADD with none");
    report.target(&what, full.add.median_ratio(&empty.add), Limit::Ratio(1.20));
    Ok(())
}

fn programs_themselves(machine: &mut Machine, programs: &Programs, report: &mut Report) -> Result<()> {
    for program in [&programs.calico, &programs.calico_ipam] {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        report.target(
            &format!("size of {name}"),
            footprint::megabytes(program)?,
            Limit::Megabytes(3.0),
        );
    }
    // The fullest store needs most.
    let contenders = [
        Contender::ours(programs, machine, "full")?,
        Contender::ours_ipam_alone(programs, machine, "full")?,
    ];
    for contender in contenders {
        let peak = footprint::peak_memory(machine, &contender)?;
        report.target(
            &format!("peak memory of {}", contender.program_name()),
            peak,
            Limit::Megabytes(8.0),
        );
    }
    Ok(())
}

fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("bench: {what}");
}
