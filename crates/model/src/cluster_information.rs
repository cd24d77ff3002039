// SPDX-License-Identifier: Apache-2.0
//! ClusterInformation `default`: who this cluster is, and whether its datastore may be used.

use crate::{
    field::FieldError,
    key::Kind,
    object::Extra,
    resource::{Resource, Spec},
};

/// The cluster information.
pub type ClusterInformation = Resource<ClusterInformationSpec>;

/// `spec` of a ClusterInformation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterInformationSpec {
    /// 32 hexadecimal digits, random at creation.
    pub cluster_guid: String,
    /// Comma-separated words such as `k8s,bgp`; every component appends its own.
    pub cluster_type: String,
    /// Version that `calicoctl` compares with its own; empty means it does not compare.
    pub calico_version: String,
    /// False while an upgrade or a migration forbids changes; see [`ClusterInformationSpec::ready`].
    pub datastore_ready: Option<bool>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(ClusterInformationSpec {
    "clusterGUID" => cluster_guid: unless_default,
    "clusterType" => cluster_type: unless_default,
    "calicoVersion" => calico_version: unless_default,
    "datastoreReady" => datastore_ready: unless_default,
});

impl ClusterInformationSpec {
    /// Whether addresses may be assigned and released now: nothing said means yes.
    pub fn ready(&self) -> bool {
        self.datastore_ready.unwrap_or(true)
    }
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        let guid = &self.cluster_guid;
        if guid.is_empty() || guid.len() == 32 && guid.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        Err(FieldError::new(
            "clusterGUID",
            guid,
            "is not a GUID",
            "use 32 hexadecimal digits",
        ))
    }
}
