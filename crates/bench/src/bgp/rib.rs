// SPDX-License-Identifier: Apache-2.0
//! Many routes of one peer, into the table and out of it again.
//!
//! Each round starts every contender anew, one after the other. The clock runs from the first byte of routes, which are
//! sent once the session is Established and the contender rests. It is done when its process rests and says that it has all; that is the same for all, and no
//! asking disturbs it meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use testbed::lan::Lan;
use testbed::{Host, PATIENCE};

use super::contender::{Contender, Make};
use super::feed::{FEEDER, Feed, Player, Table};
use super::meter::{Meter, Spent};
use super::options::Options;
use super::progress;
use crate::report::{Limit, Report, median};
use crate::sample::Sample;

const SUBNET: &str = "lan0";
/// How long one direction may take: GoBGP needs minutes for a million.
const LIMIT: Duration = Duration::from_secs(240);
/// All that keep routes to themselves.
const RIB_ONLY: [Make; 5] = [Make::Agent, Make::Speaker, Make::Bird, Make::Frr, Make::GoBgp];
/// Those that write routes into the kernel without another daemon's help.
const INTO_KERNEL: [Make; 2] = [Make::Agent, Make::Bird];

/// What one contender took, by round.
#[derive(Debug)]
struct Measured {
    contender: Contender,
    load_wall: Sample,
    load_cpu: Sample,
    clear_wall: Sample,
    clear_cpu: Sample,
    peak: Vec<f64>,
}

/// One of its samples.
type Pick = fn(&Measured) -> &Sample;

/// A table, who gets it, and how it is called.
struct Case {
    what: String,
    table: Table,
    makes: Vec<Make>,
    into_kernel: bool,
    rounds: usize,
    /// The slow one has one round.
    once: Option<Make>,
}

/// Measures everything there is about tables.
pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    for make in RIB_ONLY {
        if let Some(problem) = make.missing() {
            anyhow::bail!("{problem}");
        }
    }
    let small = Table {
        routes: options.routes,
        alike: options.routes,
    };
    let large = Table {
        routes: options.large_routes,
        alike: options.large_routes,
    };
    let cases = [
        Case {
            what: format!("{} routes", small.routes),
            table: small,
            makes: RIB_ONLY.into(),
            into_kernel: false,
            rounds: options.rounds,
            once: None,
        },
        Case {
            what: format!("{} routes, 5 alike", small.routes),
            table: Table { alike: 5, ..small },
            makes: RIB_ONLY.into(),
            into_kernel: false,
            rounds: options.rounds,
            once: None,
        },
        Case {
            what: format!("{} routes", large.routes),
            table: large,
            makes: RIB_ONLY.into(),
            into_kernel: false,
            rounds: options.large_rounds,
            once: Some(Make::GoBgp),
        },
        Case {
            what: format!("{} routes and kernel", small.routes),
            table: small,
            makes: INTO_KERNEL.into(),
            into_kernel: true,
            rounds: options.rounds,
            once: None,
        },
    ];
    for case in cases {
        let results = case.measure(options)?;
        case.show(&results, report);
        if !case.into_kernel {
            case.judge(&results, report);
        }
    }
    Ok(())
}

impl Case {
    fn measure(&self, options: &Options) -> Result<Vec<Measured>> {
        let lan = Lan::new()?;
        lan.subnet(SUBNET, &[])?;
        let feeder = Host::new("feeder")?;
        lan.attach(&feeder, SUBNET, &[IpNet::new(FEEDER.into(), 24)?], &[])?;
        progress(format_args!("{}: recording what BIRD sends", self.what));
        let feed = self.record(&lan, &feeder)?;
        progress(format_args!(
            "{}: {} rounds of {} messages to each",
            self.what, self.rounds, feed.messages
        ));
        let (announce, withdraw) = (Arc::new(feed.announce), Arc::new(feed.withdraw));
        let player = Player::listen(feeder.place())?;
        let mut results: Vec<Measured> = self.makes.iter().map(|make| self.nothing(*make)).collect();
        for round in 0..self.rounds {
            for turn in 0..results.len() {
                let position = (turn + round) % results.len();
                let result = &mut results[position];
                if round > 0 && self.once == Some(result.contender.make) {
                    continue;
                }
                self.one(options, &lan, &player, [&announce, &withdraw], result)
                    .with_context(|| format!("{} with {}", self.what, result.contender))?;
            }
        }
        Ok(results)
    }

    fn record(&self, lan: &Lan, feeder: &Host) -> Result<Feed> {
        let receiver = Host::new("recorder")?;
        let address = IpNet::new(super::feed::RECEIVER.into(), 24)?;
        lan.attach(&receiver, SUBNET, &[address], &[])?;
        self.table.record(feeder, receiver.place())
    }

    fn nothing(&self, make: Make) -> Measured {
        Measured {
            contender: Contender {
                make,
                into_kernel: self.into_kernel,
            },
            load_wall: Sample::default(),
            load_cpu: Sample::default(),
            clear_wall: Sample::default(),
            clear_cpu: Sample::default(),
            peak: Vec::new(),
        }
    }

    fn one(
        &self,
        options: &Options,
        lan: &Lan,
        player: &Player,
        [announce, withdraw]: [&Arc<Vec<u8>>; 2],
        result: &mut Measured,
    ) -> Result<()> {
        let contender = result.contender.start(lan, SUBNET, options.agent.as_deref())?;
        contender.until_ready()?;
        let meter = Meter::of(contender.pid()?)?;
        let playing = player.establish(PATIENCE).with_context(|| contender.log())?;
        // What its own start takes is over before the first route.
        meter.until_quiet((Instant::now(), meter.cpu()?), PATIENCE, || Ok(true))?;
        let pass = |bytes: &Arc<Vec<u8>>, wanted: usize| -> Result<Spent> {
            let began = (Instant::now(), meter.cpu()?);
            playing.send(bytes);
            let mut last = 0;
            let spent = meter.until_quiet(began, LIMIT, || {
                last = contender.routes()?;
                Ok(last == wanted)
            });
            spent.with_context(|| format!("{last} routes instead of {wanted}: {}", contender.log()))
        };
        let loaded = pass(announce, self.table.routes)?;
        result.peak.push(meter.peak_memory()?);
        let cleared = pass(withdraw, 0)?;
        result.load_wall.push(loaded.wall);
        result.load_cpu.push(loaded.cpu);
        result.clear_wall.push(cleared.wall);
        result.clear_cpu.push(cleared.cpu);
        Ok(())
    }

    fn show(&self, results: &[Measured], report: &mut Report) {
        let what = &self.what;
        let rows: [(&str, Pick); 4] = [
            ("wall", |result| &result.load_wall),
            ("CPU", |result| &result.load_cpu),
            ("withdrawn, wall", |result| &result.clear_wall),
            ("withdrawn, CPU", |result| &result.clear_cpu),
        ];
        for (name, pick) in rows {
            for result in results {
                report.times(
                    &format!("{what}, {name}"),
                    &result.contender.to_string(),
                    pick(result),
                );
            }
        }
        for result in results {
            report.figure(
                &format!("{what}, peak memory"),
                &result.contender.to_string(),
                &result.peak,
                "MB",
            );
        }
    }

    fn judge(&self, results: &[Measured], report: &mut Report) {
        let what = &self.what;
        let of = |make: Make| results.iter().find(|result| result.contender.make == make);
        let (Some(ours), Some(bird), Some(frr)) = (of(Make::Agent), of(Make::Bird), of(Make::Frr)) else {
            return;
        };
        let best = |pick: fn(&Measured) -> &Sample, of: &[&Measured]| {
            let all = of.iter().map(|result| pick(result).median().as_secs_f64());
            all.fold(f64::INFINITY, f64::min)
        };
        let others: Vec<&Measured> = results
            .iter()
            .filter(|result| !matches!(result.contender.make, Make::Agent | Make::Speaker))
            .collect();
        let mut ratio =
            |name: &str, of: &str, pick: fn(&Measured) -> &Sample, others: &[&Measured], most: f64| {
                let measured = pick(ours).median().as_secs_f64() / best(pick, others);
                report.target(&format!("{what}, {name}, of {of}"), measured, Limit::Ratio(most));
            };
        let fast = [bird, frr];
        ratio(
            "CPU",
            "the better of BIRD and FRR",
            |result| &result.load_cpu,
            &fast,
            0.7,
        );
        ratio("wall", "the best", |result| &result.load_wall, &others, 1.1);
        ratio(
            "withdrawn, CPU",
            "the better of BIRD and FRR",
            |result| &result.clear_cpu,
            &fast,
            0.7,
        );
        ratio(
            "withdrawn, wall",
            "the best",
            |result| &result.clear_wall,
            &others,
            1.1,
        );
        let memory = |other: &Measured| median(&ours.peak) / median(&other.peak);
        report.target(
            &format!("{what}, peak memory, of BIRD"),
            memory(bird),
            Limit::Ratio(1.3),
        );
        report.target(
            &format!("{what}, peak memory, of FRR"),
            memory(frr),
            Limit::Ratio(0.5),
        );
    }
}
