// SPDX-License-Identifier: Apache-2.0
//! The envelope of v3 resources: `{kind, apiVersion, metadata, spec, status}`. One generic type for all kinds, so
//! that reading, keeping what is unknown, and naming happen in one place.

use std::{collections::BTreeMap, fmt::Debug, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error};

pub use crate::field::FieldError;
use crate::{
    key::{Key, Kind},
    object::Extra,
    time::Timestamp,
};

#[cfg(test)]
mod tests;

/// The `apiVersion` of every resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// What a kind's `spec` is, and what belongs to it.
pub trait Spec: Clone + Debug + PartialEq + Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;
    /// Its `status`; [`Extra`] where this project does not look inside.
    type Status: Clone + Debug + PartialEq + Serialize + DeserializeOwned;

    /// The rules that admission applies to a new or changed object; stored ones may break them.
    fn validate(&self) -> Result<(), FieldError>;
}

/// A v3 resource of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<S: Spec> {
    kind: KindName<S>,
    api_version: ApiVersion,
    /// Name, labels and bookkeeping.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
    /// What is.
    pub status: Option<S::Status>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(Resource<S: Spec> {
    "kind" => kind: always,
    "apiVersion" => api_version: always,
    "metadata" => metadata: always,
    "spec" => spec: or_empty,
    "status" => status: unless_default,
});

impl<S: Spec> Resource<S> {
    /// A resource with this name and nothing else in its metadata.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        Self {
            kind: KindName(PhantomData),
            api_version: ApiVersion,
            metadata: Metadata {
                name: name.into(),
                ..Metadata::default()
            },
            spec,
            status: None,
            extra: Extra::new(),
        }
    }

    /// The name it is stored under.
    pub fn key(&self) -> Key {
        Key::Resource {
            kind: S::KIND,
            namespace: self.metadata.namespace.clone().filter(|_| S::KIND.namespaced()),
            name: self.metadata.name.clone(),
        }
    }
}

/// What Kubernetes and Calico keep about every object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Unique within kind and namespace.
    pub name: String,
    /// Set for namespaced kinds.
    pub namespace: Option<String>,
    /// What selectors look at.
    pub labels: BTreeMap<String, String>,
    /// Everything else that is attached to the object.
    pub annotations: BTreeMap<String, String>,
    /// Random at creation; tells an object from its successor of the same name.
    pub uid: Option<String>,
    /// When it was created, in whole seconds.
    pub creation_timestamp: Option<Timestamp>,
    /// Set while Kubernetes is deleting it.
    pub deletion_timestamp: Option<Timestamp>,
    /// Set on objects handed to clients; never stored.
    pub resource_version: Option<String>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(Metadata {
    "name" => name: always,
    "namespace" => namespace: unless_default,
    "uid" => uid: unless_default,
    "resourceVersion" => resource_version: unless_default,
    "creationTimestamp" => creation_timestamp: unless_default,
    "deletionTimestamp" => deletion_timestamp: unless_default,
    "labels" => labels: unless_default,
    "annotations" => annotations: unless_default,
});

impl Metadata {
    /// Fills in what creation fills in, where it is missing.
    pub fn complete(&mut self, random: [u8; 16], now: Timestamp) {
        self.uid.get_or_insert_with(|| uuid_v4(random));
        self.creation_timestamp.get_or_insert(now.whole_seconds());
    }
}

/// The text of a version 4 UUID (RFC 9562) made of 16 random bytes.
pub fn uuid_v4(random: [u8; 16]) -> String {
    let number = u128::from_be_bytes(random) & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{number:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The `kind` member: written from the type, refused on reading if it names another kind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct KindName<S>(PhantomData<S>);

impl<S> Default for KindName<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<S: Spec> Serialize for KindName<S> {
    fn serialize<W: Serializer>(&self, serializer: W) -> Result<W::Ok, W::Error> {
        serializer.serialize_str(S::KIND.name())
    }
}

impl<'de, S: Spec> Deserialize<'de> for KindName<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = String::deserialize(deserializer)?;
        if found.is_empty() || found == S::KIND.name() {
            return Ok(Self(PhantomData));
        }
        Err(D::Error::custom(format_args!(
            "{found:?} is stored where kind {} belongs",
            S::KIND.name()
        )))
    }
}

/// The `apiVersion` member: written as [`API_VERSION`], anything is accepted on reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ApiVersion;

impl Serialize for ApiVersion {
    fn serialize<W: Serializer>(&self, serializer: W) -> Result<W::Ok, W::Error> {
        serializer.serialize_str(API_VERSION)
    }
}

impl<'de> Deserialize<'de> for ApiVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|_| Self)
    }
}
