// SPDX-License-Identifier: Apache-2.0
//! Comparing an interface with its plan, on both sides: what CHECK reports, and what a repeated ADD decides by.

use cni_plugin::Error;
use kernel::{Family, MacAddress, Namespace, Netlink, RouteFilter, sysctl};
use model::prefix;

use calico_ipam::error;

use crate::{
    further_interface, ipv6,
    plan::{HOST_MAC, Plan},
};

/// What a look at one side found missing or different; empty when all is well.
pub(crate) type Findings = Vec<String>;

/// What is asked of the container's neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbours {
    /// The permanent ones are there.
    Needed,
    /// None is wrong.
    IfAny,
}

/// Whether an interface is as ADD made it: the container side's MAC address if it is, `None` if anything is amiss.
pub(crate) fn intact(
    plan: &Plan<'_>,
    mac_known: bool,
    namespace: &Namespace,
    host: &mut Netlink,
) -> Result<Option<MacAddress>, Error> {
    let failed = |problem: kernel::Error| error::kernel(&problem);
    if !host_side(plan, host).map_err(failed)?.is_empty() {
        return Ok(None);
    }
    let expected = mac_known.then_some(plan.mac);
    let inside = namespace
        .visit(|| container_side(plan, expected, Neighbours::Needed))
        .and_then(|result| result);
    let (mac, findings) = inside.map_err(failed)?;
    Ok(mac.filter(|_| findings.is_empty()))
}

/// Looks at the host's side.
pub(crate) fn host_side(plan: &Plan<'_>, host: &mut Netlink) -> kernel::Result<Findings> {
    let name = plan.host_interface;
    let Some(link) = host.link_by_name(name)? else {
        return Ok(vec![format!("host interface {name} is missing")]);
    };
    let mut findings = Findings::new();
    let mut expect = |holds: bool, finding: String| {
        if !holds {
            findings.push(finding);
        }
    };
    expect(
        matches!(link.kind.as_deref(), Some("veth" | "netkit")),
        format!("{name} is no veth"),
    );
    expect(link.is_up(), format!("{name} is down"));
    expect(
        link.mac == Some(HOST_MAC),
        format!(
            "{name} has MAC {:?}, not {HOST_MAC}",
            link.mac.map(|mac| mac.to_string())
        ),
    );
    if let Some(mtu) = plan.mtu {
        expect(link.mtu == mtu, format!("{name} has MTU {}, not {mtu}", link.mtu));
    }
    if plan.alias.is_some() {
        expect(
            link.alias == plan.alias,
            format!("{name} has alias {:?}, not {:?}", link.alias, plan.alias),
        );
    }
    for (conf, value) in plan.host_ipv4_conf() {
        let path = format!("net/ipv4/conf/{name}/{conf}");
        let found = sysctl::read(&path)?;
        expect(
            found == value.to_string(),
            format!("sysctl {path} is {found}, not {value}"),
        );
    }
    if plan.has_v6() {
        for (setting, value) in [("disable_ipv6", "0"), ("proxy_ndp", "1"), ("accept_ra", "0")] {
            let path = format!("net/ipv6/conf/{name}/{setting}");
            let found = sysctl::read(&path)?;
            expect(found == value, format!("sysctl {path} is {found}, not {value}"));
        }
        let off = ipv6::not_forwarding(name)?;
        expect(
            off.is_none(),
            format!("sysctl {} is not 1", off.unwrap_or_default()),
        );
    }
    for address in &plan.addresses {
        let route = host.route_lookup(*address)?;
        let exact = route.as_ref().is_some_and(|route| {
            route.interface == Some(link.index) && route.destination == prefix::host_prefix(*address)
        });
        let found = route.map_or_else(|| "nowhere".to_owned(), |route| route.to_string());
        expect(
            exact,
            format!("the host's route to {address} is not through {name} but: {found}"),
        );
    }
    Ok(findings)
}

/// Looks at the container's side, in its namespace; also returns the MAC address found.
pub(crate) fn container_side(
    plan: &Plan<'_>,
    mac: Option<MacAddress>,
    neighbours: Neighbours,
) -> kernel::Result<(Option<MacAddress>, Findings)> {
    let mut socket = Netlink::open()?;
    let name = plan.interface;
    let Some(link) = socket.link_by_name(name)? else {
        return Ok((
            None,
            vec![format!("interface {name} is missing from the container")],
        ));
    };
    let mut findings = Findings::new();
    let mut expect = |holds: bool, finding: String| {
        if !holds {
            findings.push(finding);
        }
    };
    expect(link.is_up(), format!("{name} in the container is down"));
    if let Some(mac) = mac {
        expect(
            link.mac == Some(mac),
            format!(
                "{name} has MAC {:?}, not {mac}",
                link.mac.map(|mac| mac.to_string())
            ),
        );
    }
    let present = socket.addresses(Some(link.index))?;
    for address in &plan.addresses {
        let wanted = prefix::host_prefix(*address);
        expect(
            present.iter().any(|found| found.prefix == wanted),
            format!("{name} lacks address {wanted}"),
        );
    }
    let filter = RouteFilter {
        interface: Some(link.index),
        ..RouteFilter::default()
    };
    let present = socket.routes(filter)?;
    let mut rules = socket.source_rules(Family::Ipv4)?;
    if plan.has_v6() {
        rules.extend(socket.source_rules(Family::Ipv6)?);
    }
    for (route, found) in further_interface::expected_routes(plan, link.index, &present, &rules) {
        expect(found, format!("the container lacks its route {route}"));
    }
    if further_interface::is_one(plan, link.index, &present, &rules) {
        for rule in further_interface::rules(plan, link.index) {
            expect(
                rules.contains(&rule),
                format!(
                    "the container lacks its rule from {} lookup {}",
                    rule.source, rule.table
                ),
            );
        }
    }
    let present = socket.neighbours(Some(link.index))?;
    for gateway in plan.gateways() {
        let holds = |found: &kernel::Neighbour| {
            found.address == gateway && found.mac == Some(HOST_MAC) && found.is_permanent()
        };
        let is_absent = !present.iter().any(|found| found.address == gateway);
        expect(
            present.iter().any(holds) || neighbours == Neighbours::IfAny && is_absent,
            format!("the container lacks its permanent neighbour {gateway}"),
        );
    }
    let forwarding = if plan.allow_ip_forwarding { "1" } else { "0" };
    for (wanted, path) in [
        (plan.has_v4(), "net/ipv4/ip_forward"),
        (plan.has_v6(), "net/ipv6/conf/all/forwarding"),
    ] {
        if wanted {
            let found = sysctl::read(path)?;
            expect(
                found == forwarding,
                format!("sysctl {path} in the container is {found}, not {forwarding}"),
            );
        }
    }
    Ok((link.mac, findings))
}
