// SPDX-License-Identifier: Apache-2.0
//! Routes of a container's second and further interfaces, each on a network of its own. All our interfaces have the same
//! next hop, so the first one has the routes of the main table, and answers to packets for a further one's address would
//! leave by the first, where the host's `rp_filter` drops them.
//!
//! A further interface therefore has its routes twice: in a table of its own that packets from its address look in, and
//! in the main table behind those of the first, whose place they take when the first goes. A rule that outlives its
//! interface leads to an empty table and does nothing; the next interface with that address replaces it.

use kernel::{Batch, Family, Netlink, Request, Route, SourceRule};
use model::prefix;

use crate::plan::Plan;

/// Tables are numbered from here by interface index; people and distributions number theirs lower.
const FIRST_TABLE: u32 = 0x0ca1_0000;
/// Metrics in the main table likewise; above the kernel's default for IPv6.
const FIRST_METRIC: u32 = 2048;
/// Before the main table (32766), behind what people set by hand without a number.
const PRIORITY: u32 = 32700;

/// Sets the routes of a further interface; runs in the container's namespace.
pub(crate) fn set_routes(plan: &Plan<'_>, index: u32, socket: &mut Netlink) -> kernel::Result<()> {
    let table = FIRST_TABLE + index;
    let mut batch = Batch::new();
    for route in plan.container_routes(index) {
        let own = Route {
            table,
            ..route.clone()
        };
        let behind = Route {
            priority: Some(FIRST_METRIC + index),
            ..route
        };
        batch.push(Request::replace_route(&own));
        batch.push(Request::replace_route(&behind));
    }
    let stale = socket.source_rules(Family::Ipv4)?.into_iter();
    let stale = stale.chain(socket.source_rules(Family::Ipv6).or_else(none_without_ipv6)?);
    for rule in stale.filter(|rule| is_ours(plan, rule)) {
        batch.push(Request::delete_rule(&rule));
    }
    for rule in rules(plan, index) {
        batch.push(Request::add_rule(&rule));
    }
    socket.apply(batch)
}

/// The rules of a further interface.
pub(crate) fn rules(plan: &Plan<'_>, index: u32) -> impl Iterator<Item = SourceRule> {
    plan.addresses.iter().map(move |address| SourceRule {
        source: prefix::host_prefix(*address),
        table: FIRST_TABLE + index,
        priority: PRIORITY,
    })
}

/// Whether the interface with this index is a further one, by whatever is left of its routes and rules.
pub(crate) fn is_one(plan: &Plan<'_>, index: u32, present: &[Route], rules: &[SourceRule]) -> bool {
    let has_rule = rules
        .iter()
        .any(|rule| is_ours(plan, rule) && rule.table == FIRST_TABLE + index);
    let is_its =
        |route: &Route| route.table == FIRST_TABLE + index || route.priority == Some(FIRST_METRIC + index);
    has_rule || present.iter().any(is_its)
}

/// The routes that the container is to have through the interface, each with whether it has it: where packets from its
/// addresses look, and for a further interface also behind those of the first.
pub(crate) fn expected_routes(
    plan: &Plan<'_>,
    index: u32,
    present: &[Route],
    rules: &[SourceRule],
) -> Vec<(Route, bool)> {
    let same = |found: &Route, wanted: &Route| {
        found.destination == wanted.destination && found.gateway == wanted.gateway
    };
    let is_further = is_one(plan, index, present, rules);
    let in_table = |wanted: &Route, table: u32| {
        present
            .iter()
            .any(|found| same(found, wanted) && found.table == table)
    };
    // Other plugins may have moved routes to a table of the address' own.
    let of_own_rule = |wanted: &Route| {
        let from_us = |rule: &&SourceRule| {
            plan.addresses.contains(&rule.source.addr())
                && rule.source.addr().is_ipv4() == wanted.destination.addr().is_ipv4()
        };
        rules
            .iter()
            .filter(from_us)
            .any(|rule| in_table(wanted, rule.table))
    };
    let wanted = plan.container_routes(index).into_iter();
    wanted
        .map(|route| {
            let found = if is_further {
                in_table(&route, FIRST_TABLE + index) && in_table(&route, route.table)
            } else {
                in_table(&route, route.table) || of_own_rule(&route)
            };
            (route, found)
        })
        .collect()
}

fn is_ours(plan: &Plan<'_>, rule: &SourceRule) -> bool {
    rule.priority == PRIORITY && plan.addresses.contains(&rule.source.addr())
}

fn none_without_ipv6(error: kernel::Error) -> kernel::Result<Vec<SourceRule>> {
    if error.is_unsupported() {
        Ok(Vec::new())
    } else {
        Err(error)
    }
}
