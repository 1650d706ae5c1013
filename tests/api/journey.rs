//! One call from submission to callback: submitted, analysed, served and delivered.

use alovoice_gateway::callbacks::{SignedHeaders, verify};
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::secrets::CallbackSecret;
use alovoice_gateway::sandbox::receiver::Received;
use alovoice_gateway::sandbox::stand_in::{Operation, VendorRequest};
use serde_json::{Value, json};

use crate::stage::{ACME_SECRET, GLOBEX_SECRET, Stage, call};

const CALL: &str = "1716207617.42";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_submission_is_answered_with_location_and_retry_after() {
    let stage = Stage::start().await;
    stage.vendor.set_held(true);
    let answer = stage.acme().submit(json!({"call_id": CALL, "metadata": {"ticket": "T-1"}})).await;
    assert_eq!((answer.status, answer.header("location")), (202, "/v1/analyses/1716207617.42"));
    assert_eq!(answer.header("retry-after"), "1");
    insta::assert_json_snapshot!(answer.json(), {".submitted_at" => "[time]"}, @r#"
    {
      "ai_call_id": null,
      "audio_url": null,
      "begin_time": null,
      "call": {
        "agent": null,
        "crm": {},
        "direction": null,
        "phone": null,
        "queue": null,
        "started_at": null
      },
      "call_id": "1716207617.42",
      "completed_at": null,
      "error": null,
      "last_error": null,
      "last_reanalysis": null,
      "metadata": {
        "ticket": "T-1"
      },
      "reanalysis": null,
      "revision": 0,
      "status": "queued",
      "submitted_at": "[time]",
      "tags": null,
      "talk_metrics": null,
      "transcript": null,
      "warnings": []
    }
    "#);
    let unfinished = stage.acme().get(answer.header("location")).await;
    assert_eq!((unfinished.status, unfinished.json()), (200, answer.json()));
    assert!(unfinished.has("retry-after"));
}

#[tokio::test]
async fn an_analysis_has_all_the_data_of_the_vendors_answer() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": CALL, "metadata": {"ticket": "T-1", "n": [1, null]}})).await;
    let mut analysis = stage.acme().outcome(CALL).await;
    let vendor = stage.acme().get(&format!("/v1/analyses/{CALL}/vendor-answer")).await.json();

    let turns = vendor["answer"]["stalk"].as_array().unwrap().iter().map(turn).collect::<Vec<_>>();
    assert_eq!(analysis["transcript"], json!(turns));
    let tags = vendor["answer"]["tags"].as_array().unwrap().iter().map(tag).collect::<Vec<_>>();
    assert_eq!(analysis["tags"], json!(tags));
    assert_eq!(analysis["ai_call_id"], vendor["answer"]["aicallid"]);
    assert_eq!(vendor["answer"]["begin_time"], 1_716_207_617);

    // A few entries are enough for the snapshot.
    analysis["transcript"].as_array_mut().unwrap().truncate(1);
    analysis["tags"].as_array_mut().unwrap().truncate(2);
    insta::assert_json_snapshot!(analysis, {".submitted_at" => "[time]", ".completed_at" => "[time]"}, @r#"
    {
      "ai_call_id": "225225ae62222d1bb686e82a",
      "audio_url": "/v1/analyses/1716207617.42/audio",
      "begin_time": "2024-05-20T12:20:17Z",
      "call": {
        "agent": null,
        "crm": {},
        "direction": null,
        "phone": null,
        "queue": null,
        "started_at": null
      },
      "call_id": "1716207617.42",
      "completed_at": "[time]",
      "error": null,
      "last_error": null,
      "last_reanalysis": null,
      "metadata": {
        "n": [
          1,
          null
        ],
        "ticket": "T-1"
      },
      "reanalysis": null,
      "revision": 1,
      "status": "completed",
      "submitted_at": "[time]",
      "tags": [
        {
          "begin_ms": null,
          "end_ms": null,
          "fragment_id": null,
          "match_text": null,
          "name": "Нет дополнительной информации",
          "type": "rule",
          "value": "",
          "visible": null
        },
        {
          "begin_ms": 1120,
          "end_ms": 6440,
          "fragment_id": "3c69d109c7304aac00590050",
          "match_text": "assalomu alaykum",
          "name": "Приветсвие",
          "type": "rule",
          "value": "Приветствие",
          "visible": null
        }
      ],
      "talk_metrics": {
        "client": {
          "interruptions": 0,
          "longest_monologue_ms": 3120,
          "talk_ms": 17240,
          "talk_share": 0.3646,
          "words_per_minute": 107.9
        },
        "duration_ms": 51840,
        "longest_silence_ms": 3200,
        "median_response_ms": 920,
        "non_talk_ms": 3200,
        "operator": {
          "interruptions": 2,
          "longest_monologue_ms": 5000,
          "talk_ms": 30040,
          "talk_share": 0.6354,
          "words_per_minute": 123.8
        },
        "overtalk_ms": 3360,
        "silence_ms": 7920,
        "speaker_switches_per_minute": 15.0,
        "thresholds": {
          "backchannel_ms": 500,
          "interruption_overlap_ms": 500,
          "monologue_pause_ms": 3000,
          "non_talk_ms": 3000
        }
      },
      "transcript": [
        {
          "begin_ms": 1120,
          "end_ms": 6440,
          "fragment_id": "3c69d109c7304aac00590050",
          "speaker": "operator",
          "text": "assalomu alaykum oilaviy klinika qabulxonasi sizga qanday yordam bera olaman"
        }
      ],
      "warnings": []
    }
    "#);
}

#[tokio::test]
async fn a_call_is_submitted_once_and_polled_with_conditional_requests() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": CALL})).await;
    stage.acme().submit(json!({"call_id": CALL})).await;
    stage.acme().outcome(CALL).await;
    assert_eq!(stage.acme().submit(json!({"call_id": CALL})).await.status, 200);
    assert_eq!((stage.vendor.submits(&call(CALL)), stage.vendor.accepted_submits(&call(CALL))), (1, 1));
    // Without the probe for unknown calls.
    let is_poll = |r: &&VendorRequest| r.operation == Operation::Result && r.call_id == call(CALL);
    let asked: Vec<_> = stage.vendor.calls().iter().filter(is_poll).cloned().collect();
    let conditional: Vec<_> = asked.iter().map(|request| request.if_none_match.is_some()).collect();
    assert_eq!(conditional, [false, true, true]);
    assert!(asked.iter().all(|request| request.token_ok));
}

#[tokio::test]
async fn a_completed_analysis_is_delivered_in_a_signed_callback() {
    let stage = Stage::start().await;
    let hook = stage.hook("ok");
    stage
        .acme()
        .submitted(json!({"call_id": CALL, "callback": {"url": hook}, "metadata": {"ticket": "T-1"}}))
        .await;
    let received = stage.receiver.next().await;
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook/ok"));
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_is_signed(&received, ACME_SECRET);
    assert!(received.header("webhook-id").unwrap().starts_with("evt_"));

    let event: Value = serde_json::from_slice(&received.body).unwrap();
    let analysis = stage.acme().outcome(CALL).await;
    let wanted =
        json!({"type": "analysis.completed", "timestamp": analysis["completed_at"], "data": analysis});
    assert_eq!(event, wanted);
}

#[tokio::test]
async fn a_tenants_callbacks_are_signed_with_its_own_secret() {
    let stage = Stage::start().await;
    stage.globex().submitted(json!({"call_id": CALL, "callback": {"url": stage.hook("ok")}})).await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, GLOBEX_SECRET);
    let acme = CallbackSecret::parse(ACME_SECRET).unwrap();
    verify(&[acme], signed_headers(&received), &received.body, SystemClock.now()).unwrap_err();
}

#[tokio::test]
async fn the_callers_trace_reaches_the_vendor_and_the_receiver() {
    let stage = Stage::start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("content-type", "application/json"), ("traceparent", parent.as_str())];
    let body = json!({"call_id": CALL, "callback": {"url": stage.hook("ok")}}).to_string();
    assert_eq!(stage.acme().post_with(&headers, body).await.status, 202);
    let received = stage.receiver.next().await;
    // Without the probe for unknown calls.
    let of_call = stage.vendor.calls().into_iter().filter(|request| request.call_id == call(CALL));
    let at_the_vendor = of_call.map(|request| request.traceparent.unwrap());
    let traceparents: Vec<_> =
        at_the_vendor.chain(received.header("traceparent").map(str::to_owned)).collect();
    assert_eq!(traceparents.len(), 5, "one submit, three polls, one callback");
    // Without an exporter the gateway creates no spans, so it forwards the header of the caller unchanged.
    assert!(traceparents.iter().all(|traceparent| *traceparent == parent), "{traceparents:?}");
}

#[tokio::test]
async fn a_failed_analysis_is_delivered_in_a_signed_callback() {
    let stage = Stage::start().await;
    let (call, hook) = ("submit-400~1", stage.hook("ok"));
    stage.acme().submitted(json!({"call_id": call, "callback": {"url": hook}})).await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, ACME_SECRET);
    let event: Value = serde_json::from_slice(&received.body).unwrap();
    insta::assert_json_snapshot!(event, {".timestamp" => "[time]", ".data.submitted_at" => "[time]"}, @r#"
    {
      "data": {
        "ai_call_id": null,
        "audio_url": null,
        "begin_time": null,
        "call": {
          "agent": null,
          "crm": {},
          "direction": null,
          "phone": null,
          "queue": null,
          "started_at": null
        },
        "call_id": "submit-400~1",
        "completed_at": null,
        "error": {
          "code": "vendor_rejected",
          "detail": "the vendor answered 400: \"error 400\"",
          "retryable": false
        },
        "last_error": null,
        "last_reanalysis": null,
        "metadata": {},
        "reanalysis": null,
        "revision": 0,
        "status": "failed",
        "submitted_at": "[time]",
        "tags": null,
        "talk_metrics": null,
        "transcript": null,
        "warnings": []
      },
      "timestamp": "[time]",
      "type": "analysis.failed"
    }
    "#);
    assert_eq!(event["data"], stage.acme().outcome(call).await);
}

/// A turn in the format of the API.
fn turn(vendor: &Value) -> Value {
    json!({
        "fragment_id": vendor["fragment_id"], "speaker": vendor["direction"], "text": vendor["text"],
        "begin_ms": vendor["begin"], "end_ms": vendor["end"],
    })
}

/// A tag in the format of the API. Fields that the vendor omits are null.
fn tag(vendor: &Value) -> Value {
    json!({
        "name": vendor["name"], "value": vendor["value"], "visible": vendor["visible"], "type": vendor["tag_type"],
        "begin_ms": vendor["begin"], "end_ms": vendor["end"], "match_text": vendor["match_text"],
        "fragment_id": vendor["fragment_id"],
    })
}

fn signed_headers(received: &Received) -> SignedHeaders<'_> {
    SignedHeaders {
        id: received.header("webhook-id").unwrap(),
        timestamp: received.header("webhook-timestamp").unwrap(),
        signature: received.header("webhook-signature").unwrap(),
    }
}

/// Checks the signature with the gateway's verification and with the reference library.
pub(crate) fn assert_is_signed(received: &Received, secret: &str) {
    let own = CallbackSecret::parse(secret).unwrap();
    verify(&[own], signed_headers(received), &received.body, SystemClock.now()).unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in &received.headers {
        headers.append(name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap());
    }
    standardwebhooks::Webhook::new(secret).unwrap().verify(&received.body, &headers).unwrap();
}
