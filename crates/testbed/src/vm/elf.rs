// SPDX-License-Identifier: Apache-2.0
//! The plain kernel inside a compressed one. An emulated processor takes longer to decompress a kernel than to boot it, so
//! that is done once, by this machine's own.
//!
//! Fields of the header: kernel documentation, `arch/x86/boot`. The plain kernel is an ELF file that `qemu` starts by the entry point
//! for Xen guests (PVH).

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Number of 512-byte sectors of the 16-bit part, less the first; a zero stands for four.
const SETUP_SECTORS: usize = 0x1f1;
/// `HdrS`.
const MAGIC: usize = 0x202;
/// Where the compressed kernel starts after the 16-bit part, and its length.
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// How xz starts.
const XZ: &[u8] = b"\xfd7zXZ\0";

/// Writes the plain kernel to `plain`; answers whether it could, which depends on how the kernel was compressed and on a
/// program `xz`.
pub(super) fn decompress(kernel: &[u8], plain: &Path) -> bool {
    let Some(payload) = payload(kernel).filter(|payload| payload.starts_with(XZ)) else {
        return false;
    };
    let packed = plain.with_extension("xz");
    let run = || -> std::io::Result<bool> {
        fs::write(&packed, payload)?;
        // The length that follows the compressed data is not for xz, which therefore warns by its exit code.
        Command::new("xz")
            .args(["--decompress", "--stdout", "--single-stream", "--quiet"])
            .stdin(File::open(&packed)?)
            .stdout(File::create(plain)?)
            .stderr(Stdio::null())
            .status()?;
        Ok(is_complete(&fs::read(plain)?))
    };
    let is_done = run().unwrap_or(false);
    let _ = fs::remove_file(&packed);
    if !is_done {
        let _ = fs::remove_file(plain);
    }
    is_done
}

fn payload(kernel: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| -> Option<usize> {
        let bytes = kernel.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    if kernel.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let sectors = match *kernel.get(SETUP_SECTORS)? {
        0 => 4,
        given => usize::from(given),
    };
    let start = (sectors + 1) * 512 + number(PAYLOAD_OFFSET)?;
    kernel.get(start..start.checked_add(number(PAYLOAD_LENGTH)?)?)
}

/// Whether a 64-bit ELF file reaches as far as its section headers, which are its last part.
fn is_complete(elf: &[u8]) -> bool {
    let field = |at: usize, length: usize| -> Option<u64> {
        let bytes = elf.get(at..at + length)?;
        let little_endian = bytes.iter().rev();
        Some(little_endian.fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    };
    let end = || field(0x28, 8)?.checked_add(field(0x3a, 2)?.checked_mul(field(0x3c, 2)?)?);
    elf.starts_with(b"\x7fELF\x02\x01") && end().is_some_and(|end| end > 64 && end <= elf.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(setup_sectors: u8, content: &[u8]) -> Vec<u8> {
        let start = (usize::from(if setup_sectors == 0 { 4 } else { setup_sectors }) + 1) * 512 + 16;
        let mut bytes = vec![0; start];
        bytes[SETUP_SECTORS] = setup_sectors;
        bytes[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        bytes[PAYLOAD_OFFSET] = 16;
        bytes[PAYLOAD_LENGTH] = u8::try_from(content.len()).unwrap();
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn the_payload_is_found_and_nothing_is_read_past_the_end() {
        for sectors in [0, 1, 39] {
            let whole = kernel(sectors, b"content");
            assert_eq!(payload(&whole), Some(&b"content"[..]));
            for length in 0..whole.len() {
                assert_eq!(payload(&whole[..length]), None);
            }
        }
    }

    #[test]
    fn what_is_not_xz_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        assert!(!decompress(&kernel(4, b"\x28\xb5\x2f\xfd"), &plain));
        assert!(!decompress(&kernel(4, b"\xfd7zXZ\0broken"), &plain));
        assert!(!plain.exists() && fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn half_a_kernel_is_none() {
        let mut elf = vec![0; 200];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x28] = 72;
        elf[0x3a] = 64;
        elf[0x3c] = 2;
        assert!(is_complete(&elf));
        assert!(!is_complete(&elf[..199]));
        assert!(!is_complete(&[]));
    }
}
