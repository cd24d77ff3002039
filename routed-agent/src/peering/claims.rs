// SPDX-License-Identifier: Apache-2.0
//! Who gets an address, if several rules make a peer of it: the first that asks.

use std::{collections::BTreeMap, net::IpAddr};

use super::peer::Peer;

/// Peers by address and port. Two ports of one address are two peers, as in Calico.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<(IpAddr, u16), Claim>);

#[derive(Debug)]
struct Claim {
    peer: Peer,
    /// The objects behind it, for example `BGPPeer a`: the one that made it, then those that came too late.
    sources: Vec<String>,
}

impl Claims {
    /// Adds a peer that `source` asks for, unless its address and port are taken.
    pub(super) fn add(&mut self, source: &str, peer: Peer) {
        let key = (peer.address, peer.port);
        match self.0.get_mut(&key) {
            None => {
                let sources = vec![source.to_owned()];
                self.0.insert(key, Claim { peer, sources });
            }
            // A BGPPeer that selects both ends of a session asks for it twice; that is no news.
            Some(claim) if claim.sources.iter().any(|known| known == source) => {}
            Some(claim) => claim.sources.push(source.to_owned()),
        }
    }

    /// All peers, by kind, address and port, each with a word on who else asked for it.
    pub(super) fn into_peers(self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self.0.into_values().map(Claim::into_peer).collect();
        peers.sort_by_key(|peer| (peer.kind, peer.address, peer.port));
        peers
    }
}

impl Claim {
    fn into_peer(self) -> Peer {
        let mut peer = self.peer;
        for source in &self.sources[1..] {
            peer.reason.push_str("; also asked for by ");
            peer.reason.push_str(source);
        }
        peer
    }
}
