// SPDX-License-Identifier: Apache-2.0
//! A container of the story, and what ADD answered for it.

use std::net::IpAddr;

use testbed::Container;
use testbed::cni::{Added, Target};

/// A container and what ADD answered.
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    pub(crate) container: Container,
    pub(crate) target: Target,
    pub(crate) added: Added,
}

impl Actor {
    /// Its addresses, IPv4 first.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.added.result.ips.iter().map(|ip| ip.address.addr()).collect()
    }

    /// The host's end of its pair.
    pub(crate) fn host_interface(&self) -> &str {
        let interfaces = &self.added.result.interfaces;
        let outside = interfaces.iter().find(|interface| interface.sandbox.is_empty());
        outside.map_or("?", |interface| &interface.name)
    }
}
