// SPDX-License-Identifier: Apache-2.0
//! What the sources hold beside settings: names without effect, and names that nobody knows.

use super::{
    inert,
    origin::{Origin, Problem, Warning},
    registry::SECTIONS,
    setting::{Setting, felix_variable},
    sources::{Object, Sources, says_something},
};

/// What stands in the sources and has no effect.
pub(super) fn warnings(sources: &Sources) -> Vec<Warning> {
    let mut warnings = Vec::new();
    environment(sources, &mut warnings);
    file(sources, &mut warnings);
    for object in &sources.felix {
        felix_members(object, &mut warnings);
    }
    for object in &sources.bgp {
        bgp_members(object, &mut warnings);
    }
    warnings
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|(_, settings)| settings.iter())
}

fn environment(sources: &Sources, warnings: &mut Vec<Warning>) {
    let mut warn = |name: &str, problem| {
        warnings.push(Warning::of(Origin::Environment(name.to_owned()), problem));
    };
    for name in sources.environment.felix() {
        let parameter = name.get("FELIX_".len()..).unwrap_or_default();
        let value = sources.environment.get(name).map(|(_, value)| value);
        if felix_settings().any(|setting| setting.names.file.eq_ignore_ascii_case(parameter)) {
            continue;
        }
        match inert::felix_parameter(parameter) {
            Some(_) if value.is_none_or(inert::asks_nothing) => {}
            Some(why) => warn(name, Problem::NotActedOn(why)),
            None => warn(name, Problem::Unknown(variable_meant(parameter))),
        }
    }
    for group in inert::VARIABLES {
        for name in group.names {
            let value = sources.environment.get(name).map(|(_, value)| value);
            if value.is_some_and(|value| !inert::asks_nothing(value)) {
                warn(name, Problem::NotActedOn(group.why));
            }
        }
    }
}

fn felix_settings() -> impl Iterator<Item = &'static Setting> {
    settings().filter(|setting| !setting.names.felix.is_empty())
}

/// Felix' name for what somebody has named like the member of FelixConfiguration, as in `FELIX_IPIPMTU`.
fn parameter_meant(name: &str) -> Option<&'static str> {
    felix_settings()
        .map(|setting| setting.names)
        .find(|names| names.felix.eq_ignore_ascii_case(name))
        .map(|names| names.file)
}

fn variable_meant(name: &str) -> Option<String> {
    parameter_meant(name).map(felix_variable)
}

fn file(sources: &Sources, warnings: &mut Vec<Warning>) {
    for entry in sources.file.entries() {
        let key = &entry.key;
        let known = settings().any(|setting| {
            let own = if entry.bgp {
                setting.names.bgp
            } else {
                setting.names.file
            };
            own.eq_ignore_ascii_case(key)
        });
        if known {
            continue;
        }
        let problem = match inert::felix_parameter(key).filter(|_| !entry.bgp) {
            Some(_) if inert::asks_nothing(&entry.value) => continue,
            Some(why) => Problem::NotActedOn(why),
            None if entry.bgp => Problem::Unknown(None),
            None => Problem::Unknown(parameter_meant(key).map(str::to_owned)),
        };
        warnings.push(Warning::of(entry.origin(), problem));
    }
}

fn felix_members(object: &Object, warnings: &mut Vec<Warning>) {
    for (name, value) in &object.spec {
        let known = felix_settings().any(|setting| setting.names.felix.eq_ignore_ascii_case(name));
        if known || name.eq_ignore_ascii_case("nodeSelector") || !says_something(value) {
            continue;
        }
        let problem = match inert::felix_member(name) {
            Some(_) if inert::member_asks_nothing(value) => continue,
            Some(why) => Problem::NotActedOn(why),
            None => Problem::Unknown(None),
        };
        warnings.push(Warning {
            origin: Origin::FelixConfiguration(object.name.clone()),
            field: name.clone(),
            problem,
        });
    }
}

fn bgp_members(object: &Object, warnings: &mut Vec<Warning>) {
    for (name, _) in object.spec.iter().filter(|(_, value)| says_something(value)) {
        let setting = settings().find(|setting| setting.names.bgp.eq_ignore_ascii_case(name));
        let problem = match setting {
            Some(setting) if setting.names.bgp_per_node || !object.of_one_node() => continue,
            Some(_) => Problem::ForAllNodesOnly,
            None => Problem::Unknown(None),
        };
        warnings.push(Warning {
            origin: Origin::BgpConfiguration(object.name.clone()),
            field: name.clone(),
            problem,
        });
    }
}
