// SPDX-License-Identifier: Apache-2.0
//! BGPFilter: which routes are announced and accepted, rule by rule; the first that matches decides.

use ipnet::IpNet;

use crate::{
    as_number::AsNumber,
    community::Community,
    object::{EmptyIsNone, Extra},
    resource::Resource,
};

mod validation;

/// A BGP filter.
pub type BgpFilter = Resource<BgpFilterSpec>;

/// `spec` of a BGPFilter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BgpFilterSpec {
    /// For announced IPv4 routes.
    pub export_v4: Vec<BgpFilterRule>,
    /// For received IPv4 routes.
    pub import_v4: Vec<BgpFilterRule>,
    /// For announced IPv6 routes.
    pub export_v6: Vec<BgpFilterRule>,
    /// For received IPv6 routes.
    pub import_v6: Vec<BgpFilterRule>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(BgpFilterSpec {
    "exportV4" => export_v4: unless_default,
    "importV4" => import_v4: unless_default,
    "exportV6" => export_v6: unless_default,
    "importV6" => import_v6: unless_default,
});

/// One rule: what it matches, and what happens then. Members that are absent match everything.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpFilterRule {
    /// What happens.
    pub action: FilterAction,
    /// Compared with the route's prefix by `match_operator`.
    pub cidr: Option<IpNet>,
    /// How.
    pub match_operator: Option<MatchOperator>,
    /// Bounds of the route's prefix length; needs `cidr`.
    pub prefix_length: Option<PrefixLengthRange>,
    /// Where the route comes from.
    pub source: Option<RouteSource>,
    /// The route's interface; a glob.
    pub interface: String,
    /// The kind of session.
    pub peer_type: Option<PeerType>,
    /// A community the route has.
    pub communities: Option<CommunityMatch>,
    /// What the AS path starts with.
    pub as_path_prefix: Vec<AsNumber>,
    /// The route's priority.
    pub priority: Option<u32>,
    /// Changes to accepted routes.
    pub operations: Vec<FilterOperation>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(BgpFilterRule {
    "action" => action: required,
    "cidr" => cidr: unless_default as EmptyIsNone<IpNet>,
    "matchOperator" => match_operator: unless_default as EmptyIsNone<MatchOperator>,
    "prefixLength" => prefix_length: unless_default,
    "source" => source: unless_default as EmptyIsNone<RouteSource>,
    "interface" => interface: unless_default,
    "peerType" => peer_type: unless_default as EmptyIsNone<PeerType>,
    "communities" => communities: unless_default,
    "asPathPrefix" => as_path_prefix: unless_default,
    "priority" => priority: unless_default,
    "operations" => operations: unless_default,
});

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterAction {
    /// The route passes.
    Accept,
    /// It does not.
    Reject,
}

json_words!(FilterAction { "Accept" => Accept, "Reject" => Reject });

/// How a route's prefix is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOperator {
    /// The same prefix.
    Equal,
    /// Another prefix.
    NotEqual,
    /// The same or more specific.
    In,
    /// Neither.
    NotIn,
}

json_words!(MatchOperator { "Equal" => Equal, "NotEqual" => NotEqual, "In" => In, "NotIn" => NotIn });

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// Another BGP speaker.
    RemotePeers,
}

json_words!(RouteSource { "RemotePeers" => RemotePeers });

/// The kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerType {
    /// To another AS.
    Ebgp,
    /// Inside the AS.
    Ibgp,
}

json_words!(PeerType { "eBGP" => Ebgp, "iBGP" => Ibgp });

/// Bounds of a prefix length, both inclusive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrefixLengthRange {
    /// Shortest; `None` means that of `cidr`.
    pub min: Option<u8>,
    /// Longest; `None` means the family's.
    pub max: Option<u8>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(PrefixLengthRange { "min" => min: unless_default, "max" => max: unless_default });

/// Communities to look for; Calico accepts one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommunityMatch {
    /// The values.
    pub values: Vec<Community>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(CommunityMatch { "values" => values: always });

/// One change to a route; exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterOperation {
    /// Adds a community.
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers in front of the path.
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the priority.
    pub set_priority: Option<SetPriority>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(FilterOperation {
    "addCommunity" => add_community: unless_default,
    "prependASPath" => prepend_as_path: unless_default,
    "setPriority" => set_priority: unless_default,
});

/// Adds a community.
#[derive(Clone, Debug, PartialEq)]
pub struct AddCommunity {
    /// Which.
    pub value: Community,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(AddCommunity { "value" => value: required });

/// Puts AS numbers in front of the path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrependAsPath {
    /// One to ten, the first becomes the path's first.
    pub prefix: Vec<AsNumber>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(PrependAsPath { "prefix" => prefix: always });

/// Sets the priority.
#[derive(Clone, Debug, PartialEq)]
pub struct SetPriority {
    /// To this.
    pub value: u32,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(SetPriority { "value" => value: required });
