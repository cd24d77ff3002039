// SPDX-License-Identifier: Apache-2.0
//! The archive that a kernel unpacks at its start: cpio in the "newc" format (kernel documentation,
//! `driver-api/early-userspace/buffer-format`). Each entry is a header of 8-digit hexadecimal fields, the name, the content,
//! both padded to four bytes.

use anyhow::{Context as _, Result};

/// Format of a folder and of a regular file, in the mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
/// What is last.
const END: &str = "TRAILER!!!";

/// A growing archive.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; its parent has to be there already.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, FOLDER | 0o755, &[])
    }

    /// Adds a file that may be executed.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, FILE | 0o755, content)
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(END, 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{path} is too long for cpio"))?;
        let name_size = u32::try_from(path.len() + 1)?;
        // Inode, mode, owner, group, links, time, size, device and special device (two numbers each), length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_where_the_format_says() {
        let mut archive = Archive::default();
        archive.folder("bin").unwrap();
        archive.program("bin/x", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        while let Some(header) = rest.get(..110) {
            assert_eq!(&header[..6], b"070701");
            let field = |number: usize| {
                let text = std::str::from_utf8(&header[6 + number * 8..14 + number * 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&rest[110..110 + name_size - 1]).unwrap();
            assert_eq!(rest[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            found.push((name, mode, &rest[start..start + size]));
            rest = &rest[(start + size).next_multiple_of(4)..];
        }
        assert!(rest.is_empty());
        let expected: [(&str, usize, &[u8]); 3] = [
            ("bin", 0o040_755, b""),
            ("bin/x", 0o100_755, b"hello"),
            (END, 0, b""),
        ];
        assert_eq!(found, expected);
    }
}
