// SPDX-License-Identifier: Apache-2.0
//! Kernel settings below `/proc/sys`, by path: `net/ipv4/conf/eth0.5/forwarding`, so names with dots need no care.
//!
//! `/proc/sys/net` shows the calling thread's network namespace; see `netns` for getting into another.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The longest setting that is read.
const LONGEST: usize = 4096;

/// Reads a setting, without the line end. `Error::is_not_found` tells a kernel, family or device without it.
pub fn read(path: &str) -> Result<String> {
    let failed = |error: io::Error| Error::new(format!("read sysctl {path}"), error);
    let mut file = OpenOptions::new()
        .read(true)
        .open(located(path))
        .map_err(failed)?;
    let mut bytes = [0; LONGEST];
    let length = file.read(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
}

/// Writes a setting. Never creates a file; a short write is an error. `Error::is_not_found` tells a kernel, family or
/// device without it, `Error::is_read_only` a `/proc/sys` that may not be changed.
pub fn write(path: &str, value: &str) -> Result<()> {
    let failed = |error: io::Error| Error::new(format!("write {value} to sysctl {path}"), error);
    let mut file = OpenOptions::new()
        .write(true)
        .open(located(path))
        .map_err(failed)?;
    let written = file.write(value.as_bytes()).map_err(failed)?;
    if written < value.len() {
        return Err(failed(io::ErrorKind::WriteZero.into()));
    }
    Ok(())
}

/// Whether the setting exists here.
pub fn exists(path: &str) -> bool {
    located(path).exists()
}

fn located(path: &str) -> PathBuf {
    let mut located = PathBuf::with_capacity(64);
    located.push("/proc/sys");
    located.push(path);
    located
}
