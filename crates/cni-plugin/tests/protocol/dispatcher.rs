// SPDX-License-Identifier: Apache-2.0
//! From environment and standard input to a verb: what is checked, in which order, and what a runtime is told.

use std::path::Path;

use cni_plugin::{Code, Error};
use serde_json::json;

use crate::recorder::{Recorder, Unreadable, VERBS, call, call_reading, environment, environment_without};

const CONFIG: &str = r#"{"cniVersion": "1.1.0", "name": "net", "type": "test"}"#;

#[test]
fn each_verb_reaches_its_own_handler_with_everything() {
    // Odd spacing, unknown keys and a repeated one: none of it may be lost on the way to a delegate.
    let text =
        "{ \"name\":\"net\",\n\t\"cniVersion\": \"1.1.0\", \"some\": 1.50, \"some\": {\"key\": null} } \n";
    for verb in VERBS {
        let plugin = Recorder::default();
        let outcome = call(&plugin, &environment(verb), text);
        assert!(outcome.succeeded, "{outcome:?}");
        let calls = plugin.calls.borrow();
        let [(called, call, attachment)] = &calls[..] else {
            panic!("{verb}: {:?}", plugin.verbs())
        };
        assert_eq!((*called, call.command.name()), (verb, verb));
        assert_eq!(call.config.text(), text.as_bytes());
        assert_eq!(call.config.tree()["some"], json!({"key": null}));
        assert_eq!(call.config.name.as_str(), "net");
        assert_eq!(call.path, [Path::new("/some/cni/path"), Path::new("/another")]);
        assert_eq!(
            call.environment.get("CNI_ARGS"),
            Some("IgnoreUnknown=1;some=extra")
        );
        assert_eq!(
            attachment.is_some(),
            ["ADD", "DEL", "CHECK"].contains(&verb),
            "{verb}"
        );
        if let Some(attachment) = attachment {
            assert_eq!(attachment.container_id.as_str(), "some-container-id");
            assert_eq!(attachment.netns.as_deref(), Some(Path::new("/some/netns/path")));
            assert_eq!(attachment.interface.as_str(), "eth0");
            assert_eq!(attachment.args.value("some"), Some("extra"));
        }
        if verb == "ADD" {
            assert_eq!(
                outcome.json(),
                json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.2.3/24"}]})
            );
        } else {
            outcome.silent();
        }
    }
}

/// Which variables a verb needs, in the order in which missing ones are named.
fn required(verb: &str) -> Vec<&'static str> {
    match verb {
        "ADD" | "CHECK" => vec!["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
        "DEL" => vec!["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
        _ => vec!["CNI_PATH"],
    }
}

#[test]
fn a_missing_variable_is_an_error_exactly_where_it_is_required() {
    for verb in VERBS {
        for name in [
            "CNI_CONTAINERID",
            "CNI_NETNS",
            "CNI_IFNAME",
            "CNI_ARGS",
            "CNI_PATH",
        ] {
            let without = environment_without(verb, &[name]);
            let empty = environment(verb).with(name, "");
            for environment in [without, empty] {
                let plugin = Recorder::default();
                let outcome = call(&plugin, &environment, CONFIG);
                if required(verb).contains(&name) {
                    let message = outcome.failed(4);
                    assert!(
                        message.starts_with(&format!("required env variables [{name}] missing")),
                        "{verb}: {message}"
                    );
                    assert!(plugin.verbs().is_empty());
                } else {
                    assert!(outcome.succeeded, "{verb} without {name}: {outcome:?}");
                    assert_eq!(plugin.verbs(), [verb]);
                }
            }
        }
    }
}

#[test]
fn all_missing_variables_are_named_in_order() {
    for verb in VERBS {
        let environment = environment_without(
            verb,
            &[
                "CNI_PATH",
                "CNI_IFNAME",
                "CNI_NETNS",
                "CNI_CONTAINERID",
                "CNI_ARGS",
            ],
        );
        let message = call(&Recorder::default(), &environment, CONFIG).failed(4);
        let expected = format!("required env variables [{}] missing", required(verb).join(","));
        assert!(message.starts_with(&expected), "{verb}: {message}");
    }
    let environment = environment_without("ADD", &["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]);
    let message = call(&Recorder::default(), &environment, CONFIG).failed(4);
    assert!(
        message.starts_with("required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"),
        "{message}"
    );
}

#[test]
fn malformed_variables_are_named_at_once_with_their_value() {
    let malformed = [
        ("CNI_CONTAINERID", "some-%%id"),
        ("CNI_CONTAINERID", "-leading"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_IFNAME", "1234567890123456"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
    ];
    for (name, value) in malformed {
        for verb in VERBS {
            let environment = environment_without(verb, &["CNI_PATH"]).with(name, value);
            let plugin = Recorder::default();
            let outcome = call(&plugin, &environment, CONFIG);
            let message = outcome.failed(4);
            assert!(plugin.verbs().is_empty());
            if ["ADD", "DEL", "CHECK"].contains(&verb) {
                assert!(message.contains(name), "{message}");
                let details = outcome.json()["details"].as_str().unwrap().to_owned();
                assert!(details.contains(value), "{details}");
            } else {
                // Not looked at: what is missing is said instead.
                assert!(message.contains("[CNI_PATH] missing"), "{verb}: {message}");
            }
        }
    }
    for text in ["a=b;", "a", "a=b=c"] {
        for verb in VERBS {
            let outcome = call(
                &Recorder::default(),
                &environment(verb).with("CNI_ARGS", text),
                CONFIG,
            );
            if ["ADD", "DEL", "CHECK"].contains(&verb) {
                assert!(outcome.failed(4).contains("CNI_ARGS"), "{outcome:?}");
            } else {
                assert!(outcome.succeeded, "{verb}: {outcome:?}");
            }
        }
    }
}

#[test]
fn missing_variables_come_before_malformed_arguments() {
    let environment = environment_without("ADD", &["CNI_NETNS"]).with("CNI_ARGS", "a");
    let message = call(&Recorder::default(), &environment, CONFIG).failed(4);
    assert!(message.contains("[CNI_NETNS] missing"), "{message}");
}

#[test]
fn the_environment_is_checked_before_standard_input_is_read() {
    for verb in VERBS {
        let environment = environment_without(verb, &["CNI_PATH"]);
        call_reading(&Recorder::default(), &environment, &mut Unreadable).failed(4);
    }
}

#[test]
fn standard_input_that_cannot_be_read_is_an_io_error() {
    for verb in VERBS {
        let plugin = Recorder::default();
        let outcome = call_reading(&plugin, &environment(verb), &mut Unreadable);
        assert!(outcome.failed(5).contains("the pipe burst"), "{outcome:?}");
        assert!(plugin.verbs().is_empty());
    }
    let endless = &mut std::io::repeat(b' ');
    let outcome = call_reading(&Recorder::default(), &environment("ADD"), endless);
    assert!(outcome.failed(5).contains("16 MiB"), "{outcome:?}");
}

#[test]
fn what_is_no_json_object_is_a_decoding_error() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "5",
        r#""text""#,
        "{} {}",
        r#"{"name": "net",}"#,
        "{\"name\": \"\u{0}\"}",
    ] {
        for verb in VERBS {
            let outcome = call(&Recorder::default(), &environment(verb), text);
            outcome.failed(6);
        }
    }
    // Deeper than anybody nests; not a stack overflow.
    let deep = "[".repeat(100_000);
    call(&Recorder::default(), &environment("ADD"), &deep).failed(6);
}

#[test]
fn the_network_needs_a_valid_name_for_every_verb() {
    for verb in VERBS {
        for (text, part) in [
            (r#"{"cniVersion": "1.1.0"}"#, "missing"),
            (r#"{"cniVersion": "1.1.0", "name": ""}"#, "missing"),
            (r#"{"cniVersion": "1.1.0", "name": null}"#, "missing"),
            (r#"{"cniVersion": "1.1.0", "name": "te%%st"}"#, "te%%st"),
            (r#"{"cniVersion": "1.1.0", "name": 5}"#, "5 is not a string"),
        ] {
            let plugin = Recorder::default();
            let message = call(&plugin, &environment(verb), text).failed(7);
            assert!(message.contains("name") && message.contains(part), "{message}");
            assert!(plugin.verbs().is_empty());
        }
        // The name is checked before the version.
        let text = r#"{"cniVersion": "garbage", "name": "te%%st"}"#;
        call(&Recorder::default(), &environment(verb), text).failed(7);
        let text = r#"{"cniVersion": "0.0.1", "name": "te%%st"}"#;
        call(&Recorder::default(), &environment(verb), text).failed(7);
    }
}

#[test]
fn unknown_commands_are_refused() {
    for verb in ["UPDATE", "add", "ADD ", "\u{fffd}"] {
        let plugin = Recorder::default();
        let message = call(&plugin, &environment(verb), CONFIG).failed(4);
        assert!(
            message.contains("CNI_COMMAND") && message.contains(verb),
            "{message}"
        );
        assert!(plugin.verbs().is_empty());
    }
}

#[test]
fn without_a_command_the_plugin_says_what_it_is() {
    let environment = environment_without("", &["CNI_COMMAND"]);
    let plugin = Recorder::speaking(&["0.3.0", "1.0.0"]);
    let outcome = call_reading(&plugin, &environment, &mut Unreadable);
    assert!(outcome.succeeded && outcome.stdout.is_empty(), "{outcome:?}");
    assert_eq!(
        outcome.stderr,
        "Recorder v1\nCNI protocol versions supported: 0.3.0, 1.0.0\n"
    );
    let nameless = Recorder {
        about: String::new(),
        ..Recorder::default()
    };
    let outcome = call_reading(&nameless, &environment, &mut Unreadable);
    let message = outcome.failed(4);
    assert!(
        message.starts_with("required env variables [CNI_COMMAND] missing"),
        "{message}"
    );
}

#[test]
fn errors_of_the_plugin_are_printed_unchanged() {
    for code in [
        Code::Internal,
        Code::TryAgainLater,
        Code::Other(123),
        Code::NotAvailable,
        Code::LimitedConnectivity,
    ] {
        for verb in VERBS {
            let plugin = Recorder {
                answer: Err(Error::new(code, "no luck").details("at all")),
                ..Recorder::default()
            };
            let outcome = call(&plugin, &environment(verb), CONFIG);
            assert!(!outcome.succeeded);
            assert_eq!(
                outcome.json(),
                json!({"cniVersion": "1.1.0", "code": u32::from(code), "msg": "no luck", "details": "at all"})
            );
            assert_eq!(outcome.stderr, "");
        }
    }
}

#[test]
fn the_plugins_own_namespace_is_refused_before_anything_is_done() {
    // Two names of one namespace.
    for netns in [
        "/proc/self/ns/net".to_owned(),
        format!("/proc/{}/ns/net", std::process::id()),
    ] {
        for verb in ["ADD", "DEL"] {
            let environment = environment(verb).with("CNI_NETNS", &netns);
            let plugin = Recorder::default();
            let outcome = call(&plugin, &environment, CONFIG);
            assert!(outcome.failed(8).contains(&netns), "{outcome:?}");
            assert!(plugin.verbs().is_empty());
            for meant in ["1", "TRUE", "true", "True"] {
                let environment = environment.clone().with("CNI_NETNS_OVERRIDE", meant);
                let plugin = Recorder::default();
                assert!(call(&plugin, &environment, CONFIG).succeeded, "{meant}");
                assert_eq!(plugin.verbs(), [verb]);
            }
            for not_meant in ["", "0", "no", "yes", "false"] {
                let environment = environment.clone().with("CNI_NETNS_OVERRIDE", not_meant);
                call(&Recorder::default(), &environment, CONFIG).failed(8);
            }
        }
        // A comparison changes nothing.
        let environment = environment("CHECK").with("CNI_NETNS", &netns);
        assert!(call(&Recorder::default(), &environment, CONFIG).succeeded);
    }
}

#[test]
fn a_namespace_that_is_gone_is_left_to_the_plugin() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for netns in ["/nowhere/netns", "", file.path().to_str().unwrap()] {
        let plugin = Recorder::default();
        let environment = environment("DEL").with("CNI_NETNS", netns);
        call(&plugin, &environment, CONFIG).silent();
        let calls = plugin.calls.borrow();
        let expected = Some(Path::new(netns)).filter(|path| !path.as_os_str().is_empty());
        assert_eq!(calls[0].2.as_ref().unwrap().netns.as_deref(), expected);
    }
}
