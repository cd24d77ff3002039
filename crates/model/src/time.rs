// SPDX-License-Identifier: Apache-2.0
//! Points in time as Calico stores them: RFC 3339 in whole seconds (`metav1.Time`), and Go's `time.String()` in
//! the `timestamp` attribute of an allocation. Nothing here reads a clock: callers hand the time in.
//!
//! Own civil-time arithmetic instead of a date library: two formats in UTC are all the short-lived programs need,
//! and their size counts.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(test)]
mod tests;

const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// `0000-01-01T00:00:00Z` and `9999-12-31T23:59:59Z`: what four digits of a year can say.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_300_799;

/// A point in time, UTC, in nanoseconds, between the years 0 and 9999. Text form: RFC 3339 in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// Seconds since the Unix epoch and nanoseconds on top of them, held within the years 0 to 9999.
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        let seconds = seconds.saturating_add(i64::from(nanos / NANOS_PER_SECOND));
        Self {
            seconds: seconds.clamp(FIRST_SECOND, LAST_SECOND),
            nanos: nanos % NANOS_PER_SECOND,
        }
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds since the Unix epoch, 0 before it: what a new block's sequence number starts with.
    pub fn unix_nanos(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        let nanos = if self.seconds < 0 { 0 } else { self.nanos };
        seconds
            .saturating_mul(u64::from(NANOS_PER_SECOND))
            .saturating_add(u64::from(nanos))
    }

    /// The same time without its fraction of a second: what a stored object can hold.
    #[must_use]
    pub fn whole_seconds(self) -> Self {
        Self { nanos: 0, ..self }
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos =
            |time: Self| i128::from(time.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(time.nanos);
        let difference = nanos(self) - nanos(earlier);
        let seconds = difference.div_euclid(i128::from(NANOS_PER_SECOND));
        let rest = difference.rem_euclid(i128::from(NANOS_PER_SECOND));
        match (u64::try_from(seconds), u32::try_from(rest)) {
            (Ok(seconds), Ok(rest)) => Duration::new(seconds, rest),
            _ => Duration::ZERO,
        }
    }

    /// This time plus a duration, held within the year 9999.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix(
            self.seconds.saturating_add(seconds),
            self.nanos + duration.subsec_nanos(),
        )
    }

    /// As Go's `time.String()` writes a UTC time: `2026-03-01 10:00:05.120394 +0000 UTC`. The value of the
    /// `timestamp` attribute of an allocation.
    pub fn go_string(self) -> String {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = Civil::of(self.seconds);
        let mut fraction = String::new();
        if self.nanos > 0 {
            fraction = format!(".{:09}", self.nanos);
            fraction.truncate(fraction.trim_end_matches('0').len());
        }
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC")
    }

    /// Reads what [`Timestamp::go_string`] writes, also with another offset and zone name, and with the monotonic
    /// clock reading (` m=+0.1`) that Go appends in some places.
    pub fn parse_go(text: &str) -> Result<Self, TimestampError> {
        let fail = || TimestampError(text.to_owned());
        let mut words = text.split(' ');
        let date = words.next().ok_or_else(fail)?;
        let time = words.next().ok_or_else(fail)?;
        let offset = words.next().ok_or_else(fail)?;
        let (sign, digits) = offset.split_at_checked(1).ok_or_else(fail)?;
        let (hours, minutes) = digits.split_at_checked(2).ok_or_else(fail)?;
        format!("{date}T{time}{sign}{hours}:{minutes}")
            .parse()
            .map_err(|_| fail())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::from_unix(
                i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                after.subsec_nanos(),
            ),
            Err(before) => {
                let before = before.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self::from_unix(-seconds, 0),
                    nanos => Self::from_unix((-seconds).saturating_sub(1), NANOS_PER_SECOND - nanos),
                }
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = Civil::of(self.seconds);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// A text that is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time such as 2026-03-01T10:00:00Z")]
pub struct TimestampError(String);

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// RFC 3339, any offset, any number of digits in the fraction (beyond nanoseconds they are cut off).
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse_rfc3339(text).ok_or_else(|| TimestampError(text.to_owned()))
    }
}

json_text!(Timestamp);

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let bytes = date_time.as_bytes();
    let shape = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if shape.iter().any(|(at, byte)| bytes[*at] != *byte) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let number = |from: usize, to: usize| digits(&date_time[from..to]);
    let civil = Civil {
        year: number(0, 4)?,
        month: number(5, 7)?,
        day: number(8, 10)?,
        hour: number(11, 13)?,
        minute: number(14, 16)?,
        second: number(17, 19)?,
    };
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at(length);
            let padded = format!("{fraction:0<9}");
            (
                u32::try_from(digits(padded.get(..9)?)?)
                    .ok()
                    .filter(|_| length > 0)?,
                zone,
            )
        }
        None => (0, rest),
    };
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let (sign, clock) = zone.split_at_checked(1)?;
            let (hours, minutes) = clock
                .split_once(':')
                .filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
            let (hours, minutes) = (digits(hours)?, digits(minutes)?);
            let offset = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            match sign {
                "+" => offset,
                "-" => -offset,
                _ => return None,
            }
        }
    };
    Some(Timestamp::from_unix(
        civil.seconds()? - offset_minutes * 60,
        nanos,
    ))
}

/// Decimal digits only: no sign, no blanks.
fn digits(text: &str) -> Option<i64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A UTC date and time of day in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

/// Days from 1 March of year 0 to 1 January 1970.
const EPOCH_FROM_MARCH_0: i64 = 719_468;

impl Civil {
    /// Counts years from 1 March, so that the leap day is the last of its year and month lengths follow one
    /// formula: (153 m + 2) / 5 days before month m, March being 0.
    fn of(unix_seconds: i64) -> Self {
        let day_number = unix_seconds.div_euclid(SECONDS_PER_DAY) + EPOCH_FROM_MARCH_0;
        let of_day = unix_seconds.rem_euclid(SECONDS_PER_DAY);
        let (era, day_of_era) = (day_number.div_euclid(146_097), day_number.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// Seconds since the Unix epoch; `None` for a date or time of day that does not exist. A leap second counts
    /// as the second after it, as Go and POSIX have it.
    fn seconds(self) -> Option<i64> {
        let march_year = self.year - i64::from(self.month <= 2);
        let march_month = (self.month + 9) % 12;
        let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let day_number = era * 146_097 + day_of_era - EPOCH_FROM_MARCH_0;
        let seconds = day_number * SECONDS_PER_DAY + self.hour * 3_600 + self.minute * 60 + self.second;
        let normal = Self {
            second: self.second.min(59),
            ..self
        };
        let exists = self.second <= 60 && Self::of(seconds - (self.second - normal.second)) == normal;
        exists.then_some(seconds)
    }
}
