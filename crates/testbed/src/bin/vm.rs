// SPDX-License-Identifier: Apache-2.0
//! A command as root under a stock kernel (`make vm COMMAND=…`), to try what the running kernel lacks.

use std::env;
use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

/// How long a command may take, its boot included.
const DEADLINE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let Some(command) = words.next() else {
        eprintln!("vm: which command? vm COMMAND [ARGUMENT…]");
        return ExitCode::FAILURE;
    };
    match testbed::vm::run(command, words, env::vars_os(), DEADLINE) {
        Ok(output) => {
            // A closed pipe is the reader's choice.
            let _ = stdout().write_all(output.stdout.as_bytes());
            let _ = stderr().write_all(output.stderr.as_bytes());
            eprintln!("vm: {:.1?}, of which {:.1?} to boot", output.total, output.boot);
            ExitCode::from(u8::try_from(output.code).unwrap_or(u8::MAX))
        }
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
