// SPDX-License-Identifier: Apache-2.0
//! The playground as a newcomer meets it: it works, it says what it needs, it explains a failure and cleans up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use testbed::peers::{self, Peer};

const PLAYGROUND: &str = env!("CARGO_BIN_EXE_playground");
/// The user `nobody`.
const NOBODY: u32 = 65534;

/// What it printed, without colour since this is no terminal; and that nothing with its process ID is left.
fn play(command: &mut Command) -> Result<(Output, String)> {
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let prefix = format!("tb{}-", child.id());
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!printed.contains('\x1b'), "colour on a pipe: {printed}");
    for folder in ["/run/netns", "/var/tmp"] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let left = names.find(|name| name.starts_with(&prefix));
        ensure!(left.is_none(), "{left:?} is left in {folder}");
    }
    Ok((output, printed))
}

#[test]
fn it_shows_everything_and_leaves_nothing() -> Result<()> {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let (output, printed) = play(&mut Command::new(PLAYGROUND))?;
    ensure!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for expected in [
        "default via 169.254.1.1 dev eth0",
        "scope link",
        "default-ipv4-ippool",
        "db answers 192.168.",
        "ok CHECK of web",
        "the same result",
        "ok GC",
        "no interface, route, address, handle, endpoint or record is left",
        "all sessions are up",
        "node-to-node mesh",
        "is outside 10.1.0.0/24 of 10.1.0.11/24",
        "its container answers while no agent runs there",
        "are gone from the other hosts",
        "Everything worked",
    ] {
        ensure!(
            printed.contains(expected),
            "{expected:?} is missing in:\n{printed}"
        );
    }
    Ok(())
}

#[test]
fn a_failing_plugin_is_quoted_with_the_step() -> Result<()> {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let script = r#"#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}'; exit; fi
echo '{"code":11,"msg":"the moon is full"}'; exit 1
"#;
    for name in ["calico", "calico-ipam"] {
        let path = folder.path().join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let (output, printed) = play(Command::new(PLAYGROUND).env("CALICO_BIN_DIR", folder.path()))?;
    ensure!(output.status.code() == Some(1), "{printed}");
    for expected in [
        "FAILED: ADD of container web",
        "the moon is full",
        "has been removed",
    ] {
        ensure!(
            printed.contains(expected),
            "{expected:?} is missing in:\n{printed}"
        );
    }
    Ok(())
}

#[test]
fn without_root_it_says_what_to_do() -> Result<()> {
    if !peers::available(&[Peer::Root]) {
        return Ok(());
    }
    // A copy where everybody may run it: the build tree may be in root's home.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = folder
        .path()
        .join(Path::new(PLAYGROUND).file_name().unwrap_or_default());
    fs::copy(PLAYGROUND, &program)?;
    let (output, printed) = play(Command::new(program).uid(NOBODY).gid(NOBODY))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && printed.is_empty(), "{printed}");
    ensure!(
        message.contains("needs root") && message.contains("sudo"),
        "{message}"
    );
    Ok(())
}
