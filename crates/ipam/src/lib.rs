// SPDX-License-Identifier: Apache-2.0
//! IP address management as Calico does it, over any [`datastore::Store`].

mod adopt;
mod affinity;
mod allocation;
mod assign;
mod assign_specific;
mod block;
mod candidates;
mod clock;
mod engine;
mod error;
mod exclusion;
mod family;
mod handle;
mod host;
mod host_network;
mod locate;
mod lookup;
mod notice;
mod operation;
mod pool_selection;
mod release;
mod release_by_handle;
mod request;
mod reservation;
mod retry;
mod search;
mod tunnel;

pub use affinity::AffinityRelease;
pub use clock::Clock;
pub use engine::{Engine, ignore_notices};
pub use error::{AccessError, AdoptError, AffinityError, AssignError, AssignSpecificError, ErrorClass};
pub use family::Family;
pub use host::{AffinityReport, ClaimReport};
pub use host_network::{HostNetwork, HostNetworkError, NoHostNetwork, Occupied};
pub use notice::Notice;
pub use release_by_handle::HandleSearch;
pub use request::{
    AdoptOutcome, AdoptRequest, Adopted, Allocation, AssignCompanions, AssignRequest, Assigned, Assignment,
    PoolReference, ReleaseCompanions, ReleaseOption, ReleaseRefusal, ReleaseReport, ShortReason, Shortfall,
    SpecificRequest,
};
pub use tunnel::{TunnelOutcome, TunnelRequest, pool_wants_tunnel};
