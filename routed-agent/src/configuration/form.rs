// SPDX-License-Identifier: Apache-2.0
//! How one value is written: each [`Form`] reads text (environment, file) and JSON (stored objects), writes the value
//! back, and says in words what it accepts. Texts that are not accepted give `None`; who asked knows where they are from.

use std::{
    fmt::{Debug, Display},
    marker::PhantomData,
    time::Duration,
};

use model::duration::GoDuration;
use serde_json::Value as Json;

/// One way of writing values of one type.
pub trait Form {
    /// What is written.
    type Value: Clone + Debug + PartialEq;

    /// Whether texts may hold what must not reach a log or a status page.
    const SECRET: bool = false;

    /// What is accepted, continuing "write ...".
    fn accepted() -> String;

    /// Reads a text without surrounding blanks or quotes; never empty.
    fn read(text: &str) -> Option<Self::Value>;

    /// Reads a member of a stored object.
    fn read_json(json: &Json) -> Option<Self::Value> {
        Self::read(&scalar(json)?)
    }

    /// A text that reads as the value; empty where the value is "unset".
    fn write(value: &Self::Value) -> String;
}

/// The text of a JSON value that has one. Fractions have none: an AS number 1.10 would have lost its zero.
fn scalar(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.trim().to_owned()),
        Json::Number(number) => (!number.is_f64()).then(|| number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// `true` and `false`, with Felix' other spellings.
#[derive(Debug)]
pub struct Flag;

impl Form for Flag {
    type Value = bool;

    fn accepted() -> String {
        "true or false (also 1, yes, y, t and 0, no, n, f)".to_owned()
    }

    fn read(text: &str) -> Option<bool> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "t" => Some(true),
            "false" | "0" | "no" | "n" | "f" => Some(false),
            _ => None,
        }
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }
}

/// A whole number in a range.
#[derive(Debug)]
pub struct Whole<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T, const MIN: u64, const MAX: u64> Form for Whole<T, MIN, MAX>
where
    T: TryFrom<u64> + Clone + Debug + Display + PartialEq,
{
    type Value = T;

    fn accepted() -> String {
        format!("{MIN} to {MAX}")
    }

    fn read(text: &str) -> Option<T> {
        let number = digits(text).filter(|number| (MIN..=MAX).contains(number))?;
        T::try_from(number).ok()
    }

    fn write(value: &T) -> String {
        value.to_string()
    }
}

/// Decimal digits only: a sign, which `parse` would take, is a slip of the pen in every setting.
fn digits(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An MTU in bytes, at least `MIN`, or 0 for "from the underlay".
#[derive(Debug)]
pub struct Mtu<const MIN: u64>;

impl<const MIN: u64> Form for Mtu<MIN> {
    type Value = u32;

    fn accepted() -> String {
        format!("0 for automatic, or {MIN} to 65535")
    }

    fn read(text: &str) -> Option<u32> {
        match digits(text) {
            Some(0) => Some(0),
            Some(mtu) if (MIN..=65_535).contains(&mtu) => u32::try_from(mtu).ok(),
            None if text.eq_ignore_ascii_case("none") => Some(0),
            _ => None,
        }
    }

    fn write(value: &u32) -> String {
        value.to_string()
    }
}

/// A value that may be missing; `none` says so against a source of lower precedence.
#[derive(Debug)]
pub struct Optional<F>(PhantomData<F>);

impl<F: Form> Form for Optional<F> {
    type Value = Option<F::Value>;

    const SECRET: bool = F::SECRET;

    fn accepted() -> String {
        format!("{}, or none", F::accepted())
    }

    fn read(text: &str) -> Option<Self::Value> {
        if text.eq_ignore_ascii_case("none") {
            return Some(None);
        }
        F::read(text).map(Some)
    }

    fn read_json(json: &Json) -> Option<Self::Value> {
        if json
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("none"))
        {
            return Some(None);
        }
        F::read_json(json).map(Some)
    }

    fn write(value: &Self::Value) -> String {
        value.as_ref().map(F::write).unwrap_or_default()
    }
}

/// A length of time of at most `MAX` seconds: a number is seconds, as in Felix' variables; with units it is Go's text,
/// as in stored objects. Below `MIN` seconds only 0, which switches off what the time is for, where `MIN` is not 0.
#[derive(Debug)]
pub struct Seconds<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Form for Seconds<MIN, MAX> {
    type Value = Duration;

    fn accepted() -> String {
        format!("0, or seconds of {MIN} to {MAX} as in 90 or 1.5, or with units as in 1m30s")
    }

    fn read(text: &str) -> Option<Duration> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let duration = if is_number {
            format!("{text}s").parse::<GoDuration>().ok()?.0
        } else {
            text.parse::<GoDuration>().ok()?.0
        };
        let fits = (Duration::from_secs(MIN)..=Duration::from_secs(MAX)).contains(&duration);
        (duration.is_zero() || fits).then_some(duration)
    }

    fn write(value: &Duration) -> String {
        GoDuration(*value).to_string()
    }
}

/// A restart time of graceful restart (RFC 4724 section 3: 12 bits of whole seconds), written as [`Seconds`].
#[derive(Debug)]
pub struct RestartTime;

impl Form for RestartTime {
    type Value = u16;

    fn accepted() -> String {
        "whole seconds of 1 to 4095 as in 120, or with units as in 2m".to_owned()
    }

    fn read(text: &str) -> Option<u16> {
        let duration = Seconds::<1, 4095>::read(text)?;
        let seconds = u16::try_from(duration.as_secs()).ok()?;
        (seconds > 0 && duration.subsec_nanos() == 0).then_some(seconds)
    }

    fn write(value: &u16) -> String {
        Seconds::<1, 4095>::write(&Duration::from_secs(u64::from(*value)))
    }
}

/// A hold time (RFC 4271 section 4.2): 0 for none, or 3 to 65535 seconds, written as [`Seconds`].
#[derive(Debug)]
pub struct HoldTime;

impl Form for HoldTime {
    type Value = u16;

    fn accepted() -> String {
        "0 for none, or whole seconds of 3 to 65535 as in 90, or with units as in 1m30s".to_owned()
    }

    fn read(text: &str) -> Option<u16> {
        let duration = Seconds::<3, 65_535>::read(text)?;
        let seconds = u16::try_from(duration.as_secs()).ok()?;
        (duration.subsec_nanos() == 0).then_some(seconds)
    }

    fn write(value: &u16) -> String {
        Seconds::<3, 65_535>::write(&Duration::from_secs(u64::from(*value)))
    }
}

/// An enumeration whose words are read in any case.
pub trait Words: Copy + Debug + PartialEq + 'static {
    /// The words, each with its meaning.
    const ALL: &'static [(&'static str, Self)];
    /// Other writers' words, read but not offered.
    const SYNONYMS: &'static [(&'static str, Self)] = &[];
}

/// One of the words of `T`.
#[derive(Debug)]
pub struct Word<T>(PhantomData<T>);

impl<T: Words> Form for Word<T> {
    type Value = T;

    fn accepted() -> String {
        let words: Vec<&str> = T::ALL.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    }

    fn read(text: &str) -> Option<T> {
        let mut words = T::ALL.iter().chain(T::SYNONYMS);
        let same = words.find(|(word, _)| word.eq_ignore_ascii_case(text));
        same.map(|(_, meaning)| *meaning)
    }

    fn write(value: &T) -> String {
        let word = T::ALL.iter().find(|(_, meaning)| meaning == value);
        word.map(|(word, _)| (*word).to_owned()).unwrap_or_default()
    }
}

/// A list of whatever can be told apart by commas; in stored objects also a JSON array.
#[derive(Debug)]
pub struct List<F>(PhantomData<F>);

/// Most entries of a list.
const MAX_LIST: usize = 500;

impl<F: Form> Form for List<F> {
    type Value = Vec<F::Value>;

    fn accepted() -> String {
        format!("a comma-separated list, each item {}; or none", F::accepted())
    }

    fn read(text: &str) -> Option<Self::Value> {
        if text.eq_ignore_ascii_case("none") {
            return Some(Vec::new());
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items: Vec<F::Value> = items.map(F::read).collect::<Option<_>>()?;
        (items.len() <= MAX_LIST).then_some(items)
    }

    fn read_json(json: &Json) -> Option<Self::Value> {
        match json {
            Json::Array(items) if items.len() <= MAX_LIST => items.iter().map(F::read_json).collect(),
            Json::String(text) => Self::read(text),
            _ => None,
        }
    }

    fn write(value: &Self::Value) -> String {
        let items: Vec<String> = value.iter().map(F::write).collect();
        items.join(",")
    }
}
