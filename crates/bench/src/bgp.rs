// SPDX-License-Identifier: Apache-2.0
//! The comparison of routed-agent with BIRD, FRR and GoBGP, in one run on one machine.
//!
//! - [`rib`]: a hundred thousand and a million routes of one peer. [`feed`] records them from a BIRD and plays them,
//!   [`contender`] starts who receives them, [`speaker`] among them, [`meter`] reads what that takes.
//! - [`mesh`]: one agent among many peers. [`field`] sets it up, [`crowd`] is the peers.
//! - [`kernel_routes`]: our writer of routes beside `ip -batch`.

pub mod contender;
pub mod crowd;
pub mod feed;
pub mod field;
pub mod kernel_routes;
pub mod mesh;
pub mod meter;
pub mod options;
pub mod rib;
pub mod speaker;
pub mod store;
pub mod wire;

use anyhow::{Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::report::Report;
use options::{Options, Part};

/// Measures what is wanted, prints the table and writes the numbers. Whether all is well: false only where a target was
/// missed and `--strict` given.
pub fn compare(options: &Options) -> Result<bool> {
    if let Some(problem) = testbed::peers::no_namespaces() {
        bail!("{problem}");
    }
    // A thousand sessions take as many descriptors at both ends.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let own = json!({ "rounds": options.rounds, "largeRounds": options.large_rounds });
    let words = format!(
        "medians of {} rounds ({} with {} routes, GoBGP 1)",
        options.rounds, options.large_rounds, options.large_routes
    );
    let mut report = Report::about(&words, own);
    let done = measure(options, &mut report);
    // What was measured before something failed is not lost.
    report.write(&options.json)?;
    print!("{report}");
    done?;
    Ok(report.all_met() || !options.strict)
}

fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if options.has(Part::Rib) {
        rib::measure(options, report)?;
    }
    if options.has(Part::Mesh) {
        mesh::cold(options, report)?;
    }
    if options.has(Part::Change) || options.has(Part::Idle) {
        mesh::running(options, report)?;
    }
    if options.has(Part::Kernel) {
        kernel_routes::measure(options, report)?;
    }
    Ok(())
}

fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("bench: {what}");
}
