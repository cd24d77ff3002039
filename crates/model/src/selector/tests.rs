// SPDX-License-Identifier: Apache-2.0
//! The facts of the selector language, one table each, and two properties.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

fn selector(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn problem(text: &str) -> (Problem, usize) {
    let error = text.parse::<Selector>().expect_err(text);
    assert_eq!(error.selector, text);
    (error.problem, error.position)
}

#[test]
fn what_matches() {
    let labels = [
        ("a", "x"),
        ("b", "long value"),
        ("empty", ""),
        ("in", "1"),
        ("contains", "2"),
        ("a/b.c-d_e", "3"),
    ];
    let cases = [
        ("", true),
        (" \t ", true),
        ("all()", true),
        ("all( \t)", true),
        ("global()", true),
        ("has(a)", true),
        ("has( a )", true),
        ("has(missing)", false),
        ("a == 'x'", true),
        ("a == \"x\"", true),
        ("a=='x'", true),
        ("a == 'y'", false),
        ("a != 'y'", true),
        ("a != 'x'", false),
        ("empty == ''", true),
        // a missing label
        ("missing == 'x'", false),
        ("missing != 'x'", true),
        ("missing in {'x'}", false),
        ("missing not in {'x'}", true),
        ("missing contains ''", false),
        ("missing starts with ''", false),
        ("missing ends with ''", false),
        ("missing == ''", false),
        // sets
        ("a in {'x', 'y'}", true),
        ("a in {'y'}", false),
        ("a in {'x',}", true),
        ("a in{'x'}", true),
        ("a not in {'y'}", true),
        ("a notin {'y'}", true),
        ("a not \t in {'x'}", false),
        ("a in {}", false),
        ("a not in {}", true),
        ("missing not in {}", true),
        // parts of values
        ("b contains 'ng v'", true),
        ("b contains'ng v'", true),
        ("b contains ''", true),
        ("b contains 'x'", false),
        ("b starts with 'long'", true),
        ("b startswith 'long'", true),
        ("b starts with 'value'", false),
        ("b ends with 'value'", true),
        ("b endswith 'long'", false),
        // labels named like operators and functions
        ("in == '1'", true),
        ("in in {'1'}", true),
        ("contains contains '2'", true),
        ("not == 'x'", false),
        ("all != 'x'", true),
        ("has == 'x'", false),
        ("a/b.c-d_e == '3'", true),
        // precedence, negation, parentheses
        ("a == 'x' || a == 'y' && a == 'z'", true),
        ("(a == 'x' || a == 'y') && a == 'z'", false),
        ("!a == 'x'", false),
        ("!!a == 'x'", true),
        ("! ! !has(a)", false),
        ("!(has(a) && has(missing))", true),
        ("!has(a) || has(a)", true),
        ("((has(a)))", true),
        ("has(a)&&has(b)||has(c)", true),
    ];
    for (text, expected) in cases {
        assert_eq!(selector(text).matches(&labels), expected, "{text}");
    }
}

#[test]
fn canonical_text() {
    let cases = [
        ("", "all()"),
        ("  ", "all()"),
        ("all( )", "all()"),
        ("global( )", "global()"),
        ("a=='x'&&has( b )", "(a == \"x\" && has(b))"),
        ("a == 'say \"x\"'", "a == 'say \"x\"'"),
        ("a == \"it's\"", "a == \"it's\""),
        ("a in {'z','b','z',\"a\",}", "a in {\"a\", \"b\", \"z\"}"),
        ("a notin {'q\"'}", "a not in {'q\"'}"),
        ("a in {}", "a in {}"),
        ("a starts   with 'x'", "a starts with \"x\""),
        ("a endswith 'x'", "a ends with \"x\""),
        ("a contains 'x'", "a contains \"x\""),
        ("a != 'x'", "a != \"x\""),
        ("!!has(a)", "has(a)"),
        ("!(!has(a))", "has(a)"),
        ("!!!has(a)", "!has(a)"),
        ("!(has(a)||has(b))", "!(has(a) || has(b))"),
        ("has(a) || has(b) && has(c)", "(has(a) || (has(b) && has(c)))"),
        ("(has(a) && has(b)) && has(c)", "((has(a) && has(b)) && has(c))"),
        ("(((has(a))))", "has(a)"),
    ];
    for (text, canonical) in cases {
        let parsed = selector(text);
        assert_eq!(parsed.to_string(), canonical, "{text}");
        assert_eq!(selector(canonical), parsed, "{canonical} read again");
    }
}

/// Computed from the rule with an independent SHA-224: `s:` and base64url of the hash of `s:` and the canonical text.
#[test]
fn identity() {
    assert_eq!(selector("a == 'x'").identity(), selector(" a==\"x\" ").identity());
    assert_ne!(selector("a == 'x'").identity(), selector("a != 'x'").identity());
    assert_eq!(
        selector("").identity(),
        "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"
    );
    assert_eq!(
        selector("a=='x' && has(b)").identity(),
        "s:EaZPdogDY_GNEJFIQrS7g_x3_XAlc7CqchC-WA"
    );
}

#[test]
fn error_words() {
    let too_long = "l".repeat(MAX_LABEL_LENGTH + 1);
    let has_too_long = format!("has({too_long})");
    let operator = |label: &str| Problem::ExpectedOperator {
        label: label.to_owned(),
    };
    let cases = [
        ("a == 'x", Problem::UnterminatedString, 6),
        ("a in {'x}", Problem::UnterminatedString, 7),
        ("a == 'x\"", Problem::UnterminatedString, 6),
        ("a = 'x'", Problem::ExpectedEqual, 3),
        ("= 'x'", Problem::ExpectedEqual, 1),
        ("has(a) & has(b)", Problem::ExpectedAnd, 8),
        ("has(a) | has(b)", Problem::ExpectedOr, 8),
        ("a", operator("a"), 2),
        ("a b", operator("a"), 3),
        ("a incoming {'x'}", operator("a"), 3),
        ("a starts 'x'", operator("a"), 3),
        ("a not 'x'", operator("a"), 3),
        ("has (a)", operator("has"), 5),
        ("all ()", operator("all"), 5),
        ("has(a", Problem::UnclosedFunction { function: "has" }, 6),
        ("has(a b)", Problem::UnclosedFunction { function: "has" }, 7),
        ("all(a)", Problem::UnclosedFunction { function: "all" }, 5),
        ("global(", Problem::UnclosedFunction { function: "global" }, 8),
        ("has()", Problem::ExpectedIdentifier, 5),
        ("!", Problem::ExpectedIdentifier, 2),
        ("has(a) &&", Problem::ExpectedIdentifier, 10),
        ("&& has(a)", Problem::ExpectedIdentifier, 1),
        ("()", Problem::ExpectedIdentifier, 2),
        ("'x' == a", Problem::ExpectedIdentifier, 1),
        ("ä == 'x'", Problem::ExpectedIdentifier, 1),
        ("\n", Problem::ExpectedIdentifier, 1),
        ("a == 'ä' \n", Problem::TrailingContent, 10),
        (&too_long, Problem::LabelTooLong, 1),
        (&has_too_long, Problem::LabelTooLong, 5),
        ("(has(a)", Problem::ExpectedClosingParenthesis, 8),
        ("(has(a) has(b))", Problem::ExpectedClosingParenthesis, 9),
        ("a in {'x' 'y'}", Problem::ExpectedClosingBrace, 11),
        ("a in {,}", Problem::ExpectedClosingBrace, 7),
        ("a in {'x'", Problem::ExpectedClosingBrace, 10),
        ("a in {b}", Problem::ExpectedClosingBrace, 7),
        ("a == b", Problem::ExpectedString, 6),
        ("a == ", Problem::ExpectedString, 6),
        ("a contains {'x'}", Problem::ExpectedString, 12),
        ("a in 'x'", Problem::ExpectedSet, 6),
        ("a not in", Problem::ExpectedSet, 9),
        ("has(a) has(b)", Problem::TrailingContent, 8),
        ("has(a))", Problem::TrailingContent, 7),
        ("a == 'x'y", Problem::TrailingContent, 9),
    ];
    for (text, expected, position) in cases {
        assert_eq!(problem(text), (expected, position), "{text}");
    }
    let words = "a = 'x'"
        .parse::<Selector>()
        .expect_err("one equals sign")
        .to_string();
    assert_eq!(
        words,
        r#"invalid selector "a = 'x'": expected == (at character 3)"#
    );
}

/// Calico's separate tokenizer says `expected &&` before anything else is looked at; here the grammar comes first.
#[test]
fn a_single_sign_where_an_operand_belongs() {
    assert_eq!(problem("& has(a)"), (Problem::ExpectedAnd, 1));
    assert_eq!(problem("has(a) && | has(b)"), (Problem::ExpectedOr, 11));
}

#[test]
fn the_longest_label_is_accepted() {
    let longest = "l".repeat(MAX_LABEL_LENGTH);
    assert!(selector(&format!("has({longest})")).matches(&[(longest.as_str(), "")]));
}

#[test]
fn deep_nesting_is_refused_before_it_can_exhaust_the_stack() {
    let nested = |depth: usize| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
    assert!(selector(&nested(MAX_NESTING)).matches(&[("a", "")]));
    assert_eq!(problem(&nested(MAX_NESTING + 1)).0, Problem::NestedTooDeeply);
    assert_eq!(problem(&"!(".repeat(1_000_000)).0, Problem::NestedTooDeeply);
    let many = vec!["(has(a))"; 10_000].join(" && ");
    assert!(
        selector(&many).matches(&[("a", "")]),
        "side by side is not nested"
    );
    let negations = format!("{}has(a)", "!".repeat(1_000_001));
    assert_eq!(selector(&negations).to_string(), "!has(a)");
}

#[test]
fn maps_have_labels() {
    let tree = BTreeMap::from([("a".to_owned(), "x".to_owned())]);
    let hash: HashMap<String, String> = tree.clone().into_iter().collect();
    assert!(selector("a == 'x'").matches(&tree));
    assert!(selector("a == 'x'").matches(&hash));
    assert!(!selector("has(b)").matches(&tree));
}

/// Texts that are selectors, in many spellings.
fn spellings() -> impl Strategy<Value = String> {
    let label = "[a-c]{1,2}";
    let string = prop_oneof!["'[a-b\"]{0,2}'", "\"[a-b']{0,2}\""];
    let leaf = prop_oneof![
        Just("all()".to_owned()),
        Just("global( )".to_owned()),
        label.prop_map(|label| format!("has( {label})")),
        (
            label,
            "(==|!=| contains | starts with|  startswith |\tends with )",
            string.clone()
        )
            .prop_map(|(label, operator, value)| format!("{label}{operator}{value}")),
        (
            label,
            "( in| not in | notin)",
            prop::collection::vec(string, 0..4)
        )
            .prop_map(|(label, operator, values)| format!("{label}{operator}{{{}}}", values.join(" , "))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|operands| format!("({})", operands.join("&&"))),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|operands| format!("( {} )", operands.join(" || "))),
            inner.prop_map(|operand| format!("!{operand}")),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_text_reads_back(text in spellings(), a in prop::option::of("[a-b]{0,2}"), b in prop::option::of("[a-b]{0,2}")) {
        let parsed = selector(&text);
        let again = selector(&parsed.to_string());
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(again.to_string(), parsed.to_string());
        prop_assert_eq!(again.identity(), parsed.identity());
        let labels: BTreeMap<String, String> =
            [("a", a), ("b", b)].into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        prop_assert_eq!(again.matches(&labels), parsed.matches(&labels));
        prop_assert_ne!(selector(&format!("!({text})")).matches(&labels), parsed.matches(&labels));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = text.parse::<Selector>();
    }

    #[test]
    fn no_text_of_the_language_panics(text in "([a-c(){}!&|=,'\" \t]|has\\(|all\\(\\)|in|not|with|starts){0,30}") {
        if let Ok(parsed) = text.parse::<Selector>() {
            prop_assert_eq!(selector(&parsed.to_string()), parsed);
        }
    }
}
