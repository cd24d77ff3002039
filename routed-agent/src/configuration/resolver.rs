// SPDX-License-Identifier: Apache-2.0
//! Finding the value of one setting: sources in order, the first usable value counts, what cannot be used is reported.

use serde_json::Value as Json;

use super::{
    form::Form,
    origin::{Origin, Problem, Sourced, Warning, quoted},
    setting::Setting,
    sources::{Object, Sources},
};

/// Goes through the sources for one setting after the other.
pub(super) struct Resolver<'a> {
    sources: &'a Sources,
    /// What could not be used, except variables.
    pub(super) warnings: Vec<Warning>,
    /// Variables that could not be used.
    pub(super) environment_errors: Vec<Warning>,
}

/// A value as a source has it.
enum Found<'a> {
    Text(&'a str),
    Json(&'a Json),
}

/// A value, where it stands, and the member it is there.
struct Candidate<'a> {
    origin: Origin,
    field: &'static str,
    found: Found<'a>,
}

/// The origin and kind of the objects of one list.
type OriginOf = fn(String) -> Origin;

impl<'a> Resolver<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            warnings: Vec::new(),
            environment_errors: Vec::new(),
        }
    }

    /// The value of a setting.
    pub(super) fn take<F: Form>(&mut self, setting: &Setting, default: F::Value) -> Sourced<F::Value> {
        let mut unusable = Vec::new();
        let mut taken = None;
        for candidate in self.candidates(setting) {
            match read::<F>(&candidate.found) {
                Some(value) => {
                    let origin = candidate.origin;
                    taken = Some(Sourced { value, origin });
                    break;
                }
                None => unusable.push(candidate),
            }
        }
        let taken = taken.unwrap_or(Sourced {
            value: default,
            origin: Origin::Default,
        });
        for candidate in unusable {
            let warning = refusal::<F>(candidate, &taken);
            match warning.origin {
                Origin::Environment(_) => self.environment_errors.push(warning),
                _ => self.warnings.push(warning),
            }
        }
        self.compare_objects::<F>(setting);
        taken
    }

    /// All values of a setting, in the order in which they count.
    fn candidates(&self, setting: &Setting) -> Vec<Candidate<'a>> {
        let (sources, names) = (self.sources, &setting.names);
        let mut all = Vec::new();
        for name in names.environment() {
            if let Some((name, value)) = sources.environment.get(&name) {
                all.push(Candidate {
                    origin: Origin::Environment(name.to_owned()),
                    field: "",
                    found: Found::Text(value),
                });
            }
        }
        for (bgp, key) in [(false, names.file), (true, names.bgp)] {
            let entry = sources.file.get(bgp, key).filter(|_| !key.is_empty());
            all.extend(entry.map(|entry| Candidate {
                origin: entry.origin(),
                field: "",
                found: Found::Text(&entry.value),
            }));
        }
        all.extend(members(
            &sources.felix,
            names.felix,
            true,
            Origin::FelixConfiguration,
        ));
        all.extend(members(
            &sources.bgp,
            names.bgp,
            names.bgp_per_node,
            Origin::BgpConfiguration,
        ));
        all
    }

    /// Calico has some settings in both kinds of objects, for its two daemons, and they must agree.
    fn compare_objects<F: Form>(&mut self, setting: &Setting) {
        let (sources, names) = (self.sources, &setting.names);
        if names.felix.is_empty() || names.bgp.is_empty() {
            return;
        }
        let mut felix = members(&sources.felix, names.felix, true, Origin::FelixConfiguration);
        let mut bgp = members(
            &sources.bgp,
            names.bgp,
            names.bgp_per_node,
            Origin::BgpConfiguration,
        );
        let (Some(felix), Some(bgp)) = (felix.next(), bgp.next()) else {
            return;
        };
        if let (Some(value), Some(other)) = (read::<F>(&felix.found), read::<F>(&bgp.found))
            && value != other
        {
            let problem = Problem::Differs {
                value: F::write(&value),
                other: format!("{} of {}", F::write(&other), bgp.origin),
            };
            self.warnings.push(Warning {
                origin: felix.origin,
                field: felix.field.to_owned(),
                problem,
            });
        }
    }
}

/// A member of those objects that have it and may have it.
fn members<'a>(
    objects: &'a [Object],
    member: &'static str,
    per_node: bool,
    origin: OriginOf,
) -> impl Iterator<Item = Candidate<'a>> {
    objects
        .iter()
        .filter(move |object| !member.is_empty() && (per_node || !object.of_one_node()))
        .filter_map(move |object| {
            Some(Candidate {
                origin: origin(object.name.clone()),
                field: member,
                found: Found::Json(object.get(member)?),
            })
        })
}

/// Reads a value. Nothing that is configured has control characters or what takes the place of bytes that are not
/// UTF-8.
fn read<F: Form>(found: &Found<'_>) -> Option<F::Value> {
    let sound = |text: &str| {
        !text
            .chars()
            .any(|character| character.is_control() || character == '\u{fffd}')
    };
    match found {
        Found::Text(text) => F::read(text).filter(|_| sound(text)),
        Found::Json(json) => F::read_json(json).filter(|_| json.as_str().is_none_or(sound)),
    }
}

fn refusal<F: Form>(candidate: Candidate<'_>, taken: &Sourced<F::Value>) -> Warning {
    let value = match &candidate.found {
        _ if F::SECRET => "the value (not shown)".to_owned(),
        Found::Text(text) => quoted(text),
        Found::Json(Json::String(text)) => quoted(text),
        Found::Json(json) => quoted(&json.to_string()),
    };
    let instead = match F::write(&taken.value) {
        _ if F::SECRET && taken.origin != Origin::Default => taken.origin.to_string(),
        text if text.is_empty() => format!("no value, from {}", taken.origin),
        text => format!("{text}, from {}", taken.origin),
    };
    Warning {
        origin: candidate.origin,
        field: candidate.field.to_owned(),
        problem: Problem::Unusable {
            value,
            accepted: F::accepted(),
            instead,
        },
    }
}
