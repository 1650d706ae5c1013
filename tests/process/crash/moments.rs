//! Kills at chosen moments: each is a place where something is half done.

use alovoice_gateway::sandbox::stand_in::Operation;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use crate::gateway::within;
use crate::stage::{Stage, id};

super::on_every_store! {
    right_after_the_answer,
    while_the_vendor_holds_a_submit,
    while_a_submit_hangs_that_the_vendor_never_took,
    while_the_vendor_holds_a_poll,
    while_the_receiver_holds_a_callback,
    among_hundreds_of_submissions,
}

/// Waits until the vendor has got so many requests of this kind for the call.
async fn vendor_gets(stage: &Stage, operation: Operation, call_id: &str, count: usize) {
    let is_meant = |request: &&alovoice_gateway::sandbox::stand_in::VendorRequest| {
        request.operation == operation && request.call_id.as_str() == call_id
    };
    let enough = stage.vendor.wait_for(|requests| requests.iter().filter(is_meant).count() >= count);
    within("a request to the vendor", enough).await;
}

async fn right_after_the_answer(stage: Stage) {
    let mut ledger = Ledger::default();
    for call in 0..10 {
        let gateway = stage.serve().await;
        ledger.submit(&stage, &gateway, &format!("answered-{call}")).await;
        gateway.kill();
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("10 kills right after the answer: {tally}");
}

async fn while_the_vendor_holds_a_submit(stage: Stage) {
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
        assert_eq!(stage.vendor.submits(&id(call)), 1, "the vendor had {call} already");
    }
}

/// The vendor takes the first two submits of such a call nowhere and answers neither.
async fn while_a_submit_hangs_that_the_vendor_never_took(stage: Stage) {
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
    println!("2 kills while a submit hung in vain: {tally}");
    assert_eq!((stage.vendor.submits(&id(call)), stage.vendor.accepted_submits(&id(call))), (3, 1));
}

/// The vendor answers neither of the first two polls of such a call.
async fn while_the_vendor_holds_a_poll(stage: Stage) {
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

async fn while_the_receiver_holds_a_callback(stage: Stage) {
    let mut ledger = Ledger::default();
    stage.receiver.set_held(true);
    let mut gateway = stage.serve().await;
    ledger.submit(&stage, &gateway, "announced").await;
    for attempts in 1..=3 {
        within("an attempt", stage.receiver.wait_for(|received| received.len() >= attempts)).await;
        gateway.kill();
        gateway = stage.serve().await;
    }
    stage.receiver.set_held(false);
    within("a fourth attempt", stage.receiver.wait_for(|received| received.len() >= 4)).await;
    let tally = ledger.settle(&stage, gateway).await;
    println!("3 kills while the receiver held a callback: {tally}");

    // The attempts whose process died are on record, without an outcome.
    assert_eq!(stage.store.attempts().await, [(1, false), (2, false), (3, false), (4, true)]);
}

/// Some submissions are answered and others are not when the process dies; hundreds wait for the same commits.
async fn among_hundreds_of_submissions(stage: Stage) {
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
                // Those whose process has died have no answer.
                answer.is_ok_and(|answer| answer.status().is_success()).then_some(call_id)
            });
        }
        // After a sixth, a third, a half of the answers.
        let mut answers_before_the_kill = CALLS * (round + 1) / 6;
        while answers_before_the_kill > 0 {
            let answered = submissions.join_next().await.unwrap().unwrap().unwrap();
            ledger.promised(&answered);
            answers_before_the_kill -= 1;
        }
        gateway.kill();
        while let Some(answered) = submissions.join_next().await {
            // Answers that were on their way count as well.
            answered.unwrap().iter().for_each(|call_id| ledger.promised(call_id));
        }
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("{ROUNDS} kills among {CALLS} concurrent submissions each: {tally}");
}
