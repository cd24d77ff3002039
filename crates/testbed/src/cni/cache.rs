// SPDX-License-Identifier: Apache-2.0
//! What a runtime remembers of each attachment between ADD and DEL, in the files of the reference library:
//! `<cache>/results/<network>-<container ID>-<interface>`, JSON of kind `cniCacheV1`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::target::Target;

const KIND: &str = "cniCacheV1";

/// The folder of remembered attachments.
#[derive(Debug, Clone)]
pub struct AttachmentCache {
    folder: PathBuf,
}

/// One remembered attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedAttachment {
    kind: String,
    /// Container ID.
    pub container_id: String,
    /// The network list, in base64.
    config: String,
    /// Interface inside the container.
    pub if_name: String,
    /// Network name.
    pub network_name: String,
    /// Path of the namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub netns: String,
    /// `CNI_ARGS`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_args: Vec<(String, String)>,
    /// What the runtime had for capabilities.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub capability_args: Map<String, Value>,
    /// The result of ADD.
    #[serde(default)]
    pub result: Value,
}

impl AttachmentCache {
    pub(super) fn new(cache: &std::path::Path) -> Self {
        Self {
            folder: cache.join("results"),
        }
    }

    /// Every attachment that can be read.
    pub fn all(&self) -> Vec<CachedAttachment> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| fs::read(entry.path()).ok());
        let attachments = texts.filter_map(|text| serde_json::from_slice(&text).ok());
        attachments
            .filter(|attachment: &CachedAttachment| attachment.kind == KIND)
            .collect()
    }

    /// Where an attachment is remembered.
    pub fn file(&self, network: &str, target: &Target) -> PathBuf {
        let Target {
            container_id,
            interface,
            ..
        } = target;
        self.folder.join(format!("{network}-{container_id}-{interface}"))
    }

    /// One attachment; `None` if there is none, an error if it cannot be read.
    pub(super) fn load(&self, network: &str, target: &Target) -> io::Result<Option<CachedAttachment>> {
        let text = match fs::read(self.file(network, target)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let attachment: CachedAttachment = serde_json::from_slice(&text)?;
        if attachment.kind != KIND {
            let message = format!("kind {:?} instead of {KIND:?}", attachment.kind);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Some(attachment))
    }

    pub(super) fn store(
        &self,
        network: &str,
        list: &[u8],
        target: &Target,
        result: &Value,
    ) -> io::Result<()> {
        let attachment = CachedAttachment {
            kind: KIND.to_owned(),
            container_id: target.container_id.clone(),
            config: base64(list),
            if_name: target.interface.clone(),
            network_name: network.to_owned(),
            netns: target.netns.display().to_string(),
            cni_args: target.args.clone(),
            capability_args: target.capability_args.clone(),
            result: result.clone(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file(network, target))?;
        file.write_all(&serde_json::to_vec(&attachment)?)
    }

    /// Forgets an attachment, as a runtime does after DEL, or when it loses its state.
    pub fn forget(&self, network: &str, target: &Target) {
        // What is not there is forgotten.
        let _ = fs::remove_file(self.file(network, target));
    }
}

impl CachedAttachment {
    /// The attachment as a target of another verb.
    pub(super) fn target(&self) -> Target {
        Target {
            container_id: self.container_id.clone(),
            netns: PathBuf::from(&self.netns),
            interface: self.if_name.clone(),
            args: self.cni_args.clone(),
            capability_args: self.capability_args.clone(),
        }
    }
}

/// RFC 4648, section 4. The list is only stored, never read back: the caller has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .chain(&[0; 2])
            .take(3)
            .fold(0, |number, byte| number << 8 | usize::from(*byte));
        for position in 0..4 {
            let digit = DIGITS[number >> (18 - 6 * position) & 63];
            text.push(if position <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
