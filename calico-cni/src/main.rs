// SPDX-License-Identifier: Apache-2.0
//! The program `calico`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_plugin::run(&calico_cni::plugin::CalicoPlugin)
}
