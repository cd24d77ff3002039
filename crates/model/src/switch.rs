// SPDX-License-Identifier: Apache-2.0
//! The words `Enabled` and `Disabled`, which newer fields of Calico have instead of booleans.

/// `Enabled` or `Disabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}

json_words!(Switch { "Enabled" => Enabled, "Disabled" => Disabled });
