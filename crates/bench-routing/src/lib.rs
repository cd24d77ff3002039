// SPDX-License-Identifier: Apache-2.0
//! The routing side, compared with real daemons in one run on one machine.
//!
//! - [`stage`] is a BIRD that feeds routes over a subnet, [`takers`] are those who take them, [`usage`] looks at their
//!   processes from outside, and [`tables`] puts it together: how long, how much processor time, how much memory.
//! - [`kernel_table`] writes routes into the kernel, by our writer and by `ip -batch`.
//! - [`mesh`] is one agent with very many peers, which are one process ([`crowd`]).
//! - [`report`] has medians, ratios and verdicts.
//!
//! Contenders take turns, so that whatever else the machine does hits all of them alike. Ratios are of medians.

pub mod crowd;
pub mod kernel_table;
pub mod mesh;
pub mod options;
pub mod report;
pub mod stage;
pub mod store;
pub mod tables;
pub mod takers;
pub mod usage;

use anyhow::Result;

use options::Options;
use report::Report;
use takers::Taker;

/// Measures everything, prints the tables and writes the numbers. Whether all is well: false only where a target was
/// missed and `--strict` given.
pub fn compare(options: &Options) -> Result<bool> {
    let mut report = Report::new(options);
    if options.wants("tables") {
        for routes in &options.routes {
            tables::compare(*routes, options, &mut report)?;
        }
        if options.takers.len() == Taker::TABLES.len() {
            tables::with_kernel(100_000, options.rounds.min(3), &mut report)?;
        }
    }
    #[cfg(any())]
    if options.wants("kernel") {
        kernel_table::compare(100_000, options.rounds, &mut report)?;
    }
    #[cfg(any())]
    if options.wants("mesh") {
        mesh::cold(1000, 4, &mut report)?;
        mesh::hundred(100, &mut report)?;
    }
    report.write(&options.json)?;
    print!("{report}");
    Ok(report.all_met() || !options.strict)
}
