// SPDX-License-Identifier: Apache-2.0
//! Kernel settings below `/proc/sys`, by path: `net/ipv4/conf/eth0.5/forwarding`, so names with dots need no care.
//!
//! `/proc/sys/net` shows the calling thread's network namespace; see `netns` for getting into another.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The longest setting that is read.
const LONGEST: usize = 4096;

/// Reads a setting, without the line end. `Error::is_not_found` tells a kernel, family or device without it.
pub fn read(path: &str) -> Result<String> {
    let failed = |error: io::Error| Error::new(format!("read sysctl {path}"), error);
    let mut file = located(path)
        .and_then(|path| OpenOptions::new().read(true).open(path))
        .map_err(failed)?;
    let mut bytes = [0; LONGEST];
    let length = file.read(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
}

/// Writes a setting. Never creates a file; a short write is an error. `Error::is_not_found` tells a kernel, family or
/// device without it, `Error::is_read_only` a `/proc/sys` that may not be changed.
pub fn write(path: &str, value: &str) -> Result<()> {
    let failed = |error: io::Error| Error::new(format!("write {value} to sysctl {path}"), error);
    let mut file = located(path)
        .and_then(|path| OpenOptions::new().write(true).open(path))
        .map_err(failed)?;
    let written = file.write(value.as_bytes()).map_err(failed)?;
    if written < value.len() {
        return Err(failed(io::ErrorKind::WriteZero.into()));
    }
    Ok(())
}

/// Whether the setting exists here.
pub fn exists(path: &str) -> bool {
    located(path).is_ok_and(|path| path.exists())
}

/// The file of a setting; refuses paths that would lead out of `/proc/sys`, since they contain names from outside.
fn located(path: &str) -> io::Result<PathBuf> {
    let is_name = |component| matches!(component, Component::Normal(_));
    if path.is_empty() || !Path::new(path).components().all(is_name) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path leads out of /proc/sys",
        ));
    }
    let mut located = PathBuf::with_capacity(64);
    located.push("/proc/sys");
    located.push(path);
    Ok(located)
}
