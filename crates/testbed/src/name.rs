// SPDX-License-Identifier: Apache-2.0
//! Names that say which process made a thing: `tb<pid>-<number>-<word>`. Test beds run beside each other, and what a killed
//! one left behind is recognised and removed by the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process;

/// Where the folders of hosts are: a real file system on most machines, unlike `/tmp`.
const FOLDERS: &str = "/var/tmp";
/// Where named network namespaces are.
const NAMESPACES: &str = "/run/netns";

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

/// Removes, once per process, what test beds left behind whose process is gone: namespaces, the processes in them,
/// folders. Errors are ignored: somebody else may be sweeping too.
pub(crate) fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in abandoned(Path::new(NAMESPACES)) {
            let path = Path::new(NAMESPACES).join(&name);
            if let Ok(kernel::Opened::Namespace(namespace)) = kernel::Namespace::open(path) {
                process::end_all_in(&namespace);
            }
            let _ = kernel::netns::delete_named(&name);
        }
        for name in abandoned(Path::new(FOLDERS)) {
            let _ = fs::remove_dir_all(folder(&name));
            process::remove_control_groups(&name);
        }
    });
}

/// The names below `folder` that a process made which no longer exists.
fn abandoned(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| maker(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()))
        .collect()
}

/// The process that made a name of ours.
fn maker(name: &str) -> Option<u32> {
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
