//! Invalid input and the problems that describe it.

use reqwest::Method;
use serde_json::json;

use crate::stage::Stage;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn every_invalid_field_is_named() {
    let stage = Stage::start().await;
    let big = "x".repeat(5000);
    let long = "x".repeat(129);
    let long_url = format!("https://crm.example/{big}");
    for (submission, pointers) in [
        (json!({}), vec!["#"]),
        (json!({"call_id": ""}), vec!["#/call_id"]),
        (json!({"call_id": "."}), vec!["#/call_id"]),
        (json!({"call_id": ".."}), vec!["#/call_id"]),
        (json!({"call_id": "a/b"}), vec!["#/call_id"]),
        (json!({"call_id": "сall"}), vec!["#/call_id"]),
        (json!({"call_id": long}), vec!["#/call_id"]),
        (json!({"call_id": 1}), vec!["#/call_id"]),
        (json!({"call_id": null}), vec!["#/call_id"]),
        (json!({"call_id": "1", "calback": {}}), vec!["#/calback"]),
        (json!({"call_id": "1", "reanalyze": "yes"}), vec!["#/reanalyze"]),
        (json!({"call_id": "1", "reanalyze": null}), vec!["#/reanalyze"]),
        (json!({"call_id": "1", "metadata": "text"}), vec!["#/metadata"]),
        (json!({"call_id": "1", "metadata": ["a"]}), vec!["#/metadata"]),
        (json!({"call_id": "1", "metadata": {"a": big}}), vec!["#/metadata"]),
        (json!({"call_id": "1", "callback": "https://crm.example/"}), vec!["#/callback"]),
        (json!({"call_id": "1", "callback": ["https://crm.example/"]}), vec!["#/callback"]),
        (json!({"call_id": "1", "callback": {}}), vec!["#/callback"]),
        (json!({"call_id": "1", "callback": {"url": 7}}), vec!["#/callback/url"]),
        (
            json!({"call_id": "1", "callback": {"url": "https://crm.example/", "uri": ""}}),
            vec!["#/callback/uri"],
        ),
        (json!({"call_id": "1", "callback": {"url": "/relative"}}), vec!["#/callback/url"]),
        (json!({"call_id": "1", "callback": {"url": "ftp://crm.example/"}}), vec!["#/callback/url"]),
        (json!({"call_id": "1", "callback": {"url": "https://u:p@crm.example/"}}), vec!["#/callback/url"]),
        (json!({"call_id": "1", "callback": {"url": "https://crm.example/#part"}}), vec!["#/callback/url"]),
        (json!({"call_id": "1", "callback": {"url": long_url}}), vec!["#/callback/url"]),
        (
            json!({"call_id": "", "callback": {"url": "ftp://crm.example/"}, "metadata": {"a": big}}),
            vec!["#/call_id", "#/callback/url", "#/metadata"],
        ),
        (json!({"call_id": "1", "call": "inbound"}), vec!["#/call"]),
        (json!({"call_id": "1", "call": []}), vec!["#/call"]),
        (json!({"call_id": "1", "call": {"agents": {}}}), vec!["#/call/agents"]),
        (json!({"call_id": "1", "call": {"direction": "in"}}), vec!["#/call/direction"]),
        (json!({"call_id": "1", "call": {"direction": 1}}), vec!["#/call/direction"]),
        (json!({"call_id": "1", "call": {"agent": "17"}}), vec!["#/call/agent"]),
        (json!({"call_id": "1", "call": {"agent": {"id": 17}}}), vec!["#/call/agent/id"]),
        (json!({"call_id": "1", "call": {"agent": {"nam": "A"}}}), vec!["#/call/agent/nam"]),
        (json!({"call_id": "1", "call": {"started_at": "2024-05-20"}}), vec!["#/call/started_at"]),
        (json!({"call_id": "1", "call": {"crm": ["1"]}}), vec!["#/call/crm"]),
        (json!({"call_id": "1", "call": {"crm": {"a b": "1"}}}), vec!["#/call/crm"]),
        (
            json!({"call_id": "1", "metadata": {"a": big}, "call": {
                "agent": {"id": "", "name": "a\nb"}, "phone": "+99890", "queue": " ", "crm": {"lead": 42, "deal": ""},
            }}),
            vec![
                "#/metadata",
                "#/call/agent/id",
                "#/call/agent/name",
                "#/call/queue",
                "#/call/phone",
                "#/call/crm/deal",
                "#/call/crm/lead",
            ],
        ),
        (json!(["1"]), vec!["#"]),
        (json!("1"), vec!["#"]),
        (json!(null), vec!["#"]),
    ] {
        let answer = stage.acme().submit(submission.clone()).await;
        assert_eq!(answer.status, 422, "{submission}");
        assert_eq!(answer.pointers(), pointers, "{submission}");
    }
    assert!(stage.vendor.calls().is_empty(), "no invalid submission reaches the vendor");
}

#[tokio::test]
async fn a_problem_names_fields_and_rules() {
    let stage = Stage::start().await;
    let headers = [JSON, ("x-request-id", "req-7")];
    let body = r#"{"call_id": "a b", "callback": {"url": "ftp://crm.example/"}}"#;
    let answer = stage.acme().post_with(&headers, body).await;
    insta::assert_json_snapshot!(answer.problem(422, "invalid_request"), @r##"
    {
      "code": "invalid_request",
      "detail": "2 fields are invalid",
      "errors": [
        {
          "detail": "has the character ' '; allowed are A-Z a-z 0-9 . _ ~ : @ + = - ! \" # % ' ( ) * < > ? [ \\ ] ` { }",
          "pointer": "#/call_id"
        },
        {
          "detail": "has the scheme \"ftp\"; allowed are \"https\" and, if the operator allows it, \"http\"",
          "pointer": "#/callback/url"
        }
      ],
      "request_id": "req-7",
      "status": 422,
      "title": "Invalid request",
      "type": "/problems/invalid_request"
    }
    "##);
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn metadata_is_limited_to_four_kibibytes() {
    let stage = Stage::start().await;
    // `{"a":"…"}` adds 8 bytes to the text.
    let of = |length: usize| json!({"call_id": "1", "metadata": {"a": "x".repeat(length - 8)}});
    assert_eq!(stage.acme().submit(of(4097)).await.pointers(), ["#/metadata"]);
    assert_eq!(stage.acme().submit(of(4096)).await.status, 202);
}

#[tokio::test]
async fn invalid_json_is_malformed() {
    let stage = Stage::start().await;
    for body in [
        "",
        "{",
        "{\"call_id\": \"1\"} x",
        "{\"call_id\": \"1\",}",
        "call_id=1",
        "{\"call_id\": \"1\"} \u{feff}",
    ] {
        let answer = stage.acme().post_with(&[JSON], body).await;
        answer.problem(400, "malformed_body");
    }
    let answer = stage.acme().post_with(&[JSON], b"{\"call_id\": \"\xff\"}".to_vec()).await;
    answer.problem(400, "malformed_body");
    let deep = "[".repeat(100_000);
    stage
        .acme()
        .post_with(&[JSON], format!("{{\"metadata\": {{\"a\": {deep}"))
        .await
        .problem(400, "malformed_body");
}

#[tokio::test]
async fn a_byte_order_mark_before_a_body_is_ignored() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let post = async |path: &str, body: serde_json::Value| {
        acme.send(Method::POST, path, &[JSON], format!("\u{feff}{body}")).await
    };
    assert_eq!(post("/v1/analyses", json!({"call_id": "1"})).await.status, 202);
    assert_eq!(post("/v1/analyses/batch", json!({"analyses": [{"call_id": "2"}]})).await.status, 200);
    let webhook = post("/v1/webhooks", json!({"url": stage.hook("ok")})).await;
    assert_eq!(webhook.status, 201);
    let path = webhook.header("location");
    assert_eq!(post(&format!("{path}/test"), json!({})).await.status, 202);
    let changed = acme.send(Method::PATCH, path, &[JSON], "\u{feff}{\"enabled\": false}").await;
    assert_eq!(changed.json()["enabled"], false);
}

#[tokio::test]
async fn a_body_in_another_encoding_is_named() {
    let stage = Stage::start().await;
    let utf_16 = |mark: &str, bytes: fn(u16) -> [u8; 2]| {
        format!("{mark}{}", json!({"call_id": "1"})).encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    let utf_32 = |mark: &str, bytes: fn(u32) -> [u8; 4]| {
        let text = format!("{mark}{}", json!({"call_id": "1"}));
        text.chars().map(u32::from).flat_map(bytes).collect::<Vec<u8>>()
    };
    for (body, detail) in [
        (utf_16("", u16::to_le_bytes), "the body is encoded in UTF-16: send it in UTF-8"),
        (utf_16("\u{feff}", u16::to_le_bytes), "the body is encoded in UTF-16: send it in UTF-8"),
        (utf_16("\u{feff}", u16::to_be_bytes), "the body is encoded in UTF-16: send it in UTF-8"),
        (utf_32("", u32::to_le_bytes), "the body is encoded in UTF-32: send it in UTF-8"),
        (utf_32("\u{feff}", u32::to_le_bytes), "the body is encoded in UTF-32: send it in UTF-8"),
        (utf_32("\u{feff}", u32::to_be_bytes), "the body is encoded in UTF-32: send it in UTF-8"),
        (
            b"{\"call_id\": \"1\", \"metadata\": {\"note\": \"\xf1\xe0\xeb\xee\xec\"}}".to_vec(),
            "#/metadata/note is not encoded in UTF-8",
        ),
        (
            b"{\"call_id\": \"1\", \"metadata\": {\"note\": \"\xed\xa0\xbd\"}}".to_vec(),
            "#/metadata/note has half of a surrogate pair, which is not a character: send the whole pair or leave it out",
        ),
    ] {
        let answer = stage.acme().post_with(&[JSON], body).await;
        assert_eq!(answer.problem(400, "malformed_body")["detail"], detail);
    }
}

#[tokio::test]
async fn half_of_a_surrogate_pair_is_named_with_its_field() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for half in [r"\ud83d", r"salom \ud83d", r"\ude00", r"\ud83d\ud83d", r"\ud83d\n", r"\uD83D salom"] {
        for (path, body, pointer) in [
            (
                "/v1/analyses",
                format!(r#"{{"call_id": "1", "metadata": {{"a": {{"note": "{half}"}}}}}}"#),
                "#/metadata/a/note",
            ),
            ("/v1/analyses", format!(r#"{{"call_id": "{half}"}}"#), "#/call_id"),
            (
                "/v1/webhooks",
                format!(r#"{{"url": "https://crm.example/", "description": "{half}"}}"#),
                "#/description",
            ),
        ] {
            let answer = acme.send(Method::POST, path, &[JSON], body.clone()).await;
            assert_eq!(answer.pointers(), [pointer], "{body}");
            let detail = answer.json()["errors"][0]["detail"].take();
            assert!(detail.as_str().unwrap().starts_with("has half of a surrogate pair"), "{body}: {detail}");
        }
        let body = format!(
            r#"{{"analyses": [{{"call_id": "2"}}, {{"call_id": "3", "metadata": {{"note": "{half}"}}}}]}}"#
        );
        let results =
            acme.send(Method::POST, "/v1/analyses/batch", &[JSON], body).await.json()["results"].take();
        assert!(results[0]["problem"].is_null(), "{results}");
        assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "#/analyses/1/metadata/note");
    }
    let whole = acme.post_with(&[JSON], r#"{"call_id": "1", "metadata": {"note": "\ud83d\ude00"}}"#).await;
    assert_eq!((whole.status, &whole.json()["metadata"]["note"]), (202, &json!("😀")));
}

#[tokio::test]
async fn a_callback_with_credentials_is_refused_in_favour_of_a_webhook() {
    let stage = Stage::start().await;
    let url = stage.hook("ok");
    let with_user = url.replace("http://", "http://user:secret@");
    for (callback, pointer) in [
        (json!({"url": with_user}), "#/callback/url"),
        (json!({"url": url, "headers": {"Authorization": "Basic dXNlcjpzZWNyZXQ="}}), "#/callback/headers"),
        (json!({"url": url, "headers": {}}), "#/callback/headers"),
        (json!({"url": url, "auth": {"user": "a"}}), "#/callback/auth"),
        (json!({"url": url, "api_key": "secret"}), "#/callback/api_key"),
    ] {
        let answer = stage.acme().submit(json!({"call_id": "1", "callback": callback})).await;
        assert_eq!(answer.pointers(), [pointer], "{callback}");
        let detail = answer.json()["errors"][0]["detail"].take();
        assert!(detail.as_str().unwrap().contains("register a webhook"), "{callback}: {detail}");
        assert!(!answer.text().contains("secret@") && !answer.text().contains("dXNl"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_named_with_its_field() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let url = stage.hook("ok");
    let created = acme.send(Method::POST, "/v1/webhooks", &[JSON], json!({"url": url}).to_string()).await;
    let webhook = created.header("location");
    for value in ["null", "1", "true", "[]", "-0.5", r#"{"full": null}"#, r#"{"analysis.failed": null}"#] {
        let callback = format!(r#"{{"url": "{url}", "payload": {value}}}"#);
        for (method, path, body, pointer) in [
            (
                Method::POST,
                "/v1/analyses",
                format!(r#"{{"call_id": "1", "callback": {callback}}}"#),
                "#/callback/payload",
            ),
            (Method::POST, "/v1/webhooks", callback.clone(), "#/payload"),
            (
                Method::POST,
                "/v1/webhooks",
                format!(r#"{{"url": "{url}", "events": ["analysis.failed", {value}]}}"#),
                "#/events/1",
            ),
            (Method::PATCH, webhook, format!(r#"{{"payload": {value}}}"#), "#/payload"),
        ] {
            let answer = acme.send(method, path, &[JSON], body.clone()).await;
            assert_eq!(answer.pointers(), [pointer], "{body}");
            let detail = answer.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
            assert!(detail.ends_with("expected a string"), "{body}: {detail}");
        }
        let batch = format!(r#"{{"analyses": [{{"call_id": "1", "callback": {callback}}}]}}"#);
        let results = acme.send(Method::POST, "/v1/analyses/batch", &[JSON], batch).await.json();
        let problem = &results["results"][0]["problem"];
        assert_eq!(problem["errors"][0]["pointer"], "#/analyses/0/callback/payload", "{problem}");
    }
    let large = acme.post_with(&[JSON], r#"{"call_id": "1", "metadata": {"a": [1, 1e400]}}"#).await;
    assert_eq!(large.pointers(), ["#/metadata/a/1"]);
    assert_eq!(large.json()["errors"][0]["detail"], "has a number that is too large");
}

#[tokio::test]
async fn a_duplicate_field_is_refused() {
    let stage = Stage::start().await;
    let answer = stage.acme().post_with(&[JSON], r#"{"call_id": "1", "call_id": "2"}"#).await;
    assert_eq!(answer.status, 422);
}

#[tokio::test]
async fn metadata_that_cannot_be_stored_exactly_is_refused() {
    let stage = Stage::start().await;
    for (metadata, pointer, detail) in [
        (r#"{"a": 1, "a": 2}"#, "#/metadata", "has the key \"a\" twice"),
        (r#"{"a": [{"b": 1, "b": 1}]}"#, "#/metadata/a/0", "has the key \"b\" twice"),
        (r#"{"a": 18446744073709551616}"#, "#/metadata/a", "has a number of more than 64 bits"),
        (r#"{"a": -9223372036854775809}"#, "#/metadata/a", "has a number of more than 64 bits"),
    ] {
        let body = format!(r#"{{"call_id": "1", "metadata": {metadata}}}"#);
        let answer = stage.acme().post_with(&[JSON], body).await;
        assert_eq!(answer.pointers(), [pointer], "{metadata}");
        let message = answer.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
        assert!(message.starts_with(detail), "{message}");
    }
    let exact =
        r#"{"a":18446744073709551615,"b":[-9223372036854775808,0.1,2.638344616030823e-256],"c":"\u0000é"}"#;
    let answer = stage.acme().post_with(&[JSON], format!(r#"{{"call_id": "1", "metadata": {exact}}}"#)).await;
    assert_eq!(answer.status, 202);
    assert!(answer.text().contains(r#""b":[-9223372036854775808,0.1,2.638344616030823e-256]"#), "{answer:?}");
    assert_eq!(answer.json()["metadata"], serde_json::from_str::<serde_json::Value>(exact).unwrap());
}

#[tokio::test]
async fn a_url_that_is_too_long_after_encoding_is_refused() {
    let stage = Stage::start().await;
    let url = |letters: usize| format!("{}/{}", stage.hook("ok"), "ё".repeat(letters));
    let submission = |letters: usize| json!({"call_id": "1", "callback": {"url": url(letters)}});
    assert_eq!(stage.acme().submit(submission(600)).await.pointers(), ["#/callback/url"]);
    stage.acme().submitted(submission(300)).await;
    stage.acme().outcome("1").await;
    assert_eq!(stage.receiver.next().await.method, "POST");
}

#[tokio::test]
async fn a_body_must_have_the_json_media_type() {
    let stage = Stage::start().await;
    let body = r#"{"call_id": "never-ready~1"}"#;
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json; charset=latin1")],
        &[("content-type", "application/json; charset=windows-1251")],
        &[("content-type", "application/json; charset=utf-16")],
        &[("content-type", "application/json-patch+json")],
        &[("content-type", "nonsense")],
        &[JSON, ("content-encoding", "gzip")],
    ] {
        stage.acme().post_with(headers, body).await.problem(415, "unsupported_media_type");
    }
    for content_type in [
        "application/json",
        "application/json;",
        "application/json; charset=utf-8",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=utf8",
        "application/json; charset=UTF8",
        "application/json; Charset=\"UTF-8\"",
        "application/json; charset='utf-8'",
        "application/json; charset = utf_8 ;",
        "application/json;odata.metadata=minimal;charset=utf-8",
        "application/json; charset=utf-8; odata=verbose",
        // ASCII is a subset of UTF-8.
        "application/json; charset=us-ascii",
    ] {
        let answer = stage.acme().post_with(&[("content-type", content_type)], body).await;
        assert_eq!(answer.status, 202, "{content_type}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let stage = Stage::with(&[("SERVER__MAX_BODY_BYTES", "1KiB")]).await;
    let body = json!({"call_id": "1", "metadata": {"a": "x".repeat(1024)}}).to_string();
    let announced = stage.acme().post_with(&[JSON], body).await;
    assert_eq!(announced.problem(413, "body_too_large")["detail"], "the body must have at most 1024 bytes");
    let exact = format!("{:<1024}", r#"{"call_id": "1"}"#);
    assert_eq!(stage.acme().post_with(&[JSON], exact).await.status, 202);
}

#[tokio::test]
async fn unknown_query_parameters_are_refused() {
    let stage = Stage::start().await;
    for path in
        ["/v1/analyses/1?wait=5", "/v1/analyses/1/transcript?form=json", "/v1/analyses/1/vendor-answer?x"]
    {
        let answer = stage.acme().get(path).await;
        assert!(answer.pointers()[0].starts_with('?'), "{answer:?}");
    }
    let answer =
        stage.acme().send(Method::POST, "/v1/analyses?dry_run=1", &[JSON], r#"{"call_id": "1"}"#).await;
    assert_eq!(answer.pointers(), ["?dry_run"]);
}

#[tokio::test]
async fn an_invalid_query_parameter_is_refused_with_its_rule() {
    let stage = Stage::start().await;
    for (query, detail) in [
        (
            "submitted_after=yesterday",
            "?submitted_after must be a time with its offset, such as 2026-11-01T00:00:00Z",
        ),
        ("status=done", "?status must be one of `queued`, `processing`, `completed`, `failed`"),
        ("status", "?status must be one of `queued`, `processing`, `completed`, `failed`"),
        ("speaker=agent", "?speaker must be `operator` or `client`"),
        ("limit=many", "?limit must be a whole number"),
        ("limit=99999999999", "?limit is too large"),
        ("limit=1&limit=2", "?limit must be given once"),
    ] {
        let answer = stage.acme().get(&format!("/v1/analyses?{query}")).await;
        assert_eq!(answer.problem(422, "invalid_request")["detail"], detail, "{query}");
    }
}

#[tokio::test]
async fn an_invalid_call_id_in_the_path_is_refused() {
    let stage = Stage::start().await;
    let long = "x".repeat(129);
    for call_id in ["a%20b", "a%2Fb", "%D1%81", "a%00", "a,b", long.as_str()] {
        for part in ["", "/transcript", "/vendor-answer"] {
            let answer = stage.acme().get(&format!("/v1/analyses/{call_id}{part}")).await;
            assert_eq!(answer.pointers(), ["{call_id}"], "{call_id}");
        }
    }
    let encoded = stage.acme().get("/v1/analyses/known%2D1").await;
    assert_eq!((encoded.status, &encoded.json()["call_id"]), (200, &json!("known-1")));
}

#[tokio::test]
async fn a_percent_encoded_call_id_is_decoded() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "p+1@x:y=z~a"})).await;
    let plain = stage.acme().outcome("p+1@x:y=z~a").await;
    for encoded in ["p%2B1%40x%3Ay%3Dz~a", "p%2b1@x%3ay=z%7Ea"] {
        assert_eq!(stage.acme().analysis(encoded).await.json(), plain, "{encoded}");
        for part in ["transcript", "vendor-answer", "audio"] {
            assert_eq!(
                stage.acme().get(&format!("/v1/analyses/{encoded}/{part}")).await.status,
                200,
                "{part}"
            );
        }
    }
    for hidden in ["a%2Fb", "a%2", "%00"] {
        stage.acme().analysis(hidden).await.problem(422, "invalid_request");
    }
}

#[tokio::test]
async fn an_error_does_not_repeat_long_input() {
    let stage = Stage::start().await;
    let long = "x".repeat(100_000);
    for body in [
        json!({ &long: 1 }),
        json!({"call_id": "1", "metadata": &long}),
        json!({"call_id": "1", "callback": {&long: 1}}),
    ] {
        let answer = stage.acme().submit(body).await;
        answer.problem(422, "invalid_request");
        assert!(answer.body.len() < 2000, "{} bytes", answer.body.len());
    }
}
