//! Work that waits because the vendor refused the tenant's token.

use alovoice_gateway::domain::analysis::FaultCode;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step, SubmitOutcome, VendorFault};
use alovoice_gateway::store::{Change, Queue};

use crate::harness::{Harness, acme, globex, submission};

fn fault(code: FaultCode) -> VendorFault {
    VendorFault { code, detail: "the vendor answered 401".to_owned(), retry_after: None }
}

fn refused_submit() -> Step {
    Step::Submitted(SubmitOutcome::NotTaken(fault(FaultCode::TokenRefused)))
}

fn refused_poll() -> Step {
    Step::Polled(PollOutcome::Fault(fault(FaultCode::TokenRefused)))
}

pub(crate) async fn refused_work_of_one_tenant_is_resumed(harness: Harness) {
    harness.complete(submission("settling"), "salom").await;
    harness.advance(120);
    let settling = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settling.lease, refused_poll().into()).await.unwrap();
    harness.submit(submission("polled")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let polled = harness.claim_one(Queue::Polls).await;
    harness.store.apply(polled.lease, refused_poll().into()).await.unwrap();
    harness.submit(submission("submitted")).await;
    let submitted = harness.claim_one(Queue::Submits).await;
    harness.store.apply(submitted.lease, refused_submit().into()).await.unwrap();
    harness.changes();

    harness.store.resume_refused(&globex()).await.unwrap();
    assert_eq!((harness.claim(Queue::Submits).await.len(), harness.claim(Queue::Polls).await.len()), (0, 0));
    assert_eq!(harness.changes(), []);
    harness.store.resume_refused(&acme()).await.unwrap();
    assert_eq!(harness.changes(), [Change::Work(Queue::Submits), Change::Work(Queue::Polls)]);
    assert_eq!((harness.claim(Queue::Submits).await.len(), harness.claim(Queue::Polls).await.len()), (1, 2));
}

pub(crate) async fn other_work_keeps_its_time(harness: Harness) {
    for call in ["polled", "failing", "leased"] {
        harness.submit(submission(call)).await;
    }
    harness.submit_queued().await;
    harness.advance(10);
    let [failing, leased, polled] = <[_; 3]>::try_from({
        let mut claimed = harness.claim(Queue::Polls).await;
        claimed.sort_by_key(|claimed| claimed.analysis.call_id.as_str().to_owned());
        claimed
    })
    .unwrap();
    let failure = Step::Polled(PollOutcome::Fault(fault(FaultCode::VendorError)));
    harness.store.apply(failing.lease, failure.into()).await.unwrap();
    harness.store.apply(polled.lease, Step::Polled(PollOutcome::Unchanged).into()).await.unwrap();
    let before = [harness.find("failing").await, harness.find("leased").await, harness.find("polled").await];
    harness.store.resume_refused(&acme()).await.unwrap();
    let after = [harness.find("failing").await, harness.find("leased").await, harness.find("polled").await];
    assert_eq!(before, after);
    harness.store.apply(leased.lease, refused_poll().into()).await.unwrap();
}

pub(crate) async fn much_refused_work_is_resumed_in_batches(harness: Harness) {
    const CALLS: usize = 1_100;
    let submissions = (0..CALLS).map(|number| submission(&format!("c{number}"))).collect();
    harness.store.submit_all(&acme(), submissions).await.unwrap();
    let mut claimed = 0;
    while claimed < CALLS {
        for work in harness.claim(Queue::Submits).await {
            harness.store.apply(work.lease, refused_submit().into()).await.unwrap();
            claimed += 1;
        }
    }
    harness.store.resume_refused(&acme()).await.unwrap();
    let mut due = 0;
    while due < CALLS {
        let claimed = harness.claim(Queue::Submits).await.len();
        assert!(claimed > 0, "{due} calls of {CALLS} are due");
        due += claimed;
    }
}
