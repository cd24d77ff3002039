// SPDX-License-Identifier: Apache-2.0
//! How the daemon is configured. A setting comes from the first of these that has a usable value for it: the
//! environment, the configuration file, the FelixConfiguration or BGPConfiguration of the node, that of the node's
//! labels, that of all nodes (`default`), and the default of the setting. What stands behind the value that counts is
//! not judged. [`resolve`] is pure: whoever watches the
//! sources calls it again, and [`Configuration::changes_since`] tells what is different.
//!
//! - [`registry`]: every setting, in one table, and [`Configuration`], their values with their origins.
//! - [`form`], [`network_form`], [`words`]: how values are written.
//! - [`sources`], [`file`](mod@file): where they are looked for. [`origin`]: where one was found, and what is said of others.
//! - [`inert`]: what Calico's users may write and this version does not act on.
//! - [`documentation`]: the tables of `docs/`, which a test compares.

#[macro_use]
mod setting;

pub mod documentation;
pub mod file;
pub mod form;
pub mod inert;
pub mod network_form;
pub mod origin;
pub mod registry;
mod resolver;
pub mod sources;
mod strangers;
#[cfg(test)]
mod tests;
pub mod words;

use ipnet::IpNet;
use model::{cluster_routes::ProgramClusterRoutes, community::Community};

use self::{form::Form as _, network_form::Communities, resolver::Resolver};
pub use self::{
    origin::{Origin, Problem, Sourced, Warning},
    registry::{Changed, Configuration, Row},
    setting::{Names, Setting, felix_variable},
    sources::{Object, Sources, Variables},
};

/// What the sources come to.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Every setting.
    pub configuration: Configuration,
    /// What has been written and does not have the effect that was meant, except variables with bad values.
    pub warnings: Vec<Warning>,
    /// Variables with values that cannot be used: reasons not to start. The next source counts all the same.
    pub environment_errors: Vec<Warning>,
}

/// Finds the value of every setting.
pub fn resolve(sources: &Sources) -> Resolution {
    let mut resolver = Resolver::new(sources);
    let mut configuration = Configuration::take(&mut resolver);
    let Resolver {
        mut warnings,
        environment_errors,
        ..
    } = resolver;
    add_names(&mut configuration, sources);
    warnings.extend(configuration.unknown_communities());
    warnings.extend(strangers::warnings(sources));
    Resolution {
        configuration,
        warnings,
        environment_errors,
    }
}

/// Names of communities in objects that count less remain known: a node's own prefixAdvertisements use those of all.
fn add_names(configuration: &mut Configuration, sources: &Sources) {
    let names = &mut configuration.communities.value;
    let others = sources.bgp.iter().filter_map(|object| object.get("communities"));
    for community in others.filter_map(Communities::read_json).flatten() {
        if !names.iter().any(|known| known.name == community.name) {
            names.push(community);
        }
    }
}

impl Configuration {
    /// The prefixes with communities, names resolved. What is neither name nor value is left out.
    pub fn announced_communities(&self) -> Vec<(IpNet, Vec<Community>)> {
        let advertisements = self.prefix_advertisements.iter();
        advertisements
            .map(|advertisement| {
                let texts = advertisement.communities.iter();
                (
                    advertisement.cidr,
                    texts.filter_map(|text| self.community(text)).collect(),
                )
            })
            .collect()
    }

    fn community(&self, text: &str) -> Option<Community> {
        let named = self.communities.iter().find(|community| community.name == text);
        named
            .map(|community| community.value)
            .or_else(|| text.parse().ok())
    }

    fn unknown_communities(&self) -> impl Iterator<Item = Warning> {
        let texts = self
            .prefix_advertisements
            .iter()
            .flat_map(|advertisement| &advertisement.communities);
        let unknown = texts.filter(|text| self.community(text).is_none());
        unknown.map(|text| Warning {
            origin: self.prefix_advertisements.origin.clone(),
            field: "prefixAdvertisements".to_owned(),
            problem: Problem::UnknownCommunity(origin::quoted(text)),
        })
    }

    /// Whether routes of pools with IP in IP are programmed: Calico's two daemons are one here, so either may ask.
    pub fn programs_ipip(&self) -> bool {
        self.program(ProgramClusterRoutes::EnabledIpipOnly)
    }

    /// Whether routes of pools without encapsulation are programmed.
    pub fn programs_unencapsulated(&self) -> bool {
        self.program(ProgramClusterRoutes::EnabledNoEncapOnly)
    }

    fn program(&self, class: ProgramClusterRoutes) -> bool {
        [*self.program_cluster_routes, *self.bgp_program_cluster_routes]
            .iter()
            .any(|setting| *setting == class || *setting == ProgramClusterRoutes::Enabled)
    }

    /// Metric of IPv4 routes in the kernel.
    pub fn ipv4_metric(&self) -> u32 {
        self.ipv4_route_priority.unwrap_or(0)
    }

    /// Metric of IPv6 routes in the kernel, which would make 1024 of 0.
    pub fn ipv6_metric(&self) -> u32 {
        self.ipv6_route_priority.unwrap_or(NORMAL_PRIORITY)
    }

    /// What routes of a family have as priority in BGP, where LOCAL_PREF is 2^31 - 1 less it.
    pub fn bgp_priority(&self, ipv6: bool) -> u32 {
        let set = if ipv6 {
            *self.ipv6_route_priority
        } else {
            *self.ipv4_route_priority
        };
        set.unwrap_or(NORMAL_PRIORITY)
    }
}

/// Calico's priority of routes that nobody has given one.
const NORMAL_PRIORITY: u32 = 1024;

impl Default for Configuration {
    /// What holds where nobody has said anything.
    fn default() -> Self {
        resolve(&Sources::default()).configuration
    }
}
