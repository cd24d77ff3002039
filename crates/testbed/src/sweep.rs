// SPDX-License-Identifier: Apache-2.0
//! Removing by name what was not dropped: what killed test beds left behind, and, on an interrupt, what this one has.

use std::fs;
use std::path::Path;
use std::sync::Once;

use crate::name;
use crate::process;

/// Where named network namespaces are.
const NAMESPACES: &str = "/run/netns";

/// Removes, once per process, what test beds left behind whose process is gone: namespaces, the processes in them,
/// folders. Errors are ignored: somebody else may be sweeping too.
pub(crate) fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| remove(|maker| !Path::new("/proc").join(maker.to_string()).exists()));
}

/// Removes everything that this process has made and not dropped yet, and lets it make nothing more.
pub(crate) fn remove_own() {
    name::withdraw_permits();
    remove(|maker| maker == std::process::id());
}

fn remove(is_meant: impl Fn(u32) -> bool) {
    let meant = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|found| name::maker(found).is_some_and(&is_meant))
            .collect()
    };
    for found in meant(NAMESPACES) {
        let path = Path::new(NAMESPACES).join(&found);
        if let Ok(kernel::Opened::Namespace(namespace)) = kernel::Namespace::open(path) {
            process::end_all_in(&namespace);
        }
        let _ = kernel::netns::delete_named(&found);
    }
    for found in meant(name::FOLDERS) {
        let _ = fs::remove_dir_all(name::folder(&found));
        process::remove_control_groups(&found);
    }
}
