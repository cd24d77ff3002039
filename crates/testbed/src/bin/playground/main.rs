// SPDX-License-Identifier: Apache-2.0
//! The playground (`make demo`): a host in namespaces, containers on it through the real plugins, then three hosts with
//! agents, and everything gone again.
//! `serve` and `host-init` are not for people: they are the processes of the test bed's containers and hosts.

mod actor;
mod hosts;
mod page;
mod scene;
mod sights;
mod story;
mod trials;

use std::path::Path;
use std::process::ExitCode;

use page::Page;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        [] => return play(),
        ["serve", name] => testbed::serve(name).map_err(Into::into),
        ["host-init", top] => testbed::run_host_init(Path::new(top)),
        _ => Err(anyhow::anyhow!("unknown arguments {args:?}; there are none")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> ExitCode {
    if let Some(reason) = testbed::peers::no_namespaces() {
        eprintln!("playground: {reason}");
        eprintln!(
            "            As root: sudo env \"PATH=$PATH\" make demo. Nothing outside its namespaces is touched."
        );
        return ExitCode::FAILURE;
    }
    let mut page = Page::to_standard_output();
    match testbed::clean_up_on_interrupt().and_then(|()| story::tell(&mut page)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            page.failure(&error);
            ExitCode::FAILURE
        }
    }
}
