//! Web pages of other origins that call the API (CORS), and the security headers of responses.

use reqwest::Method;
use serde_json::json;

use crate::caller::Answer;
use crate::stage::Stage;

const CRM: (&str, &str) = ("origin", "https://crm.example");
const ELSEWHERE: (&str, &str) = ("origin", "https://crm.example.elsewhere.test");
const ALLOWED: [(&str, &str); 1] = [("CORS__ALLOWED_ORIGINS", "https://crm.example,http://localhost:5173")];

/// The preflight request that a browser sends before a request of a page.
async fn preflight(stage: &Stage, origin: (&str, &str), method: &str, headers: &str) -> Answer {
    let asked =
        [origin, ("access-control-request-method", method), ("access-control-request-headers", headers)];
    stage.acme().anonymous().send(Method::OPTIONS, "/v1/analyses/1", &asked, "").await
}

fn words(field: &str) -> Vec<String> {
    let mut words: Vec<_> = field.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
    words.sort_unstable();
    words
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_by_default() {
    let stage = Stage::start().await;
    let asked = preflight(&stage, CRM, "GET", "authorization").await;
    asked.problem(405, "method_not_allowed");
    let read = stage.acme().get_with("/v1/analyses/known-1", &[CRM]).await;
    assert_eq!(read.status, 200);
    for answer in [asked, read] {
        let allows = answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
        assert!(!allows, "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_can_use_the_api() {
    let stage = Stage::with(&ALLOWED).await;
    for method in ["GET", "HEAD", "POST", "PATCH", "DELETE"] {
        let headers = "authorization, content-type, idempotency-key, if-none-match, prefer, last-event-id, range, traceparent";
        let answer = preflight(&stage, CRM, method, headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), CRM.1);
        assert!(words(answer.header("access-control-allow-methods")).contains(&method.to_ascii_lowercase()));
        let allowed = words(answer.header("access-control-allow-headers"));
        assert!(words(headers).iter().all(|header| allowed.contains(header)), "{allowed:?}");
        assert_eq!(answer.header("access-control-max-age"), "3600");
        assert!(words(answer.header("vary")).contains(&"origin".to_owned()));
        assert!(
            !answer.has("access-control-allow-credentials"),
            "the API accepts no credentials that a browser adds by itself"
        );
    }
    let submitted = {
        let headers = [CRM, ("content-type", "application/json")];
        let body = json!({"call_id": "1"}).to_string();
        stage.acme().send(Method::POST, "/v1/analyses", &headers, body).await
    };
    let refused = stage.acme().presenting("Bearer x").get_with("/v1/analyses/1", &[CRM]).await;
    let invalid = stage.acme().get_with("/v1/analyses/1?x=1", &[CRM]).await;
    let page = stage.acme().get_with("/v1/nothing", &[CRM]).await;
    for (answer, status) in [(submitted, 202), (refused, 401), (invalid, 422), (page, 404)] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), CRM.1, "{status}");
        let readable = words(answer.header("access-control-expose-headers"));
        let hidden = ["content-type", "content-length", "cache-control", "vary", "connection"];
        for name in answer.headers.keys().map(reqwest::header::HeaderName::as_str) {
            // Headers for the browser itself need not be exposed to the page.
            let is_for_browsers = name.starts_with("access-control-")
                || name.contains("policy") && name != "ratelimit-policy"
                || name == "x-content-type-options";
            assert!(
                is_for_browsers || hidden.contains(&name) || readable.contains(&name.to_owned()),
                "{status}: the page cannot read {name}"
            );
        }
    }
    let read = stage.acme().get_with("/v1/analyses/1", &[CRM]).await;
    let vary = words(read.header("vary"));
    assert!(["authorization", "prefer", "origin"].iter().all(|name| vary.contains(&(*name).to_owned())));
}

/// Headers that browsers, HTTP libraries, frameworks and monitoring scripts add to requests of a page.
const ADDED_BY_LIBRARIES: [&str; 15] = [
    "authorization,content-type,idempotency-key,prefer,last-event-id,if-none-match,range",
    "accept,accept-language,authorization,content-language",
    "authorization,x-requested-with",
    "authorization,x-requested-with,x-csrf-token,x-xsrf-token,x-csrftoken,x-socket-id",
    "authorization,cache-control,expires,pragma",
    "authorization,if-modified-since,if-unmodified-since,if-match,if-range",
    "authorization,baggage,sentry-trace,traceparent,tracestate",
    "authorization,x-request-id,x-correlation-id,request-id,request-context",
    "authorization,b3,x-b3-sampled,x-b3-spanid,x-b3-traceid,uber-trace-id",
    "authorization,newrelic,x-datadog-origin,x-datadog-parent-id,x-datadog-sampling-priority,x-datadog-trace-id",
    "authorization,x-amzn-trace-id,x-cloud-trace-context,elastic-apm-traceparent,x-dtpc",
    "Authorization, Cache-Control, DNT, User-Agent, X-Requested-With",
    "authorization,hx-current-url,hx-request,hx-target,turbo-frame,x-livewire,x-inertia,x-pjax,ngsw-bypass",
    "authorization,ngrok-skip-browser-warning,x-app-version,x-timezone",
    "authorization,bx-ajax,x-bitrix-csrf-token,x-bitrix-site-id",
];

#[tokio::test]
async fn headers_that_libraries_add_are_allowed() {
    let stage = Stage::with(&ALLOWED).await;
    for headers in ADDED_BY_LIBRARIES {
        let answer = preflight(&stage, CRM, "POST", headers).await;
        assert_eq!(answer.status, 200, "{headers}");
        let allowed = words(answer.header("access-control-allow-headers"));
        assert!(words(headers).iter().all(|header| allowed.contains(header)), "{headers}");
    }
}

/// Chromium asks whether a page of a public origin may call an internal address.
#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_an_internal_gateway() {
    let stage = Stage::with(&ALLOWED).await;
    let ask = async |origin| {
        let headers = [
            origin,
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
            ("access-control-request-private-network", "true"),
        ];
        stage.acme().anonymous().send(Method::OPTIONS, "/v1/analyses/1", &headers, "").await
    };
    let answer = ask(CRM).await;
    assert_eq!((answer.status, answer.header("access-control-allow-private-network")), (200, "true"));
    let answer = ask(ELSEWHERE).await;
    answer.problem(403, "cors_refused");
    assert!(!answer.has("access-control-allow-private-network"));
    assert!(
        !preflight(&stage, CRM, "GET", "authorization").await.has("access-control-allow-private-network")
    );
}

#[tokio::test]
async fn a_refused_preflight_names_what_is_not_allowed() {
    let stage = Stage::with(&ALLOWED).await;
    for (origin, method, headers, named) in [
        (CRM, "GET", "authorization, X-Made-Up, accept, x-other", "x-made-up, x-other"),
        (CRM, "POST", "x-http-method-override", "x-http-method-override"),
        (CRM, "PUT", "authorization", "PUT"),
        (ELSEWHERE, "GET", "authorization", ELSEWHERE.1),
    ] {
        let answer = preflight(&stage, origin, method, headers).await;
        let problem = answer.problem(403, "cors_refused");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named) && !detail.contains("accept"), "{detail}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let stage = Stage::with(&ALLOWED).await;
    let asked = preflight(&stage, ELSEWHERE, "GET", "authorization").await;
    asked.problem(403, "cors_refused");
    preflight(&stage, CRM, "PUT", "authorization").await.problem(403, "cors_refused");
    preflight(&stage, CRM, "GET", "x-made-up").await.problem(403, "cors_refused");
    preflight(&stage, ("origin", "null"), "GET", "authorization").await.problem(403, "cors_refused");
    let read = stage.acme().get_with("/v1/analyses/known-1", &[ELSEWHERE]).await;
    assert_eq!(read.status, 200, "the gateway answers and the browser hides the response from the page");
    assert!(words(read.header("vary")).contains(&"origin".to_owned()));
    for answer in [asked, read] {
        assert!(!answer.has("access-control-allow-origin"), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_service_with_an_https_url_sends_hsts() {
    let https = Stage::with(&[("SERVER__PUBLIC_URL", "https://calls.example")]).await;
    let answer = https.acme().get("/v1/analyses/known-1").await;
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    let http = Stage::start().await;
    assert!(!http.acme().get("/v1/analyses/known-1").await.has("strict-transport-security"));
}
