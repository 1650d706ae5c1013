//! Authorization: tokens, scopes, tenant isolation and rate limits.

use std::collections::HashMap;
use std::time::Duration;

use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use alovoice_gateway::domain::ids::TenantId;
use serde_json::json;

use crate::caller::{Answer, Caller};
use crate::contract::Operation;
use crate::stage::{EVERY_SCOPE, HMAC, Stage, call, development_token, token};

/// Values of the path parameters of an operation.
struct Things {
    call_id: String,
    webhook_id: String,
    replay_id: String,
    delivery_id: String,
}

impl Things {
    /// A call ID, with unknown IDs for the other parameters. The call need not exist.
    fn of_call(call_id: &str) -> Self {
        let id = |prefix| format!("{prefix}_018f95f4cd287c5b9a6f3b1f8f0a1d2e");
        Self {
            call_id: call_id.to_owned(),
            webhook_id: id("whk"),
            replay_id: id("rpl"),
            delivery_id: id("dlv"),
        }
    }

    /// A call ID, with a webhook of `acme`, a replay and a delivery.
    async fn with_webhook(stage: &Stage, call_id: &str) -> Self {
        let acme = stage.acme();
        let webhook = acme.post("/v1/webhooks", json!({"url": stage.hook("ok")})).await.json();
        let webhook_id = webhook["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/webhooks/{webhook_id}");
        let replay =
            acme.post(&format!("{path}/replay"), json!({"since": "2026-01-01T00:00:00Z"})).await.json();
        let replay_path = format!("{path}/replays/{}", replay["id"].as_str().unwrap());
        while acme.get(&replay_path).await.json()["finished_at"].is_null() {}
        let delivery = acme.post(&format!("{path}/test"), json!({})).await.json();
        Self {
            call_id: call_id.to_owned(),
            webhook_id,
            replay_id: replay["id"].as_str().unwrap().to_owned(),
            delivery_id: delivery["delivery"].as_str().unwrap().to_owned(),
        }
    }
}

/// Calls an operation of the document with these parameters, and with a valid body if the operation has one.
async fn perform(operation: &Operation, caller: &Caller, things: &Things) -> Answer {
    let call_id = &things.call_id;
    let path = [
        ("{call_id}", call_id),
        ("{preset}", &"slack.message".to_owned()),
        ("{webhook_id}", &things.webhook_id),
        ("{replay_id}", &things.replay_id),
        ("{delivery_id}", &things.delivery_id),
    ]
    .iter()
    .fold(operation.path.to_owned(), |path, (parameter, value)| path.replace(parameter, value));
    assert!(!path.contains('{'), "the test does not know a parameter of {path}");
    let body = match operation.definition["operationId"].as_str() {
        Some("create_webhook") => json!({"url": "http://127.0.0.1:9/"}).to_string(),
        Some("change_webhook" | "rotate_webhook_secret") => json!({}).to_string(),
        Some("replay_webhook") => json!({"since": "2026-01-01T00:00:00Z"}).to_string(),
        Some("create_audio_link") => json!({}).to_string(),
        Some("submit_analyses") => json!({"analyses": [{"call_id": call_id}]}).to_string(),
        _ if operation.definition["requestBody"].is_object() => json!({"call_id": call_id}).to_string(),
        _ => String::new(),
    };
    caller.send(operation.method.clone(), &path, &[("content-type", "application/json")], body).await
}

#[tokio::test]
async fn every_operation_refuses_a_request_without_a_token() {
    let stage = Stage::start().await;
    for operation in Operation::of_bearers() {
        let answer = perform(&operation, &stage.acme().anonymous(), &Things::of_call("known-1")).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{}", operation.path);
    }
    assert!(stage.vendor.calls().is_empty());
}

#[tokio::test]
async fn every_operation_requires_exactly_its_documented_scope() {
    let stage = Stage::start().await;
    let every: Vec<_> = EVERY_SCOPE.split(' ').collect();
    for operation in Operation::of_bearers() {
        let scope = operation.scope();
        let others = every.iter().filter(|other| **other != scope).copied().collect::<Vec<_>>().join(" ");
        for scopes in ["", &others, &scope.to_uppercase()] {
            let caller = stage.caller_with(&token("acme", scopes));
            let answer = perform(&operation, &caller, &Things::of_call("known-1")).await;
            let problem = answer.problem(403, "insufficient_scope");
            assert_eq!(problem["detail"], format!("the token lacks the scope {scope}"));
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
            assert_eq!(answer.header("www-authenticate"), challenge, "{}", operation.path);
        }
        assert!(stage.vendor.calls().iter().all(|request| request.call_id != call("known-1")));
        let call_id = format!("known-{}{}", operation.path.len(), operation.method.as_str().len());
        if operation.method == reqwest::Method::DELETE && operation.path.contains("{call_id}") {
            assert_eq!(stage.acme().analysis(&call_id).await.status, 200, "the analysis to delete exists");
        }
        if operation.path.ends_with("/preview") {
            assert_eq!(stage.acme().analysis(&call_id).await.status, 200, "the analysis to preview exists");
        }
        let things = if scope == "webhooks:manage" {
            Things::with_webhook(&stage, &call_id).await
        } else {
            Things::of_call(&call_id)
        };
        let answer = perform(&operation, &stage.caller_with(&token("acme", scope)), &things).await;
        assert!(answer.status < 300, "{} must need no other scope: {answer:?}", operation.path);
    }
}

#[tokio::test]
async fn another_tenants_calls_are_not_found() {
    let stage = Stage::start().await;
    let secret = json!({"call_id": "private", "metadata": {"owner": "only-acme"}});
    stage.acme().submitted(secret).await;
    let of_acme = stage.acme().outcome("private").await;
    let unknown = stage.globex().analysis("unheard-of").await;
    for operation in Operation::of_bearers().iter().filter(|operation| operation.path.contains("{call_id}")) {
        let answer = perform(operation, &stage.globex(), &Things::of_call("private")).await;
        answer.problem(404, "not_found");
        assert_eq!(
            answer.json()["detail"],
            unknown.json()["detail"],
            "the problem is the same as for an unknown call"
        );
        if operation.method != reqwest::Method::GET {
            continue;
        }
        let etag = stage.acme().analysis("private").await.header("etag").to_owned();
        let path = operation.path.replace("{call_id}", "private");
        let conditional = stage.globex().get_with(&path, &[("if-none-match", &etag)]).await;
        conditional.problem(404, "not_found");
    }
    // A submission by the other tenant creates a separate analysis.
    let own = stage.globex().submitted(json!({"call_id": "private"})).await;
    assert_eq!((&own["metadata"], &own["status"]), (&json!({}), &json!("queued")));
    assert_eq!(stage.acme().analysis("private").await.json(), of_acme);
}

#[tokio::test]
async fn another_tenants_webhooks_and_deliveries_are_not_found() {
    let stage = Stage::start().await;
    let things = Things::with_webhook(&stage, "1").await;
    let before = stage.acme().get("/v1/webhooks").await.json()["webhooks"][0]["updated_at"].clone();
    for operation in Operation::all() {
        if ["{webhook_id}", "{delivery_id}"].iter().any(|id| operation.path.contains(id)) {
            let answer = perform(&operation, &stage.globex(), &things).await;
            answer.problem(404, "not_found");
            let unknown = perform(&operation, &stage.globex(), &Things::of_call("1")).await;
            assert_eq!(answer.json()["detail"], unknown.json()["detail"], "{}", operation.path);
        }
    }
    assert_eq!(stage.globex().get("/v1/webhooks").await.json(), json!({"webhooks": []}));
    assert_eq!(stage.globex().get("/v1/deliveries").await.json()["deliveries"], json!([]));
    let by_webhook = format!("/v1/deliveries?webhook={}", things.webhook_id);
    assert_eq!(stage.globex().get(&by_webhook).await.json()["deliveries"], json!([]));
    let after = stage.acme().get("/v1/webhooks").await.json()["webhooks"][0]["updated_at"].clone();
    assert_eq!(before, after);
}

/// Covers every operation without a parameter in its path: lists, the event feed, usage counts, and operations that create.
#[tokio::test]
async fn lists_feeds_and_counts_contain_no_data_of_other_tenants() {
    let stage = Stage::start().await;
    let things = Things::with_webhook(&stage, "of-acme").await;
    let secret = json!({"call_id": "of-acme", "metadata": {"owner": "canary-of-acme"}});
    stage.acme().submitted(secret).await;
    stage.acme().outcome("of-acme").await;
    let feed = stage.acme().get("/v1/events").await.json();
    let event_id = feed["events"][0]["id"].as_str().unwrap().to_owned();
    let signs = ["of-acme", "canary-of-acme", &things.webhook_id, &things.delivery_id, &event_id];
    let shown = |answer: &Answer| {
        signs.into_iter().filter(|sign| answer.text().contains(sign)).map(str::to_owned).collect::<Vec<_>>()
    };
    let pathless = || Operation::of_bearers().into_iter().filter(|operation| !operation.path.contains('{'));
    let mut seen_by_acme = Vec::new();
    for operation in pathless() {
        let name = operation.definition["operationId"].as_str().unwrap();
        // The resources of `globex` have other names than those of `acme`.
        let answer = perform(&operation, &stage.globex(), &Things::of_call("of-globex")).await;
        assert!(answer.status < 300, "{name}: {answer:?}");
        assert_eq!(shown(&answer), [""; 0], "{name}");
        if operation.method == reqwest::Method::GET {
            seen_by_acme.extend(shown(&perform(&operation, &stage.acme(), &things).await));
        }
    }
    seen_by_acme.sort_unstable();
    seen_by_acme.dedup();
    assert_eq!(seen_by_acme.len(), signs.len(), "the owner does not see all of its data: {seen_by_acme:?}");

    // Filters by IDs of another tenant, and cursors of its event feed.
    let after = feed["next_cursor"].as_str().unwrap_or(&event_id);
    for path in [
        "/v1/analyses?q=canary".to_owned(),
        "/v1/deliveries?call_id=of-acme".to_owned(),
        format!("/v1/deliveries?webhook={}", things.webhook_id),
        format!("/v1/events?after={after}"),
        format!("/v1/events?after={event_id}"),
    ] {
        let answer = stage.initech().get(&path).await;
        assert_eq!(shown(&answer), [""; 0], "{path}");
        for list in ["analyses", "deliveries", "events"] {
            assert!(answer.json()[list].as_array().is_none_or(Vec::is_empty), "{path}: {answer:?}");
        }
    }
    let usage = stage.initech().get("/v1/usage").await.json();
    for day in usage["days"].as_array().unwrap() {
        let mut counts = day.as_object().unwrap().clone();
        counts.extend(counts["deliveries"].as_object().unwrap().clone());
        assert!(counts.values().filter_map(serde_json::Value::as_u64).all(|count| count == 0), "{day}");
    }
}

/// A valid token with one change.
fn token_with(change: impl FnOnce(&mut DevelopmentToken<'_>), secret: &str, now: Timestamp) -> String {
    let tenant = TenantId::parse("acme").unwrap();
    let mut token = development_token(&tenant, EVERY_SCOPE);
    change(&mut token);
    token.mint(secret.as_bytes(), now).unwrap()
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_reason() {
    let stage = Stage::start().await;
    let now = SystemClock.now();
    let bearer = |token: &str| format!("Bearer {token}");
    let good = token("acme", EVERY_SCOPE);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_end = if signature.starts_with('A') { 'B' } else { 'A' };
    let refused = [
        ("another scheme", "Basic YTpi".to_owned()),
        ("no token", "Bearer ".to_owned()),
        ("no JWT", bearer("abc")),
        ("too large", bearer(&"a".repeat(8193))),
        ("unsigned", bearer("eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJhY21lIn0.")),
        ("forged", bearer(&format!("{signed}.{other_end}{}", &signature[1..]))),
        ("another secret", bearer(&token_with(|_| (), &"x".repeat(32), now))),
        (
            "expired",
            bearer(&token_with(|token| token.lifetime = Duration::ZERO, HMAC, Timestamp::from_millis(0))),
        ),
        ("of the future", bearer(&token_with(|_| (), HMAC, now + Duration::from_hours(1)))),
        ("unknown issuer", bearer(&token_with(|token| token.issuer = "https://evil.test", HMAC, now))),
        ("another audience", bearer(&token_with(|token| token.audience = "billing", HMAC, now))),
        ("no tenant", bearer(&token_with(|token| token.tenant_claim = "org", HMAC, now))),
    ];
    let mut challenges = Vec::new();
    for (name, authorization) in &refused {
        let answer = stage.acme().presenting(authorization).analysis("known-1").await;
        answer.problem(401, "unauthorized");
        challenges.push(format!("{name}: {}", answer.header("www-authenticate")));
    }
    assert!(stage.vendor.calls().is_empty());
    insta::assert_snapshot!(challenges.join("\n"), @r#"
    another scheme: Bearer
    no token: Bearer error="invalid_token", error_description="the token is malformed: it is empty or has an invalid character"
    no JWT: Bearer error="invalid_token", error_description="the token is malformed: it does not have three segments"
    too large: Bearer error="invalid_token", error_description="the token is larger than 8 KiB"
    unsigned: Bearer error="invalid_token", error_description="the algorithm of the token is not allowed for its issuer and key"
    forged: Bearer error="invalid_token", error_description="the signature of the token is not valid"
    another secret: Bearer error="invalid_token", error_description="the signature of the token is not valid"
    expired: Bearer error="invalid_token", error_description="the token has expired"
    of the future: Bearer error="invalid_token", error_description="the token was issued in the future"
    unknown issuer: Bearer error="invalid_token", error_description="the issuer of the token is not trusted"
    another audience: Bearer error="invalid_token", error_description="the audience of the token is not this service"
    no tenant: Bearer error="invalid_token", error_description="the token has no valid tenant claim"
    "#);
}

#[tokio::test]
async fn a_tenant_that_is_not_configured_is_refused() {
    let stage = Stage::start().await;
    for operation in Operation::of_bearers() {
        let answer = perform(&operation, &stage.caller("umbrella"), &Things::of_call("known-1")).await;
        answer.problem(403, "unknown_tenant");
    }
}

#[tokio::test]
async fn a_tenant_over_its_rate_limit_gets_retry_after() {
    let limits = [("TENANTS__ACME__REQUESTS_PER_SECOND", "1"), ("TENANTS__ACME__BURST", "60")];
    let stage = Stage::with(&limits).await;
    let (mut last_left, _) = left(&stage.acme().analysis("known-1").await);
    let refused = loop {
        let answer = stage.acme().analysis("known-1").await;
        if answer.status == 429 {
            break answer;
        }
        let (left, wait) = left(&answer);
        // Each request takes one from the quota. On a slow machine the quota may also refill.
        assert!(left + 1 >= last_left && left < 60, "{left} after {last_left}");
        assert_eq!(wait, 1);
        last_left = left;
    };
    assert_eq!(last_left, 0, "the whole quota was used");
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(left(&refused), (0, 1));
    assert_eq!(
        stage.globex().analysis("known-1").await.status,
        200,
        "the limit of one tenant does not affect another tenant"
    );
    assert!(
        stage.admin("metrics").await.1.contains("\nalovoice_gateway_rate_limited_total{tenant=\"acme\"} 1\n")
    );
    let forged = stage.acme().presenting("Bearer x").analysis("known-1").await;
    forged.problem(401, "unauthorized");
}

/// The remaining requests and the seconds until the quota grows, read by a parser of structured fields. Checks that the policy
/// is 60 requests in 60 s.
fn left(answer: &Answer) -> (i64, i64) {
    let policy = item(answer.header("ratelimit-policy"));
    assert_eq!((policy["q"], policy["w"], policy.len()), (60, 60, 2));
    let limit = item(answer.header("ratelimit"));
    assert_eq!(limit.len(), 2);
    (limit["r"], limit["t"])
}

/// The parameters of the only item, which is named `default`.
fn item(field: &str) -> HashMap<String, i64> {
    let list = sfv::Parser::new(field).parse::<sfv::List>().unwrap();
    let [sfv::ListEntry::Item(item)] = &list[..] else { panic!("expected one item: {field}") };
    assert_eq!(item.bare_item.as_string().map(sfv::StringRef::as_str), Some("default"));
    let number = |value: &sfv::BareItem| i64::from(value.as_integer().unwrap());
    item.params.iter().map(|(name, value)| (name.as_str().to_owned(), number(value))).collect()
}

#[tokio::test]
async fn every_answer_to_an_authorized_request_has_rate_limit_headers() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.acme().outcome("1").await;
    let etag = stage.acme().analysis("1").await.header("etag").to_owned();
    let unchanged = stage.acme().get_with("/v1/analyses/1", &[("if-none-match", &etag)]).await;
    let audio = stage.acme().get("/v1/analyses/1/audio").await;
    for (answer, status) in [
        (unchanged, 304),
        (audio, 200),
        (stage.acme().analysis("a,b").await, 422),
        (stage.acme().submit(json!({})).await, 422),
        (stage.acme().analysis("unknown-1").await, 404),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.has("ratelimit") && answer.has("ratelimit-policy"), "{answer:?}");
    }
    let unknown = stage.acme().presenting("Bearer x").analysis("1").await;
    let foreign = stage.caller_with(&token("acme", "")).analysis("1").await;
    for (answer, status) in [(unknown, 401), (foreign, 403)] {
        assert_eq!(answer.status, status);
        assert!(!answer.has("ratelimit") && !answer.has("ratelimit-policy"), "{answer:?}");
    }
}
