//! The admin port: metrics, liveness and readiness.

use serde_json::json;

use crate::issuer::Issuer;
use crate::stage::{Stage, VENDOR_TOKENS};

/// One series of each metric that dashboards and alerts may rely on, with labels where they matter.
const FAMILIES: &[&str] = &[
    "http_request_duration_seconds_count{method=\"GET\",route=\"/v1/analyses/{call_id}\",status=\"200\"}",
    "http_requests_in_flight ",
    "vendor_request_duration_seconds_count{operation=\"submit\",outcome=\"accepted\"} 1",
    "vendor_request_duration_seconds_count{operation=\"result\",outcome=\"unchanged\"} 1",
    "vendor_request_duration_seconds_count{operation=\"result\",outcome=\"ready\"} 1",
    "analyses{status=\"queued\",tenant=\"acme\"} 0",
    "analyses{status=\"processing\",tenant=\"globex\"} 0",
    "events_total{tenant=\"acme\",type=\"analysis.completed\"} 1",
    "events_total{tenant=\"globex\",type=\"analysis.failed\"} 0",
    "event_streams_open 0",
    "analysis_completion_seconds_count 1",
    "analysis_polls_count 1",
    "analysis_polls_sum 3",
    "due_work_lag_seconds{queue=\"submits\",tenant=\"acme\"}",
    "due_work_lag_seconds{queue=\"polls\",tenant=\"globex\"}",
    "cache_hits_total ",
    "cache_misses_total ",
    "cache_bytes ",
    "callback_attempt_duration_seconds_count{outcome=\"delivered\"} 1",
    "callbacks_pending{tenant=\"acme\"} 0",
    "callbacks_due_lag_seconds{tenant=\"acme\"} 0",
    "token_rejections_total{reason=\"missing\"} 1",
    "jwks_refreshes_total{outcome=\"updated\"} 1",
    "ready 1",
    "vendor_breakers_open{tenant=\"acme\"} 0",
    "vendor_token_refusals_total{tenant=\"acme\"} 0",
    "callbacks_given_up_total{tenant=\"acme\"} 0",
    "webhooks{state=\"enabled\",tenant=\"acme\"} 0",
    "webhooks_disabled_total{reason=\"gone\",tenant=\"acme\"} 0",
    "secrets_unreadable{kind=\"vendor_token\"} 0",
    "store_connections_max ",
    "rate_limited_total{tenant=\"acme\"} 0",
    "store_errors_total ",
    "build_info{version=\"",
];

#[tokio::test]
async fn the_metrics_contain_every_series_that_operators_rely_on() {
    let issuer = Issuer::start().await;
    let jwks_url = issuer.url.to_string();
    let stage = Stage::with(&[
        ("AUTH__ISSUERS__1__ISSUER", Issuer::NAME),
        ("AUTH__ISSUERS__1__AUDIENCES", "alovoice-gateway"),
        ("AUTH__ISSUERS__1__ALGORITHMS", "EdDSA"),
        ("AUTH__ISSUERS__1__JWKS_URL", &jwks_url),
    ])
    .await;
    let caller = stage.caller_with(&issuer.token("acme", "one"));
    caller.submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    caller.outcome("1").await;
    caller.analysis("1").await;
    caller.anonymous().analysis("1").await.problem(401, "unauthorized");
    stage.receiver.next().await;
    let metrics = loop {
        // The receiver gets the callback before the store has the outcome, and a late notice of a change may remove the
        // answer from the cache: each round reads the analysis once more.
        caller.analysis("1").await;
        let (status, metrics) = stage.admin("metrics").await;
        assert_eq!(status, 200);
        let has = |line: &str| metrics.contains(&format!("\nalovoice_gateway_{line}"));
        if has("callback_attempt_duration_seconds_count{outcome=\"delivered\"} 1")
            && has("callbacks_pending{tenant=\"acme\"} 0\n")
            && !has("cache_hits_total 0\n")
        {
            break metrics;
        }
    };
    for family in FAMILIES {
        let wanted = format!("\nalovoice_gateway_{family}");
        assert!(metrics.contains(&wanted), "{family} in {metrics}");
    }
    for process in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(metrics.contains(&format!("\n{process} ")), "{process}");
    }
    for secret in VENDOR_TOKENS {
        assert!(!metrics.contains(secret));
    }
}

#[tokio::test]
async fn every_metric_has_help_and_no_label_contains_caller_input() {
    let stage = Stage::start().await;
    let odd = reqwest::Method::from_bytes(b"BREW").unwrap();
    stage.acme().send(odd, "/v1/analyses/made-up", &[], "").await.problem(405, "method_not_allowed");
    stage.acme().get("/made-up").await.problem(404, "not_found");
    let (_, metrics) = stage.admin("metrics").await;
    for family in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap();
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}");
    }
    assert!(
        metrics.contains("{method=\"other\",route=\"/v1/analyses/{call_id}\",status=\"405\""),
        "{metrics}"
    );
    assert!(metrics.contains("route=\"unmatched\",status=\"404\""), "{metrics}");
    assert!(!metrics.contains("made-up") && !metrics.contains("BREW"), "{metrics}");
}

#[tokio::test]
async fn the_probes_answer() {
    let stage = Stage::start().await;
    for probe in ["livez", "readyz"] {
        // A check of the store takes too long if the disk is busy.
        while stage.admin(probe).await != (200, "ok\n".to_owned()) {}
    }
}

#[tokio::test]
async fn neither_port_serves_paths_of_the_other() {
    let stage = Stage::start().await;
    for path in ["/metrics", "/livez", "/readyz"] {
        stage.acme().get(path).await.problem(404, "not_found");
    }
    for path in ["v1/analyses/1", "openapi.json", "swagger-ui/", "problems/internal"] {
        assert_eq!(stage.admin(path).await.0, 404, "{path}");
    }
}
