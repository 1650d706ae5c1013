//! Tests of shapes.

use proptest::prelude::*;

use super::*;
use crate::domain::clock::SystemEntropy;

const JSON: Option<&str> = Some("application/json; charset=utf-8");

fn id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

fn json(status: u16, body: &str, call: &str) -> AnswerShape {
    shape_of(status, JSON, body.as_bytes(), &id(call))
}

/// The id of a probe.
const PROBE: &str = "9876543210.123456";

#[test]
fn answers_about_two_calls_have_the_same_shape() {
    let pairs = [
        (r#"{"error": "call not found"}"#, r#"{"error":"call not found"}"#),
        (r#"{"error": "call 9876543210.123456 not found"}"#, r#"{"error": "call abc not found"}"#),
        (r#"{"error": "No call: 9876543210.123456."}"#, r#"{"error": "No call: abc."}"#),
        (r#"{"answer": {"call": "9876543210.123456"}}"#, r#"{"answer": {"call": "abc"}}"#),
        (r#"{"a": null, "request": "f81d4fae-7dec"}"#, r#"{"a": null, "request": "0b1c2d3e-11aa"}"#),
        (r#"{"at": "Mon, 20 May 2024 12:20:17 GMT"}"#, r#"{"at": "Tue, 01 Dec 2026 09:00:00 GMT"}"#),
        (r#"{"calls": {"9876543210.123456": null}, "z": 1}"#, r#"{"calls": {"abc": null}, "z": 1}"#),
        (r#"{"at": "5/20/2024, 9:20 AM"}"#, r#"{"at": "5/20/2024, 9:20 PM"}"#),
        (r#"{"at": 1716207617, "code": 404}"#, r#"{"at": 1796207617, "code": 404}"#),
        (r#"{"at": "2024-05-20T12:20:17.042Z"}"#, r#"{"at": "2026-12-01T09:00:00+05:00"}"#),
        (r#"{"answer": {"stalk": [], "tags": []}}"#, r#"{"answer": {"tags": [], "stalk": []}}"#),
        ("Cannot GET /callgetairesult/[token]/9876543210.123456", "Cannot GET /callgetairesult/[token]/abc"),
        ("", " \n"),
    ];
    for (probe, answer) in pairs {
        for status in [200, 400] {
            assert!(json(status, answer, "abc").matches(json(status, probe, PROBE)), "{probe} {answer}");
        }
    }
    // The id of the call is also a word of the text.
    let probed = json(200, r#"{"error": "a call was not found"}"#, PROBE);
    assert!(json(200, r#"{"error": "a call was not found"}"#, "a").matches(probed));
    // The id has characters that separate words.
    let probed = json(404, "no <9876543210.123456> here", PROBE);
    assert!(json(404, "no <q\"x y@z\"> here", "q\"x").matches(json(
        404,
        "no <9876543210.123456 y@z\"> here",
        PROBE
    )));
    assert!(json(404, "no <a*(b)> here", "a*(b)").matches(probed));
    // The order of the names depends on the id.
    let probed = json(200, r#"{"9876543210.123456": null, "answer": 1}"#, PROBE);
    assert!(json(200, r#"{"answer": 1, "zzz": null}"#, "ZZZ").matches(probed));
    // Characters of the id are encoded.
    let probed = json(404, "no 9876543210.123456", PROBE);
    assert!(json(404, "no a%3Ab%40c", "a:b@c").matches(probed));
}

#[test]
fn answers_that_differ_in_more_than_ids_and_times_have_other_shapes() {
    let shapes = [
        json(200, r#"{"answer": null}"#, "1"),
        json(200, r#"{"answer": {}}"#, "1"),
        json(200, r#"{"answer": []}"#, "1"),
        json(200, r#"{"answer": "processing"}"#, "1"),
        json(200, r#"{"answer": "not found"}"#, "1"),
        json(200, r#"{"answer": {"stalk": [], "tags": []}}"#, "1"),
        json(200, r#"{"answer": {"stalk": [], "tags": [], "begin_time": 1716207617}}"#, "1"),
        json(200, r#"{"success": true}"#, "1"),
        json(200, r#"{"success": false}"#, "1"),
        json(200, r#"{"code": 404}"#, "1"),
        json(200, r#"{"code": 102}"#, "1"),
        json(200, r#"{"code": -1}"#, "1"),
        json(200, r#"{"code": -2}"#, "1"),
        json(200, "not found", "1"),
        json(200, "", "1"),
        json(204, "", "1"),
        json(400, r#"{"answer": null}"#, "1"),
        shape_of(200, Some("text/html"), b"not found", &id("1")),
        shape_of(200, None, &[b' '; MAX_BYTES + 1], &id("1")),
    ];
    for (index, one) in shapes.iter().enumerate() {
        assert!(shapes[index + 1..].iter().all(|other| !other.matches(*one)), "{index}");
    }
}

proptest! {
    #[test]
    fn every_answer_has_a_shape_of_bounded_size(
        status in 200..500_u16, body in prop::collection::vec(any::<u8>(), 0..200), json in "[{}\\[\\]\":,a0 ]{0,40}",
    ) {
        for body in [&body[..], json.as_bytes()] {
            let shape = shape_of(status, JSON, body, &id("a:1"));
            prop_assert!(shape.to_string().len() <= 40);
            prop_assert!(shape.matches(shape_of(status, JSON, body, &id(PROBE))) || !body.is_empty());
            prop_assert_eq!(shape.to_string().parse(), Ok(shape));
        }
    }
}

#[test]
fn a_deeply_nested_answer_has_a_shape() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert!(json(200, &deep, "1").matches(json(200, &deep, "2")));
}

#[test]
fn a_probe_has_an_id_of_the_form_of_the_call_and_never_the_same_id() {
    let form = |id: &str| {
        let class = |c: char| if c.is_ascii_digit() { '0' } else { c };
        id.chars().map(class).collect::<String>()
    };
    for like in ["1716207617.424242", "queue-1716207617.42", "x", "17"] {
        let (one, other) =
            (impossible_call(&id(like), &SystemEntropy), impossible_call(&id(like), &SystemEntropy));
        assert_ne!(one, other);
        assert!(one.as_str().contains('9') && one.as_str().bytes().filter(u8::is_ascii_digit).count() >= 12);
        let is_like = form(one.as_str()) == form(like);
        assert_eq!(is_like, like.contains("1716207617"), "{one}");
    }
    let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let probe = impossible_call(&id(uuid), &SystemEntropy);
    assert!(is_hexadecimal(probe.as_str()) && probe.as_str() != uuid, "{probe}");
    assert_eq!(probe.as_str().match_indices('-').count(), 4);
}
