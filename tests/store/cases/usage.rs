//! Usage per tenant and day.

use std::time::Duration;

use alovoice_gateway::domain::analysis::Submission;
use alovoice_gateway::domain::clock::{Clock, Timestamp};
use alovoice_gateway::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::lifecycle::{Step, SubmitOutcome};
use alovoice_gateway::domain::retries::{GiveUpReason, RetryDecision};
use alovoice_gateway::domain::usage::{Day, DeliveryUsage, FactUsage, Usage, UsageFact};
use alovoice_gateway::store::Queue;
use serde_json::json;

use super::deliveries::A;
use crate::harness::{
    Harness, LEASE, START, acme, call_id, delivered, finished, globex, obtained, submission, trace,
    with_callback,
};
use crate::rows::readable;

const A_DAY: u64 = 86_400;

async fn usage(harness: &Harness, tenant: &TenantId) -> Vec<(i64, Usage)> {
    let (from, to) = (Day::of(START), Day::of(harness.clock.now()));
    let days = harness.store.usage(tenant, from, to).await.unwrap();
    days.into_iter().map(|(day, usage)| (day.number() - from.number(), usage.unwrap())).collect()
}

pub(crate) async fn usage_is_counted_per_tenant_and_day(harness: Harness) {
    harness.announce("1", &[A, "https://b.example/"]).await;
    for next in
        [RetryDecision::Delivered, RetryDecision::RetryAt(START), RetryDecision::GiveUp(GiveUpReason::Gone)]
    {
        let claimed = harness.claim_deliveries(1, 1).await.remove(0);
        harness.store.finish_attempt(claimed.lease, finished("any", None, next)).await.unwrap();
    }
    let deliveries = DeliveryUsage { attempts: 3, delivered: 1, failed: 1 };
    // Two submissions with a callback, and one to complete the call.
    let first = Usage { submissions: 3, polls: 1, completions: 1, failures: 0, deliveries };
    assert_eq!(usage(&harness, &acme()).await, [(0, first)]);

    harness.advance(A_DAY);
    harness.store.submit_all(&acme(), vec![submission("2"), with_callback("2", A)]).await.unwrap();
    harness.store.adopt(&acme(), &call_id("3"), trace(), obtained("salom")).await.unwrap();
    let claimed = harness.claim_one(Queue::Submits).await;
    harness
        .store
        .apply(
            claimed.lease,
            Step::Submitted(SubmitOutcome::Rejected("the vendor answered 400".to_owned())).into(),
        )
        .await
        .unwrap();
    let delivery = harness.claim_delivery().await;
    harness.store.finish_attempt(delivery.lease, delivered()).await.unwrap();
    let deliveries = DeliveryUsage { attempts: 1, delivered: 1, failed: 0 };
    let second = Usage { submissions: 2, polls: 1, completions: 1, failures: 1, deliveries };
    assert_eq!(usage(&harness, &acme()).await, [(0, first), (1, second)]);
    assert_eq!(usage(&harness, &globex()).await, []);
}

pub(crate) async fn usage_is_counted_by_agent_and_queue(harness: Harness) {
    let with = |call: &str, facts: serde_json::Value| Submission {
        call: serde_json::from_value(facts).unwrap(),
        ..submission(call)
    };
    let (dilnoza, ali) = (json!({"id": "17", "name": "Dilnoza"}), json!({"id": null, "name": "Ali"}));
    harness.complete(with("1", json!({"agent": dilnoza, "queue": "support"})), "salom").await;
    harness.submit(with("1", json!({"agent": ali}))).await;
    harness.advance(A_DAY);
    let batch =
        vec![with("2", json!({"agent": dilnoza})), with("2", json!({"queue": "sales"})), submission("3")];
    harness.store.submit_all(&acme(), batch).await.unwrap();
    for claimed in harness.claim(Queue::Submits).await {
        let rejected = Step::Submitted(SubmitOutcome::Rejected("the vendor answered 400".to_owned()));
        harness.store.apply(claimed.lease, rejected.into()).await.unwrap();
    }
    let row = |value: &str, submissions, completions, failures| FactUsage {
        value: value.to_owned(),
        submissions,
        completions,
        failures,
    };
    let (first, second) = (Day::of(START), Day::of(harness.clock.now()));
    let read = async |tenant: TenantId, fact, from, to| {
        harness.store.usage_by_fact(&tenant, fact, (from, to), 10).await.unwrap()
    };
    let agents = read(acme(), UsageFact::Agent, first, second).await;
    assert_eq!(agents, [row("17", 3, 1, 1), row("Ali", 1, 0, 0)]);
    let queues = read(acme(), UsageFact::Queue, first, second).await;
    assert_eq!(queues, [row("support", 2, 1, 0), row("sales", 1, 0, 1)]);
    assert_eq!(read(acme(), UsageFact::Agent, second, second).await, [row("17", 2, 0, 1)]);
    assert_eq!(read(globex(), UsageFact::Agent, first, second).await, []);
    let top = harness.store.usage_by_fact(&acme(), UsageFact::Queue, (first, second), 1).await.unwrap();
    assert_eq!(top, [row("support", 2, 1, 0)]);

    let before = START + Duration::from_secs(A_DAY);
    harness.store.delete_records_across_tenants(before, 10).await.unwrap();
    assert_eq!(read(acme(), UsageFact::Agent, first, second).await, [row("17", 2, 0, 1)]);
}

/// The attempts, the delivered and the failed deliveries that the list shows.
async fn listed(harness: &Harness) -> DeliveryUsage {
    let page = DeliveryQuery { filter: DeliveryFilter::default(), after: None, limit: 100 };
    let deliveries = readable(harness.store.list_deliveries(&acme(), page).await.unwrap());
    let with = |status: &str| deliveries.iter().filter(|delivery| delivery.status == status).count() as u64;
    let attempts = deliveries.iter().map(|delivery| u64::from(delivery.attempts)).sum();
    DeliveryUsage { attempts, delivered: with("delivered"), failed: with("failed") }
}

pub(crate) async fn usage_agrees_with_the_list_of_deliveries(harness: Harness) {
    let agree = async || {
        let counted = usage(&harness, &acme()).await.remove(0).1.deliveries;
        assert_eq!(counted, listed(&harness).await);
        counted
    };
    harness.announce("1", &[A, "https://b.example/", "https://c.example/"]).await;
    agree().await;
    let mut claimed = harness.claim_deliveries(3, 1).await;
    assert_eq!(agree().await.attempts, 3, "attempts in progress count");
    harness.store.finish_attempt(claimed.remove(0).lease, delivered()).await.unwrap();
    let given_up = finished("refused", Some(500), RetryDecision::GiveUp(GiveUpReason::Exhausted));
    harness.store.finish_attempt(claimed.remove(0).lease, given_up).await.unwrap();
    agree().await;
    // The process of the third attempt died. The next attempt could not be signed.
    harness.advance(LEASE.as_secs() + 1);
    let claimed = harness.claim_delivery().await;
    let unsigned = finished("unsigned", None, RetryDecision::WaitUntil(harness.clock.now()));
    harness.store.finish_attempt(claimed.lease, unsigned).await.unwrap();
    let claimed = harness.claim_delivery().await;
    harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    assert_eq!(agree().await, DeliveryUsage { attempts: 5, delivered: 2, failed: 1 });
}

pub(crate) async fn days_without_usage_are_omitted_and_old_days_deleted(harness: Harness) {
    for call in ["1", "2", "3"] {
        harness.submit(submission(call)).await;
        harness.advance(2 * A_DAY);
    }
    let days = |counted: Vec<(i64, Usage)>| counted.into_iter().map(|(day, _)| day).collect::<Vec<_>>();
    assert_eq!(days(usage(&harness, &acme()).await), [0, 2, 4]);
    let before: Timestamp = START + Duration::from_secs(2 * A_DAY);
    assert_eq!(harness.store.delete_records_across_tenants(before, 10).await.unwrap(), 1);
    assert_eq!(days(usage(&harness, &acme()).await), [2, 4]);
}
