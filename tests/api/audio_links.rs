//! Links to recordings: a caller creates a link with a token, and anyone can open it without a token until it expires.

use std::time::Duration;

use alovoice_gateway::domain::audio_link::AudioLink;
use alovoice_gateway::domain::clock::{Clock, SystemClock, SystemEntropy, Timestamp};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::sealing::SealingKeys;
use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::stage::{ENCRYPTION_KEY, Stage, UNSET, call};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn ask_link(caller: &Caller, call_id: &str, body: &Value) -> Answer {
    caller.send(Method::POST, &format!("/v1/analyses/{call_id}/audio-link"), &[JSON], body.to_string()).await
}

/// Creates a link and returns its path.
async fn link_of(caller: &Caller, call_id: &str) -> String {
    let answer = ask_link(caller, call_id, &json!({})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["url"].as_str().unwrap().to_owned()
}

/// A link with this content, sealed in the same way as the gateway does it.
fn sealed(key: &str, tenant: &str, call_id: &str, expires_at: Timestamp) -> String {
    let tenant = TenantId::parse(tenant).unwrap();
    let link = AudioLink { tenant, call_id: call(call_id), expires_at };
    format!("/v1/audio/{}", link.seal(&SealingKeys::parse(key).unwrap(), &SystemEntropy))
}

fn in_an_hour() -> Timestamp {
    SystemClock.now() + Duration::from_hours(1)
}

#[tokio::test]
async fn a_link_opens_the_recording_without_a_token() {
    let stage = Stage::start().await;
    // Neither a body nor a content type is required.
    let made = stage.acme().send(Method::POST, "/v1/analyses/known-1/audio-link", &[], "").await;
    assert_eq!(made.status, 201);
    let url = made.json()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("/v1/audio/") && !url.contains("known-1"), "{url}");
    assert_eq!((made.header("location"), made.header("cache-control")), (url.as_str(), "no-store"));

    let anyone = stage.acme().anonymous();
    let by_token = stage.acme().get("/v1/analyses/known-1/audio").await;
    let whole = anyone.get(&url).await;
    assert_eq!((whole.status, &whole.body), (200, &by_token.body));
    for same in ["content-type", "content-disposition", "accept-ranges", "etag", "cache-control"] {
        assert_eq!(whole.header(same), by_token.header(same), "{same}");
    }
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("cache-control", "private, no-cache"),
        ("content-disposition", "inline; filename=\"known-1.wav\""),
    ] {
        assert_eq!(whole.header(name), value);
    }

    let part = anyone.get_with(&url, &[("range", "bytes=44-1043")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[44..1044]));
    assert_eq!(part.header("content-range"), format!("bytes 44-1043/{}", whole.body.len()));
    let changed = anyone.get_with(&url, &[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await;
    assert_eq!((changed.status, changed.body.len()), (200, whole.body.len()));
    let beyond = anyone.get_with(&url, &[("range", "bytes=999999999-")]).await;
    beyond.problem(416, "range_not_satisfiable");
    let known = anyone.get_with(&url, &[("if-none-match", whole.header("etag"))]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = anyone.send(Method::HEAD, &url, &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    assert_eq!(anyone.get(&format!("{url}?download=1")).await.pointers(), ["?download"]);
}

#[tokio::test]
async fn a_link_has_the_requested_lifetime_within_bounds() {
    let stage = Stage::start().await;
    for (body, seconds) in
        [(json!({}), 3_600), (json!({"expires_in": 60}), 60), (json!({"expires_in": 604_800}), 604_800)]
    {
        let before = SystemClock.now();
        let expires_at = ask_link(&stage.acme(), "known-1", &body).await.json()["expires_at"].take();
        let expires_at: Timestamp = serde_json::from_value(expires_at).unwrap();
        let lifetime = Duration::from_secs(seconds);
        // The gateway may take the time from the database.
        let slack = Duration::from_secs(10);
        assert!(before + lifetime <= expires_at + slack, "{expires_at}");
        assert!(expires_at <= SystemClock.now() + lifetime + slack, "{expires_at}");
    }
    for bad in [json!(59), json!(604_801), json!(0), json!(-60), json!(60.5), json!("1h"), json!("3600")] {
        let refused = ask_link(&stage.acme(), "known-1", &json!({"expires_in": bad})).await;
        assert_eq!(refused.pointers(), ["#/expires_in"], "{bad}");
    }
    assert_eq!(ask_link(&stage.acme(), "known-1", &json!({"expires": 60})).await.pointers(), ["#/expires"]);
    let path = "/v1/analyses/known-1/audio-link";
    stage.acme().send(Method::POST, path, &[JSON], "{").await.problem(400, "malformed_body");
    stage.acme().send(Method::POST, path, &[], "{}").await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn an_invalid_or_expired_link_is_refused() {
    let stage = Stage::start().await;
    let anyone = stage.acme().anonymous();
    let good = sealed(ENCRYPTION_KEY, "acme", "known-1", in_an_hour());
    assert_eq!(
        anyone.send(Method::HEAD, &good, &[], "").await.status,
        200,
        "the link is sealed as the gateway does it"
    );
    let asked = stage.vendor.calls().len();

    let expired = sealed(ENCRYPTION_KEY, "acme", "known-1", Timestamp::from_millis(1_716_207_617_042));
    let problem = anyone.get(&expired).await.problem(410, "link_expired");
    assert_eq!(problem["detail"], "the link expired at 2024-05-20T12:20:17.042Z");

    let mut forged = good.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    let other_key = "b3RoZXIgc2VjcmV0OiBrZXkgb2YgdGhpcnR5LXR3byE=";
    for bad in [
        forged,
        format!("{good}A"),
        "/v1/audio/x".to_owned(),
        "/v1/audio/%00".to_owned(),
        format!("/v1/audio/{}", "A".repeat(4_000)),
        sealed(other_key, "acme", "known-1", in_an_hour()),
        sealed(ENCRYPTION_KEY, "umbrella", "known-1", in_an_hour()),
    ] {
        let problem = anyone.get(&bad).await.problem(404, "not_found");
        assert_eq!(problem["detail"], "there is no such link");
    }
    anyone.get("/v1/audio/").await.problem(404, "not_found");
    assert_eq!(stage.vendor.calls().len(), asked, "no request reaches the vendor");
}

#[tokio::test]
async fn a_link_ends_when_its_analysis_is_deleted() {
    let stage = Stage::start().await;
    let (acme, anyone) = (stage.acme(), stage.acme().anonymous());
    let url = link_of(&acme, "known-1").await;
    assert_eq!(anyone.send(Method::HEAD, &url, &[], "").await.status, 200);
    assert_eq!(acme.send(Method::DELETE, "/v1/analyses/known-1", &[], "").await.status, 204);
    anyone.get(&url).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_link_survives_a_restart() {
    let stage = Stage::start().await;
    let url = link_of(&stage.acme(), "known-1").await;
    let stage = stage.restart().await;
    assert_eq!(stage.acme().anonymous().send(Method::HEAD, &url, &[], "").await.status, 200);
    // The new key seals links and the old key still opens them.
    stage.write("encryption-key", &format!("b3RoZXIgc2VjcmV0OiBrZXkgb2YgdGhpcnR5LXR3byE=\n{ENCRYPTION_KEY}"));
    let stage = stage.restart().await;
    assert_eq!(stage.acme().anonymous().send(Method::HEAD, &url, &[], "").await.status, 200);
    stage.write("encryption-key", "b3RoZXIgc2VjcmV0OiBrZXkgb2YgdGhpcnR5LXR3byE=");
    let stage = stage.restart().await;
    stage.acme().anonymous().get(&url).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_call_without_a_recording_gets_no_link() {
    let stage = Stage::start().await;
    for call_id in ["not-there~1", "known-audio-elsewhere~1"] {
        ask_link(&stage.acme(), call_id, &json!({})).await.problem(404, "not_found");
    }
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    ask_link(&stage.acme(), "never-ready~1", &json!({})).await.problem(409, "no_result");
    // The vendor may have lost the recording since.
    let url = link_of(&stage.acme(), "known-audio-404~1").await;
    stage.acme().anonymous().get(&url).await.problem(404, "not_found");
}

#[tokio::test]
async fn requests_with_a_link_count_against_the_rate_limit() {
    let limits = [("RATE_LIMIT__REQUESTS_PER_SECOND", "1"), ("RATE_LIMIT__BURST", "4")];
    let stage = Stage::with(&limits).await;
    let of_acme = sealed(ENCRYPTION_KEY, "acme", "known-1", in_an_hour());
    let of_globex = sealed(ENCRYPTION_KEY, "globex", "known-1", in_an_hour());
    let anyone = stage.acme().anonymous();
    let limited = loop {
        let answer = anyone.send(Method::GET, &of_acme, &[("range", "bytes=0-9")], "").await;
        if answer.status != 206 {
            break answer;
        }
    };
    limited.problem(429, "rate_limited");
    assert_eq!(limited.header("retry-after"), "1");
    assert_eq!(
        anyone.send(Method::HEAD, &of_globex, &[], "").await.status,
        200,
        "the limit of one tenant does not affect another tenant"
    );
}

#[tokio::test]
async fn a_link_is_absolute_with_a_public_url() {
    let stage = Stage::with(&[("SERVER__PUBLIC_URL", "https://api.example.uz/voice/")]).await;
    let url = link_of(&stage.acme(), "known-1").await;
    let path = url.strip_prefix("https://api.example.uz/voice").unwrap_or_else(|| panic!("{url}"));
    assert_eq!(stage.acme().anonymous().send(Method::HEAD, path, &[], "").await.status, 200);
}

#[tokio::test]
async fn without_an_encryption_key_there_are_no_links() {
    let stage = Stage::with(&[("ENCRYPTION__KEY_FILE", UNSET)]).await;
    ask_link(&stage.acme(), "known-1", &json!({})).await.problem(501, "encryption_not_configured");
    let url = sealed(ENCRYPTION_KEY, "acme", "known-1", in_an_hour());
    stage.acme().anonymous().get(&url).await.problem(501, "encryption_not_configured");
}
