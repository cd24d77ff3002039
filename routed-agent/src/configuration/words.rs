// SPDX-License-Identifier: Apache-2.0
//! Settings that are one of a few words.

use model::{
    Switch, bgp_configuration::BindMode, cluster_routes::ProgramClusterRoutes,
    felix_configuration::NatOutgoingExclusions,
};

use super::form::Words;

/// Where routes to containers of other nodes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteSource {
    /// Blocks of Calico's IPAM.
    CalicoIpam,
    /// Each container's own address, for other IPAM plugins.
    WorkloadIps,
}

impl Words for RouteSource {
    const ALL: &'static [(&'static str, Self)] = &[
        ("CalicoIPAM", Self::CalicoIpam),
        ("WorkloadIPs", Self::WorkloadIps),
    ];
}

/// What becomes of traffic to addresses of services that nobody has translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceLoopPrevention {
    /// It is dropped.
    #[default]
    Drop,
    /// Its sender is told that nobody is there.
    Reject,
    /// It is forwarded like any other, maybe to a router that sends it back.
    Disabled,
}

impl Words for ServiceLoopPrevention {
    const ALL: &'static [(&'static str, Self)] = &[
        ("Drop", Self::Drop),
        ("Reject", Self::Reject),
        ("Disabled", Self::Disabled),
    ];
}

/// What of the daemon's networking is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Routes by BGP, and encapsulation as pools say.
    Bird,
    /// No BGP: routes from the datastore.
    Vxlan,
    /// No addresses of the node, no BGP, no cluster routes.
    None,
}

impl Words for Backend {
    const ALL: &'static [(&'static str, Self)] =
        &[("bird", Self::Bird), ("vxlan", Self::Vxlan), ("none", Self::None)];
}

/// Which routes peers outside the AS are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalExport {
    /// This node's.
    Own,
    /// Also those learned from other nodes, as BIRD does in Calico.
    All,
}

impl Words for ExternalExport {
    const ALL: &'static [(&'static str, Self)] = &[("own", Self::Own), ("all", Self::All)];
}

/// How `CrossSubnet` tells whether another node is on the same subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSubnetTest {
    /// The node's address with its mask contains the other's, as in Calico.
    Mask,
    /// Any prefix that is on link counts.
    Onlink,
}

impl Words for CrossSubnetTest {
    const ALL: &'static [(&'static str, Self)] = &[("mask", Self::Mask), ("onlink", Self::Onlink)];
}

/// What a log holds: this and what is more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing.
    None,
    /// What ends the program.
    Fatal,
    /// Failures.
    Error,
    /// What an operator should look at.
    Warning,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl Words for Severity {
    const ALL: &'static [(&'static str, Self)] = &[
        ("None", Self::None),
        ("Fatal", Self::Fatal),
        ("Error", Self::Error),
        ("Warning", Self::Warning),
        ("Info", Self::Info),
        ("Debug", Self::Debug),
        ("Trace", Self::Trace),
    ];

    const SYNONYMS: &'static [(&'static str, Self)] = &[
        ("Warn", Self::Warning),
        ("Critical", Self::Fatal),
        ("Panic", Self::Fatal),
    ];
}

impl Words for NatOutgoingExclusions {
    const ALL: &'static [(&'static str, Self)] = &[
        ("IPPoolsOnly", Self::IpPoolsOnly),
        ("IPPoolsAndHostIPs", Self::IpPoolsAndHostIps),
    ];
}

impl Words for ProgramClusterRoutes {
    const ALL: &'static [(&'static str, Self)] = &[
        ("Enabled", Self::Enabled),
        ("Disabled", Self::Disabled),
        ("EnabledIPIPOnly", Self::EnabledIpipOnly),
        ("EnabledNoEncapOnly", Self::EnabledNoEncapOnly),
    ];
}

impl Words for BindMode {
    const ALL: &'static [(&'static str, Self)] = &[("None", Self::None), ("NodeIP", Self::NodeIp)];
}

impl Words for Switch {
    const ALL: &'static [(&'static str, Self)] = &[("Enabled", Self::Enabled), ("Disabled", Self::Disabled)];
}
