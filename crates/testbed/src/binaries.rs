// SPDX-License-Identifier: Apache-2.0
//! Where our own programs are: the plugins, from `CALICO_BIN_DIR` or built by cargo; and the playground program, whose hidden
//! commands are the processes of hosts and containers.

use std::collections::BTreeMap;
use std::env;
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Packages and programs of the two plugins.
const PLUGINS: [(&str, &str); 2] = [("calico-cni", "calico"), ("calico-ipam", "calico-ipam")];
/// The program with the hidden commands.
const PLAYGROUND: &str = "playground";
/// The daemon.
const AGENT: &str = "routed-agent";
/// Names the folder that has the plugins; `make` sets it to the static ones it built.
const VARIABLE: &str = "CALICO_BIN_DIR";

/// The plugins. Without `CALICO_BIN_DIR` cargo brings them up to date first.
pub fn plugins() -> Result<Vec<PathBuf>> {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let given = env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
    let found: Vec<PathBuf> = if let Some(folder) = given {
        // Links to it have to lead there from anywhere.
        let folder = path::absolute(folder).context("locate CALICO_BIN_DIR")?;
        PLUGINS.iter().map(|(_, name)| folder.join(name)).collect()
    } else {
        let built = build(&PLUGINS.map(|(package, _)| package))?;
        let find = |(_, name): &(&str, &str)| built.get(*name).cloned().unwrap_or_default();
        PLUGINS.iter().map(find).collect()
    };
    for ((package, name), path) in PLUGINS.iter().zip(&found) {
        if !path.is_file() {
            let place = path.parent().unwrap_or(Path::new("")).display();
            bail!(
                "program {name} (package {package}) is not in {place:?}: run `make build`, or unset {VARIABLE}"
            );
        }
    }
    Ok(FOUND.get_or_init(|| found).clone())
}

/// The playground program: this one, or the one built beside the running test, or a new one.
pub(crate) fn playground() -> Result<PathBuf> {
    let own = env::current_exe().context("find the running program")?;
    if own.file_name().is_some_and(|name| name == PLAYGROUND) {
        return Ok(own);
    }
    // Tests are in target/<profile>/deps, programs one above.
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(PLAYGROUND));
    if let Some(found) = beside.into_iter().find(|candidate| candidate.is_file()) {
        return Ok(found);
    }
    build(&["testbed"])?
        .remove(PLAYGROUND)
        .context("cargo built no program playground")
}

/// The program of routed-agent: from the folder of `CALICO_BIN_DIR` if it is there, or the one built beside the running test,
/// or a new one.
pub fn agent() -> Result<PathBuf> {
    let given = env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
    let given = given.and_then(|folder| path::absolute(folder).ok());
    let own = env::current_exe().context("find the running program")?;
    let folders = given
        .iter()
        .map(PathBuf::as_path)
        .chain(own.ancestors().skip(1).take(2));
    let found = folders
        .map(|folder| folder.join(AGENT))
        .find(|candidate| candidate.is_file());
    if let Some(found) = found {
        return Ok(found);
    }
    build(&[AGENT])?
        .remove(AGENT)
        .context("cargo built no program routed-agent")
}

/// One line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds packages and returns their programs by name.
fn build(packages: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(&workspace)
        .args([
            "build",
            "--quiet",
            "--bins",
            "--message-format=json-render-diagnostics",
        ])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .context("run cargo to build our programs; or name a folder that has them with CALICO_BIN_DIR")?;
    if !output.status.success() {
        bail!(
            "cargo could not build {}: its error is above",
            packages.join(", ")
        );
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let programs = messages.filter_map(|line| serde_json::from_slice::<Message>(line).ok()?.executable);
    let named = programs.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path.clone())));
    Ok(named.collect())
}
