// SPDX-License-Identifier: Apache-2.0
//! Programs that exist only as Go source: built from the Go module proxy at a pinned version, once per machine, into
//! `target/peers`. Called by tests with real CNI tools and by the test of the shipped network list.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{go, peers};

/// A Go command at a version.
#[derive(Debug, Clone, Copy)]
pub struct GoProgram {
    /// Import path; its last part is the program's name.
    pub package: &'static str,
    /// Version of the module.
    pub version: &'static str,
}

/// The current CNI library: speaks 1.1.0, with STATUS and GC.
pub const CNITOOL: GoProgram = cnitool("v1.3.1");
/// The first release that speaks 1.0.0; knows no `cniVersions`.
pub const CNITOOL_1_0: GoProgram = cnitool("v1.0.1");
/// The last release before 1.0; speaks up to 0.4.0.
pub const CNITOOL_0_8: GoProgram = cnitool("v0.8.1");
/// A reference plugin that speaks 1.1.0, which those of Debian 12 do not.
pub const PORTMAP: GoProgram = plugin("github.com/containernetworking/plugins/plugins/meta/portmap");
/// Another.
pub const BANDWIDTH: GoProgram = plugin("github.com/containernetworking/plugins/plugins/meta/bandwidth");

const fn cnitool(version: &'static str) -> GoProgram {
    GoProgram {
        package: "github.com/containernetworking/cni/cnitool",
        version,
    }
}

const fn plugin(package: &'static str) -> GoProgram {
    GoProgram {
        package,
        version: "v1.9.1",
    }
}

impl GoProgram {
    /// The program, built if it has not been before; `None` where it cannot be, which is a visible skip.
    ///
    /// # Panics
    ///
    /// Where it cannot be built and `CI=true`.
    pub fn available(self) -> Option<PathBuf> {
        match self.build() {
            Ok(program) => Some(program),
            Err(error) => {
                peers::skip(&format!("{error:#}"));
                None
            }
        }
    }

    fn build(self) -> Result<PathBuf> {
        let name = self.package.rsplit('/').next().unwrap_or(self.package);
        let folder = target_folder()
            .join("peers")
            .join(format!("{name}-{}", self.version));
        let program = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        // Test processes run beside each other: one builds, the others wait.
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        if program.is_file() {
            return Ok(program);
        }
        let unfinished = TempDir::new_in(&folder)?;
        let output = go::command()?
            .arg("install")
            .arg(format!("{}@{}", self.package, self.version))
            .env("GOBIN", unfinished.path())
            .env("CGO_ENABLED", "0")
            .current_dir(unfinished.path())
            .output()
            .context("run go")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!(
                "go cannot build {}@{}: {}",
                self.package,
                self.version,
                said.trim()
            );
        }
        fs::rename(unfinished.path().join(name), &program)?;
        Ok(program)
    }
}

/// Where cargo builds; what tests fetch or build once is kept below it.
pub(crate) fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
