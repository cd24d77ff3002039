// SPDX-License-Identifier: Apache-2.0
//! The tables of `docs/settings.md` and of the last part of `docs/compatibility.md`, made from the registry. A test
//! compares them with the files, so neither can be forgotten.

use std::fmt::Write as _;

use super::{
    inert::{self, Group, felix_names},
    registry::{Configuration, SECTIONS},
    setting::{Setting, felix_variable},
};

/// Variables that are read once, at the start, by what finds out which node this is; they are no settings.
pub const START_UP: &[(&str, &str)] = &[
    (
        "`NODENAME`, `CALICO_NODENAME_FILE`, `HOSTNAME`",
        "Name of the node, or the file that holds it",
    ),
    (
        "`DATASTORE_TYPE`, `DATASTORE_PATH`, `WAIT_FOR_DATASTORE`",
        "Which datastore, where, and whether to wait for it",
    ),
    (
        "`IP`, `IP6`, `IP_AUTODETECTION_METHOD`, `IP6_AUTODETECTION_METHOD`, `AUTODETECT_POLL_INTERVAL`",
        "Addresses of the node, or how they are found",
    ),
    (
        "`DISABLE_NODE_IP_CHECK`",
        "Whether two nodes may have the same address",
    ),
    (
        "`NO_DEFAULT_POOLS`, `CALICO_IPV4POOL_*`, `CALICO_IPV6POOL_*`",
        "Pools that a new store starts with",
    ),
];

/// The whole of `docs/settings.md`, from the values that hold where nobody has said anything.
pub fn settings_page(defaults: &Configuration) -> String {
    let mut page = String::from(
        "# Settings of routed-agent\n\n\
         <!-- Made from routed-agent/src/configuration/registry.rs; `UPDATE_DOCS=1 cargo test -p routed-agent docs_are_in_step` writes it. -->\n\n\
         A setting has the first usable value of: environment, configuration file, the FelixConfiguration or BGPConfiguration `node.NAME`, a FelixConfiguration\n\
         whose `nodeSelector` selects the node (the oldest), the one named `default`, and the default below. A value that cannot be used is reported, and the next\n\
         source counts; a variable with such a value keeps the daemon from starting. Sources behind the one that counts are not looked at. Empty is as good as absent. Names of variables that begin with `FELIX_`, keys\n\
         of the file and words are read in any case. `none` takes back what a later source says, where a setting may be without value.\n\n\
         The file has the form of Calico's `felix.cfg`: `KEY = VALUE` below `[global]`, comments behind `#` or `;`. Keys of BGPConfiguration stand below `[bgp]`.\n\n\
         Times are seconds (`90`, `1.5`) or have units (`1m30s`). *Live*: a change takes effect at once; otherwise when the daemon starts again.\n",
    );
    let rows = defaults.rows();
    let mut rows = rows.iter();
    for (section, settings) in SECTIONS {
        let _ = write!(
            page,
            "\n## {section}\n\n| setting | environment | file | object | default | live | meaning |\n|---|---|---|---|---|---|---|\n"
        );
        for row in rows.by_ref().take(settings.len()) {
            page.push_str(&setting_row(&row.setting, &row.value));
            page.push('\n');
        }
    }
    page.push_str("\n## Read at the start\n\n| environment | meaning |\n|---|---|\n");
    for (names, meaning) in START_UP {
        let _ = writeln!(page, "| {names} | {meaning} |");
    }
    page
}

/// One line of the table of settings.
pub fn setting_row(setting: &Setting, default: &str) -> String {
    let names = &setting.names;
    let environment = list(names.environment());
    let file = [(names.file, ""), (names.bgp, "[bgp] ")];
    let file = list(
        file.iter()
            .filter(|(key, _)| !key.is_empty())
            .map(|(key, section)| format!("{section}{key}")),
    );
    let objects = [
        ("FelixConfiguration", names.felix),
        ("BGPConfiguration", names.bgp),
    ];
    let objects = list(
        objects
            .iter()
            .filter(|(_, member)| !member.is_empty())
            .map(|(kind, member)| format!("{kind}.{member}")),
    );
    let default = if default.is_empty() {
        "(none)".to_owned()
    } else {
        code(default)
    };
    let live = if setting.live { "yes" } else { "no" };
    let unit = if setting.unit.is_empty() {
        String::new()
    } else {
        format!(" Unit: {}.", setting.unit)
    };
    format!(
        "| {} | {environment} | {file} | {objects} | {default} | {live} | {}{unit} Values: {}. |",
        code(setting.name),
        escaped(setting.description.trim()),
        escaped(&(setting.accepted)()),
    )
}

/// The part of `docs/compatibility.md` about what routed-agent does not act on.
pub fn inert_section() -> String {
    let mut section = String::from(
        "## Without effect in routed-agent\n\n\
         Accepted, never an error, and named in a warning where it asks for something. What is acted on is in [settings.md](settings.md).\n\n\
         | What | Names | Reason |\n|---|---|---|\n",
    );
    for group in inert::FELIX {
        section.push_str(&felix_row(group));
    }
    for group in inert::VARIABLES {
        section.push_str(&inert_row("Environment", group, ""));
    }
    for members in inert::KINDS {
        for group in members.inert {
            section.push_str(&inert_row(members.kind.name(), group, "spec."));
        }
        for group in members.annotations {
            section.push_str(&inert_row(
                &format!("{}, annotations", members.kind.name()),
                group,
                "",
            ));
        }
    }
    section
}

/// Parameters of Felix: the member, else the variable.
fn felix_row(group: &Group) -> String {
    let names = group.names.iter().map(|entry| match felix_names(entry) {
        ("", parameter) => felix_variable(parameter),
        (member, parameter) if member.eq_ignore_ascii_case(parameter) => member.to_owned(),
        (member, parameter) => format!("{member} ({})", felix_variable(parameter)),
    });
    format!(
        "| FelixConfiguration, `FELIX_*` | {} | {} |\n",
        list(names),
        group.why
    )
}

fn inert_row(what: &str, group: &Group, prefix: &str) -> String {
    let names = group.names.iter().map(|name| format!("{prefix}{name}"));
    format!("| {what} | {} | {} |\n", list(names), group.why)
}

fn list(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| code(&name)).collect();
    names.join(", ")
}

fn code(text: &str) -> String {
    format!("`{}`", escaped(text))
}

/// A text in a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
