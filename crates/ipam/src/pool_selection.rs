// SPDX-License-Identifier: Apache-2.0
//! Which pools a request may use, by Calico's rules.
//!
//! - Pools that were asked for, by name or prefix: each must exist and be enabled; selectors and `assignmentMode`
//!   are then ignored.
//! - Otherwise: enabled pools of mode Automatic whose nodeSelector selects the node and whose namespaceSelector
//!   selects the namespace (no namespace counts as one without labels), in name order.
//! - In both cases only pools that allow the use remain.
//!
//! A selector that cannot be read is an error, never "no match".

use std::collections::BTreeMap;

use model::{
    FieldError, IpPool, Node,
    ip_pool::{AllowedUse, AssignmentMode},
};

use crate::{
    error::AssignError,
    family::Family,
    operation::Operation,
    request::{AssignRequest, PoolReference},
};

/// The pools a request may use in one version, in order of preference; never empty.
pub(crate) fn eligible_pools<'o>(
    operation: &'o Operation<'_>,
    request: &AssignRequest,
    node: Option<&Node>,
    family: Family,
) -> Result<Vec<&'o IpPool>, AssignError> {
    let enabled = operation
        .pools()?
        .iter()
        .filter(|pool| pool.enabled() && Family::of(&pool.spec.cidr) == family);
    let references = request.pools(family);
    let pools = if references.is_empty() {
        automatic(enabled, request, node)?
    } else {
        requested(&enabled.collect::<Vec<_>>(), references, family)?
    };
    if pools.is_empty() {
        return Err(AssignError::NoPools {
            node: request.node.clone(),
            family,
        });
    }
    let qualified: Vec<&IpPool> = pools
        .iter()
        .filter(|pool| pool.spec.allows(request.intended_use))
        .copied()
        .collect();
    if qualified.is_empty() {
        return Err(AssignError::NoQualifiedPool {
            intended_use: use_name(request.intended_use),
            family,
            pools: names(&pools),
        });
    }
    Ok(qualified)
}

fn requested<'o>(
    enabled: &[&'o IpPool],
    references: &[PoolReference],
    family: Family,
) -> Result<Vec<&'o IpPool>, AssignError> {
    let mut pools: Vec<&IpPool> = Vec::new();
    for reference in references {
        let is_meant = |pool: &&&IpPool| match reference {
            PoolReference::Name(name) => pool.metadata.name == *name,
            PoolReference::Cidr(cidr) => pool.spec.cidr == cidr.trunc(),
        };
        let pool = enabled
            .iter()
            .find(is_meant)
            .ok_or_else(|| AssignError::RequestedPool {
                pool: reference.clone(),
                family,
            })?;
        if !pools
            .iter()
            .any(|known| known.metadata.name == pool.metadata.name)
        {
            pools.push(pool);
        }
    }
    Ok(pools)
}

fn automatic<'o>(
    enabled: impl Iterator<Item = &'o IpPool>,
    request: &AssignRequest,
    node: Option<&Node>,
) -> Result<Vec<&'o IpPool>, AssignError> {
    let none = BTreeMap::new();
    let namespace = request.namespace_labels.as_ref().unwrap_or(&none);
    let mut pools = Vec::new();
    for pool in enabled.filter(|pool| pool.spec.assignment_mode == AssignmentMode::Automatic) {
        if node.map_or(Ok(true), |node| selects_node(pool, node))?
            && readable(pool, pool.spec.selects_namespace(namespace))?
        {
            pools.push(pool);
        }
    }
    Ok(pools)
}

/// Whether a pool's nodeSelector selects a node.
pub(crate) fn selects_node(pool: &IpPool, node: &Node) -> Result<bool, AssignError> {
    readable(pool, pool.spec.selects_node(&node.metadata.labels))
}

fn readable(pool: &IpPool, selected: Result<bool, FieldError>) -> Result<bool, AssignError> {
    selected.map_err(|defect| AssignError::Selector {
        pool: pool.metadata.name.clone(),
        defect,
    })
}

/// The names of pools, for an error text.
pub(crate) fn names(pools: &[&IpPool]) -> String {
    let names: Vec<&str> = pools.iter().map(|pool| pool.metadata.name.as_str()).collect();
    names.join(", ")
}

/// A use as `allowedUses` spells it.
pub(crate) fn use_name(allowed_use: AllowedUse) -> &'static str {
    match allowed_use {
        AllowedUse::Workload => "Workload",
        AllowedUse::Tunnel => "Tunnel",
        AllowedUse::LoadBalancer => "LoadBalancer",
    }
}
