// SPDX-License-Identifier: Apache-2.0
//! A CNI runtime: runs real plugins through a network configuration list the way the reference library (`libcni`) does,
//! so that tests see what containerd, CRI-O and podman would do to them.
//!
//! - [`NetworkList`]: the list, the version it is used with, the configuration each plugin gets.
//! - [`CniRuntime`]: the verbs, their order, previous results and garbage collection.
//! - [`cache`](AttachmentCache): what is remembered of each attachment, in `libcni`'s own files.
//! - [`execution`](PluginError): one plugin, one call.

mod cache;
mod execution;
mod list;
mod runtime;
mod target;

pub use cache::{AttachmentCache, CachedAttachment};
pub use execution::PluginError;
pub use list::{ListError, NetworkList};
pub use runtime::{Added, CniRuntime, RuntimeError};
pub use target::Target;
