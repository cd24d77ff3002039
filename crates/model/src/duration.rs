// SPDX-License-Identifier: Apache-2.0
//! Durations as Calico's fields hold them: Go's text form, `90s`, `1m30s`, `1.5h`. Negative ones do not occur in the
//! data model and are refused.

use std::{fmt, str::FromStr, time::Duration};

/// A duration with Go's text form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write for example 90s, 1m30s or 250ms")]
pub struct DurationError(String);

/// Units from long to short, in nanoseconds. `µs` exists with both of Unicode's signs.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text)
            .map(|nanos| Self(Duration::from_nanos(nanos)))
            .ok_or_else(|| DurationError(text.to_owned()))
    }
}

/// Numbers with units, one after the other; a lone 0 needs no unit. `None` also beyond 2^64 nanoseconds.
fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let number_length = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (number, from_unit) = rest.split_at(number_length);
        let (unit, scale) = UNITS.iter().find(|(unit, _)| from_unit.starts_with(unit))?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = &from_unit[unit.len()..];
    }
    Some(total)
}

/// A decimal number times a unit; what is below a nanosecond is cut off.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0').checked_mul(place)?)?;
    }
    Some(nanos)
}

impl fmt::Display for GoDuration {
    /// As Go's `Duration.String`: below a second in one unit with a fraction, above it in hours, minutes, seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", Decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", Decimal(nanos, 1_000_000)),
            _ => {
                let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", Decimal(rest, 1_000_000_000))
            }
        }
    }
}

/// A quotient by a power of ten, without trailing zeros.
struct Decimal(u128, u128);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        write!(f, "{}", value / unit)?;
        let (mut rest, mut place) = (value % unit, unit / 10);
        if rest > 0 {
            f.write_str(".")?;
        }
        while rest > 0 {
            write!(f, "{}", rest / place)?;
            rest %= place;
            place /= 10;
        }
        Ok(())
    }
}

json_text!(GoDuration);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ways() {
        let cases = [
            ("0", 0, "0s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("+2h", 7_200_000_000_000, "2h0m0s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("1500ms", 1_500_000_000, "1.5s"),
            ("12.5us", 12_500, "12.5\u{b5}s"),
            ("3\u{3bc}s7ns", 3_007, "3.007\u{b5}s"),
            ("1.00000000099s", 1_000_000_000, "1s"),
        ];
        for (text, nanos, written) in cases {
            let duration: GoDuration = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(duration.0, Duration::from_nanos(nanos), "{text}");
            assert_eq!(duration.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in [
            "",
            "+",
            "s",
            "1",
            "-1s",
            "1.2.3s",
            ".s",
            "1x",
            "1s ",
            "1 s",
            "99999999999h",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_back(nanos: u64) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[0-9.hmsunµ+-]{0,16}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
