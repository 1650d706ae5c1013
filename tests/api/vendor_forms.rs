//! Every kind of vendor response, each produced by a behaviour of the stand-in.

use alovoice_gateway::domain::analysis::Status;
use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::sandbox::stand_in::{Behaviour, Operation};
use serde_json::{Value, json};

use crate::stage::{Stage, VENDOR_TOKENS, call};

/// The end of a call and the number of its submits to the vendor.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Completed after this number of submits, of which the vendor accepted one.
    Completed(usize),
    /// Refused permanently after one submit.
    Rejected,
    /// Unfinished during this test. `deadlines` tests the end of these calls.
    Open,
}

/// The match has no wildcard, so the compiler requires an end for each new behaviour.
fn end_of(behaviour: Behaviour) -> End {
    match behaviour {
        Behaviour::Documented
        | Behaviour::NotReadyNull
        | Behaviour::NotReadyMissing
        | Behaviour::NotReadyString
        | Behaviour::NotReadyNoStalk
        | Behaviour::NotReadyEmpty
        | Behaviour::NotReady202
        | Behaviour::NotReady204
        | Behaviour::NotReady404
        | Behaviour::TagsLate
        | Behaviour::TagsMore
        | Behaviour::TagsLost
        | Behaviour::TurnsLost
        | Behaviour::Emptied
        | Behaviour::Changed
        | Behaviour::BeginTimeString
        | Behaviour::NumbersAsStrings
        | Behaviour::DirectionOther
        | Behaviour::Unordered
        | Behaviour::MissingFields
        | Behaviour::TagTypes
        | Behaviour::AudioElsewhere
        | Behaviour::NoEtag
        | Behaviour::EtagStale
        | Behaviour::EtagIgnored
        | Behaviour::Gzip
        | Behaviour::AudioMissing
        | Behaviour::Audio500
        | Behaviour::AudioRedirect
        | Behaviour::AudioTruncated
        | Behaviour::AudioLong => End::Completed(1),
        // The outcome is known: the vendor accepted the call.
        Behaviour::Submit202 => End::Completed(1),
        // The outcome is unknown, and the vendor has the call.
        Behaviour::Submit204
        | Behaviour::SubmitHtml
        | Behaviour::SubmitReset
        | Behaviour::SubmitHang
        | Behaviour::Submit500Taken => End::Completed(1),
        // The outcome is unknown, and the vendor does not have the call. This happens twice, then the vendor accepts it.
        Behaviour::Redirect
        | Behaviour::SubmitHtmlLost
        | Behaviour::SubmitResetLost
        | Behaviour::SubmitHangLost
        | Behaviour::Submit500Lost => End::Completed(3),
        // The outcome is known: the vendor did not accept the call, and a retry is useful.
        Behaviour::Submit401 | Behaviour::Submit403 | Behaviour::Submit404 | Behaviour::Submit429 => {
            End::Completed(3)
        }
        Behaviour::Submit400 | Behaviour::Result400 => End::Rejected,
        Behaviour::Result401
        | Behaviour::Result403
        | Behaviour::Result404
        | Behaviour::Result429
        | Behaviour::Result500
        | Behaviour::Result503
        | Behaviour::Result503Date
        | Behaviour::ResultHtml
        | Behaviour::Reset
        | Behaviour::Hang
        | Behaviour::Truncated
        | Behaviour::TruncatedGzip
        | Behaviour::GzipBomb
        | Behaviour::Huge
        | Behaviour::Drip => End::Completed(1),
        Behaviour::NeverReady | Behaviour::Silent => End::Open,
    }
}

/// The call with this behaviour.
fn call_of(behaviour: Behaviour) -> CallId {
    match behaviour {
        // A refusal ends the analysis only after a probe. The stand-in must still refuse then.
        Behaviour::Result400 => call("result-400-forever~1"),
        behaviour => behaviour.call_id("1").unwrap(),
    }
}

/// Whether requests end only by a time-out.
const fn is_silent(behaviour: Behaviour) -> bool {
    use Behaviour::{Drip, Hang, SubmitHang, SubmitHangLost};
    matches!(behaviour, Hang | Drip | SubmitHang | SubmitHangLost)
}

#[tokio::test]
async fn every_vendor_behaviour_leads_to_the_expected_end() {
    // A short time-out would also end other requests if the machine is busy.
    let (silent, others): (Vec<_>, Vec<_>) =
        Behaviour::ALL.iter().partition(|behaviour| is_silent(**behaviour));
    tokio::join!(lead_to_the_expected_end(silent, "300ms"), lead_to_the_expected_end(others, "2m"));
}

/// Submits a call with each behaviour and checks its end.
async fn lead_to_the_expected_end(behaviours: Vec<Behaviour>, timeout: &str) {
    let limits = [("VENDOR__REQUEST_TIMEOUT", timeout), ("VENDOR__MAX_RESPONSE_BYTES", "256KiB")];
    let stage = Stage::with(&limits).await;
    let acme = stage.acme();
    for behaviour in &behaviours {
        acme.submitted(json!({"call_id": call_of(*behaviour)})).await;
    }
    for behaviour in behaviours.iter().copied().filter(|behaviour| end_of(*behaviour) != End::Open) {
        let (name, call) = (behaviour.name(), call_of(behaviour));
        let analysis = acme.outcome(call.as_str()).await;
        let billed = (stage.vendor.submits(&call), stage.vendor.accepted_submits(&call));
        match end_of(behaviour) {
            End::Completed(submits) => {
                assert_eq!(analysis["status"], "completed", "{name}: {analysis}");
                assert_eq!(analysis["last_error"], Value::Null, "{name}");
                assert_eq!(billed, (submits, 1), "{name}");
            }
            End::Rejected => {
                assert_eq!(analysis["error"]["code"], "vendor_rejected", "{name}: {analysis}");
                assert_eq!(billed.0, 1, "{name}");
            }
            End::Open => unreachable!("filtered out"),
        }
    }
    for behaviour in behaviours.iter().filter(|behaviour| end_of(**behaviour) == End::Open) {
        let call = call_of(*behaviour);
        stage.record(call.as_str(), |found| found.analysis.status != Status::Queued).await;
        let analysis = acme.analysis(call.as_str()).await.json();
        assert_eq!(analysis["status"], "processing", "{behaviour:?}");
        assert_eq!(stage.vendor.submits(&call), 1, "{behaviour:?}");
    }
    let calls = stage.vendor.calls();
    assert!(calls.iter().all(|request| request.operation != Operation::OtherHost), "no redirect is followed");
    assert!(calls.iter().all(|request| request.operation != Operation::Stereo), "no recording is fetched");
}

#[tokio::test]
async fn answers_that_differ_from_the_vendors_documentation_are_read() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let known = |behaviour: Behaviour| format!("known-{}~1", behaviour.name());

    for behaviour in [Behaviour::BeginTimeString, Behaviour::NumbersAsStrings] {
        let analysis = acme.analysis(&known(behaviour)).await.json();
        assert!(analysis["begin_time"].as_str().is_some_and(|time| time.ends_with('Z')), "{analysis}");
        assert!(analysis["transcript"][0]["end_ms"].as_i64().is_some_and(|end| end > 0), "{analysis}");
        assert!(analysis["talk_metrics"]["duration_ms"].as_i64().is_some_and(|ms| ms > 0), "{analysis}");
    }

    let other = acme.analysis(&known(Behaviour::DirectionOther)).await.json();
    let speakers: Vec<_> =
        other["transcript"].as_array().unwrap().iter().map(|turn| &turn["speaker"]).collect();
    assert_eq!(&speakers[1..5], [&json!("robot"), &json!(""), &json!(""), &json!("2")]);

    let unordered = acme.analysis(&known(Behaviour::Unordered)).await.json();
    let begins = unordered["transcript"].as_array().unwrap().iter().map(|turn| turn["begin_ms"].as_i64());
    assert!(begins.is_sorted(), "{unordered}");

    let types = acme.analysis(&known(Behaviour::TagTypes)).await.json();
    let last = types["tags"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["name"], &last["type"]), (&json!("Без вида"), &Value::Null));
    let neural = types["tags"].as_array().unwrap().iter().find(|tag| tag["type"] == "neural").unwrap();
    assert_eq!((&neural["value"], &neural["visible"]), (&json!({"level": 2}), &json!(true)));

    let elsewhere = acme.analysis(&known(Behaviour::AudioElsewhere)).await.json();
    assert_eq!(elsewhere["audio_url"], Value::Null);
    assert_eq!(elsewhere["status"], "completed");
}

#[tokio::test]
async fn the_vendors_answer_is_kept_with_unknown_fields() {
    let stage = Stage::start().await;
    for behaviour in [Behaviour::TagTypes, Behaviour::Unordered, Behaviour::Gzip, Behaviour::NumbersAsStrings]
    {
        let call = format!("known-{}~1", behaviour.name());
        let mut url = stage.vendor.base_url();
        url.set_path(&format!("callgetairesult/{}/{call}", VENDOR_TOKENS[0]));
        let direct = reqwest::get(url).await.unwrap().bytes().await.unwrap();
        let kept = stage.acme().get(&format!("/v1/analyses/{call}/vendor-answer")).await;
        assert_eq!((kept.status, kept.header("content-type")), (200, "application/json"));
        assert_eq!(kept.body, direct, "{call}");
    }
    let surprises = stage.acme().get("/v1/analyses/known-tag-types~1/vendor-answer").await.json();
    assert_eq!(surprises["answer"]["score"], json!({"total": 87.5}));
    assert_eq!(surprises["answer"]["stalk"][0]["emotion"], "neutral");
}
