// SPDX-License-Identifier: Apache-2.0
//! `bench`: what an ADD and a DEL cost, against real peers in the same run. `make bench-cni` calls it; see `--help`.

use std::process::ExitCode;

use bench::options::{HELP, Job};

fn main() -> ExitCode {
    let done = match Job::read(std::env::args().skip(1)) {
        Ok(Job::Help) => {
            print!("{HELP}");
            Ok(true)
        }
        Ok(Job::PeakMemory(program)) => bench::footprint::print_peak_memory(&program).map(|()| true),
        Ok(Job::Compare(options)) => bench::compare(&options),
        Err(problem) => {
            eprintln!("bench: {problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("bench: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
