// SPDX-License-Identifier: Apache-2.0
//! Reading a JSON object as the reference library's decoder does: keys match in any case (the exact one first),
//! `null` is the same as absent, unknown keys are left alone, wrong types are errors. Errors name key and value.

use serde_json::{Map, Value};

use crate::{
    error::{Code, Error},
    lookup::lookup,
};

/// A JSON object, with the path that errors show.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// An object of the configuration; `path` is put before key names in errors, `""` at the top.
    pub fn new(object: &'a Map<String, Value>, path: &'a str) -> Self {
        Self {
            object: Some(object),
            path,
        }
    }

    /// Those of an object that is absent.
    pub fn absent() -> Self {
        Self {
            object: None,
            path: "",
        }
    }

    /// The value of a key, or `None` if it is absent or `null`.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        lookup(self.object?, key).filter(|value| !value.is_null())
    }

    /// An object below a key; `path` is that key's name in errors. Absent: an object without keys.
    pub fn object(&self, key: &'a str) -> Result<Self, Error> {
        match self.value(key) {
            None => Ok(Self {
                object: None,
                path: key,
            }),
            Some(Value::Object(object)) => Ok(Self {
                object: Some(object),
                path: key,
            }),
            Some(value) => Err(self.wrong(key, value, "an object")),
        }
    }

    /// A text; empty is as good as absent.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(value) => Err(self.wrong(key, value, "a string")),
        }
    }

    /// A boolean, also as the strings `"true"` and `"false"` in any case.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(value) => Err(self.wrong(key, value, "true or false")),
        }
    }

    /// A whole number, also as a string of digits.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, Error> {
        let number = match self.value(key) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Number(number)) => number.as_i64(),
            Some(_) => None,
        };
        match (number, self.value(key)) {
            (None, Some(value)) => Err(self.wrong(key, value, "a whole number")),
            (number, _) => Ok(number),
        }
    }

    /// A whole number that is not negative and fits 32 bits.
    pub fn unsigned(&self, key: &str) -> Result<Option<u32>, Error> {
        match (self.integer(key)?, self.value(key)) {
            (Some(number), Some(value)) => match u32::try_from(number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.wrong(key, value, "a whole number from 0 to 4294967295")),
            },
            _ => Ok(None),
        }
    }

    /// A list of texts; absent is empty.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, Error> {
        self.list(key, "a list of strings", |item| item.as_str().map(str::to_owned))
    }

    /// A list of anything that `read` understands; absent is empty.
    pub fn list<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(value @ Value::Array(items)) => items
                .iter()
                .map(read)
                .collect::<Option<_>>()
                .ok_or_else(|| self.wrong(key, value, expected)),
            Some(value) => Err(self.wrong(key, value, expected)),
        }
    }

    /// The error for a value that a plugin does not accept.
    pub fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        Error::new(
            Code::InvalidConfig,
            format!(
                "network configuration: {}: {} is not {expected}",
                self.name(key),
                excerpt(value)
            ),
        )
    }

    /// The full name of a key, as messages show it.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            format!("\"{key}\"")
        } else {
            format!("\"{}.{key}\"", self.path)
        }
    }
}

/// A value short enough for a message.
pub(crate) fn excerpt(value: &Value) -> String {
    const LIMIT: usize = 120;
    let text = value.to_string();
    if text.len() <= LIMIT {
        return text;
    }
    let start: String = text.chars().take(LIMIT).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_leniently_and_errors_name_key_and_value() {
        let Value::Object(object) = json!({
            "MTU": "1400", "flag": "True", "none": null, "empty": "", "list": ["a"], "bad": {"x": 1}, "big": 4_294_967_296_i64,
            "name": "upper", "Name": "exact", "negative": -1
        }) else {
            unreachable!("an object was written")
        };
        let fields = Fields::new(&object, "ipam");
        assert_eq!(fields.unsigned("mtu").unwrap(), Some(1400));
        assert_eq!(fields.boolean("flag").unwrap(), Some(true));
        assert_eq!(fields.text("none").unwrap(), None);
        assert_eq!(fields.integer("empty").unwrap(), None);
        assert_eq!(fields.texts("list").unwrap(), ["a"]);
        assert_eq!(fields.text("Name").unwrap(), Some("exact"));
        assert_eq!(fields.object("bad").unwrap().integer("x").unwrap(), Some(1));
        assert_eq!(fields.object("absent").unwrap().text("x").unwrap(), None);
        for error in [
            fields.text("bad").unwrap_err(),
            fields.boolean("bad").unwrap_err(),
            fields.integer("bad").unwrap_err(),
            fields.texts("bad").unwrap_err(),
        ] {
            assert_eq!(error.code, Code::InvalidConfig);
            assert!(error.message.contains("\"ipam.bad\": {\"x\":1}"), "{error}");
        }
        assert!(fields.unsigned("big").is_err() && fields.unsigned("negative").is_err());
        assert!(fields.object("flag").unwrap_err().message.contains("an object"));
    }
}
