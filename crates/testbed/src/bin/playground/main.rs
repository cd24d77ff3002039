// SPDX-License-Identifier: Apache-2.0
//! The playground.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", name] => Ok(testbed::serve(name)?),
        ["host-init", top] => testbed::run_host_init(Path::new(top)),
        _ => Ok(()),
    }
}
