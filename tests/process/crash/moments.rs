//! `kill -9` at chosen moments, each in the middle of an operation.

use alovoice_gateway::sandbox::stand_in::Operation;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use crate::gateway::within;
use crate::stage::{SCOPES, Stage, id, send};

super::on_every_store! {
    kill_right_after_the_response,
    kill_while_the_vendor_holds_a_submit,
    kill_during_a_submit_that_the_vendor_loses,
    kill_while_the_vendor_holds_a_poll,
    kill_while_the_vendor_holds_a_refresh,
    kill_while_the_receiver_holds_a_callback,
    kill_among_hundreds_of_submissions,
}

/// Waits until the vendor has received `count` requests of this kind for the call.
async fn vendor_gets(stage: &Stage, operation: Operation, call_id: &str, count: usize) {
    let is_meant = |request: &&alovoice_gateway::sandbox::stand_in::VendorRequest| {
        request.operation == operation && request.call_id.as_str() == call_id
    };
    let enough = stage.vendor.wait_for(|requests| requests.iter().filter(is_meant).count() >= count);
    within("a request to the vendor", enough).await;
}

async fn kill_right_after_the_response(stage: Stage) {
    let mut ledger = Ledger::default();
    for call in 0..10 {
        let gateway = stage.serve().await;
        ledger.submit(&stage, &gateway, &format!("answered-{call}")).await;
        gateway.kill();
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("10 kills right after the response: {tally}");
}

async fn kill_while_the_vendor_holds_a_submit(stage: Stage) {
    let mut ledger = Ledger::default();
    for call in ["held-1", "held-2", "held-3"] {
        let gateway = stage.serve().await;
        stage.vendor.set_held(true);
        ledger.submit(&stage, &gateway, call).await;
        vendor_gets(&stage, Operation::Submit, call, 1).await;
        gateway.kill();
        stage.vendor.set_held(false);
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("3 kills while the vendor held a submit: {tally}");
    for call in ["held-1", "held-2", "held-3"] {
        assert_eq!(stage.vendor.submits(&id(call)), 1, "{call} was submitted twice");
    }
}

/// The vendor loses the first two submits of such a call and does not answer them.
async fn kill_during_a_submit_that_the_vendor_loses(stage: Stage) {
    let mut ledger = Ledger::default();
    let call = "submit-hang-lost~1";
    let mut gateway = stage.serve().await;
    ledger.submit(&stage, &gateway, call).await;
    for submits in [1, 2] {
        vendor_gets(&stage, Operation::Submit, call, submits).await;
        gateway.kill();
        gateway = stage.serve().await;
    }
    let tally = ledger.settle(&stage, gateway).await;
    println!("2 kills during a submit that the vendor lost: {tally}");
    assert_eq!((stage.vendor.submits(&id(call)), stage.vendor.accepted_submits(&id(call))), (3, 1));
}

/// The vendor does not answer the first two polls of such a call.
async fn kill_while_the_vendor_holds_a_poll(stage: Stage) {
    let mut ledger = Ledger::default();
    let call = "hang~1";
    let mut gateway = stage.serve().await;
    ledger.submit(&stage, &gateway, call).await;
    for polls in [1, 2] {
        vendor_gets(&stage, Operation::Result, call, polls).await;
        gateway.kill();
        gateway = stage.serve().await;
    }
    let tally = ledger.settle(&stage, gateway).await;
    println!("2 kills while the vendor held a poll: {tally}");
    assert_eq!(stage.vendor.submits(&id(call)), 1);
}

/// A refresh is stored before it is answered, and it never leads to a submit.
async fn kill_while_the_vendor_holds_a_refresh(stage: Stage) {
    let mut ledger = Ledger::default();
    let call = "refreshed";
    let mut gateway = stage.serve().await;
    ledger.submit(&stage, &gateway, call).await;
    within("the callback", stage.receiver.wait_for(|received| !received.is_empty())).await;
    let polls = stage.vendor.polls(&id(call));
    stage.vendor.set_held(true);
    let refresh = gateway.api.join(&format!("v1/analyses/{call}/refresh")).unwrap();
    let answer = send(stage.client.post(refresh).bearer_auth(stage.token(SCOPES))).await.unwrap();
    assert_eq!(answer.status(), 202);
    for more in [1, 2] {
        vendor_gets(&stage, Operation::Result, call, polls + more).await;
        gateway.kill();
        gateway = stage.serve().await;
    }
    stage.vendor.set_held(false);
    vendor_gets(&stage, Operation::Result, call, polls + 3).await;
    let tally = ledger.settle(&stage, gateway).await;
    println!("2 kills while the vendor held the poll of a refresh: {tally}");
    assert_eq!(stage.vendor.submits(&id(call)), 1);
}

async fn kill_while_the_receiver_holds_a_callback(stage: Stage) {
    const KILLS: usize = 3;
    let mut ledger = Ledger::default();
    stage.receiver.set_held(true);
    let mut gateway = stage.serve().await;
    ledger.submit(&stage, &gateway, "announced").await;
    let unfinished =
        async || stage.store.attempts().await.iter().filter(|(_, has_outcome)| !has_outcome).count();
    let (mut received, mut interrupted) = (0, 0);
    // On a busy machine, an attempt can time out before the kill. Such a kill interrupts no attempt.
    while interrupted < KILLS {
        within("an attempt", stage.receiver.wait_for(|all| all.len() > received)).await;
        gateway.kill();
        (received, interrupted) = (stage.receiver.received().len(), unfinished().await);
        gateway = stage.serve().await;
    }
    stage.receiver.set_held(false);
    gateway.process.stderr.line("the delivery", |line| line.contains("callback delivered")).await;
    let tally = ledger.settle(&stage, gateway).await;
    println!("{KILLS} kills while the receiver held a callback: {tally}");

    // The attempts of the killed processes are recorded without an outcome.
    let attempts = stage.store.attempts().await;
    assert!(attempts.iter().zip(1..).all(|((number, _), expected)| *number == expected), "{attempts:?}");
    assert!(unfinished().await >= KILLS && attempts.last().unwrap().1, "{attempts:?}");
}

/// At each kill, some submissions are acknowledged, and others wait for the same commits.
async fn kill_among_hundreds_of_submissions(stage: Stage) {
    const ROUNDS: usize = 3;
    const CALLS: usize = 300;
    let (stage, mut ledger) = (std::sync::Arc::new(stage), Ledger::default());
    for round in 0..ROUNDS {
        let gateway = std::sync::Arc::new(stage.serve().await);
        let mut submissions = JoinSet::new();
        for call in 0..CALLS {
            let call_id = format!("crowd-{round}-{call}");
            ledger.sent(&call_id);
            let (stage, gateway) = (stage.clone(), gateway.clone());
            submissions.spawn(async move {
                let answer = stage.submit(&gateway, &call_id).await;
                // Submissions in flight at the kill get no response.
                answer.is_ok_and(|answer| answer.status().is_success()).then_some(call_id)
            });
        }
        // The kills come after a sixth, a third and half of the responses.
        let mut responses_before_the_kill = CALLS * (round + 1) / 6;
        while responses_before_the_kill > 0 {
            let answered = submissions.join_next().await.unwrap().unwrap().unwrap();
            ledger.acknowledged(&answered);
            responses_before_the_kill -= 1;
        }
        gateway.kill();
        while let Some(answered) = submissions.join_next().await {
            // Responses that were still in transit count too.
            answered.unwrap().iter().for_each(|call_id| ledger.acknowledged(call_id));
        }
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("{ROUNDS} kills among {CALLS} concurrent submissions each: {tally}");
}
