// SPDX-License-Identifier: Apache-2.0
//! One line of the journal: when, what kind, what has become of which object, and why.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    net::IpAddr,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use model::Timestamp;
use serde::{Deserialize, Serialize};

/// Makes an enum whose variants have names for programs.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$inner])* $variant,)* }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|known| known.word() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|known| known.word()).collect();
                    format!("{text:?} is none of {}", known.join(", "))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// What a line is about.
    Kind {
        /// A BGP session.
        Session = "session",
        /// What BGP has selected for a prefix.
        Selection = "selection",
        /// A planned route.
        Route = "route",
        /// A planned tunnel device.
        Device = "device",
        /// The planned firewall.
        Firewall = "firewall",
        /// A far end of a tunnel.
        Encapsulation = "encapsulation",
        /// Something of ours that somebody has changed.
        Repair = "repair",
        /// A route that is wanted and cannot be.
        Refusal = "refusal",
        /// What the kernel refuses.
        Kernel = "kernel",
        /// The datastore.
        Store = "store",
        /// Addresses given out and given back, and blocks that upkeep has seen to.
        Addresses = "addresses",
        /// A setting.
        Configuration = "configuration",
        /// This node.
        Node = "node",
        /// The agent.
        Agent = "agent",
    }
}

words! {
    /// What has become of the object.
    Change {
        /// It is there now.
        Added = "added",
        /// It is another now.
        Changed = "changed",
        /// It is gone.
        Withdrawn = "withdrawn",
        /// A session is up.
        Up = "up",
        /// A session is down.
        Down = "down",
        /// A peer has sent everything.
        Complete = "complete",
        /// It did not work; also when the reason is another than before.
        Failed = "failed",
        /// What had failed works.
        Done = "done",
        /// It was put right.
        Repaired = "repaired",
        /// It is left to whoever keeps changing it, for a while.
        LeftAlone = "left-alone",
        /// It must not be.
        Refused = "refused",
        /// It may be after all, or is not wanted any more.
        Cleared = "cleared",
        /// Something else is to be known.
        Noted = "noted",
        /// Lines are missing here; `count` says how many.
        Lost = "lost",
    }
}

/// A peer as lines name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName {
    /// Its address.
    pub address: IpAddr,
    /// Its name, as the status has it.
    pub name: String,
}

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A prefix.
    Prefix(IpNet),
    /// Anything with a name.
    Name(Box<str>),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl From<&str> for Object {
    /// A prefix, also where the word `route` is before it and more comes after, or a name.
    fn from(text: &str) -> Self {
        let word = text.strip_prefix("route ").unwrap_or(text);
        let word = word.split(' ').next().unwrap_or(word);
        word.parse()
            .map_or_else(|_| Self::Name(text.into()), Self::Prefix)
    }
}

/// See the file's comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number; the journal gives it.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What it is about.
    pub kind: Kind,
    /// What has become of the object.
    pub change: Change,
    /// Of what.
    pub object: Object,
    /// The peer that it has to do with.
    pub peer: Option<Arc<PeerName>>,
    /// It stands for so many.
    pub count: u32,
    /// Why.
    pub cause: Arc<str>,
}

/// A line as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    sequence: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    change: Cow<'a, str>,
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    peer_name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(borrow)]
    cause: Cow<'a, str>,
}

impl Line {
    /// A line about what has just happened.
    pub fn new(kind: Kind, change: Change, object: Object, cause: Arc<str>) -> Self {
        Self {
            sequence: 0,
            time_ms: now_ms(),
            kind,
            change,
            object,
            peer: None,
            count: 1,
            cause,
        }
    }

    /// The same with a peer.
    #[must_use]
    pub fn of(mut self, peer: Option<Arc<PeerName>>) -> Self {
        self.peer = peer;
        self
    }

    /// As one line of JSON, with its end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let wire = Wire {
            sequence: self.sequence,
            time: time_text(self.time_ms).into(),
            kind: self.kind.word().into(),
            change: self.change.word().into(),
            object: self.object.to_string().into(),
            peer: self.peer.as_ref().map(|peer| peer.address),
            peer_name: self.peer.as_ref().map(|peer| peer.name.as_str().into()),
            count: (self.count != 1).then_some(self.count),
            cause: (&*self.cause).into(),
        };
        let before = out.len();
        if serde_json::to_writer(&mut *out, &wire).is_err() {
            // Writing into memory fails never.
            out.truncate(before);
            return;
        }
        out.push(b'\n');
    }

    /// Reads a line; `None` where it is not whole.
    pub(super) fn read_json(text: &[u8], names: &mut Names) -> Option<Self> {
        let wire: Wire<'_> = serde_json::from_slice(text).ok()?;
        let time: Timestamp = wire.time.parse().ok()?;
        let peer = wire.peer.map(|address| {
            names.peer(PeerName {
                address,
                name: wire.peer_name.unwrap_or_default().into_owned(),
            })
        });
        Some(Self {
            sequence: wire.sequence,
            time_ms: time.unix_nanos() / 1_000_000,
            kind: wire.kind.parse().ok()?,
            change: wire.change.parse().ok()?,
            object: wire
                .object
                .parse()
                .map_or_else(|_| Object::Name(wire.object.as_ref().into()), Object::Prefix),
            peer,
            count: wire.count.unwrap_or(1),
            cause: names.text(&wire.cause),
        })
    }
}

/// Texts and peers that many lines share.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: HashSet<Arc<str>>,
    peers: HashSet<Arc<PeerName>>,
}

impl Names {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let made: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&made));
        made
    }

    fn peer(&mut self, peer: PeerName) -> Arc<PeerName> {
        if let Some(known) = self.peers.get(&peer) {
            return Arc::clone(known);
        }
        let made = Arc::new(peer);
        self.peers.insert(Arc::clone(&made));
        made
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339, UTC, with milliseconds.
pub fn time_text(time_ms: u64) -> String {
    let whole = Timestamp::from(UNIX_EPOCH + Duration::from_millis(time_ms)).to_string();
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), time_ms % 1000)
}
