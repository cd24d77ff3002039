// SPDX-License-Identifier: Apache-2.0
//! IP address management as Calico does it, over any [`datastore::Store`]: the engine behind the CNI plugins, the
//! agent and the command line. It writes the same objects in the same order, so Calico nodes may share the store.
//!
//! Start at [`Engine`], then [`Engine::auto_assign`]. The objects are blocks (the truth: which address is whose),
//! affinities (whose block it is) and handles (an index from a container to its blocks).
//!
//! | file | decides |
//! |---|---|
//! | `assign`, `assign_specific`, `adopt` | one kind of request each, over all its attempts |
//! | `release`, `release_by_handle` | what is freed, under which conditions |
//! | `host`, `stock`, `tunnel`, `lookup` | operations on many affinities, a node's stock of blocks, tunnel addresses, reading back |
//! | `search`, `search/new_block` | which block the next address comes from; claiming, taking over, borrowing |
//! | `pool_selection`, `candidates`, `reservation`, `exclusion`, `locate` | pools, the order of their blocks, what not to use |
//! | `allocation` | the way of a plan into the store, lost replies included |
//! | `affinity` | claiming and releasing one block; every repair |
//! | `block`, `handle`, `freeing` | arithmetic on one object |
//! | `operation`, `retry` | reading, committing, journalling; the compare-and-swap loop |
//!
//! # Safety
//! Nothing is kept between calls, and every change is a compare-and-swap. A batch is one transaction where the store
//! has them; elsewhere it is written in an order that is safe when cut off anywhere: a handle counts too much rather
//! than too little, an affinity is pending rather than wrong. Callers need no lock. On one host they may take one all
//! the same, so that a burst of containers queues up instead of retrying.
//!
//! # Not copied from Calico
//! - A conflict never leaves a handle counting too much: what was counted is carried over to the next attempt, and a
//!   handle counts what was obtained, not what was wanted.
//! - A lost race for the block of a given address is tried again instead of failing the request.
//! - The implicit limit of 20 blocks ends claiming, not borrowing. An explicit limit is as hard as Calico's.
//! - An affinity whose block is gone can be released; a handle that counts nothing any more goes with its release.
//! - An address whose handle was lost is found by [`HandleSearch::Thorough`].
//! - No block is created that overlaps one of another size, a network of this host, or a node.
//! - The last address of a load balancer block takes the block with it; a tunnel address that cools down is replaced.
//! - Compare-and-swap loops back off ([`Clock::back_off`]); after a failed attempt everything is read again.

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
mod freeing;
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
mod stock;
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
pub use stock::{ClaimAhead, Stock, StockBlock};
pub use tunnel::{TunnelOutcome, TunnelRequest, pool_wants_tunnel};
