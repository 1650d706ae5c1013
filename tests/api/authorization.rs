//! Who may call what.

use std::time::Duration;

use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use alovoice_gateway::domain::ids::TenantId;
use serde_json::json;

use crate::caller::{Answer, Caller};
use crate::contract::Operation;
use crate::stage::{EVERY_SCOPE, HMAC, Stage, call, development_token, token};

/// Calls an operation of the document about a call, with a good body if it takes one.
async fn perform(operation: &Operation, caller: &Caller, call_id: &str) -> Answer {
    let path = operation.path.replace("{call_id}", call_id);
    assert!(!path.contains('{'), "the test knows the parameters of {path}");
    let body = match operation.definition["operationId"].as_str() {
        Some("create_audio_link") => json!({}).to_string(),
        Some("submit_analyses") => json!({"analyses": [{"call_id": call_id}]}).to_string(),
        _ if operation.definition["requestBody"].is_object() => json!({"call_id": call_id}).to_string(),
        _ => String::new(),
    };
    caller.send(operation.method.clone(), &path, &[("content-type", "application/json")], body).await
}

#[tokio::test]
async fn no_operation_runs_without_a_token() {
    let stage = Stage::start().await;
    for operation in Operation::of_bearers() {
        let answer = perform(&operation, &stage.acme().anonymous(), "known-1").await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{}", operation.path);
    }
    assert!(stage.vendor.calls().is_empty());
}

#[tokio::test]
async fn every_operation_needs_the_scope_that_the_document_names() {
    let stage = Stage::start().await;
    let every: Vec<_> = EVERY_SCOPE.split(' ').collect();
    for operation in Operation::of_bearers() {
        let scope = operation.scope();
        let others = every.iter().filter(|other| **other != scope).copied().collect::<Vec<_>>().join(" ");
        for scopes in ["", &others, &scope.to_uppercase()] {
            let answer = perform(&operation, &stage.caller_with(&token("acme", scopes)), "known-1").await;
            let problem = answer.problem(403, "insufficient_scope");
            assert_eq!(problem["detail"], format!("the token lacks the scope {scope}"));
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
            assert_eq!(answer.header("www-authenticate"), challenge, "{}", operation.path);
        }
        assert!(stage.vendor.calls().iter().all(|request| request.call_id != call("known-1")));
        let call_id = format!("known-{}{}", operation.path.len(), operation.method.as_str().len());
        if operation.method == reqwest::Method::DELETE {
            assert_eq!(stage.acme().analysis(&call_id).await.status, 200, "there is something to delete");
        }
        let answer = perform(&operation, &stage.caller_with(&token("acme", scope)), &call_id).await;
        assert!(answer.status < 300, "{} needs no other scope: {answer:?}", operation.path);
    }
}

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let stage = Stage::start().await;
    let secret = json!({"call_id": "private", "metadata": {"owner": "nobody-elses"}});
    stage.acme().submitted(secret).await;
    let of_acme = stage.acme().outcome("private").await;
    let unknown = stage.globex().analysis("unheard-of").await;
    for operation in Operation::of_bearers().iter().filter(|operation| operation.path.contains("{call_id}")) {
        let answer = perform(operation, &stage.globex(), "private").await;
        answer.problem(404, "not_found");
        assert_eq!(answer.json()["detail"], unknown.json()["detail"], "the same as for what nobody has");
        if operation.method != reqwest::Method::GET {
            continue;
        }
        let etag = stage.acme().analysis("private").await.header("etag").to_owned();
        let path = operation.path.replace("{call_id}", "private");
        let conditional = stage.globex().get_with(&path, &[("if-none-match", &etag)]).await;
        conditional.problem(404, "not_found");
    }
    // Submitting it is a call of the other tenant's own.
    let own = stage.globex().submitted(json!({"call_id": "private"})).await;
    assert_eq!((&own["metadata"], &own["status"]), (&json!({}), &json!("queued")));
    assert_eq!(stage.acme().analysis("private").await.json(), of_acme);
}

/// A token that differs in one thing from a good one.
fn token_with(change: impl FnOnce(&mut DevelopmentToken<'_>), secret: &str, now: Timestamp) -> String {
    let tenant = TenantId::parse("acme").unwrap();
    let mut token = development_token(&tenant, EVERY_SCOPE);
    change(&mut token);
    token.mint(secret.as_bytes(), now).unwrap()
}

#[tokio::test]
async fn a_bad_token_is_refused_with_what_is_wrong_with_it() {
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
    let mut told = Vec::new();
    for (name, authorization) in &refused {
        let answer = stage.acme().presenting(authorization).analysis("known-1").await;
        answer.problem(401, "unauthorized");
        told.push(format!("{name}: {}", answer.header("www-authenticate")));
    }
    assert!(stage.vendor.calls().is_empty());
    insta::assert_snapshot!(told.join("\n"), @r#"
    another scheme: Bearer
    no token: Bearer error="invalid_token", error_description="the token is malformed: it is empty or has a character that no token has"
    no JWT: Bearer error="invalid_token", error_description="the token is malformed: it does not have three segments"
    too large: Bearer error="invalid_token", error_description="the token is larger than 8 KiB"
    unsigned: Bearer error="invalid_token", error_description="the algorithm of the token is not allowed for its issuer and key"
    forged: Bearer error="invalid_token", error_description="the signature of the token is not valid"
    another secret: Bearer error="invalid_token", error_description="the signature of the token is not valid"
    expired: Bearer error="invalid_token", error_description="the token has expired"
    of the future: Bearer error="invalid_token", error_description="the token was issued in the future"
    unknown issuer: Bearer error="invalid_token", error_description="the issuer of the token is not trusted here"
    another audience: Bearer error="invalid_token", error_description="the token is not meant for this service"
    no tenant: Bearer error="invalid_token", error_description="the token does not name a tenant"
    "#);
}

#[tokio::test]
async fn a_tenant_that_is_not_configured_is_unknown() {
    let stage = Stage::start().await;
    for operation in Operation::of_bearers() {
        let answer = perform(&operation, &stage.caller("umbrella"), "known-1").await;
        answer.problem(403, "unknown_tenant");
    }
}

#[tokio::test]
async fn a_tenant_that_asks_too_much_is_told_when_to_come_back() {
    let limits = [("TENANTS__ACME__REQUESTS_PER_SECOND", "1"), ("TENANTS__ACME__BURST", "60")];
    let stage = Stage::with(&limits).await;
    let mut allowed = 0;
    let refused = loop {
        let answer = stage.acme().analysis("known-1").await;
        if answer.status == 429 {
            break answer;
        }
        allowed += 1;
    };
    assert!(allowed >= 60, "{allowed} were allowed at once");
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("ratelimit-policy"), "\"tenant\";q=60;w=60");
    assert_eq!(refused.header("ratelimit"), "\"tenant\";r=0;t=1");
    assert_eq!(stage.globex().analysis("known-1").await.status, 200, "one tenant's flood is not another's");
    assert!(stage.admin("metrics").await.1.contains("\nalovoice_gateway_rate_limited_total 1\n"));
    let forged = stage.acme().presenting("Bearer x").analysis("known-1").await;
    forged.problem(401, "unauthorized");
}
