// SPDX-License-Identifier: Apache-2.0
//! The numbers, as a table for people and as JSON for programs, and whether the targets are met.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::options::Options;
use crate::sample::Sample;

/// The most that is acceptable, with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A share of something else.
    Ratio(f64),
    /// Seconds.
    Seconds(f64),
    /// Thousandths of seconds.
    Milliseconds(f64),
    /// Millions of bytes.
    Megabytes(f64),
    /// Units of 2^20 bytes.
    Mebibytes(f64),
    /// Hundredths.
    Percent(f64),
}

/// Everything measured.
#[derive(Debug)]
pub struct Report {
    environment: Value,
    heading: String,
    times: Vec<Row>,
    figures: Vec<Figure>,
    targets: Vec<Target>,
}

/// Something other than a time.
#[derive(Debug)]
struct Figure {
    what: String,
    who: String,
    values: Vec<f64>,
    unit: &'static str,
}

#[derive(Debug)]
struct Row {
    what: String,
    who: String,
    sample: Sample,
}

#[derive(Debug)]
struct Target {
    what: String,
    measured: f64,
    limit: Limit,
}

impl Limit {
    fn most(self) -> f64 {
        match self {
            Self::Ratio(most)
            | Self::Seconds(most)
            | Self::Milliseconds(most)
            | Self::Megabytes(most)
            | Self::Mebibytes(most)
            | Self::Percent(most) => most,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Ratio(_) => "",
            Self::Seconds(_) => "s",
            Self::Milliseconds(_) => "ms",
            Self::Megabytes(_) => "MB",
            Self::Mebibytes(_) => "MiB",
            Self::Percent(_) => "%",
        }
    }
}

impl Target {
    /// A measurement that is no number meets nothing.
    fn is_met(&self) -> bool {
        self.measured <= self.limit.most()
    }
}

impl Report {
    /// An empty report about the plugins on this machine.
    pub fn new(machine: &Machine, options: &Options) -> Self {
        let own = json!({
            "fileSystem": machine.file_system(), "rounds": options.rounds, "burst": options.burst,
            "addresses": options.addresses,
        });
        let words = format!("{}; medians of {} rounds", machine.file_system(), options.rounds);
        Self::about(&words, own)
    }

    /// An empty report: this machine, and how it is used in `words` and, as members of an object, in `own`.
    pub fn about(words: &str, own: Value) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let info = read("/proc/cpuinfo");
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let cpu = model
            .map_or("unknown processor", |(_, name)| name.trim())
            .to_owned();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let when = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let load = read("/proc/loadavg")
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let heading = format!("{cpus} x {cpu}, Linux {kernel}; load {load} at the start; {words}");
        let mut environment =
            json!({ "time": when, "cpus": cpus, "cpu": cpu, "kernel": kernel, "load": load });
        if let (Value::Object(all), Value::Object(own)) = (&mut environment, own) {
            all.extend(own);
        }
        Self {
            environment,
            heading,
            times: Vec::new(),
            figures: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Adds the times of one contender at one thing.
    pub fn times(&mut self, what: &str, who: &str, sample: &Sample) {
        self.times.push(Row {
            what: what.to_owned(),
            who: who.to_owned(),
            sample: sample.clone(),
        });
    }

    /// Adds the values of one contender at one thing that is not a time.
    pub fn figure(&mut self, what: &str, who: &str, values: &[f64], unit: &'static str) {
        self.figures.push(Figure {
            what: what.to_owned(),
            who: who.to_owned(),
            values: values.to_vec(),
            unit,
        });
    }

    /// Adds what is to stay below a limit.
    pub fn target(&mut self, what: &str, measured: f64, limit: Limit) {
        self.targets.push(Target {
            what: what.to_owned(),
            measured,
            limit,
        });
    }

    /// Whether every target is met.
    pub fn all_met(&self) -> bool {
        self.targets.iter().all(Target::is_met)
    }

    /// Writes the JSON form.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(&self.json())?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    fn json(&self) -> Value {
        let micros = |duration: Duration| (duration.as_secs_f64() * 1e6).round();
        let times = self.times.iter().map(|Row { what, who, sample }| {
            json!({
                "what": what, "who": who, "runs": sample.len(), "medianMicroseconds": micros(sample.median()),
                "p95Microseconds": micros(sample.percentile(95)), "maxMicroseconds": micros(sample.max()),
            })
        });
        let figures = self.figures.iter().map(|figure| {
            json!({
                "what": figure.what, "who": figure.who, "runs": figure.values.len(),
                "median": median(&figure.values), "max": most(&figure.values), "unit": figure.unit,
            })
        });
        let targets = self.targets.iter().map(|target| {
            json!({
                "what": target.what, "measured": target.measured, "limit": target.limit.most(),
                "unit": target.limit.unit(), "met": target.is_met(),
            })
        });
        json!({
            "environment": self.environment,
            "times": times.collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

impl Report {
    fn write_times(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.times.is_empty() {
            return Ok(());
        }
        let whats = width(self.times.iter().map(|row| row.what.as_str()));
        let whos = width(self.times.iter().map(|row| row.who.as_str()));
        writeln!(
            formatter,
            "{:<whats$} {:<whos$} {:>10} {:>10} {:>10}  ms",
            "", "", "median", "p95", "max"
        )?;
        let mut last = "";
        for Row { what, who, sample } in &self.times {
            let what = once(&mut last, what);
            let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
            writeln!(
                formatter,
                "{what:<whats$} {who:<whos$} {:>10.2} {:>10.2} {:>10.2}",
                millis(sample.median()),
                millis(sample.percentile(95)),
                millis(sample.max())
            )?;
        }
        Ok(())
    }

    fn write_figures(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.figures.is_empty() {
            return Ok(());
        }
        let whats = width(self.figures.iter().map(|figure| figure.what.as_str()));
        let whos = width(self.figures.iter().map(|figure| figure.who.as_str()));
        writeln!(
            formatter,
            "\n{:<whats$} {:<whos$} {:>10} {:>10}",
            "", "", "median", "max"
        )?;
        let mut last = "";
        for figure in &self.figures {
            let what = once(&mut last, &figure.what);
            writeln!(
                formatter,
                "{what:<whats$} {:<whos$} {:>10.2} {:>10.2}  {}",
                figure.who,
                median(&figure.values),
                most(&figure.values),
                figure.unit
            )?;
        }
        Ok(())
    }
}

/// Names of a column need so many characters, and never fewer than they once had.
fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names
        .map(|name| name.chars().count())
        .max()
        .unwrap_or_default()
        .max(26)
}

/// Nothing where it would be the same as in the line before.
fn once<'a>(last: &mut &'a str, what: &'a str) -> &'a str {
    if std::mem::replace(last, what) == what {
        ""
    } else {
        what
    }
}

/// The smallest value that is not smaller than half of them; not a number if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len().div_ceil(2).saturating_sub(1);
    sorted.get(middle).copied().unwrap_or(f64::NAN)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}\n", self.heading)?;
        self.write_times(formatter)?;
        self.write_figures(formatter)?;
        let width = width(self.targets.iter().map(|target| target.what.as_str()));
        writeln!(
            formatter,
            "\n{:<8}{:<width$} {:>10} {:>10}",
            "", "target", "measured", "at most"
        )?;
        for target in &self.targets {
            let verdict = if target.is_met() { "ok" } else { "MISSED" };
            let (measured, most, unit) = (target.measured, target.limit.most(), target.limit.unit());
            writeln!(
                formatter,
                "{verdict:<8}{:<width$} {measured:>10.2} {most:>10.2} {unit}",
                target.what
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(measured: f64) -> Report {
        let mut sample = Sample::default();
        sample.push(Duration::from_micros(2500));
        let mut report = Report {
            environment: Value::Null,
            heading: "a machine".into(),
            times: Vec::new(),
            figures: Vec::new(),
            targets: Vec::new(),
        };
        report.figure("memory", "ours", &[3.0, 1.0, 2.0], "MB");
        report.times("ADD", "ours", &sample);
        report.times("ADD", "bare", &sample);
        report.target("ADD, of bare", measured, Limit::Ratio(1.3));
        report
    }

    #[test]
    fn verdicts() {
        assert!(report(1.3).all_met());
        assert!(!report(1.31).all_met());
        assert!(!report(f64::NAN).all_met());
        let text = report(1.5).to_string();
        assert!(
            text.contains("MISSED  ADD, of bare") && text.contains("2.50"),
            "{text}"
        );
        assert_eq!(text.matches("ADD ").count(), 1, "a row is named once: {text}");
        let json = report(1.5).json();
        assert_eq!(json["times"][0]["medianMicroseconds"], 2500.0);
        assert_eq!(json["targets"][0]["met"], false);
        assert_eq!(json["figures"][0]["median"], 2.0);
        assert_eq!(json["figures"][0]["max"], 3.0);
        assert!(median(&[]).is_nan());
    }
}
