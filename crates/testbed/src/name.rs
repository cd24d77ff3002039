// SPDX-License-Identifier: Apache-2.0
//! Names that say which process made a thing: `tb<pid>-<number>-<word>`. Test beds run beside each other, and what a killed
//! one left behind is recognised and removed by the next (`sweep`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Where the folders of hosts are: a real file system on most machines, unlike `/tmp`.
pub(crate) const FOLDERS: &str = "/var/tmp";

/// A name nobody else has; `word` tells people what it is for.
pub(crate) fn unique(word: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("tb{}-{number}-{word}", std::process::id())
}

/// Where the folder of a name is.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(FOLDERS).join(name)
}

/// Held while something is made that has a name, or a process is started.
static GATE: RwLock<()> = RwLock::new(());

/// Leave to make something; waits for ever once permits are withdrawn.
pub(crate) fn permit() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes that leave away from everybody, for good.
pub(crate) fn withdraw_permits() {
    std::mem::forget(GATE.write().unwrap_or_else(PoisonError::into_inner));
}

/// The process that made a name of ours.
pub(crate) fn maker(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix("tb")?.split_once('-')?;
    let numbered = rest.split('-').next()?.bytes().all(|byte| byte.is_ascii_digit());
    numbered.then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker() {
        let name = unique("web");
        assert_eq!(maker(&name), Some(std::process::id()));
        assert_ne!(name, unique("web"));
        for foreign in ["tb", "tb-1-x", "tbx-1-y", "tb12-x", "netns-0af3", "tb12"] {
            assert_eq!(maker(foreign), None, "{foreign}");
        }
    }
}
