//! Reading an analysis: entity tags, conditional requests, HEAD, the transcript, and responses before there is a result.

use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::sandbox::stand_in::{FixedAnswer, Operation};
use reqwest::Method;
use serde_json::json;

use crate::stage::Stage;

const REPRESENTATIONS: [&str; 3] =
    ["/v1/analyses/1", "/v1/analyses/1/transcript", "/v1/analyses/1/vendor-answer"];

async fn finished() -> Stage {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.acme().outcome("1").await;
    stage
}

#[tokio::test]
async fn a_current_etag_gets_304() {
    let stage = finished().await;
    let mut tags = Vec::new();
    for path in REPRESENTATIONS {
        let whole = stage.acme().get(path).await;
        assert_eq!((whole.status, whole.header("cache-control")), (200, "private, no-cache"), "{path}");
        let tag = whole.header("etag").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let answer = stage.acme().get_with(path, &[("if-none-match", &known)]).await;
            assert_eq!((answer.status, answer.header("etag")), (304, tag.as_str()), "{path} {known}");
        }
        let other = stage.acme().get_with(path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!((other.status, other.body), (200, whole.body), "{path}");
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each representation must have its own entity tag");
}

#[tokio::test]
async fn a_finished_analysis_is_compressed_for_callers_who_prefer_gzip() {
    let stage = finished().await;
    let path = "/v1/analyses/1";
    let plain = stage.acme().get(path).await;
    let vary = "Authorization, Prefer, Accept-Encoding";
    assert_eq!((plain.has("content-encoding"), plain.header("vary")), (false, vary));
    // The first request compresses the body, the second gets the body from the cache.
    for _ in 0..2 {
        let answer = stage.acme().get_with(path, &[("accept-encoding", "br, gzip")]).await;
        assert_eq!(
            (answer.status, answer.header("content-encoding"), answer.header("vary")),
            (200, "gzip", vary)
        );
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert!(answer.body.len() < plain.body.len() / 2, "{} of {}", answer.body.len(), plain.body.len());
        assert_eq!(answer.content(), plain.body);
        let head = stage.acme().send(Method::HEAD, path, &[("accept-encoding", "gzip")], "").await;
        for same in ["etag", "content-encoding", "content-length", "vary"] {
            assert_eq!(head.header(same), answer.header(same), "{same}");
        }
        // Both forms have their own tag. The tag of the compressed form is current only for callers who accept gzip.
        assert_ne!(answer.header("etag"), plain.header("etag"));
        let headers = [("if-none-match", answer.header("etag")), ("accept-encoding", "identity")];
        assert_eq!(stage.acme().get_with(path, &headers).await.body, plain.body);
        for (tag, accepted) in [
            (answer.header("etag"), "gzip"),
            (plain.header("etag"), "gzip"),
            (plain.header("etag"), "identity"),
        ] {
            let headers = [("if-none-match", tag), ("accept-encoding", accepted)];
            let known = stage.acme().get_with(path, &headers).await;
            assert_eq!((known.status, known.header("etag"), known.body.len()), (304, tag, 0), "{accepted}");
        }
    }
    for refused in ["identity", "gzip;q=0", "gzip;q=0.5, identity"] {
        let answer = stage.acme().get_with(path, &[("accept-encoding", refused)]).await;
        assert!(!answer.has("content-encoding"), "{refused}");
        assert_eq!((answer.header("etag"), &answer.body), (plain.header("etag"), &plain.body), "{refused}");
    }
}

#[tokio::test]
async fn bodies_of_up_to_2_mib_are_compressed() {
    let stage = Stage::start().await;
    for (call_id, turns, is_compressed) in [("500", 500, true), ("10000", 10_000, false)] {
        let turn = json!({"begin": 1, "end": 2, "text": "a word ".repeat(30)});
        let body = json!({"answer": {"aicallid": "a", "stalk": vec![turn; turns], "tags": []}}).to_string();
        let answer = FixedAnswer {
            status: 200,
            content_type: "application/json",
            headers: Vec::new(),
            body: body.into(),
        };
        stage.vendor.set_answer(Operation::Result, CallId::parse(call_id).unwrap(), answer);
        let plain = stage.acme().analysis(call_id).await;
        let size = plain.body.len();
        assert!(if is_compressed { (64 << 10..2 << 20).contains(&size) } else { size > 2 << 20 }, "{size}");
        let path = format!("/v1/analyses/{call_id}");
        let answer = stage.acme().get_with(&path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(answer.has("content-encoding"), is_compressed, "{size}");
        assert_eq!(answer.content(), plain.body, "{size}");
    }
}

#[tokio::test]
async fn a_change_replaces_the_compressed_body() {
    let stage = finished().await;
    let gzip = [("accept-encoding", "gzip")];
    let before = stage.acme().get_with("/v1/analyses/1", &gzip).await;
    stage.acme().submit(json!({"call_id": "1", "metadata": {"ticket": "T-7"}})).await;
    let after = stage.acme().get_with("/v1/analyses/1", &gzip).await;
    assert_ne!(after.header("etag"), before.header("etag"));
    let analysis = after.json();
    assert_eq!(analysis["metadata"]["ticket"], "T-7");
    assert_eq!(analysis, stage.acme().analysis("1").await.json());
}

#[tokio::test]
async fn small_and_unfinished_analyses_are_not_compressed() {
    let stage = Stage::start().await;
    let long = "x".repeat(2 << 10);
    stage.acme().submitted(json!({"call_id": "never-ready~1", "metadata": {"note": long}})).await;
    stage.acme().submitted(json!({"call_id": "submit-400~1"})).await;
    stage.acme().outcome("submit-400~1").await;
    for (call_id, is_small) in [("never-ready~1", false), ("submit-400~1", true)] {
        let path = format!("/v1/analyses/{call_id}");
        let answer = stage.acme().get_with(&path, &[("accept-encoding", "gzip")]).await;
        assert_eq!((answer.status, answer.has("content-encoding")), (200, false), "{call_id}");
        assert_eq!(answer.body.len() < 1 << 10, is_small, "{call_id}");
    }
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let stage = finished().await;
    for path in REPRESENTATIONS {
        let get = stage.acme().get(path).await;
        let head = stage.acme().send(Method::HEAD, path, &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for same in ["etag", "content-type", "content-length", "cache-control", "vary"] {
            assert_eq!(head.header(same), get.header(same), "{same} of {path}");
        }
    }
}

#[tokio::test]
async fn the_transcript_equals_that_of_the_analysis() {
    let stage = finished().await;
    let analysis = stage.acme().analysis("1").await.json();
    let transcript = stage.acme().get("/v1/analyses/1/transcript").await.json();
    let wanted = json!({
        "call_id": "1", "revision": 1, "begin_time": analysis["begin_time"], "transcript": analysis["transcript"],
    });
    assert_eq!(transcript, wanted);
}

#[tokio::test]
async fn an_unfinished_analysis_has_retry_after() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    for part in ["transcript", "vendor-answer"] {
        let answer = stage.acme().get(&format!("/v1/analyses/never-ready~1/{part}")).await;
        answer.problem(409, "no_result");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let analysis = stage.acme().analysis("never-ready~1").await;
    assert_eq!((analysis.status, analysis.header("retry-after")), (200, "1"));
}

#[tokio::test]
async fn a_failed_analysis_has_no_transcript_and_no_retry_after() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "submit-400~1"})).await;
    stage.acme().outcome("submit-400~1").await;
    for part in ["transcript", "vendor-answer"] {
        let answer = stage.acme().get(&format!("/v1/analyses/submit-400~1/{part}")).await;
        answer.problem(409, "no_result");
        assert!(!answer.has("retry-after"), "{part}");
    }
    assert!(!stage.acme().analysis("submit-400~1").await.has("retry-after"));
}

#[tokio::test]
async fn a_wait_ends_with_the_outcome_or_the_timeout() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    let outcome = acme.get_with("/v1/analyses/1", &[("prefer", "respond-async, wait=60")]).await;
    assert_eq!(
        (outcome.json()["status"].as_str(), outcome.header("preference-applied")),
        (Some("completed"), "wait=60")
    );
    assert!(!outcome.has("retry-after"));

    acme.submitted(json!({"call_id": "never-ready~1"})).await;
    for (asked, applied) in [("wait=0", "wait=0"), ("wait=1", "wait=1")] {
        let answer = acme.get_with("/v1/analyses/never-ready~1", &[("prefer", asked)]).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (200, applied));
        assert_ne!(answer.json()["status"], "completed");
        assert!(answer.has("retry-after"));
    }
}

#[tokio::test]
async fn all_waiting_requests_are_answered() {
    let stage = Stage::start().await;
    stage.vendor.set_held(true);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let acme = stage.acme();
            tokio::spawn(async move { acme.outcome("1").await })
        })
        .collect();
    stage.in_flight(20).await;
    stage.vendor.set_held(false);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap()["status"], "completed");
    }
}

#[tokio::test]
async fn the_second_read_of_a_finished_analysis_hits_the_cache() {
    let stage = finished().await;
    let first = stage.acme().analysis("1").await;
    let hits = |metrics: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix("alovoice_gateway_cache_hits_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = hits(&stage.admin("metrics").await.1);
    // A late notice of the completion may remove the answer from the cache. There are few of them.
    let mut reads = 0;
    while hits(&stage.admin("metrics").await.1) == before && reads < 5 {
        assert_eq!(stage.acme().analysis("1").await.body, first.body);
        reads += 1;
    }
    assert_eq!(hits(&stage.admin("metrics").await.1), before + 1);
}
