// SPDX-License-Identifier: Apache-2.0
//! The rules that Calico's admission applies to a filter.

use super::{BgpFilterRule, BgpFilterSpec, FilterAction, FilterOperation, PrefixLengthRange};
use crate::{field::FieldError, key::Kind, names::MAX_INTERFACE_NAME, object::Extra, resource::Spec};

impl Spec for BgpFilterSpec {
    const KIND: Kind = Kind::BgpFilter;
    type Status = Extra;

    fn validate(&self) -> Result<(), FieldError> {
        let lists = [
            ("exportV4", &self.export_v4, 32),
            ("importV4", &self.import_v4, 32),
            ("exportV6", &self.export_v6, 128),
            ("importV6", &self.import_v6, 128),
        ];
        for (list, rules, bits) in lists {
            for (index, rule) in rules.iter().enumerate() {
                validate_rule(rule, bits).map_err(|error| FieldError {
                    field: format!("{list}[{index}].{}", error.field),
                    ..error
                })?;
            }
        }
        Ok(())
    }
}

fn validate_rule(rule: &BgpFilterRule, bits: u8) -> Result<(), FieldError> {
    let word = |operator: Option<super::MatchOperator>| operator.map_or("(none)", super::MatchOperator::word);
    if rule.cidr.is_some() != rule.match_operator.is_some() {
        let value = word(rule.match_operator);
        return Err(FieldError::new(
            "matchOperator",
            value,
            "and cidr go together",
            "set both or neither",
        ));
    }
    if let Some(cidr) = rule.cidr
        && cidr.max_prefix_len() != bits
    {
        let remedy = "move the rule to the list of its IP version";
        return Err(FieldError::new(
            "cidr",
            cidr.to_string(),
            "is of the other IP version",
            remedy,
        ));
    }
    if let Some(range) = &rule.prefix_length {
        validate_length(range, rule.cidr.is_some(), bits)?;
    }
    if rule.interface.len() > MAX_INTERFACE_NAME {
        let remedy = format!("use at most {MAX_INTERFACE_NAME} characters");
        return Err(FieldError::new(
            "interface",
            &rule.interface,
            "is longer than an interface name",
            remedy,
        ));
    }
    if let Some(communities) = &rule.communities
        && communities.values.len() != 1
    {
        let found = communities.values.len().to_string();
        return Err(FieldError::new(
            "communities.values",
            found,
            "values are not one",
            "name one community",
        ));
    }
    if !rule.operations.is_empty() && rule.action == FilterAction::Reject {
        return Err(FieldError::new(
            "action",
            "Reject",
            "excludes operations",
            "use Accept, or no operations",
        ));
    }
    if rule.operations.len() > 10 {
        let found = rule.operations.len().to_string();
        return Err(FieldError::new(
            "operations",
            found,
            "are more than 10",
            "remove some",
        ));
    }
    rule.operations
        .iter()
        .enumerate()
        .try_for_each(|(index, operation)| validate_operation(index, operation))
}

fn validate_length(range: &PrefixLengthRange, has_cidr: bool, bits: u8) -> Result<(), FieldError> {
    let (min, max) = (range.min.unwrap_or(0), range.max.unwrap_or(bits));
    let value = format!("{min}..{max}");
    if !has_cidr {
        return Err(FieldError::new(
            "prefixLength",
            value,
            "needs cidr",
            "set cidr and matchOperator",
        ));
    }
    if min > max || max > bits {
        let remedy = format!("use 0 <= min <= max <= {bits}");
        return Err(FieldError::new("prefixLength", value, "is out of range", remedy));
    }
    Ok(())
}

fn validate_operation(index: usize, operation: &FilterOperation) -> Result<(), FieldError> {
    let set = [
        operation.add_community.is_some(),
        operation.prepend_as_path.is_some(),
        operation.set_priority.is_some(),
    ];
    let count = set.into_iter().filter(|set| *set).count();
    let field = format!("operations[{index}]");
    if count != 1 {
        let problem = "members are set where one is needed";
        let remedy = "set one of addCommunity, prependASPath and setPriority";
        return Err(FieldError::new(field, count.to_string(), problem, remedy));
    }
    if let Some(prepend) = &operation.prepend_as_path
        && !(1..=10).contains(&prepend.prefix.len())
    {
        let found = prepend.prefix.len().to_string();
        let field = format!("{field}.prependASPath.prefix");
        return Err(FieldError::new(
            field,
            found,
            "AS numbers are not 1 to 10",
            "name 1 to 10 AS numbers",
        ));
    }
    Ok(())
}
