// SPDX-License-Identifier: Apache-2.0
//! How stored JSON objects are read and written: Go's decoding rules, which Calico's data relies on, plus one of
//! our own, that unknown members are kept.
//!
//! `json_object!` implements serde's traits for a struct from a table of wire names beside it:
//! - names match whatever their case, the last of several wins, `null` is the same as absent;
//! - members not in the table go to the field `extra: Extra` and are written back after the others;
//! - an error inside a member is prefixed with the member's name.
//!
//! It does not buffer: each known member is decoded straight from the text, so reading a block costs what
//! `#[derive(Deserialize)]` would cost.

use std::{fmt, marker::PhantomData, str::FromStr};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, value::MapDeserializer},
};
use serde_json::{Map, Value};

use crate::prefix;

/// Members that this project does not know, as they were read.
pub type Extra = Map<String, Value>;

/// Implements `Serialize` and `Deserialize` for a struct whose last field is `extra: Extra`.
///
/// Each line is `"wireName" => field: mode`, with an optional `as Type` when reading tolerates more than the field's
/// own type ([`ReadAs`]). The modes:
/// - `required`: absent is an error; always written.
/// - `always`: absent is the default; always written.
/// - `unless_default`: absent is the default; not written while it has the default.
/// - `or_empty`: absent is read as `{}`; always written.
macro_rules! json_object {
    ($name:ident $(<$generic:ident: $bound:path>)? {
        $($wire:literal => $field:ident: $mode:ident $(as $read:ty)?),* $(,)?
    }) => {
        impl<'de $(, $generic: $bound)?> serde::Deserialize<'de> for $name $(<$generic>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[expect(non_camel_case_types, reason = "variants carry the field names")]
                enum Member {
                    $($field,)*
                    Unknown(String),
                }

                struct MemberVisitor;

                impl serde::de::Visitor<'_> for MemberVisitor {
                    type Value = Member;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a member name")
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Member, E> {
                        $(if name.eq_ignore_ascii_case($wire) {
                            return Ok(Member::$field);
                        })*
                        Ok(Member::Unknown(name.to_owned()))
                    }
                }

                impl<'de> serde::Deserialize<'de> for Member {
                    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                        deserializer.deserialize_identifier(MemberVisitor)
                    }
                }

                struct ObjectVisitor<T>(std::marker::PhantomData<T>);

                impl<'de $(, $generic: $bound)?> serde::de::Visitor<'de> for ObjectVisitor<$name $(<$generic>)?> {
                    type Value = $name $(<$generic>)?;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a JSON object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Self::Value, A::Error> {
                        $(let mut $field = None;)*
                        let mut extra = $crate::object::Extra::new();
                        while let Some(member) = map.next_key::<Member>()? {
                            match member {
                                $(Member::$field => {
                                    let value = json_object!(@next map $($read)?);
                                    $field = value.map_err(|error| $crate::object::within($wire, &error))?;
                                })*
                                Member::Unknown(name) => {
                                    extra.insert(name, map.next_value()?);
                                }
                            }
                        }
                        Ok($name {
                            $($field: json_object!(@absent $mode $field $wire A),)*
                            extra,
                        })
                    }
                }

                deserializer.deserialize_map(ObjectVisitor(std::marker::PhantomData))
            }
        }

        impl $(<$generic: $bound>)? serde::Serialize for $name $(<$generic>)? {
            fn serialize<W: serde::Serializer>(&self, serializer: W) -> Result<W::Ok, W::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $(json_object!(@write $mode map self.$field $wire);)*
                for (name, value) in &self.extra {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    };

    (@next $map:ident) => { $map.next_value::<Option<_>>() };
    (@next $map:ident $read:ty) => {
        $map.next_value::<Option<$read>>().map(|value| value.map($crate::object::ReadAs::field))
    };

    (@absent required $field:ident $wire:literal $access:ident) => {
        match $field {
            Some(value) => value,
            None => return Err(<$access::Error as serde::de::Error>::missing_field($wire)),
        }
    };
    (@absent or_empty $field:ident $wire:literal $access:ident) => {
        match $field {
            Some(value) => value,
            None => $crate::object::empty().map_err(|error| $crate::object::within($wire, &error))?,
        }
    };
    (@absent $mode:ident $field:ident $wire:literal $access:ident) => { $field.unwrap_or_default() };

    (@write unless_default $map:ident $this:ident.$field:ident $wire:literal) => {
        if !$crate::object::is_default(&$this.$field) {
            $map.serialize_entry($wire, &$this.$field)?;
        }
    };
    (@write $mode:ident $map:ident $this:ident.$field:ident $wire:literal) => {
        $map.serialize_entry($wire, &$this.$field)?;
    };
}

/// Puts the name of a member before an error inside it: `spec: cidr: ...`.
pub(crate) fn within<E: de::Error>(member: &str, error: &E) -> E {
    E::custom(format_args!("{member}: {error}"))
}

/// What an absent object with members of its own is read as.
pub(crate) fn empty<T: DeserializeOwned, E: de::Error>() -> Result<T, E> {
    T::deserialize(MapDeserializer::new(std::iter::empty::<((), ())>()))
}

/// Whether a member may be left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A tolerant way of reading a field.
pub(crate) trait ReadAs {
    /// The field's own type.
    type Field;

    /// The value for the field.
    fn field(self) -> Self::Field;
}

/// A boolean that other writers stored as `true`, `"true"`, `false`, `"false"` or `""`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LenientBool(bool);

impl ReadAs for LenientBool {
    type Field = bool;

    fn field(self) -> bool {
        self.0
    }
}

impl<'de> Deserialize<'de> for LenientBool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolVisitor;

        impl de::Visitor<'_> for BoolVisitor {
            type Value = LenientBool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false, also as a string")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<LenientBool, E> {
                Ok(LenientBool(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LenientBool, E> {
                match text {
                    "true" => Ok(LenientBool(true)),
                    "false" | "" => Ok(LenientBool(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(BoolVisitor)
    }
}

/// A text that other writers left empty where they meant the default.
#[derive(Clone, Debug)]
pub(crate) struct EmptyIsDefault<T>(Option<T>);

/// A text that other writers left empty where they meant nothing.
#[derive(Clone, Debug)]
pub(crate) struct EmptyIsNone<T>(Option<T>);

impl<T: Default> ReadAs for EmptyIsDefault<T> {
    type Field = T;

    fn field(self) -> T {
        self.0.unwrap_or_default()
    }
}

impl<T> ReadAs for EmptyIsNone<T> {
    type Field = Option<T>;

    fn field(self) -> Option<T> {
        self.0
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for EmptyIsDefault<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrEmpty(PhantomData)).map(Self)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for EmptyIsNone<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrEmpty(PhantomData)).map(Self)
    }
}

/// A prefix that other writers also wrote as a bare address, or left empty.
#[derive(Clone, Debug)]
pub(crate) struct PrefixOrAddress(Option<IpNet>);

impl ReadAs for PrefixOrAddress {
    type Field = Option<IpNet>;

    fn field(self) -> Option<IpNet> {
        self.0
    }
}

impl<'de> Deserialize<'de> for PrefixOrAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let found = prefix::parse_prefix_or_address(&text).ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"an address or prefix such as 10.0.0.5/24",
            )
        })?;
        Ok(Self(Some(found)))
    }
}

struct TextOrEmpty<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for TextOrEmpty<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<T>, E> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(E::custom)
    }

    /// Numbers where a text is allowed (ports, for example) read as the text they look like.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<T>, E> {
        self.visit_str(&number.to_string())
    }
}

/// Implements serde's traits for a value whose JSON form is its `Display` and `FromStr` text.
macro_rules! json_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<W: serde::Serializer>(&self, serializer: W) -> Result<W::Ok, W::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;

                impl serde::de::Visitor<'_> for TextVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(TextVisitor)
            }
        }
    };
}

/// Implements `Display`, `FromStr` and serde's traits for an enumeration of words; the error lists the words.
macro_rules! json_words {
    ($name:ident { $($word:literal => $variant:ident),* $(,)? }) => {
        impl $name {
            /// The word in stored objects.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::object::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::object::UnknownWord::new(text, &[$($word),*])),
                }
            }
        }

        json_text!($name);
    };
}

/// A word that is not one of those the field knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not one of {expected}")]
pub struct UnknownWord {
    found: String,
    expected: String,
}

impl UnknownWord {
    pub(crate) fn new(found: &str, expected: &[&str]) -> Self {
        Self {
            found: found.to_owned(),
            expected: expected.join(", "),
        }
    }
}
