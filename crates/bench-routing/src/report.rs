// SPDX-License-Identifier: Apache-2.0
//! The numbers, as tables for people and as JSON for programs, and whether the targets are met.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::options::Options;

/// What one contender needed at one thing: the value of each column.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was done.
    pub what: String,
    /// Who.
    pub who: String,
    /// Column and value.
    pub values: Vec<(&'static str, f64)>,
}

#[derive(Debug)]
struct Target {
    what: String,
    measured: f64,
    most: f64,
    unit: &'static str,
}

/// Everything measured.
#[derive(Debug)]
pub struct Report {
    heading: String,
    environment: Value,
    rows: Vec<Row>,
    targets: Vec<Target>,
}

/// The median; not a number if there is none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The smallest that is not smaller than this share of them, in percent.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

impl Report {
    /// Empty, about this machine.
    pub fn new(options: &Options) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let info = read("/proc/cpuinfo");
        let cpu = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown processor", |(_, name)| name.trim());
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().unwrap_or_default();
        Self {
            heading: format!(
                "{cpus} x {cpu}, Linux {kernel}; load {load} at the start; medians of {} rounds",
                options.rounds
            ),
            environment: json!({ "cpus": cpus, "cpu": cpu, "kernel": kernel, "load": load, "rounds": options.rounds }),
            rows: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Adds what somebody needed.
    pub fn row(&mut self, row: Row) {
        eprintln!("{}", shown(&row));
        self.rows.push(row);
    }

    /// Adds what is to stay below a limit.
    pub fn target(&mut self, what: &str, measured: f64, most: f64, unit: &'static str) {
        self.targets.push(Target {
            what: what.to_owned(),
            measured,
            most,
            unit,
        });
    }

    /// Whether every target is met.
    pub fn all_met(&self) -> bool {
        self.targets.iter().all(Target::is_met)
    }

    /// Writes the JSON form.
    pub fn write(&self, path: &Path) -> Result<()> {
        let rows = self.rows.iter().map(|row| {
            let mut values: serde_json::Map<String, Value> = row
                .values
                .iter()
                .map(|(column, value)| ((*column).to_owned(), json!(value)))
                .collect();
            values.insert("what".into(), json!(row.what));
            values.insert("who".into(), json!(row.who));
            Value::Object(values)
        });
        let targets = self.targets.iter().map(|target| {
            json!({
                "what": target.what, "measured": target.measured, "limit": target.most, "unit": target.unit,
                "met": target.is_met(),
            })
        });
        let all = json!({
            "environment": self.environment, "rows": rows.collect::<Vec<_>>(), "targets": targets.collect::<Vec<_>>(),
        });
        let text = format!("{}\n", serde_json::to_string_pretty(&all)?);
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

impl Target {
    /// A measurement that is no number meets nothing.
    fn is_met(&self) -> bool {
        self.measured <= self.most
    }
}

fn shown(row: &Row) -> String {
    let values: Vec<String> = row
        .values
        .iter()
        .map(|(column, value)| format!("{column} {value:.3}"))
        .collect();
    format!("{:<34} {:<26} {}", row.what, row.who, values.join("   "))
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}\n", self.heading)?;
        let mut last = "";
        for row in &self.rows {
            let is_same = std::mem::replace(&mut last, &row.what) == row.what;
            let row = Row {
                what: if is_same { String::new() } else { row.what.clone() },
                ..row.clone()
            };
            writeln!(formatter, "{}", shown(&row))?;
        }
        writeln!(
            formatter,
            "\n{:<8}{:<64} {:>10} {:>10}",
            "", "target", "measured", "at most"
        )?;
        for target in &self.targets {
            let verdict = if target.is_met() { "ok" } else { "MISSED" };
            let Target {
                what,
                measured,
                most,
                unit,
            } = target;
            writeln!(
                formatter,
                "{verdict:<8}{what:<64} {measured:>10.2} {most:>10.2} {unit}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_verdicts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 99), 4.0);
        assert!(median(&[]).is_nan());
        let options = Options::read(std::iter::empty()).unwrap().unwrap();
        let mut report = Report::new(&options);
        report.target("x", 1.0, 1.0, "s");
        assert!(report.all_met());
        report.target("y", f64::NAN, 1.0, "s");
        assert!(!report.all_met());
        assert!(report.to_string().contains("MISSED  y"));
    }
}
