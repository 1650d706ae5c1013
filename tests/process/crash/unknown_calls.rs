//! `kill -9` among submissions, for every form in which the vendor answers for calls that it does not know.

use std::sync::Arc;

use alovoice_gateway::sandbox::stand_in::{Behaviour, UnknownCallAnswer};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::gateway::{Serving, within};
use crate::stage::{CALLBACK_SECRET, SCOPES, Stage, id, send};

super::on_every_store! { kills_with_every_answer_for_unknown_calls }

const ROUNDS: usize = 4;

/// The answer of the vendor arrives, or is lost with or without the call.
const SUBMITS: [Behaviour; 6] = [
    Behaviour::Documented,
    Behaviour::SubmitReset,
    Behaviour::SubmitResetLost,
    Behaviour::Submit500Taken,
    Behaviour::Submit500Lost,
    Behaviour::SubmitHtmlLost,
];

/// A tenant for each form of the answer.
fn tenant(customer: usize) -> String {
    format!("form{customer}")
}

fn add_tenants(stage: &mut Stage) {
    let tokens: Vec<_> =
        (0..UnknownCallAnswer::ALL.len()).map(|customer| format!("token-{customer}")).collect();
    for (customer, form) in UnknownCallAnswer::ALL.into_iter().enumerate() {
        let prefix = format!("TENANTS__{}", tenant(customer).to_uppercase());
        stage.set_file(&format!("{prefix}__VENDOR_TOKEN_FILE"), &tokens[customer]);
        stage.set_file(&format!("{prefix}__CALLBACK_SECRET_FILE"), CALLBACK_SECRET);
        stage.vendor.set_unknown_answer(customer, form);
    }
    stage.vendor.set_tokens(tokens);
}

/// Submits a call. Returns whether the gateway acknowledged it.
async fn submit(stage: &Stage, gateway: &Serving, customer: usize, call_id: &str) -> bool {
    let request = stage.client.post(gateway.api.join("v1/analyses").unwrap());
    let request = request.bearer_auth(stage.token_of(&tenant(customer), SCOPES));
    let request = request.header("content-type", "application/json");
    let body = serde_json::json!({ "call_id": call_id }).to_string();
    send(request.body(body)).await.is_ok_and(|answer| answer.status().is_success())
}

/// Waits for the outcome of a call.
async fn outcome(stage: &Stage, gateway: &Serving, customer: usize, call_id: &str) -> Value {
    let url = gateway.api.join(&format!("v1/analyses/{call_id}")).unwrap();
    loop {
        let request = stage.client.get(url.clone()).header("prefer", "wait=30");
        let answer = send(request.bearer_auth(stage.token_of(&tenant(customer), SCOPES))).await.unwrap();
        let analysis: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        match analysis["status"].as_str() {
            Some("queued" | "processing") => {}
            _ => return analysis,
        }
    }
}

async fn kills_with_every_answer_for_unknown_calls(mut stage: Stage) {
    add_tenants(&mut stage);
    let stage = Arc::new(stage);
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let gateway = Arc::new(stage.serve().await);
        let before = stage.vendor.calls().len();
        let mut submissions = JoinSet::new();
        for (customer, behaviour) in (0..UnknownCallAnswer::ALL.len()).flat_map(|c| SUBMITS.map(|b| (c, b))) {
            let call_id = behaviour.call_id(&format!("{customer}-{round}")).unwrap();
            let (stage, gateway) = (stage.clone(), gateway.clone());
            submissions.spawn(async move {
                let is_acknowledged = submit(&stage, &gateway, customer, call_id.as_str()).await;
                is_acknowledged.then_some((round, customer, call_id.as_str().to_owned()))
            });
        }
        // Some calls are submitted by then, and the outcomes of some submits are unknown.
        let enough = stage.vendor.wait_for(|all| all.len() >= before + 20 * (round + 1));
        within("requests to the vendor", enough).await;
        gateway.kill();
        while let Some(submission) = submissions.join_next().await {
            acknowledged.extend(submission.unwrap());
        }
    }
    let gateway = stage.serve().await;
    let mut accepted = 0;
    for (round, customer, call_id) in &acknowledged {
        let form = UnknownCallAnswer::ALL[*customer];
        let analysis = within("an outcome", outcome(&stage, &gateway, *customer, call_id)).await;
        assert_eq!(analysis["status"], "completed", "{form:?} {call_id}: {analysis}");
        assert_ne!(
            analysis["transcript"],
            Value::Array(Vec::new()),
            "{form:?} {call_id}: completed as empty"
        );
        let times = stage.vendor.accepted_submits(&id(call_id));
        // Only a call that looks unknown while it is in progress may be submitted again: if the vendor is slow after a lost answer.
        // The answers of the first two submits are lost, and each kill can lose another.
        let kills = ROUNDS - round;
        let most = if form == UnknownCallAnswer::LikePending { 3 + kills } else { 1 };
        assert!((1..=most).contains(&times), "{form:?} {call_id}: accepted {times} times");
        accepted += times;
    }
    println!(
        "{ROUNDS} kills: {} calls acknowledged and completed, {accepted} submits accepted",
        acknowledged.len()
    );
    gateway.stop().await;
}
