// SPDX-License-Identifier: Apache-2.0
//! Who programs routes to other nodes' blocks: the field `programClusterRoutes`, which BGPConfiguration and
//! FelixConfiguration both have, one being the complement of the other.

/// Which cluster routes a component programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramClusterRoutes {
    /// All it can.
    Enabled,
    /// None.
    Disabled,
    /// Those of pools with IP in IP.
    EnabledIpipOnly,
    /// Those of pools without encapsulation.
    EnabledNoEncapOnly,
}

json_words!(ProgramClusterRoutes {
    "Enabled" => Enabled,
    "Disabled" => Disabled,
    "EnabledIPIPOnly" => EnabledIpipOnly,
    "EnabledNoEncapOnly" => EnabledNoEncapOnly,
});
