//! Calls that the vendor does not know, in every form of its answer.

use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::sandbox::stand_in::{Behaviour, FixedAnswer, Operation, UnknownCallAnswer};
use serde_json::json;
use tokio::join;

use crate::caller::Caller;
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
    let [first, second, third] =
        [0, 1, 2].map(|tenant| UnknownCallAnswer::ALL.into_iter().skip(tenant).step_by(3));
    join!(
        every_call_completes(&stage, (0, stage.acme()), first),
        every_call_completes(&stage, (1, stage.globex()), second),
        every_call_completes(&stage, (2, stage.initech()), third),
    );
}

/// Submits calls of one tenant. The vendor changes its answer for unknown calls, so the tenant has other answers in its history.
async fn every_call_completes(
    stage: &Stage,
    (customer, caller): (usize, Caller),
    forms: impl Iterator<Item = UnknownCallAnswer>,
) {
    for form in forms {
        stage.vendor.set_unknown_answer(customer, form);
        let calls = SUBMITS.map(|behaviour| behaviour.call_id(&format!("{form:?}")).unwrap());
        for call in &calls {
            caller.submitted(json!({"call_id": call})).await;
        }
        for call in &calls {
            let analysis = caller.outcome(call.as_str()).await;
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
async fn a_call_completes_although_the_vendor_answers_unknown_calls_with_a_server_error() {
    let stage = Stage::with(&[("VENDOR__POLLING__EMPTY_GRACE", "1ms")]).await;
    let acme = stage.acme();
    stage.vendor.set_unknown_answer(0, UnknownCallAnswer::ServerError);
    // A silent call ends only after a probe.
    let submits = [Behaviour::Documented, Behaviour::SubmitReset, Behaviour::SubmitHtml, Behaviour::Silent];
    let calls = submits.map(|behaviour| behaviour.call_id("1").unwrap());
    for call in &calls {
        acme.submitted(json!({"call_id": call})).await;
    }
    for call in &calls {
        assert_eq!(acme.outcome(call.as_str()).await["status"], "completed", "{call}");
        assert_eq!(stage.vendor.accepted_submits(call), 1, "{call}");
    }
}

#[tokio::test]
async fn a_lost_call_is_submitted_once_more_if_unknown_calls_are_server_errors() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    stage.vendor.set_unknown_answer(0, UnknownCallAnswer::ServerError);
    let call = call("lost");
    stage.vendor.set_answer(
        Operation::Submit,
        call.clone(),
        FixedAnswer { status: 503, content_type: "text/plain", headers: Vec::new(), body: "busy".into() },
    );
    acme.submitted(json!({"call_id": call})).await;
    stage.vendor.wait_for(|_| stage.vendor.submits(&call) >= 2).await;
    let last = stage.record(call.as_str(), |found| found.analysis.last_error.is_some()).await;
    let detail = last.analysis.last_error.unwrap().detail;
    assert!(detail.contains("Cannot read properties of null") || detail.contains("busy"), "{detail}");
    // No submit follows, however long the vendor answers like this.
    let polls = stage.vendor.polls(&call);
    stage.vendor.wait_for(|_| stage.vendor.polls(&call) > polls + 3).await;
    assert_eq!(stage.vendor.submits(&call), 2);
}

/// The vendor has the call from a submit whose answer was lost, and refuses the second one.
#[tokio::test]
async fn a_refused_repetition_of_a_submit_does_not_end_a_call_that_the_vendor_has() {
    // The next request is due in an hour, and the test makes it due at once: so no request precedes a change of the vendor.
    let hour = [("VENDOR__POLLING__MIN_INTERVAL", LATER), ("VENDOR__POLLING__MAX_INTERVAL", LATER)];
    let mut stage = Stage::with(&hour).await;
    let call = Behaviour::SubmitReset.call_id("1").unwrap();
    stage.vendor.set_forgetful(true);
    stage.acme().submitted(json!({"call_id": call})).await;
    stage.record(call.as_str(), |found| found.analysis.last_error.is_some()).await;
    let body = json!({"error": "already sent"}).to_string().into();
    let conflict = FixedAnswer { status: 409, content_type: "application/json", headers: Vec::new(), body };
    stage.vendor.set_answer(Operation::Submit, call.clone(), conflict);
    while stage.vendor.submits(&call) < 2 {
        stage = stage.restart_with_work_due().await;
        stage.idle(call.as_str()).await;
    }
    stage.vendor.set_forgetful(false);
    while stage.acme().analysis(call.as_str()).await.json()["status"] != "completed" {
        stage = stage.restart_with_work_due().await;
        stage.idle(call.as_str()).await;
    }
    assert_eq!((stage.vendor.submits(&call), stage.vendor.accepted_submits(&call)), (2, 1));
}

/// A page for all calls, also for probes, does not end a call that was accepted before.
#[tokio::test]
async fn a_call_in_progress_survives_maintenance_of_the_vendor() {
    for known in [UnknownCallAnswer::NotFound, UnknownCallAnswer::Null, UnknownCallAnswer::ErrorObject] {
        for page in [UnknownCallAnswer::Text, UnknownCallAnswer::Redirect, UnknownCallAnswer::BadRequest] {
            let grace = [("VENDOR__POLLING__NOT_FOUND_GRACE", "20ms")];
            let stage = Stage::with(&grace).await;
            let acme = stage.acme();
            stage.vendor.set_unknown_answer(0, known);
            acme.submitted(json!({"call_id": "1"})).await;
            acme.outcome("1").await;
            let in_progress = call("never-ready~1");
            acme.submitted(json!({"call_id": in_progress})).await;
            stage.vendor.wait_for(|_| stage.vendor.polls(&in_progress) > 1).await;
            stage.vendor.set_unknown_answer(0, page);
            stage.vendor.set_forgetful(true);
            let began = stage.vendor.calls().len();
            // Many times the grace period.
            stage
                .vendor
                .wait_for(|requests| {
                    let polls = requests[began..].iter().filter(|request| request.call_id == in_progress);
                    let times: Vec<_> = polls.map(|request| request.at).collect();
                    times.len() > 5 && times[times.len() - 1].since(times[0]).as_millis() > 300
                })
                .await;
            let analysis = acme.analysis(in_progress.as_str()).await.json();
            assert_eq!(analysis["status"], "processing", "{known:?} {page:?}: {analysis}");
            stage.vendor.set_forgetful(false);
            stage.vendor.set_unknown_answer(0, known);
            stage.record(in_progress.as_str(), |found| found.analysis.last_error.is_none()).await;
        }
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
    let mut stage = Stage::start().await;
    for form in UnknownCallAnswer::ALL {
        if form == UnknownCallAnswer::Redirect {
            // An answer that replaces another one is not trusted at once.
            stage = Stage::start().await;
        }
        stage.vendor.set_unknown_answer(0, form);
        for number in 0..3 {
            let id = format!("{form:?}-{number}");
            stage.acme().analysis(&id).await.problem(404, "not_found");
            assert_eq!(stage.vendor.polls(&call(&id)), 1, "{form:?}");
        }
        let known = format!("known-{form:?}");
        assert_eq!(stage.acme().analysis(&known).await.status, 200, "{form:?}");
        if matches!(form, UnknownCallAnswer::Text | UnknownCallAnswer::Redirect) {
            // All other forms have no result that could be adopted.
            let asked = probes(&stage).into_iter().filter(|id| id.as_str().starts_with('9')).count();
            assert_eq!(asked, 1, "{form:?}");
        }
    }
    assert!(stage.vendor.calls().iter().all(|request| request.operation != Operation::Submit));
}
