// SPDX-License-Identifier: Apache-2.0
//! The program `routed-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match routed_agent::command_line::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("routed-agent: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
