//! Deletion of calls.

use alovoice_gateway::domain::audit::Actor;
use alovoice_gateway::domain::clock::Clock;
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery};
use alovoice_gateway::domain::search::SearchQuery;
use alovoice_gateway::store::{Change, Queue, StoreError};

use super::deliveries::A;
use crate::harness::{
    Harness, acme, call_id, delivered, event_of, globex, obtained, ready, submission, trace, with_callback,
};
use crate::rows::{AuditRecord, attempts_of};

pub(crate) fn actor() -> Actor {
    Actor { subject: Some("crm".to_owned()), request_id: "req_1".to_owned() }
}

async fn delete(harness: &Harness, call: &str) -> bool {
    harness.store.delete_analysis(&acme(), &call_id(call), actor()).await.unwrap()
}

async fn found_by(harness: &Harness, words: &str) -> usize {
    let filter = AnalysisFilter {
        search: Some(SearchQuery::parse(words, None).unwrap()),
        ..AnalysisFilter::default()
    };
    harness
        .store
        .list_analyses(&acme(), AnalysisQuery { filter, after: None, limit: 10 })
        .await
        .unwrap()
        .analyses
        .len()
}

pub(crate) async fn a_deleted_call_leaves_only_its_audit_record(harness: Harness) {
    harness.announce("1", &[A]).await;
    harness.announce("2", &[A]).await;
    let store = &harness.store;
    let attempted = harness.claim_deliveries(1, 1).await.remove(0);
    assert_eq!(attempted.delivery.call_id, Some(call_id("1")));
    harness.changes();

    assert!(delete(&harness, "1").await);
    assert_eq!(harness.changes(), [Change::Analysis(acme(), call_id("1"))]);
    assert_eq!(store.find_analysis(&acme(), &call_id("1")).await.unwrap(), None);
    assert_eq!(store.find_vendor_answer(&acme(), &call_id("1")).await.unwrap(), None);
    assert_eq!(harness.deliveries("1").await, []);
    assert_eq!(attempts_of(&**store, &acme(), attempted.delivery.id).await, []);
    assert_eq!(found_by(&harness, "salom").await, 1, "the other call is still found");
    let record = AuditRecord {
        at: harness.clock.now(),
        subject: actor().subject,
        request_id: actor().request_id,
        action: "analysis.deleted".to_owned(),
    };
    assert_eq!(harness.rows.audit_of_call(&acme(), &call_id("1")).await, [record]);
    assert!(store.was_deleted(&acme(), &call_id("1")).await.unwrap());

    assert!(!delete(&harness, "1").await, "the call is deleted already");
    assert_eq!(harness.rows.audit_of_call(&acme(), &call_id("1")).await.len(), 1);
    assert_eq!(harness.changes(), []);
    assert_eq!(harness.deliveries("2").await, [("pending".to_owned(), 0)]);
}

pub(crate) async fn another_tenants_call_is_not_deleted(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    assert!(!harness.store.delete_analysis(&globex(), &call_id("1"), actor()).await.unwrap());
    assert!(!harness.store.was_deleted(&acme(), &call_id("1")).await.unwrap());
    assert!(delete(&harness, "1").await);
    assert!(!harness.store.was_deleted(&globex(), &call_id("1")).await.unwrap());
    assert_eq!(harness.rows.audit_of_call(&globex(), &call_id("1")).await, []);
}

pub(crate) async fn deleting_a_call_ends_the_lease_on_its_work(harness: Harness) {
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let poll = harness.claim_one(Queue::Polls).await;
    assert!(delete(&harness, "1").await);
    // The lease of the deleted analysis is not valid for the new analysis of the same call.
    harness.submit(submission("2")).await;
    let submit = harness.claim_one(Queue::Submits).await;
    assert_eq!(submit.analysis.call_id, call_id("2"));
    for stale in [poll.lease, poll.lease] {
        let late = harness.store.apply(stale, ready("salom").into()).await;
        assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
    }
    assert_eq!(harness.find("2").await.analysis.revision, 0);
    assert_eq!(harness.store.find_analysis(&acme(), &call_id("1")).await.unwrap(), None);
}

pub(crate) async fn deleting_a_call_ends_the_leases_on_its_deliveries(harness: Harness) {
    harness.announce("1", &[A]).await;
    let stale = harness.claim_delivery().await;
    assert!(delete(&harness, "1").await);
    harness.announce("2", &[A]).await;
    let fresh = harness.claim_delivery().await;
    let late = harness.store.finish_attempt(stale.lease, delivered()).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
    assert_eq!(harness.deliveries("2").await, [("pending".to_owned(), 1)]);
    harness.store.finish_attempt(fresh.lease, delivered()).await.unwrap();
}

pub(crate) async fn a_deleted_call_is_not_adopted_but_may_be_submitted_again(harness: Harness) {
    harness.announce("1", &[A]).await;
    assert!(delete(&harness, "1").await);
    assert!(!harness.store.adopt(&acme(), &call_id("1"), trace(), obtained("salom")).await.unwrap());
    assert_eq!(harness.store.find_analysis(&acme(), &call_id("1")).await.unwrap(), None);

    harness.advance(1);
    let again = harness.complete(with_callback("1", A), "salom").await;
    assert_eq!(again.analysis.revision, 1);
    assert_eq!(event_of(&harness.claim_delivery().await).0, "analysis.completed");
    assert!(delete(&harness, "1").await);
    assert_eq!(harness.rows.audit_of_call(&acme(), &call_id("1")).await.len(), 2);
}

pub(crate) async fn old_audit_records_are_deleted(harness: Harness) {
    harness.submit(submission("1")).await;
    assert!(delete(&harness, "1").await);
    let done_at = harness.clock.now();
    assert_eq!(harness.store.delete_records_across_tenants(done_at, 10).await.unwrap(), 0);
    harness.advance(1);
    assert_eq!(harness.store.delete_records_across_tenants(harness.clock.now(), 10).await.unwrap(), 1);
    assert!(!harness.store.was_deleted(&acme(), &call_id("1")).await.unwrap());
}
