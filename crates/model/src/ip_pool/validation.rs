// SPDX-License-Identifier: Apache-2.0
//! The rules that Calico's admission applies to a pool.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{ALL, AllowedUse, EncapsulationMode, IpPoolSpec, IpPoolStatus};
use crate::{
    field::{FieldError, parse_selector},
    key::Kind,
    prefix,
    resource::Spec,
};

/// Longest selector of a pool, in bytes.
const MAX_SELECTOR_LENGTH: usize = 1024;

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IpPool;
    type Status = IpPoolStatus;

    fn validate(&self) -> Result<(), FieldError> {
        cidr(self)?;
        block_size(self)?;
        encapsulation(self)?;
        selectors(self)?;
        uses(self)
    }
}

fn cidr(pool: &IpPoolSpec) -> Result<(), FieldError> {
    let cidr = &pool.cidr;
    if !prefix::is_canonical(cidr) {
        let remedy = format!("write {}", cidr.trunc());
        return Err(FieldError::new(
            "cidr",
            cidr.to_string(),
            "has bits set behind its prefix length",
            remedy,
        ));
    }
    let link_local = match cidr {
        IpNet::V4(_) => Ipv4Net::new_assert([169, 254, 0, 0].into(), 16).into(),
        IpNet::V6(_) => Ipv6Net::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 10).into(),
    };
    if prefix::overlaps(cidr, &link_local) {
        let problem = format!("overlaps the link-local range {link_local}");
        return Err(FieldError::new(
            "cidr",
            cidr.to_string(),
            problem,
            "choose another range",
        ));
    }
    Ok(())
}

fn block_size(pool: &IpPoolSpec) -> Result<(), FieldError> {
    let size = pool.effective_block_size();
    let (smallest, largest) = match pool.cidr {
        IpNet::V4(_) => (20, 32),
        IpNet::V6(_) => (116, 128),
    };
    let fail = |problem: String, remedy: String| {
        Err(FieldError::new("blockSize", size.to_string(), problem, remedy))
    };
    if !(smallest..=largest).contains(&size) {
        return fail(
            format!("is out of range for {}", pool.cidr),
            format!("use {smallest} to {largest}"),
        );
    }
    let pool_length = pool.cidr.prefix_len();
    if pool_length > size && !pool.disabled {
        return fail(
            format!("makes blocks larger than the pool {}", pool.cidr),
            format!("use {pool_length} to {largest}, or a larger pool"),
        );
    }
    Ok(())
}

fn encapsulation(pool: &IpPoolSpec) -> Result<(), FieldError> {
    let on = |mode: EncapsulationMode| mode != EncapsulationMode::Never;
    let fail = |problem: &str, remedy: &str| {
        Err(FieldError::new(
            "ipipMode",
            pool.ipip_mode.word(),
            problem,
            remedy,
        ))
    };
    if on(pool.ipip_mode) && matches!(pool.cidr, IpNet::V6(_)) {
        return fail(
            "is not possible for an IPv6 pool",
            "use ipipMode Never, and vxlanMode if needed",
        );
    }
    if on(pool.ipip_mode) && on(pool.vxlan_mode) {
        return fail("excludes vxlanMode", "set one of ipipMode and vxlanMode to Never");
    }
    Ok(())
}

fn selectors(pool: &IpPoolSpec) -> Result<(), FieldError> {
    for (field, selector) in [
        ("nodeSelector", &pool.node_selector),
        ("namespaceSelector", &pool.namespace_selector),
    ] {
        if selector.len() > MAX_SELECTOR_LENGTH {
            let problem = format!("is longer than {MAX_SELECTOR_LENGTH} bytes");
            return Err(FieldError::new(
                field,
                selector,
                problem,
                "write a shorter selector",
            ));
        }
        if selector.contains("global(") {
            return Err(FieldError::new(field, selector, "uses global()", "use all()"));
        }
        parse_selector(field, selector)?;
    }
    if !pool.namespace_selector.is_empty() && pool.allows(AllowedUse::Tunnel) {
        return Err(FieldError::new(
            "namespaceSelector",
            &pool.namespace_selector,
            "cannot choose who uses tunnel addresses",
            "set allowedUses to [Workload]",
        ));
    }
    Ok(())
}

fn uses(pool: &IpPoolSpec) -> Result<(), FieldError> {
    if !pool.allows(AllowedUse::LoadBalancer) {
        return Ok(());
    }
    let fail = |field: &str, value: String, remedy: &str| {
        Err(FieldError::new(
            field,
            value,
            "is not possible for a LoadBalancer pool",
            remedy,
        ))
    };
    if let Some(other) = pool
        .allowed_uses
        .iter()
        .find(|other| **other != AllowedUse::LoadBalancer)
    {
        return fail(
            "allowedUses",
            other.to_string(),
            "make a pool of its own for LoadBalancer",
        );
    }
    for (field, mode) in [("ipipMode", pool.ipip_mode), ("vxlanMode", pool.vxlan_mode)] {
        if mode != EncapsulationMode::Never {
            return fail(field, mode.to_string(), "use Never");
        }
    }
    if pool.disable_bgp_export {
        return fail("disableBGPExport", "true".to_owned(), "remove the field");
    }
    if !pool.node_selector.is_empty() && pool.node_selector != ALL {
        return fail("nodeSelector", pool.node_selector.clone(), "use all()");
    }
    Ok(())
}
