// SPDX-License-Identifier: Apache-2.0
//! Block affinities: a claim on a block, and how far along it is. Claimant and block are in the key; the value has
//! the state only. The Kubernetes form adds a type, a name and labels, computed here for that backend.

use ipnet::IpNet;
use sha3::{Digest, Sha3_256};

use crate::{
    base_encoding::base32,
    key::AffinityOwner,
    object::{EmptyIsDefault, Extra, LenientBool, UnknownWord},
};

json_text!(AffinityOwner);

/// How far a claim or its release has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AffinityState {
    /// The block is the claimant's. Also the meaning of an empty state, which old data has.
    #[default]
    Confirmed,
    /// The claimant is about to create the block.
    Pending,
    /// The claimant, or a collector, is about to release the block.
    PendingDeletion,
}

json_words!(AffinityState {
    "confirmed" => Confirmed,
    "pending" => Pending,
    "pendingDeletion" => PendingDeletion,
});

/// The value of a block affinity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockAffinity {
    /// How far along it is.
    pub state: AffinityState,
    /// Marked for deletion: the first half of deleting it in Kubernetes. Always false elsewhere.
    pub deleted: bool,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(BlockAffinity {
    "state" => state: always as EmptyIsDefault<AffinityState>,
    "deleted" => deleted: always as LenientBool,
});

impl BlockAffinity {
    /// An affinity in this state.
    pub fn new(state: AffinityState) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// Reads a stored value. An empty one, which old data has, is a confirmed affinity.
    pub fn from_stored(text: &str) -> Result<Self, serde_json::Error> {
        if text.trim().is_empty() {
            Ok(Self::default())
        } else {
            serde_json::from_str(text)
        }
    }
}

/// The claimant that a type and a name stand for; an empty type, which old data has, means `host`.
pub fn owner(affinity_type: &str, name: &str) -> Result<AffinityOwner, UnknownWord> {
    match affinity_type {
        "" | "host" => Ok(AffinityOwner::Host(name.to_owned())),
        "virtual" => Ok(AffinityOwner::Virtual(name.to_owned())),
        _ => Err(UnknownWord::new(affinity_type, &["host", "virtual"])),
    }
}

/// Label of a BlockAffinity in Kubernetes by which Calico lists those of one host.
pub const HOSTNAME_HASH_LABEL: &str = "projectcalico.org/hostname-hash";
/// Label with the affinity's type.
pub const AFFINITY_TYPE_LABEL: &str = "projectcalico.org/affinity-type";
/// Label with the block's IP version.
pub const IP_VERSION_LABEL: &str = "projectcalico.org/ip-version";

/// The labels that a BlockAffinity needs in Kubernetes: without them Calico's allocator does not see it.
pub fn labels(owner: &AffinityOwner, block: &IpNet) -> [(&'static str, String); 3] {
    let version = match block {
        IpNet::V4(_) => "4",
        IpNet::V6(_) => "6",
    };
    [
        (HOSTNAME_HASH_LABEL, hostname_hash(owner.name())),
        (AFFINITY_TYPE_LABEL, owner.type_name().to_owned()),
        (IP_VERSION_LABEL, version.to_owned()),
    ]
}

/// Base32 (RFC 4648, upper case, no padding) of the SHA3-256 of a node name: 52 characters that fit a label value
/// whatever the name's length.
pub fn hostname_hash(name: &str) -> String {
    base32(&Sha3_256::digest(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostname_hashes() {
        let vectors = [
            ("node-a", "PY3TQE2E3XMTETLM2MJO3UITKPFB27YUJ4T4E5XGPEJON3SM4QAA"),
            ("node1", "7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A"),
            (
                "load-balancer",
                "TAU2RK2F2FG7MIS72DPZYC6FJ3U3BIWIDZAMUTQY7ZXMSKQZ5GSQ",
            ),
        ];
        for (name, hash) in vectors {
            assert_eq!(hostname_hash(name), hash);
        }
    }

    #[test]
    fn labels_of_an_affinity() {
        let owner = AffinityOwner::Virtual("load-balancer".into());
        let found = labels(&owner, &"fd00::/122".parse().unwrap());
        assert_eq!(found[0], (HOSTNAME_HASH_LABEL, hostname_hash("load-balancer")));
        assert_eq!(found[1], (AFFINITY_TYPE_LABEL, "virtual".to_owned()));
        assert_eq!(found[2], (IP_VERSION_LABEL, "6".to_owned()));
    }

    #[test]
    fn types_of_owners() {
        assert_eq!(owner("", "n"), Ok(AffinityOwner::Host("n".into())));
        assert_eq!(owner("host", "n"), Ok(AffinityOwner::Host("n".into())));
        assert_eq!(owner("virtual", "n"), Ok(AffinityOwner::Virtual("n".into())));
        assert!(owner("guest", "n").is_err());
    }

    #[test]
    fn unknown_states_are_refused_by_name() {
        let error = BlockAffinity::from_stored(r#"{"state":"maybe"}"#)
            .expect_err("no such state")
            .to_string();
        assert!(
            error.contains(r#"state: "maybe" is not one of confirmed, pending, pendingDeletion"#),
            "{error}"
        );
    }
}
