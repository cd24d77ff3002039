// SPDX-License-Identifier: Apache-2.0
//! What is announced to a peer and accepted from it, as policies of the BGP engine: Calico's export pipeline, in its order
//! (`docs/architecture.md`), and BGPFilters.
//!
//! Calico's steps that look at the device of a route have no counterpart: they keep routes out that BIRD has learned from
//! the kernel, and nothing is learned from the kernel here.

use std::sync::Arc;

use bgp::{
    Community as Standard, Family, LargeCommunity,
    policy::{Change, Condition, Glob, Policy, PrefixRange, Term, Verdict},
};
use ipnet::IpNet;
use model::{
    AffinityState, BgpFilter,
    bgp_filter::{BgpFilterRule, FilterAction, MatchOperator, PeerType, RouteSource},
    community::Community,
};

use crate::snapshot::Snapshot;

/// Classes of own routes.
pub mod class {
    /// A block of this node.
    pub const BLOCK: u32 = 1;
    /// A single address that lives here although its block is another node's.
    pub const BORROWED: u32 = 2;
    /// An address of a block that is being given up.
    pub const DRAINING: u32 = 3;
    /// A service's prefix or address.
    pub const SERVICE: u32 = 4;
}

/// What a priority is as LOCAL_PREF.
pub fn local_pref(priority: u32) -> u32 {
    i32::MAX.cast_unsigned().saturating_sub(priority)
}

/// What else exports depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// This node's name.
    pub node: String,
    /// Nothing is announced.
    pub disabled: bool,
    /// Peers of another AS are told own routes only.
    pub external_own_only: bool,
    /// Communities of the prefixes inside a prefix.
    pub communities: Vec<(IpNet, Vec<Community>)>,
    /// This node is a route reflector.
    pub reflector: bool,
    /// Prefixes of external and load balancer addresses: a reflector passes on what is inside.
    pub service_prefixes: Vec<IpNet>,
}

fn term(name: impl Into<String>, conditions: Vec<Condition>, verdict: Verdict) -> Term {
    Term {
        name: name.into(),
        conditions,
        changes: Vec::new(),
        verdict: Some(verdict),
    }
}

/// What is announced to peers that have these filters.
pub fn export(snapshot: &Snapshot, exports: &Exports, filters: &[String], family: Family) -> Policy {
    if exports.disabled {
        return Policy::REJECT;
    }
    let of_family = |prefix: &IpNet| Family::of(prefix) == family;
    let pools = snapshot.pools.values().filter(|pool| of_family(&pool.spec.cidr));
    let mut terms = filter_terms(snapshot, filters, family, true);
    let silent: Vec<PrefixRange> = pools
        .clone()
        .filter(|pool| pool.spec.disable_bgp_export)
        .map(|pool| PrefixRange::within(pool.spec.cidr))
        .collect();
    if !silent.is_empty() {
        terms.push(term(
            "pools with disableBGPExport",
            vec![Condition::PrefixIn(silent)],
            Verdict::Reject,
        ));
    }
    if exports.external_own_only {
        terms.push(term(
            "external peers are told own routes only",
            vec![Condition::External(true), Condition::Learned],
            Verdict::Reject,
        ));
    }
    for (prefix, communities) in exports.communities.iter().filter(|(prefix, _)| of_family(prefix)) {
        terms.push(Term {
            name: format!("communities of {prefix}"),
            conditions: vec![Condition::PrefixIn(vec![PrefixRange::within(*prefix)])],
            changes: communities.iter().map(add).collect(),
            verdict: None,
        });
    }
    let blocks = snapshot
        .blocks_of(&exports.node)
        .filter(|(block, state)| of_family(block) && *state == AffinityState::Confirmed);
    let blocks: Vec<IpNet> = blocks.map(|(block, _)| block).collect();
    if !blocks.is_empty() {
        let whole = blocks.iter().map(|block| PrefixRange::exactly(*block)).collect();
        terms.push(term(
            "own blocks",
            vec![Condition::PrefixIn(whole)],
            Verdict::Accept,
        ));
        let inside = blocks.iter().map(|block| PrefixRange {
            min: block.prefix_len() + 1,
            ..PrefixRange::within(*block)
        });
        terms.push(term(
            "inside own blocks",
            vec![Condition::PrefixIn(inside.collect())],
            Verdict::Reject,
        ));
    }
    terms.push(term(
        "services",
        vec![Condition::Class(vec![class::SERVICE])],
        Verdict::Accept,
    ));
    if exports.reflector && !exports.service_prefixes.is_empty() {
        let ranges = exports
            .service_prefixes
            .iter()
            .map(|prefix| PrefixRange::within(*prefix));
        terms.push(term(
            "services of others, by a reflector",
            vec![Condition::PrefixIn(ranges.collect())],
            Verdict::Accept,
        ));
    }
    let enabled: Vec<PrefixRange> = pools
        .filter(|pool| pool.enabled())
        .map(|pool| PrefixRange::within(pool.spec.cidr))
        .collect();
    if !enabled.is_empty() {
        terms.push(term(
            "enabled pools",
            vec![Condition::PrefixIn(enabled)],
            Verdict::Accept,
        ));
    }
    Policy {
        terms,
        otherwise: Verdict::Reject,
    }
}

/// What is accepted from peers that have these filters: everything that no filter rejects.
pub fn import(snapshot: &Snapshot, filters: &[String], family: Family) -> Policy {
    Policy {
        terms: filter_terms(snapshot, filters, family, false),
        otherwise: Verdict::Accept,
    }
}

/// The rules of filters, in order. A filter that does not exist has none, as in Calico.
fn filter_terms(snapshot: &Snapshot, filters: &[String], family: Family, export: bool) -> Vec<Term> {
    let known = filters.iter().filter_map(|name| snapshot.bgp_filters.get(name));
    let rules = known.flat_map(|filter: &Arc<BgpFilter>| {
        let spec = &filter.spec;
        let rules = match (export, family) {
            (true, Family::Ipv4) => &spec.export_v4,
            (false, Family::Ipv4) => &spec.import_v4,
            (true, Family::Ipv6) => &spec.export_v6,
            (false, Family::Ipv6) => &spec.import_v6,
        };
        let name = &filter.metadata.name;
        rules
            .iter()
            .enumerate()
            .map(move |(number, rule)| (name, number, rule))
    });
    rules
        .map(|(name, number, rule)| rule_term(format!("BGPFilter {name}, rule {}", number + 1), rule))
        .collect()
}

fn rule_term(name: String, rule: &BgpFilterRule) -> Term {
    let mut conditions = Vec::new();
    if let (Some(cidr), Some(operator)) = (rule.cidr, rule.match_operator) {
        let cidr = cidr.trunc();
        let longest = cidr.max_prefix_len();
        let bounds = rule.prefix_length.as_ref();
        let min = bounds
            .and_then(|bounds| bounds.min)
            .unwrap_or_default()
            .max(cidr.prefix_len());
        let max = bounds
            .and_then(|bounds| bounds.max)
            .unwrap_or(longest)
            .min(longest);
        let range = PrefixRange {
            prefix: cidr,
            min,
            max,
        };
        conditions.push(match operator {
            MatchOperator::Equal => Condition::PrefixIn(vec![PrefixRange::exactly(cidr)]),
            MatchOperator::NotEqual => Condition::PrefixNotIn(vec![PrefixRange::exactly(cidr)]),
            MatchOperator::In => Condition::PrefixIn(vec![range]),
            MatchOperator::NotIn => Condition::PrefixNotIn(vec![range]),
        });
    }
    if rule.source == Some(RouteSource::RemotePeers) {
        conditions.push(Condition::Learned);
    }
    if !rule.interface.is_empty() {
        conditions.push(Condition::Device(Glob(rule.interface.clone())));
    }
    if let Some(kind) = rule.peer_type {
        conditions.push(Condition::External(kind == PeerType::Ebgp));
    }
    for community in rule.communities.iter().flat_map(|wanted| &wanted.values) {
        conditions.push(match *community {
            Community::Standard(high, low) => Condition::Community(Standard::new(high, low)),
            Community::Large(administrator, first, second) => {
                Condition::LargeCommunity(LargeCommunity([administrator, first, second]))
            }
        });
    }
    if !rule.as_path_prefix.is_empty() {
        conditions.push(Condition::AsPathStart(
            rule.as_path_prefix.iter().map(|number| number.0).collect(),
        ));
    }
    if let Some(priority) = rule.priority {
        conditions.push(Condition::LocalPref(local_pref(priority)));
    }
    let changes = rule.operations.iter().flat_map(|operation| {
        let community = operation
            .add_community
            .as_ref()
            .map(|operation| add(&operation.value));
        let prepend = operation
            .prepend_as_path
            .as_ref()
            .map(|operation| Change::Prepend(operation.prefix.iter().map(|number| number.0).collect()));
        let priority = operation
            .set_priority
            .as_ref()
            .map(|operation| Change::SetLocalPref(local_pref(operation.value)));
        community.into_iter().chain(prepend).chain(priority)
    });
    Term {
        name,
        conditions,
        changes: changes.collect(),
        verdict: Some(match rule.action {
            FilterAction::Accept => Verdict::Accept,
            FilterAction::Reject => Verdict::Reject,
        }),
    }
}

fn add(community: &Community) -> Change {
    match *community {
        Community::Standard(high, low) => Change::AddCommunity(Standard::new(high, low)),
        Community::Large(administrator, first, second) => {
            Change::AddLargeCommunity(LargeCommunity([administrator, first, second]))
        }
    }
}

#[cfg(test)]
mod tests;
