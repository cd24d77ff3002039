// SPDX-License-Identifier: Apache-2.0
//! References to passwords. Objects hold the place of a secret, never the secret.

use crate::object::Extra;

/// Where a password is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PasswordSource {
    /// A key of a Kubernetes Secret in the namespace of the node daemon.
    pub secret_key_ref: Option<SecretKeyRef>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(PasswordSource { "secretKeyRef" => secret_key_ref: unless_default });

/// A key of a Kubernetes Secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in it.
    pub key: String,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(SecretKeyRef { "name" => name: unless_default, "key" => key: always });
