//! Tests of repairing text that is almost JSON.

use serde_json::{Value, json};

use super::*;

/// Returns the repaired value, the rest of the text, the number of repaired errors, and the number of words that stand in place
/// of a number.
fn repaired(text: &str) -> Option<(Value, String, [u32; 2])> {
    let mut warnings = AnswerWarnings::default();
    let (json, rest) = repair(text, 1 << 20, &mut warnings).ok()?;
    let count = |code| {
        let list = warnings.clone().into_list();
        list.iter().find(|warning| warning.code == code).map_or(0, |warning| warning.count)
    };
    let counts = [count(WarningCode::Syntax), count(WarningCode::InvalidNumbers)];
    Some((serde_json::from_str(&json).unwrap(), rest.to_owned(), counts))
}

#[test]
fn json_stays_as_it_is() {
    let text = r#" {"a": [1, -0.5e3, "x\n\u0041\/\"", true, false, null, {}, []], "b": {"c": ""}}"#;
    let (value, rest, counts) = repaired(text).unwrap();
    assert_eq!((value, &rest[..], counts), (serde_json::from_str(text).unwrap(), "", [0, 0]));
    assert_eq!(repaired("1e400x"), None);
}

#[test]
fn errors_with_one_meaning_are_repaired() {
    for (text, value, errors) in [
        ("[1, 2,]", json!([1, 2]), 1),
        ("[,1,, 2]", json!([1, 2]), 2),
        (r#"{"a": 1,}"#, json!({"a": 1}), 1),
        (r#"{'a': 'o\'zbek "x"'}"#, json!({"a": "o'zbek \"x\""}), 3),
        ("{a: 1, b-c: 2, $d: 3}", json!({"a": 1, "b-c": 2, "$d": 3}), 3),
        (r#"{"a": , "b": 1, "c":}"#, json!({"a": null, "b": 1, "c": null}), 2),
        ("\"a\nb\tc\0\"", json!("a\nb\tc\0"), 3),
        (r#""C:\dir \x41 \u12 \q""#, json!("C:\\dir A \\u12 \\q"), 4),
        ("[True, False, None, undefined, NULL]", json!([true, false, null, null, null]), 5),
        ("// a\n{/* b */\"a\"/*,*/: 1 // }\n,}", json!({"a": 1}), 5),
        ("{u'a': u\"b\", 'c' => [0x1F, -0xa, undef]}", json!({"a": "b", "c": [31, -10, null]}), 8),
        ("[\"/* no */ // comment\", 1/**/]", json!(["/* no */ // comment", 1]), 1),
        ("[+1, .5, 5., 007, -01]", json!([1, 0.5, 5, 7, -1]), 5),
    ] {
        assert_eq!(repaired(text), Some((value, String::new(), [errors, 0])), "{text}");
    }
}

#[test]
fn words_instead_of_numbers_become_null() {
    let words =
        "NaN, nan, -nan, Infinity, -Infinity, inf, -INF, 1.#QNAN, -1.#IND, 1.#INF, nan(ind), -, 1.2.3, 1-2";
    let (value, _, counts) = repaired(&format!("[{words}]")).unwrap();
    assert_eq!((value, counts), (Value::Array(vec![Value::Null; 14]), [0, 14]));
}

#[test]
fn text_with_more_than_one_meaning_is_not_repaired() {
    for text in [
        "",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\": 1 \"b\": 2}",
        "[1, 2",
        "{\"a\": \"b",
        "{\"a\": 1,5}",
        "{\"text\": \"he said \"hello\" twice\"}",
        "[hello]",
        "[0x]",
        "[0x-1]",
        "[1 /* open",
        "{\"a\" = 1}",
        "[a/b]",
        "[1, 2}",
        "<html>",
    ] {
        assert_eq!(repaired(text), None, "{text}");
    }
    let (value, rest, _) = repaired("{\"a\": 1}); // end").unwrap();
    assert_eq!((value, &rest[..]), (json!({"a": 1}), "); // end"));
}

#[test]
fn deep_nesting_and_long_output_are_bounded() {
    let deep = "[".repeat(1_000_000);
    assert_eq!(repair(&deep, usize::MAX, &mut AnswerWarnings::default()), Err(deep.len()));
    let controls = format!("[{}]", "\"\u{1}\",".repeat(100));
    assert!(repair(&controls, 100, &mut AnswerWarnings::default()).is_err());
    let long = format!("\"{}\"", "\u{1}".repeat(1_000_000));
    assert!(repair(&long, 100, &mut AnswerWarnings::default()).is_err_and(|read| read < 100));
}
