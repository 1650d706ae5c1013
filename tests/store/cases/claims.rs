//! Claims of work on analyses, and their leases.

use std::time::Duration;

use alovoice_gateway::domain::analysis::{FaultCode, Stage, Status};
use alovoice_gateway::domain::claim_order::ClaimOrder;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step, SubmitOutcome, VendorFault};
use alovoice_gateway::store::{ClaimedWork, Queue, StoreError, WorkSlots};

use crate::harness::{
    Harness, LEASE, START, acme, call_id, globex, metadata, ready, reanalysis, slots_of, submission,
    with_metadata,
};

const ACCEPTED: Step = Step::Submitted(SubmitOutcome::Accepted);

fn calls(claimed: &[ClaimedWork]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.analysis.call_id.as_str()).collect()
}

pub(crate) async fn only_due_work_is_claimed_and_the_next_due_time_returned(harness: Harness) {
    let claim = async |queue| {
        let slots = vec![slots_of(acme(), 100), slots_of(globex(), 100)];
        let claims = harness.store.claim_work_across_tenants(queue, slots, LEASE).await.unwrap();
        (claims.claimed.len(), claims.next_due.map(|due| due.since(START).as_secs()))
    };
    assert_eq!(claim(Queue::Submits).await, (0, None));
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(5);
    harness.store.submit(&globex(), submission("2")).await.unwrap();
    assert_eq!(claim(Queue::Polls).await, (0, Some(10)));
    assert_eq!(claim(Queue::Submits).await, (1, None));
    assert_eq!(claim(Queue::Polls).await, (0, Some(10)));
    harness.advance(5);
    // Then the lease of the second call ends, at 35 s.
    assert_eq!(claim(Queue::Polls).await, (1, Some(35)));
}

pub(crate) async fn each_tenant_has_its_own_slots(harness: Harness) {
    for call in ["1", "2", "3"] {
        harness.submit(submission(call)).await;
        harness.store.submit(&globex(), submission(call)).await.unwrap();
    }
    let idle = alovoice_gateway::domain::ids::TenantId::parse("initech").unwrap();
    let slots = vec![slots_of(acme(), 2), slots_of(globex(), 0), slots_of(idle, 5)];
    let claims = harness.store.claim_work_across_tenants(Queue::Submits, slots, LEASE).await.unwrap();
    let tenants: Vec<_> = claims.claimed.iter().map(|claimed| claimed.analysis.tenant.as_str()).collect();
    assert_eq!(tenants, ["acme", "acme"]);

    let slots = vec![slots_of(acme(), 100), slots_of(globex(), 100)];
    let claims = harness.store.claim_work_across_tenants(Queue::Submits, slots, LEASE).await.unwrap();
    let of = |tenant| claims.claimed.iter().filter(|claimed| claimed.analysis.tenant == tenant).count();
    assert_eq!((of(acme()), of(globex())), (1, 3));
}

pub(crate) async fn work_in_progress_of_a_tenant_is_limited(harness: Harness) {
    for call in ["1", "2", "3", "4", "5"] {
        harness.submit(submission(call)).await;
        harness.store.submit(&globex(), submission(call)).await.unwrap();
    }
    let claim = async |free, most| {
        let slots = vec![
            WorkSlots { tenant: acme(), free, most, order: ClaimOrder::OldestFirst },
            slots_of(globex(), 1),
        ];
        let claims = harness.store.claim_work_across_tenants(Queue::Submits, slots, LEASE).await.unwrap();
        claims.claimed.into_iter().filter(|claimed| claimed.analysis.tenant == acme()).collect::<Vec<_>>()
    };
    let first = claim(2, 3).await;
    assert_eq!((first.len(), claim(2, 3).await.len(), claim(2, 3).await.len()), (2, 1, 0));
    harness.store.apply(first[0].lease, ACCEPTED.into()).await.unwrap();
    assert_eq!((claim(2, 3).await.len(), claim(2, 2).await.len()), (1, 0));
    // Expired leases do not count.
    harness.advance(LEASE.as_secs());
    assert_eq!(claim(2, 3).await.len(), 1);
}

pub(crate) async fn the_oldest_work_is_claimed_first(harness: Harness) {
    for call in ["3", "1", "2"] {
        harness.submit(submission(call)).await;
        harness.advance(1);
    }
    for expected in ["3", "1", "2"] {
        let slots = vec![slots_of(acme(), 1)];
        let claims = harness.store.claim_work_across_tenants(Queue::Submits, slots, LEASE).await.unwrap();
        assert_eq!(calls(&claims.claimed), [expected]);
    }
}

/// Claims polls of the tenant acme in this order, and returns the sorted calls.
async fn claimed_in(harness: &Harness, free: usize, order: ClaimOrder) -> Vec<String> {
    let slots = vec![WorkSlots { tenant: acme(), free, most: usize::MAX, order }];
    let claims = harness.store.claim_work_across_tenants(Queue::Polls, slots, LEASE).await.unwrap();
    let mut calls: Vec<_> = calls(&claims.claimed).into_iter().map(str::to_owned).collect();
    calls.sort();
    calls
}

pub(crate) async fn calls_that_have_not_failed_are_claimed_first(harness: Harness) {
    for call in ["failing-1", "failing-2", "failing-3"] {
        harness.submit(submission(call)).await;
    }
    harness.submit_queued().await;
    harness.advance(10);
    let fault = VendorFault { code: FaultCode::VendorError, detail: String::new(), retry_after: None };
    for claimed in harness.claim(Queue::Polls).await {
        harness
            .store
            .apply(claimed.lease, Step::Polled(PollOutcome::Fault(fault.clone())).into())
            .await
            .unwrap();
    }
    for call in ["sound-1", "sound-2"] {
        harness.submit(submission(call)).await;
    }
    harness.submit_queued().await;
    harness.advance(3600);
    for newest in [false, true] {
        let unfailed_first = |max_failed| ClaimOrder::UnfailedFirst { max_failed, newest };
        assert_eq!(claimed_in(&harness, 2, unfailed_first(9)).await, ["sound-1", "sound-2"]);
        assert_eq!(claimed_in(&harness, 9, unfailed_first(0)).await, [""; 0]);
        assert_eq!(claimed_in(&harness, 9, unfailed_first(2)).await.len(), 2);
        assert_eq!(claimed_in(&harness, 9, unfailed_first(2)).await.len(), 1);
        // The leases end.
        harness.advance(LEASE.as_secs());
    }
    let claimed = claimed_in(&harness, 4, ClaimOrder::UnfailedFirst { max_failed: 9, newest: false }).await;
    assert_eq!(claimed.iter().filter(|call| call.starts_with("sound")).count(), 2, "{claimed:?}");
    assert_eq!(claimed.len(), 4);
}

pub(crate) async fn a_claim_can_begin_with_the_newest_work(harness: Harness) {
    for call in ["1", "2", "3", "4"] {
        harness.submit(submission(call)).await;
        harness.submit_queued().await;
        harness.advance(1);
    }
    harness.advance(3600);
    for (newest, call) in [(true, "4"), (false, "1"), (true, "3"), (false, "2")] {
        let order = ClaimOrder::UnfailedFirst { max_failed: 0, newest };
        assert_eq!(claimed_in(&harness, 1, order).await, [call]);
    }
}

pub(crate) async fn a_claimed_submit_is_stored_as_unconfirmed(harness: Harness) {
    harness.submit(submission("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let written = harness.find("1").await.analysis;
    assert_eq!(claimed.analysis, written);
    let work = written.work.unwrap();
    assert_eq!((work.stage, work.due_at, written.status), (Stage::Confirm, START + LEASE, Status::Queued));

    // The process died: the next worker asks for the result before it submits again.
    harness.advance(LEASE.as_secs());
    for _ in 0..2 {
        assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
        let confirm = harness.claim_one(Queue::Polls).await;
        harness.store.apply(confirm.lease, Step::Polled(PollOutcome::NotFound(None)).into()).await.unwrap();
        harness.advance(10);
    }
    assert_eq!(calls(&harness.claim(Queue::Submits).await), ["1"]);
}

pub(crate) async fn a_submit_clears_an_earlier_denial(harness: Harness) {
    harness.submit(submission("1")).await;
    let missing =
        || VendorFault { code: FaultCode::CallNotFound, detail: "404".to_owned(), retry_after: None };
    let first = harness.claim_one(Queue::Submits).await;
    harness
        .store
        .apply(first.lease, Step::Submitted(SubmitOutcome::NotTaken(missing())).into())
        .await
        .unwrap();
    harness.advance(60);
    // The vendor accepts the call, and the process dies before it writes that.
    harness.claim_one(Queue::Submits).await;
    harness.advance(LEASE.as_secs());
    let confirm = harness.claim_one(Queue::Polls).await;
    harness.store.apply(confirm.lease, Step::Polled(PollOutcome::NotFound(None)).into()).await.unwrap();
    assert_eq!(harness.find("1").await.analysis.work.unwrap().stage, Stage::Confirm);
    assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
}

pub(crate) async fn leased_work_is_not_claimed_again(harness: Harness) {
    harness.submit(submission("1")).await;
    let first = harness.claim_one(Queue::Submits).await;
    harness.advance(LEASE.as_secs() - 1);
    for queue in [Queue::Submits, Queue::Polls] {
        assert_eq!(harness.claim(queue).await.len(), 0);
    }
    harness.advance(1);
    let second = harness.claim_one(Queue::Polls).await;
    assert_ne!(first.lease, second.lease);
}

pub(crate) async fn a_stale_lease_cannot_write(harness: Harness) {
    harness.submit(submission("1")).await;
    let stale = harness.claim_one(Queue::Submits).await;
    harness.advance(LEASE.as_secs());
    let fresh = harness.claim_one(Queue::Polls).await;
    let before = harness.find("1").await;
    harness.changes();

    let lost = harness.store.apply(stale.lease, ready("eski").into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    assert_eq!(harness.find("1").await, before);
    assert_eq!(harness.changes(), []);

    harness.store.apply(fresh.lease, ready("yangi").into()).await.unwrap();
    let found = harness.find("1").await;
    assert_eq!((found.analysis.revision, found.result), (1, Some(crate::harness::obtained("yangi").result)));
    let late = harness.store.apply(stale.lease, ready("eski").into()).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
}

pub(crate) async fn an_expired_lease_is_valid_until_another_claim(harness: Harness) {
    harness.submit(submission("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    harness.advance(LEASE.as_secs() * 2);
    let applied = harness.store.apply(claimed.lease, ACCEPTED.into()).await.unwrap();
    assert_eq!(applied.analysis.status, Status::Processing);
}

pub(crate) async fn a_step_ends_its_lease(harness: Harness) {
    harness.submit(submission("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    harness.store.apply(claimed.lease, ACCEPTED.into()).await.unwrap();
    let again = harness.store.apply(claimed.lease, ready("salom").into()).await;
    assert!(matches!(again, Err(StoreError::LeaseLost)), "{again:?}");
    assert_eq!(harness.find("1").await.analysis.status, Status::Processing);
}

pub(crate) async fn new_metadata_does_not_end_a_lease(harness: Harness) {
    harness.submit(submission("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let changed = harness.submit(with_metadata("1", "T-2")).await;
    assert_eq!(changed.analysis.work, claimed.analysis.work);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 0);
    let applied = harness.store.apply(claimed.lease, ACCEPTED.into()).await.unwrap();
    assert_eq!((applied.analysis.status, applied.analysis.metadata), (Status::Processing, metadata("T-2")));
}

pub(crate) async fn a_new_round_ends_the_lease_of_a_settle_poll(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    assert_eq!(settle.analysis.work.unwrap().stage, Stage::Settle);
    harness.submit(reanalysis("1")).await;
    let lost = harness.store.apply(settle.lease, ready("salom yana").into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");

    let submit = harness.claim_one(Queue::Submits).await;
    let lost = harness.store.apply(settle.lease, ready("salom yana").into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    let applied = harness.store.apply(submit.lease, ACCEPTED.into()).await.unwrap();
    assert_eq!((applied.analysis.status, applied.analysis.revision), (Status::Completed, 1));
}

pub(crate) async fn released_work_is_due_at_once(harness: Harness) {
    harness.submit(submission("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    harness.advance(1);
    harness.store.release_across_tenants().await.unwrap();
    let lost = harness.store.apply(claimed.lease, ACCEPTED.into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    let again = harness.claim_one(Queue::Polls).await;
    assert_eq!(again.analysis.call_id, call_id("1"));

    // Work without a lease keeps its due time.
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    harness.store.release_across_tenants().await.unwrap();
    assert_eq!(calls(&harness.claim(Queue::Polls).await), ["1"]);
    let due = harness.find("2").await.analysis.work.unwrap().due_at;
    assert_eq!(due, START + Duration::from_secs(11));
}
