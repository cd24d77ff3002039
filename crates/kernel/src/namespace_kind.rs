// SPDX-License-Identifier: Apache-2.0
//! Of which kind a namespace is (ioctl_ns(2)).
#![allow(unsafe_code)]

use std::{fs::File, os::fd::AsRawFd as _};

/// `NS_GET_NSTYPE`: `_IO(0xb7, 0x3)`.
const GET_KIND: libc::Ioctl = 0xb703;

/// Whether a file is a network namespace.
pub(crate) fn is_network(file: &File) -> bool {
    // SAFETY: the request takes no argument; the descriptor is open as long as `file` is.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), GET_KIND) };
    kind == libc::CLONE_NEWNET
}
