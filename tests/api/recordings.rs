//! Recordings: streamed unchanged from the vendor's host, in whole or in part, and from no other host.

use alovoice_gateway::sandbox::stand_in::Operation;
use reqwest::Method;

use crate::stage::Stage;

fn audio_of(call_id: &str) -> String {
    format!("/v1/analyses/{call_id}/audio")
}

#[tokio::test]
async fn a_recording_is_streamed_unchanged() {
    let stage = Stage::start().await;
    let url = stage.acme().analysis("known-1").await.json()["audio_url"].as_str().unwrap().to_owned();
    assert_eq!(url, audio_of("known-1"));
    let whole = stage.acme().get(&url).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, "audio/wav"));
    let direct = reqwest::get(stage.vendor.base_url().join("/stereo/known-1").unwrap()).await.unwrap();
    assert_eq!(whole.body, direct.bytes().await.unwrap());
    assert_eq!(whole.header("cache-control"), "private, no-cache");

    let head = stage.acme().send(Method::HEAD, &url, &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")));
    for same in ["content-type", "content-disposition", "accept-ranges", "etag"] {
        assert_eq!(head.header(same), whole.header(same), "{same}");
    }
    assert_eq!((whole.header("accept-ranges"), whole.header("vary")), ("bytes", "Authorization"));
    assert_eq!(whole.header("content-disposition"), "inline; filename=\"known-1.wav\"");
    let etag = whole.header("etag");
    let known = stage.acme().get_with(&url, &[("if-none-match", etag)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(stage.acme().get_with(&url, &[("if-match", etag)]).await.body, whole.body);
    let other = stage.acme().get_with(&url, &[("if-match", "\"other\"")]).await;
    other.problem(412, "precondition_failed");
}

#[tokio::test]
async fn a_range_of_a_recording_is_returned() {
    let stage = Stage::start().await;
    let url = audio_of("known-1");
    let whole = stage.acme().get(&url).await;
    let part = stage.acme().get_with(&url, &[("range", "bytes=44-1043")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[44..1044]));
    assert_eq!(part.header("content-range"), format!("bytes 44-1043/{}", whole.body.len()));
    let changed = stage.acme().get_with(&url, &[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await;
    assert_eq!((changed.status, changed.body.len()), (200, whole.body.len()));
    let etag = whole.header("etag");
    let same = stage.acme().get_with(&url, &[("range", "bytes=-10"), ("if-range", etag)]).await;
    assert_eq!((same.status, &same.body[..]), (206, &whole.body[whole.body.len() - 10..]));
    let head = stage.acme().send(Method::HEAD, &url, &[("range", "bytes=0-9")], "").await;
    assert_eq!((head.status, head.body.len()), (206, 0));
    assert_eq!(head.header("content-range"), format!("bytes 0-9/{}", whole.body.len()));
    let beyond = stage.acme().get_with(&url, &[("range", "bytes=999999999-")]).await;
    beyond.problem(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), format!("bytes */{}", whole.body.len()));
}

#[tokio::test]
async fn errors_of_a_recording_are_reported() {
    let stage = Stage::start().await;
    for (call_id, status, code) in [
        ("known-audio-404~1", 404, "not_found"),
        ("known-audio-elsewhere~1", 404, "not_found"),
        ("known-audio-500~1", 503, "unavailable"),
        ("known-audio-redirect~1", 503, "unavailable"),
        ("not-there~1", 404, "not_found"),
    ] {
        stage.acme().without_retries().get(&audio_of(call_id)).await.problem(status, code);
    }
    stage.acme().submitted(serde_json::json!({"call_id": "never-ready~1"})).await;
    stage.acme().get(&audio_of("never-ready~1")).await.problem(409, "no_result");
    let visits = stage.vendor.calls();
    assert!(visits.iter().all(|request| request.operation != Operation::OtherHost), "{visits:?}");
    stage.vendor.set_down(true);
    stage.acme().analysis("known-audio-404~1").await;
    let acme = stage.acme().without_retries();
    acme.get(&audio_of("known-audio-500~1")).await.problem(503, "unavailable");
}

#[tokio::test]
async fn an_interrupted_recording_is_detected() {
    let stage = Stage::start().await;
    let url = stage.acme().api.join(&audio_of("known-audio-truncated~1")).unwrap();
    let token = stage.acme().authorization.clone().unwrap();
    let answer = stage.acme().http.get(url).header("authorization", token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "the truncated recording was not detected");
}
