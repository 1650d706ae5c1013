//! Work that waits because the vendor refused the token continues when the token changes, although it would wait for an hour.

use alovoice_gateway::app;
use serde_json::{Value, json};

use crate::postgres::server::Server;
use crate::stage::{LATER, Stage, VENDOR_TOKENS, call};

const CALLS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
/// Pauses after a refusal, of the work and of the circuit breaker.
const LONG: [(&str, &str); 1] = [("VENDOR__POLLING__MAX_INTERVAL", LATER)];

/// Makes the vendor accept only a new token of acme.
fn rotate(stage: &Stage) {
    let [_, globex, initech] = VENDOR_TOKENS.map(str::to_owned);
    stage.vendor.set_tokens(vec!["rotated".to_owned(), globex, initech]);
}

/// Submits calls, and waits until the vendor refused each of them. This opens the circuit breaker.
async fn refuse(stage: &Stage) {
    for call_id in CALLS {
        stage.acme().submitted(json!({"call_id": call_id})).await;
    }
    for call_id in CALLS {
        stage.record(call_id, |found| found.analysis.last_error.is_some()).await;
    }
}

async fn all_complete(stage: &Stage) {
    for call_id in CALLS {
        let analysis = stage.acme().outcome(call_id).await;
        assert_eq!((&analysis["status"], &analysis["last_error"]), (&json!("completed"), &Value::Null));
        assert_eq!(stage.vendor.accepted_submits(&call(call_id)), 1);
    }
}

#[tokio::test]
async fn waiting_calls_continue_when_the_token_file_changes() {
    let stage = Stage::with(&LONG).await;
    // A call that waits for its result, and calls that wait for their submit.
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    stage.vendor.wait_for(|_| stage.vendor.polls(&call("never-ready~1")) > 0).await;
    rotate(&stage);
    stage.record("never-ready~1", |found| found.analysis.last_error.is_some()).await;
    refuse(&stage).await;
    stage.write("acme-token", "rotated\n");
    all_complete(&stage).await;
    stage.record("never-ready~1", |found| found.analysis.last_error.is_none()).await;
}

#[tokio::test]
async fn waiting_calls_continue_after_a_restart_with_another_token() {
    let stage = Stage::with(&LONG).await;
    rotate(&stage);
    refuse(&stage).await;
    stage.write("new-token", "rotated");
    let file = stage.home.path().join("new-token").display().to_string();
    let stage = stage.restart_with(("TENANTS__ACME__VENDOR_TOKEN_FILE", &file)).await;
    all_complete(&stage).await;
}

#[tokio::test]
async fn waiting_calls_continue_when_the_last_replica_has_the_new_token() {
    let database = Server::shared().await.fresh_database().await;
    let stage = Stage::on(Some(database), &LONG).await;
    stage.write("other-token", VENDOR_TOKENS[0]);
    let file = stage.home.path().join("other-token").display().to_string();
    let other = stage.replica_with(("TENANTS__ACME__VENDOR_TOKEN_FILE", &file)).await;
    rotate(&stage);
    refuse(&stage).await;
    let refused = stage.vendor.calls().len();
    stage.write("acme-token", "rotated");
    // The first replica resumes all calls, and the other one may take any of them with the old token.
    stage.vendor.wait_for(|requests| requests.len() > refused).await;
    stage.write("other-token", "rotated");
    all_complete(&stage).await;
    assert!(other.drain().await);
}

#[tokio::test]
async fn a_token_file_with_an_invisible_character_is_refused_at_the_start_and_later() {
    let stage = Stage::start().await;
    stage.write("acme-token", &format!("{}\u{200b}", VENDOR_TOKENS[0]));
    let settings = stage.settings_with(&[]).unwrap();
    assert_eq!(
        app::tenants(&settings, &|_| None).unwrap_err().to_string(),
        "tenants.acme.vendor_token_file: the secret has the invisible character U+200B at position 21"
    );
    let unreadable = "alovoice_gateway_secrets_unreadable{kind=\"vendor_token\"} 1\n";
    while !stage.admin("metrics").await.1.contains(unreadable) {}
    stage.acme().submitted(json!({"call_id": "1"})).await;
    assert_eq!(stage.acme().outcome("1").await["status"], "completed");
}

#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_a_token() {
    let stage = Stage::start().await;
    stage.write("marked", &format!("\u{feff}{}\r\n", VENDOR_TOKENS[0]));
    let file = stage.home.path().join("marked").display().to_string();
    let stage = stage.restart_with(("TENANTS__ACME__VENDOR_TOKEN_FILE", &file)).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    assert_eq!(stage.acme().outcome("1").await["status"], "completed");
}
