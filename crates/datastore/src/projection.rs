// SPDX-License-Identifier: Apache-2.0
//! The two facts of a block that a [`Hint`] can ask for, read from its JSON in one pass without decoding the rest.
//!
//! Called by the backends that apply hints, at each write of a block. Member names match whatever their case and the
//! last of several wins, as everywhere in Calico's data. A value that is not a block projects to "no affinity, no
//! room": hinted lists omit it, and whoever reads it by its key gets the decode error.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::store::Hint;

/// What hinted lists need to know of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Projection {
    /// The `affinity` text, for example `host:node1`.
    pub(crate) affinity: Option<String>,
    /// How many ordinals `unallocated` has.
    pub(crate) room: u32,
}

impl Projection {
    /// Reads it from the JSON of a block.
    pub(crate) fn of(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// Whether a list with this hint may leave the block out.
    pub(crate) fn excluded_by(&self, hint: &Hint) -> bool {
        let other_owner = hint
            .affinity
            .as_deref()
            .is_some_and(|wanted| self.affinity.as_deref() != Some(wanted));
        other_owner || (hint.with_room && self.room == 0)
    }
}

impl<'de> Deserialize<'de> for Projection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BlockVisitor)
    }
}

struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = Projection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Projection, A::Error> {
        let mut projection = Projection::default();
        while let Some(Text(name)) = map.next_key()? {
            if name.eq_ignore_ascii_case("affinity") {
                projection.affinity = map
                    .next_value::<Option<Text<'_>>>()?
                    .map(|text| text.0.into_owned());
            } else if name.eq_ignore_ascii_case("unallocated") {
                projection.room = map.next_value::<Option<Length>>()?.map_or(0, |length| length.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(projection)
    }
}

/// A string, borrowed from the input unless it contains escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The number of elements of an array.
struct Length(u32);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;

        impl<'de> Visitor<'de> for Counter {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Length, A::Error> {
                let mut length = 0;
                while sequence.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(Length(length))
            }
        }

        deserializer.deserialize_seq(Counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projection(affinity: Option<&str>, room: u32) -> Projection {
        Projection {
            affinity: affinity.map(str::to_owned),
            room,
        }
    }

    #[test]
    fn reads_affinity_and_room_of_calicos_blocks() {
        for (json, expected) in [
            (
                r#"{"cidr":"10.9.0.4/30","affinity":"host:node1","allocations":[0,1,null,null],"unallocated":[2,3],
                    "attributes":[{"handle_id":"a","secondary":{"affinity":"host:other","unallocated":"7"}}]}"#,
                projection(Some("host:node1"), 2),
            ),
            (r#"{"affinity":null,"unallocated":null}"#, projection(None, 0)),
            (
                r#"{"Affinity":"host:n","UNALLOCATED":[1]}"#,
                projection(Some("host:n"), 1),
            ),
            (
                r#"{"unallocated":[1,2],"affinity":"a","unallocated":[]}"#,
                projection(Some("a"), 0),
            ),
            (
                r#"{"affinity":"host:n\u00f6de"}"#,
                projection(Some("host:nöde"), 0),
            ),
            ("{}", projection(None, 0)),
        ] {
            assert_eq!(Projection::of(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_block_has_neither() {
        for json in [
            "",
            "null",
            "[]",
            "7",
            "{",
            r#"{"affinity":7}"#,
            r#"{"affinity":"a","unallocated":{}}"#,
        ] {
            assert_eq!(Projection::of(json), Projection::default(), "{json}");
        }
    }
}
