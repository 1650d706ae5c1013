//! Tokens of identity providers at a real process: claims, explanations by `check --token`, log lines about refused requests.

use std::process::Output;

use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::Response;
use serde_json::{Value, json};

use crate::gateway::Serving;
use crate::peers::run;
use crate::stage::{AUDIENCE, HMAC_SECRET, ISSUER, Stage};

/// A token with changed claims; `null` removes a claim.
fn token(changes: &Value) -> String {
    let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": 4_000_000_000_u64, "tenant": "acme", "scope": "analyses:read"});
    let object = claims.as_object_mut().unwrap();
    object.extend(changes.as_object().unwrap().clone());
    object.retain(|_, value| !value.is_null());
    encode(&Header::default(), &claims, &EncodingKey::from_secret(HMAC_SECRET.as_bytes())).unwrap()
}

async fn list(stage: &Stage, gateway: &Serving, token: &str) -> Response {
    let url = gateway.api.join("v1/analyses").unwrap();
    stage.client.get(url).bearer_auth(token).send().await.unwrap()
}

/// The log lines about refused requests.
fn refusals(lines: &[String]) -> Vec<Value> {
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == "request refused").collect()
}

#[tokio::test]
async fn a_list_of_claims_in_the_settings_is_read_from_file_and_environment() {
    let mut stage = Stage::set_up().await;
    stage.set("AUTH__ISSUERS__0__TENANT_CLAIM", "/app/tenant,tid");
    stage.set("AUTH__ISSUERS__0__SCOPE_CLAIM", r#"["scp", "realm_access.roles"]"#);
    let gateway = stage.serve().await;
    for (changes, status) in [
        (json!({"tenant": null, "tid": "acme", "scope": null, "scp": "analyses:read"}), 200),
        (
            json!({"tenant": null, "app": {"tenant": ["acme"]}, "scope": null, "realm_access": {"roles": ["analyses:read"]}}),
            200,
        ),
        (json!({"tenant": null, "tid": ["acme", "globex"], "scp": "analyses:read"}), 401),
        (json!({"tid": "acme", "scp": "openid"}), 403),
        (json!({}), 401),
    ] {
        assert_eq!(list(&stage, &gateway, &token(&changes)).await.status(), status, "{changes}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_request_is_logged_with_the_reason_and_without_the_token() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let mut tokens = Vec::new();
    for (changes, status) in [
        (json!({"exp": 1}), 401),
        (json!({"aud": "elsewhere"}), 401),
        (json!({"tenant": {"id": "acme"}}), 401),
        (json!({"iss": "https://other.test"}), 401),
        (json!({"tenant": "umbrella"}), 403),
        (json!({"scope": "audio:read"}), 403),
    ] {
        let token = token(&changes);
        assert_eq!(list(&stage, &gateway, &token).await.status(), status);
        tokens.push(token);
    }
    let url = gateway.api.join("v1/analyses").unwrap();
    let anonymous = stage.client.get(url).header("x-request-id", "no-token").send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    gateway.process.stderr.until("seven refusals", |lines| refusals(lines).len() == 7).await;
    let log = gateway.process.stderr.so_far();
    let lines: Vec<_> = refusals(&log)
        .iter()
        .map(|line| {
            assert_eq!(line["level"], "INFO");
            let field = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            ["reason", "issuer", "claim", "tenant"].map(field).join(" ")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    expired https://issuer.test exp -
    audience https://issuer.test aud -
    tenant_claim https://issuer.test tenant -
    unknown_issuer - iss -
    unknown_tenant https://issuer.test tenant umbrella
    insufficient_scope https://issuer.test scope acme
    missing - - -
    ");
    assert_eq!(refusals(&log)[6]["request_id"], "no-token");
    for segment in tokens.iter().flat_map(|token| token.split('.').skip(1)) {
        assert!(!log.iter().any(|line| line.contains(segment)), "a log line has a part of a token");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_counted_and_not_logged_line_by_line() {
    const REQUESTS: usize = 500;
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    for _ in 0..REQUESTS {
        assert_eq!(list(&stage, &gateway, "abc").await.status(), 401);
    }
    let metrics = stage.metrics(&gateway).await;
    let counted = format!("\nalovoice_gateway_token_rejections_total{{reason=\"malformed\"}} {REQUESTS}\n");
    assert!(metrics.contains(&counted), "the metric counts every refusal");
    // A line for each request would need a hundred windows. The rest is counted at the end of each window.
    let logged = |lines: &[String]| {
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_kind = lines.filter(|line| line["reason"] == "malformed");
        let (each, counted): (Vec<_>, Vec<_>) =
            of_kind.partition(|line| line["message"] == "request refused");
        (each.len(), counted.iter().map(|line| line["suppressed"].as_u64().unwrap()).sum::<u64>())
    };
    let is_complete = |lines: &[String]| {
        let (each, counted) = logged(lines);
        each as u64 + counted == REQUESTS as u64
    };
    gateway.process.stderr.until("every refusal in a line or in a count", is_complete).await;
    let (each, counted) = logged(&gateway.process.stderr.so_far());
    assert!(each >= 10 && counted > 0, "{each} lines, {counted} counted");
    gateway.stop().await;
}

/// Runs `check --token -` with the text on its standard input.
async fn explained(stage: &Stage, text: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(stage.command(&["check", "--token", "-"]), text).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn check_explains_a_token_without_printing_it() {
    let stage = Stage::set_up().await;
    let good = token(&json!({"scope": "openid analyses:read"}));
    let (code, explanation, errors) = explained(&stage, &good).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{explanation}");
    let shown = explanation.replace(&good.len().to_string(), "N");
    // Without the time, and with the first operation of each scope.
    let shown: Vec<_> = shown
        .lines()
        .map(|line| {
            let is_of_scope = line.contains(" allows ") || line.contains(" lacks ");
            line.split(if is_of_scope { ", " } else { "; it is " }).next().unwrap()
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    ok      format     a signed JWT of N bytes, alg HS256
    ok      issuer     iss is "https://issuer.test"
    ok      algorithm  HS256; algorithms has HS256
    ok      key        the token has no kid, so each key of its algorithm is tried
    ok      signature  checked with the issuer's key
    ok      times      exp 2096-10-02T07:06:40Z
    ok      audience   aud is "alovoice-gateway"; audiences has "alovoice-gateway"
    ok      tenant     tenant is "acme"
    ok      scopes     scope is "openid analyses:read"
    ok      configured acme is configured
    ok      allows     analyses:read: list_analyses
    -       lacks      analyses:write: submit_analysis
    -       lacks      audio:read: get_audio
    -       lacks      webhooks:manage: create_webhook
    the token would be accepted
    "#);

    for (text, code, reason) in [
        (format!("Bearer {good}\n"), 0, "the token would be accepted"),
        (format!("Authorization: Bearer {good}\r\n"), 0, "the token would be accepted"),
        (format!("\u{feff}authorization : bearer\t{good} \n\n"), 0, "the token would be accepted"),
        (format!("Bearer\n{good}\n"), 0, "the token would be accepted"),
        (token(&json!({"aud": ["account"], "exp": 1})), 1, "the token has expired"),
        (token(&json!({"tenant": "umbrella"})), 1, "unknown_tenant"),
        (token(&json!({"scope": "openid"})), 1, "insufficient_scope"),
        (format!("{good}x"), 1, "FAILED  signature"),
        (format!("{good}.e30"), 1, "malformed"),
        (good.replace('.', " "), 1, "invalid character"),
        (String::new(), 1, "empty"),
        ("x".repeat(9_000), 1, "8 KiB"),
    ] {
        let (found, explanation, errors) = explained(&stage, &text).await;
        assert_eq!(found, Some(code), "{explanation}{errors}");
        assert!(explanation.contains(reason) || errors.contains(reason), "{reason}: {explanation}{errors}");
        for segment in text.split(['.', ' ']).filter(|segment| segment.len() > 20) {
            assert!(!explanation.contains(segment) && !errors.contains(segment), "the token is not printed");
        }
    }
    assert!(!stage.file().exists(), "an explanation does not create the store");
}

#[tokio::test]
async fn check_explains_which_key_set_cannot_be_fetched() {
    let mut stage = Stage::set_up().await;
    let path = stage.home.path().join("token");
    std::fs::write(&path, token(&json!({}))).unwrap();
    let check = |stage: &Stage, file: &str| {
        let output = stage.command(&["check", "--token", file]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = check(&stage, path.to_str().unwrap());
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&stage, "/no/such/token");
    assert_eq!(code, Some(2));
    assert!(text.contains("/no/such/token"), "{text}");

    // No server listens on port 1.
    stage.unset("AUTH__ISSUERS__0__HMAC_SECRET_FILE");
    stage.set("AUTH__ISSUERS__0__ALGORITHMS", "RS256");
    stage.set("AUTH__ISSUERS__0__JWKS_URL", "http://127.0.0.1:1/jwks");
    let rsa = format!("eyJhbGciOiJSUzI1NiJ9.{}.AAAA", token(&json!({})).split('.').nth(1).unwrap());
    std::fs::write(&path, rsa).unwrap();
    let (code, text) = check(&stage, path.to_str().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAILED  key") && text.contains("cannot fetch the JWK Set"), "{text}");
    assert!(text.contains("ok      tenant"), "the later steps are explained too: {text}");
}

#[tokio::test]
async fn the_token_command_refuses_what_the_gateway_would_refuse() {
    let stage = Stage::set_up().await;
    for (tenant, scopes, words) in [
        ("umbrella", "analyses:read", "unknown tenant umbrella; the settings have: acme"),
        (
            "acme",
            "analyses:read analyses:delete",
            "unknown scope \"analyses:delete\"; the scopes are: analyses:read, analyses:write",
        ),
        ("acme", "read write", "unknown scopes [\"read\", \"write\"]"),
        ("acme", " ", "at least one scope"),
    ] {
        let output = stage.command(&["token", "--tenant", tenant, "--scope", scopes]).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{message}");
        assert!(message.contains(words), "{message}");
    }
}
