// SPDX-License-Identifier: Apache-2.0
//! The calendar, both text forms, and what is refused.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn days_of_the_calendar() {
    let days = [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", -1),
        ("2000-02-29T12:00:00Z", 951_825_600),
        ("2026-03-01T10:00:00Z", 1_772_359_200),
        ("2100-03-01T00:00:00Z", 4_107_542_400),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        ("0000-01-01T00:00:00Z", FIRST_SECOND),
        ("9999-12-31T23:59:59Z", LAST_SECOND),
    ];
    for (text, seconds) in days {
        assert_eq!(at(text).unix_seconds(), seconds, "{text}");
        assert_eq!(Timestamp::from_unix(seconds, 0).to_string(), text);
    }
}

#[test]
fn other_forms_of_rfc_3339() {
    let expected = at("2026-03-01T10:00:00Z");
    for text in [
        "2026-03-01t10:00:00z",
        "2026-03-01T12:30:00+02:30",
        "2026-02-28T23:00:00-11:00",
    ] {
        assert_eq!(at(text), expected, "{text}");
    }
    assert_eq!(
        at("2026-03-01T10:00:00.1234567899Z"),
        Timestamp::from_unix(1_772_359_200, 123_456_789)
    );
    assert_eq!(
        at("2016-12-31T23:59:60Z"),
        at("2017-01-01T00:00:00Z"),
        "a leap second"
    );
    let bad = [
        "",
        "2026-03-01",
        "2026-03-01T10:00:00",
        "2026-02-29T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-00-01T10:00:00Z",
        "2026-03-00T10:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T10:60:00Z",
        "2026-03-01T10:00:61Z",
        "2026-03-01T10:00:00.Z",
        "2026-03-01T10:00:00+2:00",
        "2026-03-01T10:00:00+25:00",
        "2026-03-01T10:00:00 Z",
        "2026-3-1T10:00:00Z",
        "+026-03-01T10:00:00Z",
        "2026-03-01T10:00:0é",
    ];
    for text in bad {
        assert!(text.parse::<Timestamp>().is_err(), "{text}");
    }
}

/// The forms are those of Go's documentation of `Time.String`.
#[test]
fn go_strings() {
    let cases = [
        (
            "2026-03-01T10:00:05.120394Z",
            "2026-03-01 10:00:05.120394 +0000 UTC",
        ),
        ("2026-03-01T10:00:05Z", "2026-03-01 10:00:05 +0000 UTC"),
        (
            "2026-03-01T10:00:05.000000001Z",
            "2026-03-01 10:00:05.000000001 +0000 UTC",
        ),
    ];
    for (time, go) in cases {
        assert_eq!(at(time).go_string(), go);
        assert_eq!(Timestamp::parse_go(go).unwrap(), at(time));
    }
    let zoned = "2026-03-01 12:00:05.5 +0200 CEST m=+0.000012345";
    assert_eq!(Timestamp::parse_go(zoned).unwrap(), at("2026-03-01T10:00:05.5Z"));
    for text in [
        "",
        "2026-03-01",
        "2026-03-01 10:00:05",
        "2026-03-01 10:00:05 UTC",
        "2026-03-01 10:00:05 é",
    ] {
        assert!(Timestamp::parse_go(text).is_err(), "{text}");
    }
}

#[test]
fn differences_and_the_system_clock() {
    let (early, late) = (at("2026-03-01T10:00:00.9Z"), at("2026-03-01T10:01:00.1Z"));
    assert_eq!(late.since(early), Duration::from_millis(59_200));
    assert_eq!(early.since(late), Duration::ZERO);
    assert_eq!(early.plus(Duration::from_millis(59_200)), late);
    assert_eq!(early.whole_seconds(), at("2026-03-01T10:00:00Z"));
    assert_eq!(early.unix_nanos(), 1_772_359_200_900_000_000);
    assert_eq!(at("1969-01-01T00:00:00Z").unix_nanos(), 0);
    let before = UNIX_EPOCH - Duration::from_millis(1_250);
    assert_eq!(Timestamp::from(before), Timestamp::from_unix(-2, 750_000_000));
    assert_eq!(
        Timestamp::from(UNIX_EPOCH + Duration::from_nanos(7)),
        Timestamp::from_unix(0, 7)
    );
    let far = Timestamp::from_unix(i64::MAX, u32::MAX);
    assert_eq!(far.to_string(), "9999-12-31T23:59:59Z");
    assert_eq!(far.plus(Duration::MAX).unix_seconds(), LAST_SECOND);
}

proptest! {
    #[test]
    fn text_forms_read_back(seconds in FIRST_SECOND..=LAST_SECOND, nanos in 0..NANOS_PER_SECOND) {
        let time = Timestamp::from_unix(seconds, nanos);
        prop_assert_eq!(at(&time.to_string()), time.whole_seconds());
        prop_assert_eq!(Timestamp::parse_go(&time.go_string()).unwrap(), time);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = text.parse::<Timestamp>();
        let _ = Timestamp::parse_go(&text);
    }
}
