// SPDX-License-Identifier: Apache-2.0
//! `bench-routing`: what routes cost us, against real daemons in the same run. `make bench` calls it; see `--help`.

use std::process::ExitCode;

use bench_routing::options::{HELP, Options};

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("bench-routing: {problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match bench_routing::compare(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("bench-routing: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
