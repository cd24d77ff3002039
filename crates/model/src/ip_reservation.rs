// SPDX-License-Identifier: Apache-2.0
//! IP reservations: addresses that automatic assignment leaves alone. Requests for one address ignore them.

use ipnet::IpNet;

use crate::{
    field::FieldError,
    key::Kind,
    object::Extra,
    prefix,
    resource::{Resource, Spec},
};

/// An IP reservation.
pub type IpReservation = Resource<IpReservationSpec>;

/// `spec` of an IPReservation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpReservationSpec {
    /// Prefixes or addresses, as written: blanks around them are allowed, malformed ones are skipped by readers.
    pub reserved_cidrs: Vec<String>,
    /// Unknown members.
    pub extra: Extra,
}

json_object!(IpReservationSpec { "reservedCIDRs" => reserved_cidrs: unless_default });

impl IpReservationSpec {
    /// The well-formed entries, in canonical form.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.reserved_cidrs
            .iter()
            .filter_map(|text| prefix::parse_prefix_or_address(text))
            .map(|found| found.trunc())
    }
}

impl Spec for IpReservationSpec {
    const KIND: Kind = Kind::IpReservation;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        for (index, text) in self.reserved_cidrs.iter().enumerate() {
            if prefix::parse_prefix_or_address(text).is_none() {
                return Err(FieldError::new(
                    format!("reservedCIDRs[{index}]"),
                    text,
                    "is neither a prefix nor an address",
                    "write for example 192.168.7.0/28 or 192.168.7.1",
                ));
            }
        }
        Ok(())
    }
}
