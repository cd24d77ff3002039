// SPDX-License-Identifier: Apache-2.0
//! Passwords of sessions, which are kept in Secrets.

use std::fmt;

use model::{FieldError, secret::PasswordSource};

use super::View;

/// Longest TCP MD5 key that Linux takes, in bytes.
pub const MAX_PASSWORD_LENGTH: usize = 80;

/// What protects a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Password {
    /// Nothing: none is configured.
    #[default]
    None,
    /// TCP MD5 with this key.
    Md5(Secret),
    /// One is configured but cannot be had, for this reason. The session must wait for it: Calico would try without.
    Missing(String),
}

/// A text that never gets into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl View<'_, '_> {
    /// The password that `field` of `object` (for example `BGPPeer a`) refers to.
    pub(super) fn password(
        &mut self,
        object: &str,
        field: &str,
        source: Option<&PasswordSource>,
    ) -> Password {
        if let Some(known) = self.passwords.get(object) {
            return known.clone();
        }
        let found = self.look_up(field, source).unwrap_or_else(|problem| {
            self.warnings.add(object, &problem);
            Password::Missing(problem.to_string())
        });
        self.passwords.insert(object.to_owned(), found.clone());
        found
    }

    fn look_up(&self, field: &str, source: Option<&PasswordSource>) -> Result<Password, FieldError> {
        let Some(reference) = source.and_then(|source| source.secret_key_ref.as_ref()) else {
            return Ok(Password::None);
        };
        let secret = format!("{}/{}", self.input.secret_namespace, reference.name);
        let problem = |problem: &str, remedy: &str| {
            let value = format!("{secret}, key {}", reference.key);
            FieldError::new(
                format!("{field}.secretKeyRef"),
                value,
                problem,
                format!("{remedy}; until then these sessions stay down"),
            )
        };
        match (self.input.secrets)(&secret, &reference.key) {
            None => Err(problem(
                "cannot be read",
                "create this Secret with this key, and let this daemon read it",
            )),
            Some(text) if text.is_empty() => Err(problem("is empty", "put a password there")),
            Some(text) if text.len() > MAX_PASSWORD_LENGTH => Err(problem(
                "is longer than TCP MD5 allows",
                &format!("use at most {MAX_PASSWORD_LENGTH} bytes"),
            )),
            Some(text) => Ok(Password::Md5(Secret(text))),
        }
    }
}
