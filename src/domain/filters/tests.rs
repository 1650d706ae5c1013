use proptest::prelude::*;
use serde_json::{Value, json};

use super::condition::Condition;
use super::fields::Field;
use super::{ContentFilter, FieldProblem, FilterData, parser};

fn filter(filter: &Value) -> Result<ContentFilter, Vec<FieldProblem>> {
    ContentFilter::parse(filter.as_object().unwrap().clone())
}

fn passes(source: &Value, data: &Value) -> bool {
    filter(source).unwrap().passes(&FilterData::new(data.clone()))
}

fn pointers(source: &Value) -> Vec<String> {
    filter(source).unwrap_err().into_iter().map(|problem| problem.pointer).collect()
}

fn analysis() -> Value {
    json!({
        "call_id": "1", "status": "completed", "revision": 1, "begin_time": "2024-05-20T12:20:17Z",
        "completed_at": "2024-05-20T12:20:17.566Z", "error": null,
        "metadata": {"ticket": "T-1", "labels": ["vip", "uz"], "rows": [], "amount": 10.5},
        "tags": [
            {"name": "Жалоба", "value": "да", "begin_ms": 1000},
            {"name": "Приветствие", "value": "", "begin_ms": 5000},
        ],
        "talk_metrics": {"duration_ms": 60_000, "operator": {"talk_share": 0.5}},
        "call": {
            "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567", "queue": "support",
            "started_at": "2024-05-20T12:20:17Z", "crm": {"bitrix24_call_id": "a.1", "desk.ticket": "42"},
        },
    })
}

#[test]
fn a_value_is_compared_with_its_type() {
    let data = analysis();
    for (source, expected) in [
        (json!({"status": "completed"}), true),
        (json!({"status": {"$ne": "completed"}}), false),
        (json!({"status": {"$in": ["failed", "completed"]}}), true),
        (json!({"status": {"$nin": ["failed"]}}), true),
        (json!({"revision": 1.0}), true),
        (json!({"talk_metrics.duration_ms": {"$gte": 60_000, "$lt": 60_000.5}}), true),
        (json!({"talk_metrics": {"operator": {"talk_share": {"$gt": 0.5}}}}), false),
        (json!({"metadata.amount": {"$gt": 10}}), true),
        (json!({"metadata.amount": "10.5"}), false),
        (json!({"metadata.ticket": {"$startsWith": "T-", "$contains": ["2", "1"]}}), true),
        (json!({"metadata.ticket": {"$gt": "S"}}), true),
        (json!({"metadata.ticket": {"$gt": 0}}), false),
        (json!({"error": null}), true),
        (json!({"error.code": {"$exist": false}}), true),
        (json!({"metadata.order": {"$exist": true}}), false),
        (json!({"metadata.rows": {"$exist": true}}), true),
        // A comparison as text would put 17.566Z before 17Z.
        (json!({"completed_at": {"$gt": "2024-05-20T12:20:17Z"}}), true),
        (json!({"begin_time": "2024-05-20T17:20:17+05:00"}), true),
    ] {
        assert_eq!(passes(&source, &data), expected, "{source}");
    }
}

#[test]
fn an_array_matches_if_one_element_does() {
    let data = analysis();
    for (source, expected) in [
        (json!({"tags.name": "Жалоба"}), true),
        (json!({"tags.name": "Спор"}), false),
        (json!({"metadata.labels": "uz"}), true),
        (json!({"metadata.labels": ["uz", "vip"]}), true),
        (json!({"metadata.labels": ["uz", "new"]}), false),
        (json!({"metadata.labels": {"$eq": ["vip", "uz"]}}), true),
        (json!({"metadata.rows": {"$eq": []}}), true),
        // One element must be in the range, and one element must have both values.
        (json!({"tags.begin_ms": {"$gt": 1000, "$lt": 5000}}), false),
        (json!({"tags": {"name": "Жалоба", "value": "да"}}), true),
        (json!({"tags": {"name": "Жалоба", "value": ""}}), false),
        (json!({"tags.name": "Жалоба", "tags.value": ""}), true),
        (json!({"tags": {"name": "Жалоба", "$not": {"value": ""}}}), true),
        // A negation holds if no element matches.
        (json!({"tags.name": {"$ne": "Жалоба"}}), false),
        (json!({"tags.name": {"$nin": ["Спор", "Жалоба"]}}), false),
        (json!({"tags": {"$not": {"name": "Жалоба"}}}), false),
        (json!({"tags": {"$not": {"name": "Спор"}}}), true),
        (json!({"transcript.text": {"$ne": "a"}}), true),
    ] {
        assert_eq!(passes(&source, &data), expected, "{source}");
    }
}

#[test]
fn call_facts_are_compared() {
    let data = analysis();
    for (source, expected) in [
        (json!({"call.agent.id": "17"}), true),
        (json!({"call.agent": {"id": "17", "name": {"$startsWith": "D"}}}), true),
        (json!({"call.agent": null}), false),
        (json!({"call.queue": {"$in": ["sales", "support"]}}), true),
        (json!({"call.queue": {"$ne": "support"}}), false),
        (json!({"call.direction": "inbound"}), true),
        (json!({"call.direction": {"$nin": ["inbound"]}}), false),
        (json!({"call.phone": {"$startsWith": "+998"}}), true),
        (json!({"call.started_at": {"$gte": "2024-05-20T17:00:00+05:00"}}), true),
        (json!({"call.crm.bitrix24_call_id": "a.1"}), true),
        (json!({"call.crm.bitrix24_call_id": {"$exist": false}}), false),
        (json!({"call.crm.lead": {"$exist": true}}), false),
        // The name of an id may have dots.
        (json!({"call.crm.desk.ticket": "42"}), true),
        (json!({"call": {"crm": {"desk.ticket": {"$ne": "42"}}}}), false),
    ] {
        assert_eq!(passes(&source, &data), expected, "{source}");
    }
    let none = json!({"call": {"direction": null, "agent": null, "queue": null, "crm": {}}});
    for source in
        [json!({"call.agent": null, "call.queue": null}), json!({"call.agent.id": {"$exist": false}})]
    {
        assert!(passes(&source, &none), "{source}");
    }
    for (source, pointer) in [
        (json!({"call.direction": "in"}), "/call.direction"),
        (json!({"call.agents": null}), "/call.agents"),
        (json!({"call.agent": "17"}), "/call.agent"),
        (json!({"call.crm.lead": 42}), "/call.crm.lead"),
        (json!({"call.crm.": "42"}), "/call.crm."),
    ] {
        assert_eq!(pointers(&source), [pointer]);
    }
}

#[test]
fn conditions_are_combined() {
    let data = analysis();
    for (source, expected) in [
        (json!({"$or": [{"status": "failed"}, {"tags.name": "Жалоба"}]}), true),
        (json!({"$and": [{"status": "completed"}, {"revision": {"$gt": 1}}]}), false),
        (json!({"$not": {"status": "completed"}}), false),
        (json!({"status": "completed", "$not": {"tags.name": "Спор"}}), true),
        (json!({"revision": {"$or": [{"$lt": 1}, {"$gt": 1}]}}), false),
        (json!({"revision": {"$not": 1}}), false),
    ] {
        assert_eq!(passes(&source, &data), expected, "{source}");
    }
}

#[test]
fn a_letter_matches_in_every_normalization_form() {
    let data = json!({"tags": [{"name": "Спорныи\u{306} момент"}]});
    assert!(passes(&json!({"tags.name": "Спорный момент"}), &data));
    assert!(passes(&json!({"tags.name": {"$contains": "ныи\u{306}"}}), &data));
    assert!(passes(&json!({"tags.name": {"$startsWith": "Спорный", "$lt": "Спорныйа"}}), &data));
    let data = json!({"metadata": {"places": ["Чорсуи\u{306}"]}});
    assert!(passes(&json!({"metadata.places": {"$eq": ["Чорсуй"]}}), &data));
}

#[test]
fn every_problem_has_the_pointer_of_its_field() {
    for (source, expected) in [
        (json!({}), vec![""]),
        (json!({"sttus": "completed"}), vec!["/sttus"]),
        (json!({"tags.nam": "a", "status": "done"}), vec!["/status", "/tags.nam"]),
        (json!({"metadata.a": {"$eq": {"b": [{"$ref": "c"}]}}}), vec!["/metadata.a/$eq"]),
        (json!({"call_id.x": "a"}), vec!["/call_id.x"]),
        (json!({"metadata..a": 1}), vec!["/metadata..a"]),
        (json!({"metadata.a/b~c": {"$regex": "a"}}), vec!["/metadata.a~1b~0c/$regex"]),
        (json!({"status": {"$neq": "failed"}}), vec!["/status/$neq"]),
        (json!({"$where": "1"}), vec!["/$where"]),
        (json!({"status": {}}), vec!["/status"]),
        (json!({"status": []}), vec!["/status"]),
        (json!({"status": {"$in": ["failed", "done", 1]}}), vec!["/status/$in/1", "/status/$in/2"]),
        (json!({"status": {"$in": "failed"}}), vec!["/status/$in"]),
        (json!({"revision": "1"}), vec!["/revision"]),
        (json!({"revision": {"$gt": null}}), vec!["/revision/$gt"]),
        (json!({"revision": {"$contains": "1"}}), vec!["/revision/$contains"]),
        (json!({"completed_at": {"$lt": "yesterday"}}), vec!["/completed_at/$lt"]),
        (json!({"metadata.a": {"$gt": [1]}}), vec!["/metadata.a/$gt"]),
        (json!({"metadata.a": {"$startsWith": ["a", ""]}}), vec!["/metadata.a/$startsWith"]),
        (json!({"metadata.a": {"$exist": 1}}), vec!["/metadata.a/$exist"]),
        (json!({"tags": "Жалоба"}), vec!["/tags"]),
        (json!({"$or": [{"status": "failed"}, {"x": 1}]}), vec!["/$or/1/x"]),
        (json!({"$not": [{"status": {"$not": {"$gt": true}}}]}), vec!["/$not/0/status/$not/$gt"]),
        (json!({"metadata.a": {"$in": vec![1; 101]}}), vec![""]),
        (json!({"metadata.a": "x".repeat(4096)}), vec![""]),
    ] {
        assert_eq!(pointers(&source), expected, "{source}");
    }
    let deep = (0..8).fold(json!(1), |inner, _| json!({"$not": inner}));
    assert_eq!(pointers(&json!({"metadata.a": deep})).len(), 1);
    let unknown = filter(&json!({"talk_metrics.operator.share": 1})).unwrap_err();
    assert!(unknown[0].detail.contains("talk_share"), "{unknown:?}");
}

#[test]
fn every_field_of_an_analysis_can_be_filtered() {
    for path in [
        "ai_call_id",
        "begin_time",
        "last_error.detail",
        "reanalysis.status",
        "last_reanalysis.outcome",
        "warnings.code",
        "transcript.speaker",
        "transcript.text",
        "transcript.begin_ms",
        "tags.type",
        "tags.match_text",
        "talk_metrics.client.interruptions",
        "talk_metrics.median_response_ms",
        "metadata.any.path",
        "audio_url",
        "submitted_at",
    ] {
        let source = json!({path: {"$exist": true}});
        assert!(filter(&source).is_ok(), "{source}");
    }
}

#[test]
fn a_filter_is_read_back_from_its_json() {
    let parsed = filter(&json!({"b.c": 1, "tags.name": "a"}));
    assert!(parsed.is_err(), "b is no field");
    let parsed = filter(&json!({"tags.name": "a", "$or": [{"status": "failed"}]})).unwrap();
    assert_eq!(ContentFilter::from_json(&parsed.to_json()), Some(parsed));
    assert_eq!(ContentFilter::from_json(r#"{"later": {"$regex": "a"}}"#), None);
}

/// Test cases of simple-json-match that have another result here: the case as compact JSON, and the reason.
const OTHER_RESULTS: &[(&str, &str)] =
    &[(r#"[[1,2,3],{"$eq":3},false]"#, "an operator compares each element of an array, not only the array")];

/// Test cases of simple-json-match that are errors here: a part of the condition, and the reason.
const ERRORS: &[(&str, &str)] = &[
    (r#""$endsWith":"#, "there is no $endsWith"),
    (r#""$ref":"#, "there is no $ref"),
    (r#"[1,{},"#, "an object without conditions is an error"),
    (r#""$gt":["#, "an operand of the wrong type is an error"),
];

/// Replaces the operators that have other names here: `$neq` is `$ne`, and `$in` with a text is `$contains`.
fn renamed(source: &Value) -> Value {
    match source {
        Value::Array(items) => items.iter().map(renamed).collect(),
        Value::Object(object) => {
            let members = object.iter().map(|(key, value)| match (key.as_str(), value) {
                ("$neq", _) => ("$ne".to_owned(), renamed(value)),
                ("$in", Value::String(_)) => ("$contains".to_owned(), value.clone()),
                ("$nin", Value::String(_)) => ("$not".to_owned(), json!({ "$contains": value })),
                _ => (key.clone(), renamed(value)),
            });
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// Parses a condition on any value, which is the field `case` of an object.
fn condition(source: &Value) -> Result<Condition, Vec<FieldProblem>> {
    parser::parse(json!({ "case": renamed(source) }).as_object().unwrap(), &Field::Any)
}

#[test]
fn the_cases_of_simple_json_match_have_the_same_results_except_named_differences() {
    let table = include_str!("../../../tests/fixtures/simple-json-match/cases.json");
    let table: Value = serde_json::from_str(table).unwrap();
    let cases = |name: &str| table[name].as_array().unwrap().iter();
    let (mut equal, mut other_results, mut errors) = (0, 0, 0);
    for case in cases("tests").chain(cases("not_tests")) {
        let (input, expected, text) =
            (json!({"case": case[0]}), case[2].as_bool().unwrap(), case.to_string());
        let Ok(condition) = condition(&case[1]) else {
            assert!(ERRORS.iter().any(|(part, _)| text.contains(part)), "{text}");
            errors += 1;
            continue;
        };
        let is_other = OTHER_RESULTS.iter().any(|(case, _)| *case == text);
        assert_eq!(condition.holds(&[&input]), expected != is_other, "{text}");
        let negated = json!({"$not": {"case": renamed(&case[1])}});
        let negated = parser::parse(negated.as_object().unwrap(), &Field::Any).unwrap();
        assert_eq!(negated.holds(&[&input]), expected == is_other, "$not {text}");
        if is_other { other_results += 1 } else { equal += 1 }
    }
    assert_eq!((equal + other_results + errors, other_results), (133, OTHER_RESULTS.len()));
    assert!(equal > 110, "{equal} cases are equal");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|it| json!(it)),
        (-3_i64..3).prop_map(|it| json!(it)),
        "[ab]{0,2}".prop_map(|it| json!(it)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[ab]|\\$(not|or|and|ne|in|gt|exist)", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn negation_inverts_every_filter(source in values(), data in values()) {
        let outer = |source: Value| parser::parse(source.as_object().unwrap(), &Field::Any);
        if let Ok(condition) = outer(json!({"a": source})) {
            let negated = outer(json!({"$not": {"a": source}})).unwrap();
            let data = json!({"a": data});
            prop_assert_ne!(condition.holds(&[&data]), negated.holds(&[&data]));
        }
    }
}
