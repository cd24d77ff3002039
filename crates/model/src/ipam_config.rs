// SPDX-License-Identifier: Apache-2.0
//! Cluster-wide IPAM settings in Calico's etcd JSON (`/calico/ipam/v2/config`).
//!
//! Two different defaults, both Calico's: with no object at all blocks are allocated automatically, but an object
//! that exists without `auto_allocate_blocks` means they are not, since false members are omitted.

use std::time::Duration;

use crate::{
    object::{EmptyIsNone, Extra},
    switch::Switch,
};

/// IPAM settings. [`IpamConfig::default`] is what holds where no object is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct IpamConfig {
    /// Addresses of a block go to its own host only.
    pub strict_affinity: bool,
    /// Hosts claim blocks when they need one.
    pub auto_allocate_blocks: bool,
    /// Blocks per host and IP version; 0 means [`IpamConfig::IMPLICIT_MAX_BLOCKS_PER_HOST`].
    pub max_blocks_per_host: u32,
    /// Whether KubeVirt machines keep their addresses; `None` means they do.
    pub kube_virt_vm_address_persistence: Option<Switch>,
    /// How long a released address is not given out again, in seconds, 0..1200.
    pub ip_cooldown_seconds: u32,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpamConfig {
    "strict_affinity" => strict_affinity: unless_default,
    "auto_allocate_blocks" => auto_allocate_blocks: unless_default,
    "maxBlocksPerHost" => max_blocks_per_host: unless_default,
    "kubeVirtVMAddressPersistence" => kube_virt_vm_address_persistence: unless_default as EmptyIsNone<Switch>,
    "ipCooldownSeconds" => ip_cooldown_seconds: unless_default,
});

impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: 0,
            extra: Extra::new(),
        }
    }
}

/// Settings that contradict each other, or a value out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamConfigError {
    /// No host could ever get an address.
    #[error(
        "auto_allocate_blocks: false needs strict_affinity: true; enable automatic blocks, or strict affinity, \
         or both"
    )]
    NothingAllocates,
    /// A limit that borrowing would get around.
    #[error("maxBlocksPerHost: {limit} needs strict_affinity: true; enable it, or set the limit to 0")]
    LimitWithoutStrictAffinity {
        /// The limit asked for.
        limit: u32,
    },
    /// A cooldown beyond what Calico accepts.
    #[error("ipCooldownSeconds: {seconds} is more than 1200; use 0 to 1200 seconds")]
    CooldownTooLong {
        /// The seconds asked for.
        seconds: u32,
    },
}

impl IpamConfig {
    /// How many blocks a host may have per IP version where no limit is set.
    pub const IMPLICIT_MAX_BLOCKS_PER_HOST: u32 = 20;

    /// How long a released address is not given out again.
    pub fn cooldown(&self) -> Duration {
        Duration::from_secs(self.ip_cooldown_seconds.into())
    }

    /// The rules for setting a configuration. Stored ones may break them: nothing refuses those when they are read.
    pub fn validate(&self) -> Result<(), IpamConfigError> {
        if !self.strict_affinity && !self.auto_allocate_blocks {
            return Err(IpamConfigError::NothingAllocates);
        }
        if !self.strict_affinity && self.max_blocks_per_host > 0 {
            return Err(IpamConfigError::LimitWithoutStrictAffinity {
                limit: self.max_blocks_per_host,
            });
        }
        if self.ip_cooldown_seconds > 1200 {
            return Err(IpamConfigError::CooldownTooLong {
                seconds: self.ip_cooldown_seconds,
            });
        }
        Ok(())
    }
}
