// SPDX-License-Identifier: Apache-2.0
//! What is known about each setting besides its value: names, unit, form, and whether it changes while running.

/// The names of a setting in each of the sources. An empty one: the source does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Key in the configuration file outside `[bgp]`: Felix' name of the parameter, or one of ours.
    pub file: &'static str,
    /// Environment variables, the first found counts; `FELIX_<file key>` goes before them where `felix` is set.
    pub variables: &'static [&'static str],
    /// Member of FelixConfiguration.
    pub felix: &'static str,
    /// Member of BGPConfiguration, and key in `[bgp]` of the file.
    pub bgp: &'static str,
    /// Whether the BGPConfiguration of one node may have it.
    pub bgp_per_node: bool,
}

impl Names {
    /// A parameter of Felix.
    pub(super) const fn felix(file: &'static str, felix: &'static str) -> Self {
        Self {
            file,
            variables: &[],
            felix,
            bgp: "",
            bgp_per_node: false,
        }
    }

    /// A setting of BGP.
    pub(super) const fn bgp(bgp: &'static str, variables: &'static [&'static str]) -> Self {
        Self {
            file: "",
            variables,
            felix: "",
            bgp,
            bgp_per_node: false,
        }
    }

    /// A setting of our own, or one that Calico has in the environment only.
    pub(super) const fn own(variables: &'static [&'static str], file: &'static str) -> Self {
        Self {
            file,
            variables,
            felix: "",
            bgp: "",
            bgp_per_node: false,
        }
    }

    /// Also a member of BGPConfiguration.
    pub(super) const fn and_bgp(self, bgp: &'static str) -> Self {
        Self { bgp, ..self }
    }

    /// The BGPConfiguration of one node may have it.
    pub(super) const fn per_node(self) -> Self {
        Self {
            bgp_per_node: true,
            ..self
        }
    }

    /// All environment variables, in the order in which they count.
    pub fn environment(&self) -> Vec<String> {
        let felix = (!self.felix.is_empty()).then(|| felix_variable(self.file));
        let others = self.variables.iter().map(|name| (*name).to_owned());
        felix.into_iter().chain(others).collect()
    }
}

/// The environment variable of a parameter of Felix. Felix takes it in any case.
pub fn felix_variable(parameter: &str) -> String {
    format!("FELIX_{}", parameter.to_ascii_uppercase())
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What status calls it: the name of its field.
    pub name: &'static str,
    /// Its names.
    pub names: Names,
    /// Unit of its value; empty for none.
    pub unit: &'static str,
    /// Whether a change takes effect without a restart of the daemon.
    pub live: bool,
    /// What it does, from the documentation of its field.
    pub description: &'static str,
    /// What its values look like.
    pub accepted: fn() -> String,
    /// Whether what is found where its value should be must not be shown.
    pub secret: bool,
}

/// Declares settings: the struct that holds their values, [`Setting`] for each, and what needs all of them in turn.
///
/// `field: Form = default, names, "unit", live|restart;` with the description as its documentation.
macro_rules! settings {
    ($(section $section:literal { $(
        $(#[doc = $doc:literal])+
        $field:ident: $form:ty = $default:expr, $names:expr, $unit:literal, $live:ident;
    )* })*) => {
        /// Everything that can be configured, each value with its origin.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Configuration {
            $($(
                $(#[doc = $doc])+
                pub $field: Sourced<<$form as Form>::Value>,
            )*)*
        }

        /// What is known about each setting.
        #[allow(non_upper_case_globals, reason = "constants carry the field names")]
        mod of {
            use super::*;

            $($(
                pub(super) const $field: Setting = Setting {
                    name: stringify!($field),
                    names: $names,
                    unit: $unit,
                    live: settings!(@live $live),
                    description: concat!($($doc),+),
                    accepted: <$form as Form>::accepted,
                    secret: <$form as Form>::SECRET,
                };
            )*)*
        }

        /// All settings, by section, in the order of the documentation.
        pub const SECTIONS: &[(&str, &[Setting])] = &[$(($section, &[$(of::$field),*])),*];

        impl Configuration {
            /// Takes each value from the first source that has a usable one.
            pub(super) fn take(resolver: &mut Resolver<'_>) -> Self {
                Self { $($($field: resolver.take::<$form>(&of::$field, $default),)*)* }
            }

            /// Every setting with its value as text and its origin, for status pages.
            pub fn rows(&self) -> Vec<Row> {
                vec![$($(Row {
                    setting: of::$field,
                    value: <$form as Form>::write(&self.$field.value),
                    origin: self.$field.origin.clone(),
                }),*),*]
            }

            /// Which values differ from those of `old`; a new origin alone is no change.
            pub fn changes_since(&self, old: &Self) -> Vec<Changed> {
                let mut changed = Vec::new();
                $($(if self.$field.value != old.$field.value {
                    changed.push(Changed { name: of::$field.name, live: of::$field.live });
                })*)*
                changed
            }
        }
    };
    (@live live) => { true };
    (@live restart) => { false };
}
