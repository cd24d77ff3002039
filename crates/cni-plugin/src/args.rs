// SPDX-License-Identifier: Apache-2.0
//! `CNI_ARGS`: `K=V;K2=V2`, with the reference library's strictness.

use crate::error::{Code, Error};

/// The pairs of `CNI_ARGS`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    pairs: Vec<(String, String)>,
    ignore_unknown: bool,
}

impl Args {
    /// Reads the variable's text. Each piece between `;` has exactly one `=`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut args = Self::default();
        if text.is_empty() {
            return Ok(args);
        }
        for piece in text.split(';') {
            let (key, value) = piece
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
                .ok_or_else(|| invalid(&format!("{piece:?} is not of the form KEY=VALUE")))?;
            args.pairs.push((key.to_owned(), value.to_owned()));
        }
        if let Some(value) = args.last("IgnoreUnknown") {
            args.ignore_unknown = boolean(value)
                .ok_or_else(|| invalid(&format!("IgnoreUnknown={value}: write 1, true, 0 or false")))?;
        }
        Ok(args)
    }

    /// The value of a key, matched exactly; the last one where it is repeated. Empty is as good as absent.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.last(key).filter(|value| !value.is_empty())
    }

    fn last(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().rev().find(|(name, _)| name == key)?;
        Some(pair.1.as_str())
    }

    /// Fails on a key that is not in the list, unless `IgnoreUnknown` is set.
    pub fn require_known(&self, known: &[&str]) -> Result<(), Error> {
        let unknown = |key: &str| key != "IgnoreUnknown" && !known.contains(&key);
        match self.pairs.iter().find(|(key, _)| unknown(key)) {
            Some((key, _)) if !self.ignore_unknown => Err(invalid(&format!(
                "unknown key {key:?}; known are {}; add IgnoreUnknown=1 to have others ignored",
                known.join(", ")
            ))),
            _ => Ok(()),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn invalid(problem: &str) -> Error {
    Error::new(
        Code::InvalidEnvironment,
        format!("environment variable CNI_ARGS: {problem}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_the_last_one_wins() {
        let args = Args::parse("IgnoreUnknown=1;K8S_POD_NAME=a;K8S_POD_NAME=b;IP=").unwrap();
        assert_eq!(args.value("K8S_POD_NAME"), Some("b"));
        assert_eq!(args.value("IP"), None);
        assert_eq!(args.value("k8s_pod_name"), None, "keys match exactly");
        assert_eq!(Args::parse("").unwrap(), Args::default());
    }

    #[test]
    fn malformed_pieces_are_named() {
        for text in [
            "a",
            "a=b;",
            ";a=b",
            "a=b=c",
            "a=b;;c=d",
            "IgnoreUnknown=perhaps",
            "IgnoreUnknown=",
        ] {
            let error = Args::parse(text).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.message.contains("CNI_ARGS"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_unless_they_are_to_be_ignored() {
        let known = ["IP"];
        assert!(Args::parse("IP=10.0.0.1").unwrap().require_known(&known).is_ok());
        assert!(
            Args::parse("A=b")
                .unwrap()
                .require_known(&known)
                .unwrap_err()
                .message
                .contains("\"A\"")
        );
        assert!(
            Args::parse("IgnoreUnknown=0;A=b")
                .unwrap()
                .require_known(&known)
                .is_err()
        );
        for text in [
            "IgnoreUnknown=1;A=b",
            "A=b;IgnoreUnknown=true",
            "A=b;IgnoreUnknown=TRUE",
        ] {
            assert!(Args::parse(text).unwrap().require_known(&known).is_ok(), "{text}");
        }
    }
}
