// SPDX-License-Identifier: Apache-2.0
//! What selectors are evaluated on.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
};

/// Something that has labels.
pub trait Labels {
    /// The value of a label; `None` if it is missing.
    fn label(&self, name: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Labels for HashMap<String, String, S> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl Labels for [(&str, &str)] {
    fn label(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| *value)
    }
}

impl<const N: usize> Labels for [(&str, &str); N] {
    fn label(&self, name: &str) -> Option<&str> {
        self.as_slice().label(name)
    }
}
