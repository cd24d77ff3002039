// SPDX-License-Identifier: Apache-2.0
//! What a runtime sends: the configuration on standard input and the text of `CNI_ARGS`.

use std::process::ExitCode;

use cni_plugin::{
    AddResult, Args, Attachment, Call, Code, Environment, Error, NetworkConfig, Plugin, SUPPORTED_VERSIONS,
    Version, dispatch,
};
use serde_json::Value;

/// A network configuration, given to every verb.
///
/// - A verb either succeeds, or prints one error object with a message that repeats no kilobytes of input.
/// - ADD's result is readable again, and is the previous result it was given.
/// - What parses as a configuration is passed on as it came.
pub fn cni_config(data: &[u8]) {
    if let Ok(config) = NetworkConfig::parse(data) {
        assert_eq!(config.text(), data);
        // Only that reading them does not panic.
        let _ = config.ipam_type();
        let _ = config.fields().boolean("ipMasq");
        let _ = config.fields().unsigned("mtu");
        for version in SUPPORTED_VERSIONS {
            if let Some(result) = &config.prev_result {
                rereads(result, version);
            }
        }
    }
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
        operate(command, data);
    }
}

/// A result survives its JSON, apart from what the version cannot say.
fn rereads(result: &AddResult, version: Version) {
    let Ok(printed) = result.to_json(version) else {
        let no_address = result.ips.is_empty();
        assert!(
            no_address && version < Version::V0_3_0,
            "{version}: {result:?} cannot be printed"
        );
        return;
    };
    let again = AddResult::from_json(&printed, Version::V0_1_0);
    let again = again.unwrap_or_else(|error| panic!("{version}: {printed}: {error}"));
    let stable = again.to_json(version).map_err(|error| error.to_string());
    assert_eq!(stable, Ok(printed), "{version}: printing is not stable");
    if version == Version::V1_1_0 {
        assert_eq!(&again, result);
    }
}

fn operate(command: &str, data: &[u8]) {
    let environment: Environment = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "fuzzed"),
        ("CNI_NETNS", "/nowhere/netns"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nowhere"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into_iter()
    .collect();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = dispatch(&Echo, &environment, &mut &*data, &mut stdout, &mut stderr);
    assert!(stderr.is_empty(), "{command} wrote to stderr");
    let text = String::from_utf8(stdout).unwrap_or_else(|error| panic!("{command}: {error}"));
    let succeeded = format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS);
    let answers = matches!(command, "ADD" | "VERSION");
    if succeeded && !answers {
        assert_eq!(text, "", "{command} printed on success");
        return;
    }
    let printed: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {text}: {error}"));
    let version = printed["cniVersion"].as_str().unwrap_or_default();
    let known: Vec<String> = SUPPORTED_VERSIONS.iter().map(ToString::to_string).collect();
    assert!(
        known.iter().any(|one| one == version),
        "{command}: answer in version {version:?}"
    );
    if !succeeded {
        let error = Error::from_json(&printed).unwrap_or_else(|| panic!("{command}: no error: {text}"));
        assert!(!error.message.is_empty(), "{command}: an error without message");
        assert!(u32::from(error.code) != 0, "{command}: an error without code");
    }
}

/// Answers ADD with the previous result.
struct Echo;

impl Plugin for Echo {
    fn about(&self) -> String {
        "a plugin that is fuzzed".to_owned()
    }

    fn add(&self, call: &Call, _: &Attachment) -> Result<AddResult, Error> {
        Ok(call.config.prev_result.clone().unwrap_or_default())
    }

    fn del(&self, _: &Call, _: &Attachment) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, call: &Call, _: &Attachment) -> Result<(), Error> {
        let missing = Error::new(Code::InvalidConfig, "\"prevResult\" is missing");
        call.config.prev_result.as_ref().map(drop).ok_or(missing)
    }

    fn status(&self, _: &Call) -> Result<(), Error> {
        Ok(())
    }

    fn gc(&self, _: &Call) -> Result<(), Error> {
        Ok(())
    }
}

/// The text of `CNI_ARGS`, by a parser of the same rules written the naive way.
pub fn cni_args(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let pieces: Vec<Vec<&str>> = text.split(';').map(|piece| piece.split('=').collect()).collect();
    let well_formed = text.is_empty() || pieces.iter().all(|piece| piece.len() == 2);
    let last = |key: &str| {
        let pair = pieces
            .iter()
            .rev()
            .find(|piece| piece.len() == 2 && piece[0] == key)?;
        Some(pair[1])
    };
    let ignore = match last("IgnoreUnknown").map(str::to_ascii_lowercase).as_deref() {
        None | Some("0" | "false") => Some(false),
        Some("1" | "true") => Some(true),
        Some(_) => None,
    };
    match Args::parse(text) {
        Ok(args) => {
            assert!(
                well_formed && ignore.is_some(),
                "{text:?} should have been refused"
            );
            if text.is_empty() {
                return;
            }
            for piece in &pieces {
                let expected = last(piece[0]).filter(|value| !value.is_empty());
                assert_eq!(args.value(piece[0]), expected, "{text:?}");
            }
            let known = ["IP", "K8S_POD_NAME"];
            let unknown = pieces
                .iter()
                .any(|piece| piece[0] != "IgnoreUnknown" && !known.contains(&piece[0]));
            assert_eq!(
                args.require_known(&known).is_ok(),
                !unknown || ignore == Some(true),
                "{text:?}"
            );
        }
        Err(error) => {
            assert!(!well_formed || ignore.is_none(), "{text:?} was refused: {error}");
            assert_eq!(error.code, Code::InvalidEnvironment);
        }
    }
}
