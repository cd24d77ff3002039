// SPDX-License-Identifier: Apache-2.0
//! What the guest finds in memory at its start: a static busybox, the modules without which it has no root file system, and two
//! scripts, `init.sh` (up to there) and `start.sh` (on it, up to the command).

use std::fs;

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::modules;
use super::stock_kernel::StockKernel;
use crate::peers;

/// Transport, file system and the layer that takes what is written.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The archive for a kernel.
pub(super) fn build(kernel: &StockKernel) -> Result<Vec<u8>> {
    let busybox = peers::static_busybox().context("no static busybox: install package busybox-static")?;
    let folder = kernel.modules();
    let dependencies = fs::read_to_string(folder.join("modules.dep")).context("read modules.dep")?;
    let mut archive = Archive::default();
    for path in ["bin", "dev", "proc", "modules", "lower", "upper", "root"] {
        archive.folder(path)?;
    }
    archive.program("bin/busybox", &fs::read(busybox)?)?;
    archive.program("init", include_bytes!("init.sh"))?;
    archive.program("start", include_bytes!("start.sh"))?;
    let mut order = String::new();
    for (number, module) in modules::in_order(&dependencies, &MODULES).iter().enumerate() {
        let path = format!("modules/{number}.ko");
        let content = fs::read(folder.join(module)).with_context(|| format!("read module {module}"))?;
        archive.program(&path, &content)?;
        order += &path;
        order.push('\n');
    }
    archive.program("modules/order", order.as_bytes())?;
    archive.finish()
}
