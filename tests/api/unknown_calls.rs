//! Calls that the vendor does not know, in every form of its answer.

use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::sandbox::stand_in::{Behaviour, Operation, UnknownCallAnswer};
use serde_json::json;

use crate::stage::{LATER, Stage, call};

/// Behaviours of submits: the outcome is unknown, and the vendor has the call or does not have it.
const SUBMITS: [Behaviour; 8] = [
    Behaviour::Documented,
    Behaviour::Submit204,
    Behaviour::SubmitHtml,
    Behaviour::SubmitReset,
    Behaviour::Submit500Taken,
    Behaviour::SubmitHtmlLost,
    Behaviour::SubmitResetLost,
    Behaviour::Submit500Lost,
];

/// The ids of the calls that the gateway asked for and that were not submitted.
fn probes(stage: &Stage) -> Vec<CallId> {
    let all = stage.vendor.calls();
    let is_submitted = |id: &CallId| {
        all.iter().any(|request| request.operation == Operation::Submit && request.call_id == *id)
    };
    all.iter().map(|request| request.call_id.clone()).filter(|id| !is_submitted(id)).collect()
}

#[tokio::test]
async fn every_call_completes_whatever_the_vendor_answers_for_unknown_calls() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for form in UnknownCallAnswer::ALL {
        // The tenant has other forms in its history: the vendor changes its answer.
        stage.vendor.set_unknown_answer(0, form);
        let calls = SUBMITS.map(|behaviour| behaviour.call_id(&format!("{form:?}")).unwrap());
        for call in &calls {
            acme.submitted(json!({"call_id": call})).await;
        }
        for call in &calls {
            let analysis = acme.outcome(call.as_str()).await;
            assert_eq!(analysis["status"], "completed", "{call}: {analysis}");
            assert!(!analysis["transcript"].as_array().unwrap().is_empty(), "{call}");
            let accepted = stage.vendor.accepted_submits(call);
            // Only a call that looks unknown while it is in progress may be submitted twice.
            let most = if form == UnknownCallAnswer::LikePending { 2 } else { 1 };
            assert!((1..=most).contains(&accepted), "{call}: accepted {accepted} times");
        }
    }
}

#[tokio::test]
async fn a_call_that_the_vendor_forgets_is_not_found_in_every_form() {
    let grace = [("VENDOR__POLLING__NOT_FOUND_GRACE", "50ms"), ("VENDOR__POLLING__EMPTY_GRACE", "1ms")];
    for form in UnknownCallAnswer::ALL {
        let stage = Stage::with(&grace).await;
        stage.vendor.set_forgetful(true);
        stage.vendor.set_unknown_answer(0, form);
        let id = format!("forgotten-{form:?}");
        stage.acme().submitted(json!({"call_id": id})).await;
        let analysis = stage.acme().outcome(&id).await;
        assert_eq!(analysis["error"]["code"], "call_not_found", "{form:?}: {analysis}");
        assert_eq!(stage.vendor.submits(&call(&id)), 1, "{form:?}");
    }
}

#[tokio::test]
async fn a_call_in_progress_that_looks_unknown_is_not_submitted_twice_at_once() {
    for form in UnknownCallAnswer::ALL {
        let stage = Stage::with(&[("VENDOR__POLLING__FIRST_AFTER", LATER)]).await;
        let acme = stage.acme();
        stage.vendor.set_unknown_answer(0, form);
        stage.vendor.set_forgetful(true);
        acme.submitted(json!({"call_id": "submit-reset~1"})).await;
        let waiting = stage.record("submit-reset~1", |found| {
            found.analysis.last_error.as_ref().is_some_and(|last| last.code.as_str() == "unconfirmed")
        });
        waiting.await;
        let analysis = acme.analysis("submit-reset~1").await.json();
        assert_eq!(
            (&analysis["status"], &analysis["last_error"]["code"]),
            (&json!("queued"), &json!("submission_unconfirmed"))
        );
        let metrics = stage.admin("metrics").await.1;
        assert!(
            metrics.contains("alovoice_gateway_submissions_unconfirmed_total{tenant=\"acme\"} 1\n"),
            "{form:?}"
        );
        stage.vendor.set_forgetful(false);
        let analysis = acme.outcome("submit-reset~1").await;
        assert_eq!((&analysis["status"], &analysis["last_error"]), (&json!("completed"), &json!(null)));
        assert_eq!(stage.vendor.submits(&call("submit-reset~1")), 1, "{form:?}");
        let metrics = stage.admin("metrics").await.1;
        assert!(
            metrics.contains("alovoice_gateway_submissions_repeated_total{tenant=\"acme\"} 0\n"),
            "{form:?}"
        );
    }
}

#[tokio::test]
async fn one_probe_serves_all_calls_of_a_tenant() {
    let stage = Stage::start().await;
    for number in 0..20 {
        stage.acme().submitted(json!({"call_id": format!("1716207617.{number}")})).await;
    }
    for number in 0..20 {
        stage.acme().outcome(&format!("1716207617.{number}")).await;
    }
    let [probe] = &probes(&stage)[..] else { panic!("{:?}", probes(&stage)) };
    assert!(probe.as_str().starts_with('9'), "the id of a call that cannot exist: {probe}");
    let metrics = stage.admin("metrics").await.1;
    assert!(
        metrics.contains("alovoice_gateway_vendor_probes_total{outcome=\"learned\",tenant=\"acme\"} 1\n")
    );

    // The answer is kept in the store, and other tenants have their own.
    let stage = stage.restart().await;
    stage.acme().submitted(json!({"call_id": "1716207617.20"})).await;
    stage.acme().outcome("1716207617.20").await;
    assert_eq!(probes(&stage).len(), 1);
    stage.globex().submitted(json!({"call_id": "1716207617.20"})).await;
    stage.globex().outcome("1716207617.20").await;
    assert_eq!(probes(&stage).len(), 2);
}

#[tokio::test]
async fn a_call_that_was_never_submitted_is_not_found_in_every_form() {
    let stage = Stage::start().await;
    for form in UnknownCallAnswer::ALL {
        stage.vendor.set_unknown_answer(0, form);
        for number in 0..3 {
            let id = format!("{form:?}-{number}");
            stage.acme().analysis(&id).await.problem(404, "not_found");
            assert_eq!(stage.vendor.polls(&call(&id)), 1, "{form:?}");
        }
        let known = format!("known-{form:?}");
        assert_eq!(stage.acme().analysis(&known).await.status, 200, "{form:?}");
    }
    // Only a text needs a probe: all other forms have no result that could be adopted.
    let asked = probes(&stage).into_iter().filter(|id| id.as_str().starts_with('9')).count();
    assert_eq!(asked, 1);
    assert!(stage.vendor.calls().iter().all(|request| request.operation != Operation::Submit));
}
