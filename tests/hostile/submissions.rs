//! Submissions: the gateway and its OpenAPI document accept the same bodies.

use std::sync::LazyLock;

use actix_web::body::MessageBody;
use alovoice_gateway::commands;
use alovoice_gateway::domain::phone::Region;
use alovoice_gateway::domain::public_url::PublicUrl;
use alovoice_gateway::domain::trace::TraceContext;
use alovoice_gateway::http::analyses::SubmitAnalysis;
use alovoice_gateway::http::body::JsonFields;
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::checks::request_body::check;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let document = commands::openapi().unwrap_or_else(|error| panic!("{error:?}"));
    let document: Value = serde_json::from_str(&document).unwrap();
    let root = json!({"$ref": "#/components/schemas/SubmitAnalysis", "components": document["components"]});
    jsonschema::draft202012::new(&root).unwrap()
});

/// The pointers in the gateway's problem; empty if it accepts the body.
fn refused(body: &Value) -> Vec<String> {
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let parsed = SubmitAnalysis::from_json(body.to_string().as_bytes());
    let region = Region::parse("UZ").unwrap();
    let Err(error) = parsed.and_then(|body| body.into_submission(region, trace)) else { return Vec::new() };
    let problem = error.respond("req_1", &PublicUrl::default()).into_body().try_into_bytes().unwrap();
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

/// Whether the rule behind this pointer cannot be expressed in JSON Schema.
fn is_beyond_schemas(body: &Value, pointer: &str) -> bool {
    match pointer {
        "#/call_id" => body["call_id"] == "." || body["call_id"] == "..",
        "#/callback/url" => body["callback"]["url"].is_string(),
        "#/call/phone" => body["call"]["phone"].is_string(),
        "#/call/started_at" => body["call"]["started_at"].is_string(),
        other => other.starts_with("#/metadata") && body["metadata"].is_object(),
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z~/]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn call_id() -> impl Strategy<Value = Value> {
    let long = (120_usize..140).prop_map(|length| Value::from("x".repeat(length)));
    let odd = select(vec![".", "..", "...", "", "a b", "a\n", "é", "a/b"]).prop_map(Value::from);
    prop_oneof![6 => "[ -~]{1,3}|[A-Za-z0-9._~:@+=!\"#%'()*<>?\\[\\\\\\]`{}-]{1,12}".prop_map(Value::from), 1 => long, 2 => odd, 1 => anything()]
}

fn callback() -> impl Strategy<Value = Value> {
    let url = prop_oneof![
        4 => Just(json!("https://crm.example.uz/hook")),
        1 => (2000_usize..2100).prop_map(|length| Value::from("https://a.uz/".to_owned() + &"x".repeat(length - 13))),
        1 => anything(),
    ];
    let object = url.prop_map(|url| json!({"url": url}));
    prop_oneof![5 => object, 1 => Just(json!({"url": "https://a.uz/", "uri": 1})), 1 => anything()]
}

fn call() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![4 => "[ -~]{0,3}|.{1,3}".prop_map(Value::from), 1 => anything()];
    let long = (250_usize..260).prop_map(|length| Value::from("x".repeat(length)));
    let direction =
        prop_oneof![4 => select(vec![json!("inbound"), json!("outbound"), json!("in")]), 1 => anything()];
    let agent = prop_oneof![
        4 => (text(), text()).prop_map(|(id, name)| json!({"id": id, "name": name})),
        1 => long.clone().prop_map(|name| json!({"name": name})),
        1 => Just(json!({"nam": "x"})),
        1 => anything(),
    ];
    let phone = prop_oneof![4 => "\\+?[0-9 ().-]{0,14}".prop_map(Value::from), 1 => anything()];
    let time = prop_oneof![2 => Just(json!("2024-05-20T12:20:17+05:00")), 1 => anything()];
    let crm = prop_oneof![
        4 => prop::collection::btree_map("[a-z. ]{0,3}", text(), 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect())),
        1 => (15..18).prop_map(|count| (0..count).map(|name| (name.to_string(), json!("1"))).collect::<Map<_, _>>().into()),
        1 => (60_usize..70).prop_map(|length| json!({"x".repeat(length): "1"})),
        1 => anything(),
    ];
    let queue = prop_oneof![3 => text(), 1 => long];
    let members = (
        member("direction", direction),
        member("agent", agent),
        member("phone", phone),
        member("queue", queue),
        member("started_at", time),
        member("crm", crm),
    );
    let object = members.prop_map(|(a, b, c, d, e, f)| {
        Value::Object([a, b, c, d, e, f].into_iter().flatten().collect::<Map<_, _>>())
    });
    prop_oneof![8 => object, 1 => anything()]
}

fn member(
    name: &'static str,
    value: impl Strategy<Value = Value> + 'static,
) -> impl Strategy<Value = Option<(String, Value)>> {
    prop::option::weighted(0.6, value.prop_map(move |value| (name.to_owned(), value)))
}

fn submission() -> impl Strategy<Value = Value> {
    let metadata = prop_oneof![
        4 => prop::collection::btree_map("[a-z]{1,3}", anything(), 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect())),
        1 => (4000_usize..4200).prop_map(|length| json!({"a": "x".repeat(length)})),
        1 => anything(),
    ];
    let reanalyze = prop_oneof![3 => any::<bool>().prop_map(Value::from), 1 => anything()];
    let call_id = prop::option::weighted(0.95, call_id().prop_map(|value| ("call_id".to_owned(), value)));
    let members = (
        call_id,
        member("callback", callback()),
        member("metadata", metadata),
        member("call", call()),
        member("reanalyze", reanalyze),
        prop::option::weighted(0.05, anything().prop_map(|value| ("calback".to_owned(), value))),
    );
    let object = members.prop_map(|(a, b, c, d, e, f)| {
        Value::Object([a, b, c, d, e, f].into_iter().flatten().collect::<Map<_, _>>())
    });
    prop_oneof![20 => object, 1 => anything()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn the_gateway_accepts_what_the_document_allows(body in submission()) {
        let (refused, is_valid) = (refused(&body), SCHEMA.is_valid(&body));
        if refused.is_empty() {
            prop_assert!(is_valid, "taken, and not valid: {body}");
        } else if is_valid {
            prop_assert!(refused.iter().all(|pointer| is_beyond_schemas(&body, pointer)), "{refused:?} of {body}");
        }
        check(body.to_string().as_bytes());
    }
}
