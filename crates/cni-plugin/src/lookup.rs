// SPDX-License-Identifier: Apache-2.0
//! Finding a member of a JSON object as the reference library's decoder does: names match in any case. Called
//! wherever an object of a runtime or another plugin is read.

use serde_json::{Map, Value};

/// The value of a key: the exact spelling first, then any other; one that is `null` only if there is nothing else.
pub(crate) fn lookup<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let exact = object.get(key);
    if exact.is_some_and(|value| !value.is_null()) {
        return exact;
    }
    let same = object
        .iter()
        .rev()
        .filter(|(name, _)| name.eq_ignore_ascii_case(key));
    let mut values = same.map(|(_, value)| value);
    values
        .clone()
        .find(|value| !value.is_null())
        .or_else(|| values.next())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_exact_name_wins_and_null_loses() {
        let Value::Object(object) = json!({
            "name": 1, "Name": 2, "NAME": 3, "DNS": 4, "dns": null, "Mac": null, "LAST": 5, "Last": 6,
        }) else {
            unreachable!("an object was written")
        };
        for (key, expected) in [
            ("name", json!(1)),
            ("Name", json!(2)),
            ("dns", json!(4)),
            ("mac", Value::Null),
        ] {
            assert_eq!(lookup(&object, key), Some(&expected), "{key}");
        }
        assert!(lookup(&object, "last").is_some());
        assert_eq!(lookup(&object, "names"), None);
    }
}
