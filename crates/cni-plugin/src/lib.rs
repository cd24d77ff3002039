// SPDX-License-Identifier: Apache-2.0
//! The CNI protocol, versions 0.1.0 to 1.1.0, for plugins: environment, configuration, results, errors, delegation.
//!
//! A program implements [`Plugin`] and calls [`run`]. [`dispatch`] is the same without the process around it.
//! - [`call`]: the environment and what each verb is given; [`identifier`], [`args`]: its parts.
//! - [`config`], [`fields`], [`runtime_config`]: the configuration.
//! - [`result`], [`error`], [`version`]: what is answered.
//! - [`delegate`]: running another plugin.

pub mod args;
pub mod call;
pub mod config;
pub mod delegate;
pub mod error;
mod exchange;
pub mod fields;
pub mod identifier;
mod lookup;
pub mod plugin;
pub mod result;
pub mod runtime_config;
pub mod version;

pub use args::Args;
pub use call::{Attachment, Call, Command, Environment};
pub use config::{NetworkConfig, ValidAttachment};
pub use delegate::Delegate;
pub use error::{Code, Error};
pub use fields::Fields;
pub use identifier::{ContainerId, InterfaceName, NetworkName};
pub use plugin::{Plugin, dispatch, run};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use runtime_config::RuntimeConfig;
pub use version::{SUPPORTED_VERSIONS, Version};
