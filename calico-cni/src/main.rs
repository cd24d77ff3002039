// SPDX-License-Identifier: Apache-2.0
//! The program `calico`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kernel::process::fail_instead_of_dying();
    cni_plugin::run(&calico_cni::plugin::CalicoPlugin)
}
