// SPDX-License-Identifier: Apache-2.0
//! What may be wrong with an UPDATE without ending the session.

/// A defect that did not end the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Defect {
    /// Type of the attribute; 0 for the list of them.
    pub attribute: u8,
    /// What it cost.
    pub consequence: Consequence,
    /// What was wrong.
    pub text: &'static str,
}

/// What a defect costs (RFC 7606 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consequence {
    /// The routes of the message count as withdrawn.
    TreatAsWithdraw,
    /// The attribute is left out.
    AttributeDiscard,
}
