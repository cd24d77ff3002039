// SPDX-License-Identifier: Apache-2.0
//! CNI errors: a code, a message, details; and their JSON (specification, section "Error").

use std::fmt;

use serde_json::{Value, json};

use crate::{lookup::lookup, version::Version};

/// What kind of failure; the numbers are those of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 1: the plugin does not speak the configuration's version.
    IncompatibleVersion,
    /// 2: a key of the configuration is not supported; the message has key and value.
    UnsupportedField,
    /// 3: unknown container; a runtime may then skip clean-up.
    UnknownContainer,
    /// 4: a variable of the environment is missing or malformed; the message names it.
    InvalidEnvironment,
    /// 5: input or output failed.
    Io,
    /// 6: the input could not be decoded.
    Decoding,
    /// 7: the network configuration is not valid.
    InvalidConfig,
    /// 8: the plugin's own network namespace was given.
    OwnNamespace,
    /// 11: a transient condition; the runtime should try again later.
    TryAgainLater,
    /// 50: the plugin cannot serve ADD now.
    NotAvailable,
    /// 51: the plugin cannot serve ADD now, and existing containers may be cut off.
    LimitedConnectivity,
    /// 999: a failure of the plugin itself, as the reference library numbers it.
    Internal,
    /// Any other number, such as a delegate's.
    Other(u32),
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decoding => 6,
            Code::InvalidConfig => 7,
            Code::OwnNamespace => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Internal => 999,
            Code::Other(number) => number,
        }
    }
}

impl From<u32> for Code {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decoding,
            7 => Self::InvalidConfig,
            8 => Self::OwnNamespace,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            999 => Self::Internal,
            other => Self::Other(other),
        }
    }
}

/// A failed operation, as the runtime is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure.
    pub code: Code,
    /// What failed, in one line.
    pub message: String,
    /// What else is known; may be empty.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// Adds details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Puts the step that failed before the message.
    #[must_use]
    pub fn context(mut self, step: impl fmt::Display) -> Self {
        self.message = format!("{step}: {}", self.message);
        self
    }

    /// The error object for standard output.
    pub fn to_json(&self, cni_version: Version) -> Value {
        let mut object =
            json!({"cniVersion": cni_version.to_string(), "code": u32::from(self.code), "msg": self.message});
        if !self.details.is_empty() {
            object["details"] = Value::String(self.details.clone());
        }
        object
    }

    /// Reads the error object of another plugin; `None` if it is none. One without a code is a failure all the same.
    pub fn from_json(object: &Value) -> Option<Self> {
        let object = object.as_object()?;
        let text = |key| match lookup(object, key) {
            None | Some(Value::Null) => Some(String::new()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        let (message, details) = (text("msg")?, text("details")?);
        let code = match lookup(object, "code") {
            None | Some(Value::Null) if message.is_empty() => return None,
            None | Some(Value::Null) => Code::Internal,
            Some(code) => Code::from(u32::try_from(code.as_u64()?).ok()?),
        };
        Some(Self {
            code,
            message,
            details,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.details.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.details)
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification() {
        for number in [1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 100, 999] {
            assert_eq!(u32::from(Code::from(number)), number);
        }
    }

    #[test]
    fn an_error_reads_back() {
        let error = Error::new(Code::TryAgainLater, "busy")
            .details("lock held")
            .context("ADD");
        let object = error.to_json(Version::V1_1_0);
        assert_eq!(object["cniVersion"], "1.1.0");
        assert_eq!(object["msg"], "ADD: busy");
        assert_eq!(Error::from_json(&object), Some(error.clone()));
        assert_eq!(error.to_string(), "ADD: busy; lock held");
        for unreadable in [
            json!({}),
            json!([]),
            json!(null),
            json!({"code": -1, "msg": "x"}),
            json!({"code": 1, "msg": 5}),
            json!({"code": "1"}),
        ] {
            assert_eq!(Error::from_json(&unreadable), None, "{unreadable}");
        }
        let sloppy = Error::from_json(&json!({"Code": 7, "Msg": "x", "details": null})).unwrap();
        assert_eq!(
            (sloppy.code, sloppy.to_string().as_str()),
            (Code::InvalidConfig, "x")
        );
        let without_code = Error::from_json(&json!({"msg": "no code"})).unwrap();
        assert_eq!(without_code.code, Code::Internal);
        assert!(
            Error::new(Code::Io, "x")
                .to_json(Version::V0_1_0)
                .get("details")
                .is_none()
        );
    }
}
