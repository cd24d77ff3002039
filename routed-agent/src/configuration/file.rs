// SPDX-License-Identifier: Apache-2.0
//! The configuration file, in the form of Calico's `felix.cfg`: `key = value` below `[section]`. As in Felix, sections
//! do not matter, except that the keys of `[bgp]` are members of BGPConfiguration. Keys are read in any case, the
//! last of several counts. What cannot be read is reported with its line and left out; the rest is used.

use std::collections::{HashMap, hash_map};

use super::origin::{Origin, Problem, Warning};

/// Largest file that is read, in bytes.
const MAX_SIZE: usize = 1 << 20;
/// Most settings of a file, far beyond those there are.
const MAX_ENTRIES: usize = 2000;
/// Most warnings about lines.
const MAX_WARNINGS: usize = 50;

/// The settings of a file.
#[derive(Clone, Debug, Default)]
pub struct File {
    entries: Vec<Entry>,
}

/// One line with a value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Whether it stands below `[bgp]`.
    pub(super) bgp: bool,
    /// As written.
    pub(super) key: String,
    /// Without quotes and comment; may be empty, which is as good as absent.
    pub(super) value: String,
    /// Line, from 1.
    pub(super) line: usize,
}

impl Entry {
    /// Where it is.
    pub(super) fn origin(&self) -> Origin {
        Origin::File {
            key: self.key.clone(),
            line: self.line,
        }
    }
}

impl File {
    /// Reads a file's text.
    pub fn parse(text: &str) -> (Self, Vec<Warning>) {
        let mut reader = Reader::default();
        if text.len() > MAX_SIZE {
            reader.warn("", 1, "the file is larger than 1 MiB, and nothing of it is used");
            return (Self::default(), reader.warnings);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            reader.line(line.trim(), index + 1);
        }
        reader.finish()
    }

    /// The entry of a key.
    pub(super) fn get(&self, bgp: bool, key: &str) -> Option<&Entry> {
        let matching = |entry: &&Entry| entry.bgp == bgp && entry.key.eq_ignore_ascii_case(key);
        self.entries
            .iter()
            .find(matching)
            .filter(|entry| !entry.value.is_empty())
    }

    /// All entries that say something.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.value.is_empty())
    }
}

#[derive(Default)]
struct Reader {
    bgp: bool,
    entries: Vec<Entry>,
    warnings: Vec<Warning>,
}

impl Reader {
    fn line(&mut self, text: &str, line: usize) {
        if text.is_empty() || text.starts_with(['#', ';']) {
            return;
        }
        if let Some(rest) = text.strip_prefix('[') {
            match rest.split_once(']') {
                Some((section, _)) => self.bgp = section.trim().eq_ignore_ascii_case("bgp"),
                None => self.warn(
                    "",
                    line,
                    "is no section: write [global] or [bgp]; the line is left out",
                ),
            }
            return;
        }
        let Some((key, value)) = text.split_once(['=', ':']) else {
            return self.warn(
                text,
                line,
                "is no setting: write KEY = VALUE; the line is left out",
            );
        };
        let key = unquoted(key.trim());
        if key.is_empty() {
            return self.warn("", line, "has no key: write KEY = VALUE; the line is left out");
        }
        let Some(value) = value_of(value.trim()) else {
            return self.warn(key, line, "has a quote that does not end; the line is left out");
        };
        if value.ends_with('\\') {
            return self.warn(
                key,
                line,
                "is continued on the next line, which is not supported: write it in one; the line is left out",
            );
        }
        if self.entries.len() == MAX_ENTRIES {
            return self.warn(key, line, "is beyond 2000 settings; the line is left out");
        }
        self.entries.push(Entry {
            bgp: self.bgp,
            key: key.to_owned(),
            value: value.to_owned(),
            line,
        });
    }

    fn warn(&mut self, key: &str, line: usize, problem: &'static str) {
        if self.warnings.len() < MAX_WARNINGS {
            let key = key.to_owned();
            let origin = Origin::File { key, line };
            self.warnings
                .push(Warning::of(origin, Problem::Unreadable(problem)));
        }
    }

    /// Keeps the last of the entries of each key.
    fn finish(mut self) -> (File, Vec<Warning>) {
        let mut kept: HashMap<(bool, String), usize> = HashMap::new();
        let mut entries = Vec::new();
        for entry in self.entries.into_iter().rev() {
            match kept.entry((entry.bgp, entry.key.to_ascii_lowercase())) {
                hash_map::Entry::Occupied(later) => {
                    if self.warnings.len() < MAX_WARNINGS {
                        let problem = Problem::Repeated(*later.get());
                        self.warnings.push(Warning::of(entry.origin(), problem));
                    }
                }
                hash_map::Entry::Vacant(free) => {
                    free.insert(entry.line);
                    entries.push(entry);
                }
            }
        }
        entries.reverse();
        (File { entries }, self.warnings)
    }
}

/// A value without its quotes, or without the comment behind it. JSON has quotes and `#` of its own, so it is taken as
/// it stands. `None`: a quote that does not end.
fn value_of(text: &str) -> Option<&str> {
    if text.starts_with(['[', '{']) {
        return Some(text);
    }
    for quote in ['"', '\'', '`'] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.split_once(quote).map(|(inside, _)| inside.trim());
        }
    }
    let comment = text
        .match_indices(['#', ';'])
        .map(|(start, _)| start)
        .find(|start| *start == 0 || text[..*start].ends_with([' ', '\t']));
    Some(text[..comment.unwrap_or(text.len())].trim())
}

/// A text without one pair of quotes around it.
pub(super) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    ['"', '\'', '`']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .map_or(text, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(bool, String, String)> {
        let (file, warnings) = File::parse(text);
        assert_eq!(warnings, [], "{text}");
        let entries = file.entries();
        entries
            .map(|entry| (entry.bgp, entry.key.clone(), entry.value.clone()))
            .collect()
    }

    #[test]
    fn a_file_of_calico() {
        let text = "\u{feff}# comment\r\n; another\r\n\r\n[global]\r\nMetadataAddr = None\r\n\
                    LogFilePath= \"/var/log/a b.log\" ; rest\r\nA:b=c\r\n[ BGP ]\nlistenPort=1179 # standard\n\
                    color = a#b\nempty =\nquoted = ''\n[other]\n'Key' = `x`\n";
        let expected = [
            (false, "MetadataAddr", "None"),
            (false, "LogFilePath", "/var/log/a b.log"),
            (false, "A", "b=c"),
            (true, "listenPort", "1179"),
            (true, "color", "a#b"),
            (false, "Key", "x"),
        ];
        let expected = expected.map(|(bgp, key, value)| (bgp, key.to_owned(), value.to_owned()));
        assert_eq!(values(text), expected);
    }

    #[test]
    fn json_is_a_value_and_no_section() {
        let text = "[bgp]\ncommunities = [{\"name\": \"a # b\", \"value\": \"1:1\"}]\n";
        assert_eq!(values(text)[0].2, "[{\"name\": \"a # b\", \"value\": \"1:1\"}]");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_used() {
        let text = "[global\njust words\n= 5\nA = \"open\nB = one\\\nC = 1\nc = 2\n";
        let (file, warnings) = File::parse(text);
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "configuration file line 1: is no section: write [global] or [bgp]; the line is left out",
                "configuration file line 2, just words: is no setting: write KEY = VALUE; the line is left out",
                "configuration file line 3: has no key: write KEY = VALUE; the line is left out",
                "configuration file line 4, A: has a quote that does not end; the line is left out",
                "configuration file line 5, B: is continued on the next line, which is not supported: write it in one; \
                 the line is left out",
                "configuration file line 6, C: is set again in line 7, which counts",
            ]
        );
        let entries: Vec<(&str, &str)> = file.entries().map(|entry| (&*entry.key, &*entry.value)).collect();
        assert_eq!(entries, [("c", "2")]);
        assert!(
            file.get(true, "c").is_none(),
            "the section [bgp] has keys of its own"
        );
    }

    #[test]
    fn a_file_that_wants_all_memory_gets_little() {
        let (file, warnings) = File::parse(&"x".repeat(MAX_SIZE + 1));
        assert_eq!((file.entries().count(), warnings.len()), (0, 1));
        let lines: Vec<String> = (0..5000).map(|number| format!("k{number}=1")).collect();
        let (file, warnings) = File::parse(&lines.join("\n"));
        assert_eq!(
            (file.entries().count(), warnings.len()),
            (MAX_ENTRIES, MAX_WARNINGS)
        );
    }
}
