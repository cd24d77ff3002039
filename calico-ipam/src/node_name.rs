// SPDX-License-Identifier: Apache-2.0
//! The name of this node, in Calico's order: configuration `nodename`, the nodename file, configuration `hostname`,
//! the host's name. calico/node writes the file where it runs; with the embedded store nothing else does, so the
//! first use stores the name, and a later change of the host's name does not orphan its blocks.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Why the node has no usable name.
#[derive(Debug, thiserror::Error)]
pub enum NodeNameError {
    /// A name that no Calico node can have.
    #[error(
        "node name {name:?} from {origin} is not valid: use lower-case letters, digits, '-' and '.', at most 253, \
         starting and ending with a letter or digit; set \"nodename\" in the network configuration"
    )]
    Invalid {
        /// As found.
        name: String,
        /// Where.
        origin: String,
    },
    /// The file cannot be read or written.
    #[error("node name file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where a node name may come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Configuration key `nodename`.
    pub nodename: Option<&'a str>,
    /// The nodename file.
    pub file: &'a Path,
    /// Configuration key `hostname`, deprecated.
    pub hostname: Option<&'a str>,
    /// The host's own name.
    pub system: &'a str,
}

/// The node's name. `store` writes the file if it is missing and the name was not configured.
pub fn resolve(sources: Sources<'_>, store: bool) -> Result<String, NodeNameError> {
    if let Some(name) = sources.nodename {
        return valid(name, "the configuration key nodename");
    }
    let at_file = |source| NodeNameError::File {
        path: sources.file.to_owned(),
        source,
    };
    match fs::read_to_string(sources.file) {
        Ok(text) if !text.trim().is_empty() => {
            return valid(text.trim(), &sources.file.display().to_string());
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at_file(error)),
    }
    let name = match sources.hostname {
        Some(name) => valid(name, "the configuration key hostname")?,
        None => valid(&sources.system.trim().to_lowercase(), "the host's name")?,
    };
    if store {
        // Of several first uses at once the last rename wins; all wrote the same name.
        write_atomically(sources.file, name.as_bytes(), 0o644).map_err(at_file)?;
    }
    Ok(name)
}

fn valid(name: &str, origin: &str) -> Result<String, NodeNameError> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let sound = (1..=253).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| inner(*byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner);
    if sound {
        Ok(name.to_owned())
    } else {
        Err(NodeNameError::Invalid {
            name: name.to_owned(),
            origin: origin.to_owned(),
        })
    }
}

/// Writes a file so that readers see the old content or the new: a temporary file in the same folder, synced,
/// renamed. Missing folders are made.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let result = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources<'a>(file: &'a Path, system: &'a str) -> Sources<'a> {
        Sources {
            nodename: None,
            file,
            hostname: None,
            system,
        }
    }

    #[test]
    fn the_order_is_that_of_calico() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodename");
        let all = Sources {
            nodename: Some("a"),
            file: &file,
            hostname: Some("c"),
            system: "d",
        };
        assert_eq!(
            resolve(
                Sources {
                    nodename: None,
                    ..all
                },
                false
            )
            .unwrap(),
            "c"
        );
        fs::write(&file, "b\n").unwrap();
        assert_eq!(resolve(all, false).unwrap(), "a");
        assert_eq!(
            resolve(
                Sources {
                    nodename: None,
                    ..all
                },
                false
            )
            .unwrap(),
            "b",
            "trimmed"
        );
        fs::write(&file, "").unwrap();
        assert_eq!(
            resolve(
                Sources {
                    nodename: None,
                    hostname: None,
                    ..all
                },
                false
            )
            .unwrap(),
            "d"
        );
    }

    #[test]
    fn the_first_name_is_kept_when_the_host_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/nodename");
        assert_eq!(
            resolve(sources(&file, "Node-A.Example \n"), true).unwrap(),
            "node-a.example"
        );
        assert_eq!(
            fs::read(&file).unwrap(),
            b"node-a.example",
            "no line break, as calico/node writes it"
        );
        assert_eq!(
            resolve(sources(&file, "renamed"), true).unwrap(),
            "node-a.example"
        );
        assert_eq!(
            fs::read_dir(file.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_bad_name_is_refused_with_its_origin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodename");
        for name in ["", "a/b", "-a", "a_b", "a b", &"x".repeat(254)] {
            fs::write(&file, name).unwrap();
            let error = resolve(sources(&file, "also bad/"), false)
                .unwrap_err()
                .to_string();
            assert!(error.contains("is not valid"), "{name}: {error}");
        }
        let error = resolve(sources(folder.path(), "a"), false).unwrap_err();
        assert!(
            matches!(error, NodeNameError::File { .. }),
            "a folder in its place: {error}"
        );
    }
}
