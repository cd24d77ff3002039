// SPDX-License-Identifier: Apache-2.0
//! What went wrong in the kernel: the operation, its object, the error number and the kernel's own words.
//!
//! One type for the whole crate: callers decide by error number (`is_not_found`, `is_exists`, ...), people read the
//! text. Used by every other module, uses none.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed kernel operation, as in `create veth cali123: File exists (os error 17)`.
#[derive(Debug)]
pub struct Error {
    operation: String,
    cause: io::Error,
    kernel_message: Option<String>,
}

impl Error {
    /// An operation with its object ("add route 10.0.0.1/32 dev cali123") that failed for `cause`.
    pub fn new(operation: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self {
            operation: operation.into(),
            cause: cause.into(),
            kernel_message: None,
        }
    }

    /// The same from an error number, with the text of the kernel's extended acknowledgement if there is one.
    pub(crate) fn refused(operation: impl Into<String>, errno: i32, kernel_message: Option<String>) -> Self {
        Self {
            operation: operation.into(),
            cause: io::Error::from_raw_os_error(errno),
            kernel_message,
        }
    }

    /// An answer that this crate cannot use; `what` says how it is wrong.
    pub(crate) fn unusable(operation: impl Into<String>, what: &'static str) -> Self {
        Self::new(operation, io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// Adds words that say what the number means here and what helps.
    pub(crate) fn explained(mut self, words: String) -> Self {
        self.kernel_message = Some(match self.kernel_message.take() {
            Some(said) => format!("{said}; {words}"),
            None => words,
        });
        self
    }

    /// What was tried, with its object.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// What the kernel said beyond the error number (extended acknowledgement), and what is known to help, if anything.
    pub fn kernel_message(&self) -> Option<&str> {
        self.kernel_message.as_deref()
    }

    /// The error number (`errno`), absent where the failure is not the kernel's.
    pub fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    /// Link, address, route, entry, file or namespace is not there.
    pub fn is_not_found(&self) -> bool {
        self.is_any(&[
            Errno::ENODEV,
            Errno::ENOENT,
            Errno::ESRCH,
            Errno::EADDRNOTAVAIL,
            Errno::ENXIO,
        ])
    }

    /// There already is such an object.
    pub fn is_exists(&self) -> bool {
        self.is_any(&[Errno::EEXIST])
    }

    /// This kernel, or this link, does not know the operation.
    pub fn is_unsupported(&self) -> bool {
        self.is_any(&[
            Errno::EOPNOTSUPP,
            Errno::EAFNOSUPPORT,
            Errno::EPROTONOSUPPORT,
            Errno::ENOSYS,
        ])
    }

    /// A route lookup ended in "no way" or in a route that drops.
    pub fn is_unreachable(&self) -> bool {
        self.is_any(&[
            Errno::ENETUNREACH,
            Errno::EHOSTUNREACH,
            Errno::EACCES,
            Errno::EINVAL,
        ])
    }

    /// The caller lacks a capability.
    pub fn is_permission(&self) -> bool {
        self.is_any(&[Errno::EPERM, Errno::EACCES])
    }

    /// The file system is read-only, as `/proc/sys` is in many containers.
    pub fn is_read_only(&self) -> bool {
        self.is_any(&[Errno::EROFS])
    }

    /// A listing kept changing while it was read, or the kernel did not answer in time: worth another try.
    pub fn is_transient(&self) -> bool {
        self.is_any(&[Errno::EINTR, Errno::EAGAIN, Errno::ENOBUFS, Errno::EBUSY])
    }

    fn is_any(&self, numbers: &[Errno]) -> bool {
        self.errno()
            .is_some_and(|errno| numbers.contains(&Errno::from_raw(errno)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.operation, self.cause)?;
        match &self.kernel_message {
            Some(message) => write!(formatter, ": {message}"),
            None => Ok(()),
        }
    }
}

/// No `source`: the cause is part of the text, and printing a chain would say it twice.
impl std::error::Error for Error {}
