//! Answers of the vendor that contradict earlier answers, or that repeat the token.

use alovoice_gateway::sandbox::stand_in::{FixedAnswer, Operation};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Stage, VENDOR_TOKENS, call};

const SETTLING: (&str, &str) = ("VENDOR__POLLING__SETTLE_AFTER", "2ms");
/// Behaviours with which later answers have less content than the first one.
const LOSSES: [&str; 3] = ["tags-lost~1", "turns-lost~1", "emptied~1"];

/// Waits until a result is counted as discarded. The count follows the commit, after which the outcome can be read.
async fn discarded(stage: &Stage) {
    let none = "alovoice_gateway_vendor_results_discarded_total{tenant=\"acme\"} 0\n";
    while stage.admin("metrics").await.1.contains(none) {}
}

#[tokio::test]
async fn a_result_is_found_although_the_etag_has_not_changed() {
    let stage = Stage::with(&[SETTLING]).await;
    stage.acme().submitted(json!({"call_id": "etag-stale~1"})).await;
    assert_eq!(stage.acme().outcome("etag-stale~1").await["status"], "completed");
    stage.at_rest("etag-stale~1").await;
    let requests = stage.vendor.calls();
    let polls = requests.iter().filter(|request| request.call_id == call("etag-stale~1"));
    let conditional: Vec<_> = polls.map(|request| request.if_none_match.is_some()).collect();
    // After the submit and two unfinished answers, the vendor has the result. The last poll is for late tags.
    assert_eq!(conditional, [false, false, true, true, false, false]);
}

#[tokio::test]
async fn a_poll_for_late_tags_that_brings_less_changes_nothing() {
    for call_id in LOSSES {
        let stage = Stage::with(&[SETTLING]).await;
        let acme = stage.acme();
        acme.submitted(json!({"call_id": call_id, "callback": {"url": stage.hook("ok")}})).await;
        let first: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
        stage.at_rest(call_id).await;
        assert_eq!(acme.analysis(call_id).await.json(), first["data"], "{call_id}");
        let answer = acme.get(&format!("/v1/analyses/{call_id}/vendor-answer")).await.json();
        let turns = first["data"]["transcript"].as_array().unwrap().len();
        assert_eq!(answer["answer"]["stalk"].as_array().unwrap().len(), turns, "{call_id}");
        assert_eq!(stage.deliveries(call_id).await.len(), 1, "{call_id}");
        discarded(&stage).await;
    }
}

#[tokio::test]
async fn a_refresh_that_brings_less_changes_nothing_and_reports_the_error() {
    for call_id in LOSSES {
        let stage = Stage::start().await;
        let acme = stage.acme();
        acme.submitted(json!({"call_id": call_id})).await;
        let mut first = acme.outcome(call_id).await;
        let path = format!("/v1/analyses/{call_id}/refresh");
        let mut refreshed = acme.send(Method::POST, &path, &[("prefer", "wait=60")], "").await.json();
        let error = refreshed["last_error"].take();
        first["last_error"].take();
        assert_eq!(refreshed, first);
        let expected = if call_id == "emptied~1" { Value::Null } else { json!("answer_unreadable") };
        assert_eq!(error["code"], expected, "{call_id}: {error}");
        discarded(&stage).await;
    }
}

/// A result with this number of turns, all with the same text.
fn talk(turns: usize, text: &str) -> FixedAnswer {
    let turn = json!({"begin": 0, "end": 9, "direction": "client", "text": text});
    let answer = json!({"answer": {"stalk": vec![turn; turns], "tags": []}});
    FixedAnswer {
        status: 200,
        content_type: "application/json",
        headers: Vec::new(),
        body: answer.to_string().into(),
    }
}

#[tokio::test]
async fn a_new_analysis_waits_while_the_vendor_shows_a_part_of_it() {
    let stage = Stage::with(&[("VENDOR__POLLING__EMPTY_GRACE", "1h")]).await;
    let acme = stage.acme();
    let call_id = "turns-lost~1";
    acme.submitted(json!({"call_id": call_id})).await;
    let first = acme.outcome(call_id).await;
    stage.vendor.set_answer(Operation::Result, call(call_id), talk(1, "salom"));
    acme.submitted(json!({"call_id": call_id, "reanalyze": true})).await;
    stage.record(call_id, |found| found.analysis.work.as_ref().is_some_and(|work| work.polls > 0)).await;
    discarded(&stage).await;
    let waiting = acme.analysis(call_id).await.json();
    assert!(waiting["reanalysis"].is_object(), "{waiting}");
    assert_eq!(waiting["transcript"], first["transcript"]);

    // A complete result may have other tags, and none.
    let turns = first["transcript"].as_array().unwrap().len();
    stage.vendor.set_answer(Operation::Result, call(call_id), talk(turns, &"boshqa ".repeat(100)));
    stage.record(call_id, |found| found.analysis.last_reanalysis.is_some()).await;
    let ended = acme.analysis(call_id).await.json();
    assert_eq!(ended["last_reanalysis"]["outcome"], "new_result");
    assert_eq!(ended["tags"], json!([]));
}

/// The token with each character in this form.
fn spelled(character: impl Fn(u32) -> String) -> String {
    VENDOR_TOKENS[0].chars().map(|c| character(c.into())).collect()
}

fn spellings() -> Vec<String> {
    vec![
        VENDOR_TOKENS[0].to_owned(),
        spelled(|c| format!("\\u{c:04x}")),
        spelled(|c| format!("%{c:02X}")),
        spelled(|c| format!("%25{c:02x}")),
        spelled(|c| format!("&#{c};")),
        spelled(|c| format!("\\u0026#x{c:x};")),
        spelled(|c| format!("\\u0025{c:02x}")),
        spelled(|c| format!("{c:02x}")),
    ]
}

#[tokio::test]
async fn a_token_in_any_spelling_is_neither_stored_nor_shown() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for (number, spelling) in spellings().into_iter().enumerate() {
        let call_id = format!("{number}");
        let body = format!(
            r#"{{"answer": {{"aicallid": "1", "stereoaudio": "/stereo/{call_id}", "{spelling}": 1, "stalk":
               [{{"begin": 0, "end": 9, "direction": "{spelling}", "text": "<{spelling}>", "fragment_id": "{spelling}"}}],
               "tags": [{{"name": "{spelling}", "value": {{"{spelling}": "{spelling}"}}}}]}}}}"#
        );
        let quoted = format!("\"{}\"", spelling.replace('\\', "\\\\"));
        let etag = vec![("ETag", quoted.clone())];
        let result =
            FixedAnswer { status: 200, content_type: "application/json", headers: etag, body: body.into() };
        stage.vendor.set_answer(Operation::Result, call(&call_id), result);
        let names = ["ETag", "Last-Modified", "Accept-Ranges", "Content-Range", "Content-Disposition"];
        let headers = names.map(|name| (name, quoted.clone())).to_vec();
        let recording = FixedAnswer { status: 206, content_type: "audio/wav", headers, body: "RIFF".into() };
        stage.vendor.set_answer(Operation::Stereo, call(&call_id), recording);

        acme.submitted(json!({"call_id": call_id})).await;
        let analysis = acme.outcome(&call_id).await;
        assert_eq!(analysis["transcript"][0]["text"], "<[token]>", "{spelling}");
        assert_eq!(analysis["tags"][0]["name"], "[token]");
        let answer = acme.get(&format!("/v1/analyses/{call_id}/vendor-answer")).await;
        assert_eq!(answer.json()["answer"]["stalk"][0]["fragment_id"], "[token]");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&spelling), "{spelling}");
        let work = stage.record(&call_id, |_| true).await.analysis.work.unwrap();
        assert_eq!(work.etag, None, "{spelling}");
        let audio = acme.get(&format!("/v1/analyses/{call_id}/audio")).await;
        assert_eq!((audio.status, &audio.body[..]), (206, &b"RIFF"[..]));
        for (name, value) in &audio.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            assert!(!value.contains(&quoted[1..quoted.len() - 1]), "{name}: {value}");
        }
    }
}
