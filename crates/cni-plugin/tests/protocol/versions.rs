// SPDX-License-Identifier: Apache-2.0
//! Which version of configuration a verb and a plugin accept, and the version of the answer.

use cni_plugin::{AddResult, Code, Error, SUPPORTED_VERSIONS, Version};
use serde_json::json;

use crate::recorder::{Recorder, Unreadable, VERBS, call, call_reading, environment, environment_without};

fn config(version: &str) -> String {
    format!(r#"{{"cniVersion": "{version}", "name": "net"}}"#)
}

#[test]
fn versions_that_cannot_be_read_are_decoding_errors() {
    for verb in VERBS {
        for version in [r#""garbage""#, r#""1.2.3.4""#, r#""1.x""#, r#""1.""#, "1.0", "{}"] {
            let text = format!(r#"{{"name": "net", "cniVersion": {version}}}"#);
            let plugin = Recorder::default();
            let message = call(&plugin, &environment(verb), &text).failed(6);
            assert!(message.contains("cniVersion"), "{message}");
            assert!(plugin.verbs().is_empty());
        }
    }
}

/// The first version with a verb.
fn since(verb: &str) -> Version {
    match verb {
        "CHECK" => Version::V0_4_0,
        "GC" | "STATUS" => Version::V1_1_0,
        _ => Version::V0_1_0,
    }
}

#[test]
fn a_verb_needs_a_version_that_has_it() {
    for verb in VERBS {
        for version in SUPPORTED_VERSIONS {
            let plugin = Recorder::default();
            let outcome = call(&plugin, &environment(verb), &config(&version.to_string()));
            if version >= since(verb) {
                assert!(outcome.succeeded, "{verb} {version}: {outcome:?}");
                assert_eq!(plugin.verbs(), [verb]);
            } else {
                let message = outcome.failed(1);
                assert!(
                    message.contains(verb) && message.contains(&version.to_string()),
                    "{message}"
                );
                assert_eq!(outcome.json()["cniVersion"], version.to_string());
                assert!(plugin.verbs().is_empty());
            }
        }
    }
}

#[test]
fn a_plugin_refuses_versions_that_it_does_not_speak() {
    for verb in VERBS {
        for (spoken, asked) in [
            (&["0.1.0", "0.2.0", "0.3.0"][..], "1.1.0"),
            (&["0.3.1", "0.4.0", "1.0.0"], "1.1.0"),
            (&["0.3.1", "1.1.0"], "1.0.0"),
            (&["1.1.0"], "1.2.0"),
            (&["1.0.0", "1.1.0"], "0.4.0"),
            // Spelled otherwise than an answer would be.
            (&["1.0.0", "1.1.0"], "1.1"),
            (&["1.0.0", "1.1.0"], "01.1.0"),
        ] {
            let plugin = Recorder::speaking(spoken);
            let outcome = call(&plugin, &environment(verb), &config(asked));
            outcome.failed(1);
            assert!(plugin.verbs().is_empty());
            let newest = *spoken.last().unwrap();
            if ["ADD", "DEL"].contains(&verb) {
                let details = outcome.json()["details"].as_str().unwrap().to_owned();
                assert!(details.contains(asked) && details.contains(newest), "{details}");
            }
            assert_eq!(outcome.json()["cniVersion"], newest, "{outcome:?}");
        }
    }
}

#[test]
fn no_version_is_the_first_version() {
    for text in [
        r#"{"name": "net"}"#,
        r#"{"name": "net", "cniVersion": ""}"#,
        r#"{"name": "net", "cniVersion": null}"#,
    ] {
        let plugin = Recorder::default();
        let outcome = call(&plugin, &environment("ADD"), text);
        assert_eq!(
            outcome.json(),
            json!({"cniVersion": "0.1.0", "ip4": {"ip": "10.1.2.3/24"}, "dns": {}})
        );
        let plugin = Recorder::speaking(&["0.3.0", "1.0.0"]);
        let message = call(&plugin, &environment("ADD"), text).failed(1);
        assert!(
            message.contains("0.1.0") && message.contains("0.3.0"),
            "{message}"
        );
        assert!(plugin.verbs().is_empty());
    }
}

#[test]
fn version_needs_nothing_and_reads_nothing() {
    let environment = environment_without(
        "VERSION",
        &[
            "CNI_CONTAINERID",
            "CNI_NETNS",
            "CNI_IFNAME",
            "CNI_ARGS",
            "CNI_PATH",
        ],
    );
    for environment in [environment, environment_for_runtime_version()] {
        let plugin = Recorder::speaking(&["0.3.1", "0.4.0", "1.0.0"]);
        let outcome = call_reading(&plugin, &environment, &mut Unreadable);
        assert!(outcome.succeeded, "{outcome:?}");
        assert_eq!(
            outcome.json(),
            json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]})
        );
        assert!(
            outcome.stdout.ends_with("}\n") && outcome.stdout.lines().count() == 1,
            "{outcome:?}"
        );
        assert!(plugin.verbs().is_empty());
    }
}

/// As the reference runtime library sets it: placeholders and an empty container ID.
fn environment_for_runtime_version() -> cni_plugin::Environment {
    environment("VERSION")
        .with("CNI_CONTAINERID", "")
        .with("CNI_NETNS", "dummy")
        .with("CNI_IFNAME", "dummy")
        .with("CNI_PATH", "dummy")
}

#[test]
fn answers_are_in_the_version_of_the_configuration() {
    for version in SUPPORTED_VERSIONS {
        let text = config(&version.to_string());
        let plugin = Recorder::default();
        let answer = call(&plugin, &environment("ADD"), &text).json();
        assert_eq!(answer["cniVersion"], version.to_string());
        let failing = Recorder {
            answer: Err(Error::new(Code::Internal, "no")),
            ..Recorder::default()
        };
        let answer = call(&failing, &environment("ADD"), &text).json();
        assert_eq!(
            answer,
            json!({"cniVersion": version.to_string(), "code": 999, "msg": "no"})
        );
        // Only these two need an address.
        let empty = Recorder {
            answer: Ok(AddResult::default()),
            ..Recorder::default()
        };
        let outcome = call(&empty, &environment("ADD"), &text);
        if version < Version::V0_3_0 {
            assert!(outcome.failed(1).contains("address"));
        } else {
            assert!(outcome.succeeded);
        }
    }
}
