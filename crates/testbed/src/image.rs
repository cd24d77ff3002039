// SPDX-License-Identifier: Apache-2.0
//! A container image without a registry: a static busybox with links for its applets, as an archive of one layer in the form of
//! `docker save`, which `ctr images import` and `podman load` accept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::digest::digest;
use crate::peers;
use crate::place::at;

/// The name it is known by, as containerd spells it; podman does too.
pub const IMAGE: &str = "docker.io/testbed/busybox:1";

/// Applets that tests run; `sh` finds the others in the program itself.
const APPLETS: [&str; 14] = [
    "sh", "ip", "ping", "wget", "httpd", "nc", "sleep", "cat", "ls", "hostname", "true", "false", "echo",
    "mkdir",
];
/// An empty file or folder owns nothing a test looks at: a fixed time makes the archive the same every time.
const TIME: u64 = 1_700_000_000;

/// Writes the archive into a folder.
pub fn write_image(folder: &Path) -> Result<PathBuf> {
    let busybox = peers::static_busybox().context("no static busybox: install package busybox-static")?;
    let layer = layer(&at(&busybox, fs::read(&busybox))?)?;
    let layer_digest = digest(&layer);
    let config = json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": "2023-11-14T22:13:20Z"}],
    });
    let config = config.to_string().into_bytes();
    let (config_name, layer_name) = (
        format!("{}.json", digest(&config)),
        format!("{layer_digest}/layer.tar"),
    );
    let manifest: Value = json!([{"Config": config_name, "RepoTags": [IMAGE], "Layers": [layer_name]}]);

    let mut archive = Builder::new(Vec::new());
    file(&mut archive, &layer_name, 0o644, &layer)?;
    file(&mut archive, &config_name, 0o644, &config)?;
    file(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    )?;
    let path = folder.join("busybox.tar");
    at(&path, fs::write(&path, archive.into_inner()?))?;
    Ok(path)
}

/// The root file system.
fn layer(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (folder, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("www/", 0o755),
    ] {
        let mut header = header(EntryType::Directory, mode, 0);
        layer.append_data(&mut header, folder, &[][..])?;
    }
    file(&mut layer, "bin/busybox", 0o755, busybox)?;
    file(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    for applet in APPLETS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, u64::try_from(content.len())?);
    Ok(archive.append_data(&mut header, name, content)?)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(TIME);
    header
}
