// SPDX-License-Identifier: Apache-2.0
//! A plugin that writes down what it is called with, and a runtime in memory that calls it.

use std::{
    cell::RefCell,
    io::{self, Read},
    process::ExitCode,
};

use cni_plugin::{
    AddResult, Attachment, Call, Environment, Error, Plugin, SUPPORTED_VERSIONS, Version, dispatch,
};
use serde_json::Value;

/// Every verb that needs more than `CNI_COMMAND`.
pub(crate) const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// Writes calls down and answers what it is told to.
pub(crate) struct Recorder {
    pub(crate) about: String,
    pub(crate) versions: Vec<Version>,
    pub(crate) answer: Result<AddResult, Error>,
    pub(crate) calls: RefCell<Vec<(&'static str, Call, Option<Attachment>)>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            about: "Recorder v1".to_owned(),
            versions: SUPPORTED_VERSIONS.to_vec(),
            answer: Ok(address()),
            calls: RefCell::default(),
        }
    }
}

/// A result that every version can carry.
pub(crate) fn address() -> AddResult {
    let json = serde_json::json!({"ips": [{"address": "10.1.2.3/24"}]});
    AddResult::from_json(&json, Version::V1_1_0).unwrap()
}

impl Recorder {
    pub(crate) fn speaking(versions: &[&str]) -> Self {
        Self {
            versions: versions.iter().map(|text| text.parse().unwrap()).collect(),
            ..Self::default()
        }
    }

    fn record(
        &self,
        verb: &'static str,
        call: &Call,
        attachment: Option<&Attachment>,
    ) -> Result<AddResult, Error> {
        let entry = (verb, call.clone(), attachment.cloned());
        self.calls.borrow_mut().push(entry);
        self.answer.clone()
    }

    /// The verbs it was called with.
    pub(crate) fn verbs(&self) -> Vec<&'static str> {
        self.calls.borrow().iter().map(|(verb, ..)| *verb).collect()
    }
}

impl Plugin for Recorder {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn versions(&self) -> &[Version] {
        &self.versions
    }

    fn add(&self, call: &Call, attachment: &Attachment) -> Result<AddResult, Error> {
        self.record("ADD", call, Some(attachment))
    }

    fn del(&self, call: &Call, attachment: &Attachment) -> Result<(), Error> {
        self.record("DEL", call, Some(attachment)).map(drop)
    }

    fn check(&self, call: &Call, attachment: &Attachment) -> Result<(), Error> {
        self.record("CHECK", call, Some(attachment)).map(drop)
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        self.record("STATUS", call, None).map(drop)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        self.record("GC", call, None).map(drop)
    }
}

/// What a runtime sees of one call.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts failure with this code and returns `msg`, then `; ` and the details.
    pub(crate) fn failed(&self, code: u32) -> String {
        assert!(!self.succeeded, "{self:?}");
        let json = self.json();
        assert_eq!(json["code"], code, "{self:?}");
        assert!(json["cniVersion"].is_string(), "{self:?}");
        let details = json["details"].as_str().unwrap_or_default();
        format!("{}; {details}", json["msg"].as_str().unwrap())
    }

    /// Asserts success without output.
    pub(crate) fn silent(&self) {
        assert!(self.succeeded, "{self:?}");
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), ("", ""));
    }
}

/// An environment with every variable for a verb.
pub(crate) fn environment(verb: &str) -> Environment {
    environment_without(verb, &[])
}

/// The same without some of them.
pub(crate) fn environment_without(verb: &str, left_out: &[&str]) -> Environment {
    let all = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "some-container-id"),
        ("CNI_NETNS", "/some/netns/path"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;some=extra"),
        ("CNI_PATH", "/some/cni/path:/another"),
    ];
    let kept = all.into_iter().filter(|(name, _)| !left_out.contains(name));
    kept.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Calls a plugin.
pub(crate) fn call(plugin: &dyn Plugin, environment: &Environment, config: &str) -> Outcome {
    call_reading(plugin, environment, &mut config.as_bytes())
}

/// Calls a plugin whose standard input is anything.
pub(crate) fn call_reading(plugin: &dyn Plugin, environment: &Environment, stdin: &mut dyn Read) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = dispatch(plugin, environment, stdin, &mut stdout, &mut stderr);
    // An `ExitCode` does not compare.
    let code = format!("{code:?}");
    let succeeded = code == format!("{:?}", ExitCode::SUCCESS);
    assert!(succeeded || code == format!("{:?}", ExitCode::FAILURE), "{code}");
    Outcome {
        succeeded,
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// A standard input that cannot be read.
pub(crate) struct Unreadable;

impl Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the pipe burst"))
    }
}
