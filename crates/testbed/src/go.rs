// SPDX-License-Identifier: Apache-2.0
//! The go command, new enough to build what is current.
//!
//! A distribution's Go may be older than a module asks for. Go 1.21 and later fetch a newer tool chain by themselves; for an
//! older one the same is done here: the tool chain is a Go module too, and its programs run from the module cache.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::place::at;

/// The first Go that fetches tool chains by itself.
const SELF_UPDATING: (u32, u32) = (1, 21);
/// The tool chain fetched for an older one.
const TOOL_CHAIN: &str = "go1.24.0";
/// Where Go installs itself when no distribution does.
const USUAL: &str = "/usr/local/go/bin/go";

/// A go command that builds current modules. Where the installed one is older it fetches a newer one first, which takes a while.
pub fn command() -> Result<Command> {
    let found = ["go", USUAL]
        .into_iter()
        .find(|go| Command::new(go).arg("version").output().is_ok());
    let go = found.context("no program go: install package golang-go, or run .ci/peers")?;
    let version = run(Command::new(go).arg("version"))?;
    if numbers(&version).is_some_and(|version| version >= SELF_UPDATING) {
        return Ok(Command::new(go));
    }
    let root = tool_chain(go)?;
    let mut command = Command::new(root.join("bin/go"));
    command.env("GOROOT", &root);
    Ok(command)
}

/// Major and minor number in `go version go1.19.8 linux/amd64`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let text = version.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Fetches a tool chain with an older go and makes its programs executable, which module archives do not keep.
fn tool_chain(go: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Module {
        dir: PathBuf,
    }
    let machine = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let module = format!("golang.org/toolchain@v0.0.1-{TOOL_CHAIN}.linux-{machine}");
    eprintln!("fetching {module}: the installed go is older than {SELF_UPDATING:?}");
    let answer = run(Command::new(go)
        .current_dir("/")
        .env("GOFLAGS", "")
        .args(["mod", "download", "-json", &module]))?;
    let module: Module = serde_json::from_str(&answer).context("read what go mod download said")?;
    for folder in ["bin".into(), format!("pkg/tool/linux_{machine}")] {
        let folder = module.dir.join(folder);
        for entry in at(&folder, fs::read_dir(&folder))?.flatten() {
            at(
                &entry.path(),
                fs::set_permissions(entry.path(), Permissions::from_mode(0o755)),
            )?;
        }
    }
    Ok(module.dir)
}

fn run(command: &mut Command) -> Result<String> {
    let what = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| what.clone())?;
    if !output.status.success() {
        bail!(
            "{what}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(numbers("go version go1.19.8 linux/amd64\n"), Some((1, 19)));
        assert_eq!(numbers("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(numbers("go version go1.21rc2 linux/amd64"), None);
    }
}
