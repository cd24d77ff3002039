// SPDX-License-Identifier: Apache-2.0
//! `bench-bgp`: what routes and sessions cost, against the daemons of others in the same run. `make bench-bgp` calls it;
//! see `--help`.

use std::process::ExitCode;

use bench::bgp::options::{HELP, Job};

fn main() -> ExitCode {
    let done = match Job::read(std::env::args().skip(1)) {
        Ok(Job::Help) => {
            print!("{HELP}");
            Ok(true)
        }
        Ok(Job::Speaker) => bench::bgp::speaker::run().map(|()| true),
        Ok(Job::Compare(options)) => {
            testbed::clean_up_on_interrupt().and_then(|()| bench::bgp::compare(&options))
        }
        Err(problem) => {
            eprintln!("bench-bgp: {problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("bench-bgp: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
