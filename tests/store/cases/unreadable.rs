//! Rows that cannot be read: one of them does not affect the others.

use std::collections::HashSet;

use alovoice_gateway::domain::audit::Actor;
use alovoice_gateway::domain::clock::Clock;
use alovoice_gateway::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use alovoice_gateway::domain::feed::{FeedPosition, PageLimits};
use alovoice_gateway::domain::lifecycle::{Step, SubmitOutcome};
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery, ListPosition};
use alovoice_gateway::domain::polling::PollingPolicy;
use alovoice_gateway::domain::usage::Day;
use alovoice_gateway::store::{ClaimedWork, Queue, StoreError};
use futures_util::future::join_all;

use super::deliveries::A;
use super::webhooks::{deliveries_to, registered};
use crate::harness::{
    Harness, LEASE, START, acme, call_id, delivered, ready, slots, submission, with_callback, with_metadata,
};

/// A text that is only in unreadable columns. No error may contain it.
const CONTENT: &str = "8600 1234 5678 9012";

/// Changes of a row of `analyses`, each of which makes the row unreadable.
const DAMAGES: [&str; 9] = [
    "status = '8600 1234 5678 9012'",
    "metadata = '{\"card\": \"8600 1234 5678 9012'",
    "metadata = '\"8600 1234 5678 9012\"'",
    "call_facts = '{\"phone\": \"8600 1234 5678 9012\"}'",
    "call_facts = '{\"direction\": \"8600 1234 5678 9012\"}'",
    "trace = '[\"8600 1234 5678 9012\"]'",
    "last_error = '{\"code\": \"8600 1234 5678 9012\"}'",
    "revision = -1",
    "polls = 5000000000, stage = 'settle', due_at = 1, started_at = 1",
];

/// Lists the analyses of the tenant acme page by page. Returns the readable and the unreadable calls.
async fn listed(harness: &Harness, limit: usize) -> (Vec<String>, Vec<String>) {
    let (mut readable, mut unreadable, mut after) = (Vec::new(), Vec::new(), None::<ListPosition>);
    loop {
        let query = AnalysisQuery { filter: AnalysisFilter::default(), after: after.clone(), limit };
        let page = harness.store.list_analyses(&acme(), query).await.unwrap().analyses;
        let Some(last) = page.last() else { return (readable, unreadable) };
        after = Some(match last {
            Ok(listed) => ListPosition {
                submitted_at: listed.analysis.submitted_at,
                call_id: listed.analysis.call_id.to_string(),
            },
            Err(position) => position.clone(),
        });
        for row in page {
            match row {
                Ok(listed) => readable.push(listed.analysis.call_id.to_string()),
                Err(position) => unreadable.push(position.call_id),
            }
        }
    }
}

fn is_corrupt<T>(outcome: &Result<T, StoreError>) -> bool {
    let Err(error) = outcome else { return false };
    assert!(!format!("{error} {error:?}").contains(CONTENT), "{error:?}");
    matches!(error, StoreError::Corrupt(_))
}

pub(crate) async fn a_list_of_analyses_skips_unreadable_rows(harness: Harness) {
    let mut damaged = HashSet::new();
    for (number, damage) in DAMAGES.into_iter().enumerate() {
        for call in [format!("good-{number}"), format!("bad-{number}")] {
            harness.advance(1);
            harness.submit(with_metadata(&call, "T-1")).await;
        }
        let call = format!("bad-{number}");
        harness.rows.change(&format!("UPDATE analyses SET {damage} WHERE call_id = '{call}'"), 1).await;
        assert!(is_corrupt(&harness.store.find_analysis(&acme(), &call_id(&call)).await), "{damage}");
        assert!(is_corrupt(&harness.store.submit(&acme(), submission(&call)).await), "{damage}");
        damaged.insert(call);
    }
    harness.advance(1);
    harness.adopt(&acme(), "good-summary").await;
    harness.advance(1);
    harness.adopt(&acme(), "bad-summary").await;
    let last = "WHERE analysis = (SELECT id FROM analyses WHERE call_id = 'bad-summary')";
    harness.rows.change(&format!("UPDATE listings SET summary = '{{}}' {last}"), 1).await;
    damaged.insert("bad-summary".to_owned());
    let expected: HashSet<String> = (0..DAMAGES.len())
        .map(|number| format!("good-{number}"))
        .chain(["good-summary".to_owned()])
        .collect();
    for limit in [1, 2, 3, 100] {
        let (readable, unreadable) = listed(&harness, limit).await;
        assert_eq!((readable.len(), unreadable.len()), (expected.len(), damaged.len()));
        assert_eq!(readable.into_iter().collect::<HashSet<_>>(), expected, "{limit}");
        assert_eq!(unreadable.into_iter().collect::<HashSet<_>>(), damaged, "{limit}");
    }
}

pub(crate) async fn an_unreadable_analysis_can_be_deleted(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    harness.rows.change("UPDATE analyses SET status = 'lost'", 1).await;
    harness.rows.change("UPDATE results SET result = '{}'", 1).await;
    let actor = Actor { subject: None, request_id: "request".to_owned() };
    assert!(harness.store.delete_analysis(&acme(), &call_id("1"), actor).await.unwrap());
    assert_eq!(listed(&harness, 10).await, (vec![], vec![]));
    // Retention deletes such rows too.
    harness.complete(submission("2"), "salom").await;
    harness.rows.change("UPDATE analyses SET status = 'lost', stage = NULL", 1).await;
    harness.store.delete_expired_across_tenants(harness.clock.now(), 10).await.unwrap();
    harness.advance(1);
    harness.store.delete_expired_across_tenants(harness.clock.now(), 10).await.unwrap();
    assert_eq!(harness.rows.count("analyses").await, 0);
}

pub(crate) async fn lists_of_events_deliveries_webhooks_and_usage_skip_unreadable_rows(harness: Harness) {
    let (bad, good) = (registered(&harness, A).await, registered(&harness, A).await);
    for call in ["1", "2", "3"] {
        harness.adopt(&acme(), call).await;
    }
    let before = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    let [first, second, third] = [0, 1, 2].map(|number| before[number].id.to_string());

    // A later version may have other ids, and a damaged body would break the page.
    harness.rows.change(&format!("UPDATE events SET id = 'v2_{first}' WHERE id = '{first}'"), 1).await;
    let body = "CAST('{\"type\": \"8600' AS BYTEA)";
    harness
        .rows
        .change(&format!("UPDATE events SET body = {} WHERE id = '{second}'", blob(&harness, body)), 1)
        .await;
    let one = PageLimits { events: 1, bytes: usize::MAX };
    let (mut place, mut unreadable, mut events) = (FeedPosition::BEGINNING, Vec::new(), Vec::new());
    loop {
        let rows = harness.store.events_after(&acme(), place, one).await.unwrap();
        if rows.end == place {
            break;
        }
        place = rows.end;
        unreadable.extend(rows.unreadable);
        events.extend(rows.events.into_iter().map(|event| event.id.to_string()));
    }
    assert_eq!((events, unreadable), (vec![third.clone()], vec![format!("v2_{first}"), second]));

    // Each delivery of the first event shows its id.
    let page = DeliveryQuery { filter: DeliveryFilter::default(), after: None, limit: 100 };
    let deliveries = harness.store.list_deliveries(&acme(), page).await.unwrap();
    assert_eq!(deliveries.iter().filter(|row| row.is_ok()).count(), 4);
    assert!(deliveries.iter().flat_map(|row| row.as_ref().err()).all(|row| row.id.starts_with("dlv_")));

    let damage = format!("UPDATE webhooks SET events = 'analysis.v2' WHERE id = '{}'", bad.id);
    harness.rows.change(&damage, 1).await;
    assert_eq!(harness.store.list_webhooks(&acme()).await.unwrap(), [Err(bad.id.to_string()), Ok(good)]);
    assert!(is_corrupt(&harness.store.find_webhook(&acme(), bad.id).await));
    assert!(harness.store.delete_webhook(&acme(), bad.id).await.unwrap());

    let today = Day::of(START);
    assert!(harness.store.usage(&acme(), today, today).await.unwrap()[0].1.is_some());
    harness.rows.change("UPDATE usage SET polls = -1", 1).await;
    assert_eq!(harness.store.usage(&acme(), today, today).await.unwrap(), [(today, None)]);
}

/// A literal of bytes in the dialect of the engine.
fn blob(harness: &Harness, literal: &str) -> String {
    if harness.rows.is_file() { literal.replace("BYTEA", "BLOB") } else { literal.to_owned() }
}

pub(crate) async fn unreadable_work_is_postponed_and_does_not_block_other_work(harness: Harness) {
    for call in ["bad-1", "bad-2", "good"] {
        harness.submit(submission(call)).await;
        harness.advance(1);
    }
    harness.rows.change("UPDATE analyses SET trace = '[]' WHERE call_id LIKE 'bad%'", 2).await;
    let slots = || vec![crate::harness::slots_of(acme(), 2)];
    // The unreadable rows are the oldest and take all slots of the first claim.
    let first = harness.store.claim_work_across_tenants(Queue::Submits, slots(), LEASE).await.unwrap();
    assert_eq!(first.claimed.len(), 0);
    assert!(first.next_due.unwrap() <= harness.now(), "the next claim is due at once");
    assert_eq!(harness.claim_one(Queue::Submits).await.analysis.call_id, call_id("good"));
    // The leases have ended, but the rows are not claimed again and again.
    for _ in 0..10 {
        harness.advance(LEASE.as_secs() + 1);
        assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
        assert!(
            harness.claim(Queue::Polls).await.iter().all(|work| work.analysis.call_id == call_id("good"))
        );
    }
    assert_eq!(harness.rows.number("SELECT sum(fence) FROM analyses WHERE call_id LIKE 'bad%'").await, 2);
    // A version that can read the rows continues their work.
    let trace = "UPDATE analyses SET trace = (SELECT trace FROM analyses WHERE call_id = 'good') WHERE call_id LIKE 'bad%'";
    harness.rows.change(trace, 2).await;
    harness.advance(3600);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 3);
}

pub(crate) async fn an_outcome_for_an_unreadable_result_is_discarded_and_postponed(harness: Harness) {
    harness.complete(submission("bad"), "salom").await;
    harness.complete(submission("good"), "salom").await;
    let of_bad = "WHERE analysis = (SELECT id FROM analyses WHERE call_id = 'bad')";
    harness.rows.change(&format!("UPDATE results SET result = '{{\"v\": \"{CONTENT}\"}}' {of_bad}"), 1).await;
    harness.advance(600);
    let claimed = harness.claim(Queue::Polls).await;
    assert_eq!(claimed.len(), 2);
    let apply = |work: &ClaimedWork| harness.store.apply(work.lease, ready("salom yana").into());
    for (work, applied) in claimed.iter().zip(join_all(claimed.iter().map(apply)).await) {
        assert_eq!(is_corrupt(&applied), work.analysis.call_id == call_id("bad"));
        assert_eq!(applied.is_ok(), work.analysis.call_id == call_id("good"));
    }
    harness.advance(LEASE.as_secs() + 1);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 0);
    harness.advance(3600);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 1);
}

pub(crate) async fn an_unreadable_overdue_analysis_does_not_block_others(harness: Harness) {
    for call in ["bad", "good"] {
        harness.submit(submission(call)).await;
        harness.advance(1);
    }
    harness.rows.change("UPDATE analyses SET metadata = '{' WHERE call_id = 'bad'", 1).await;
    harness.advance(PollingPolicy::default().deadline.as_secs());
    let ended = harness.store.fail_overdue_across_tenants(vec![acme()], 1).await.unwrap();
    assert_eq!(ended.applied.len(), 0);
    let ended = harness.store.fail_overdue_across_tenants(vec![acme()], 1).await.unwrap();
    assert_eq!(ended.applied[0].analysis.call_id, call_id("good"));
}

pub(crate) async fn an_unreadable_delivery_is_postponed_without_an_attempt(harness: Harness) {
    harness.announce("bad", &[A]).await;
    harness.announce("good", &[A]).await;
    harness.rows.change("UPDATE deliveries SET trace = '[]' WHERE call_id = 'bad'", 1).await;
    let batch = harness.store.claim_deliveries_across_tenants(slots(1, 100, 100), LEASE).await.unwrap();
    assert_eq!(batch.claimed.len(), 0);
    assert!(batch.next_due.unwrap() <= harness.now(), "the next claim is due at once");
    let claimed = harness.claim_delivery().await;
    assert_eq!(claimed.delivery.call_id, Some(call_id("good")));
    harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    harness.advance(LEASE.as_secs() + 1);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
    assert_eq!(harness.deliveries("bad").await, [("pending".to_owned(), 0)]);
    assert_eq!(harness.rows.count("attempts").await, 1);
    let trace = "UPDATE deliveries SET trace = (SELECT trace FROM deliveries WHERE call_id = 'good') WHERE call_id = 'bad'";
    harness.rows.change(trace, 1).await;
    harness.advance(3600);
    assert_eq!(harness.claim_delivery().await.delivery.attempts, 1);
}

pub(crate) async fn an_unreadable_webhook_gets_events_and_outcomes_are_stored(harness: Harness) {
    let (bad, good) = (registered(&harness, A).await, registered(&harness, A).await);
    let damage =
        format!("UPDATE webhooks SET events = 'analysis.v2', header_names = '' WHERE id = '{}'", bad.id);
    harness.rows.change(&damage, 1).await;
    harness.submit(with_callback("1", "https://c.example/")).await;
    let damage =
        "INSERT INTO callbacks (analysis, url, payload) SELECT id, 'https://d.example/', 'v2' FROM analyses";
    harness.rows.change(damage, 1).await;
    harness.complete(submission("1"), "salom").await;
    // The other callback and both webhooks get the event.
    let claimed = harness.claim_deliveries(100, 100).await;
    assert_eq!(claimed.len(), 3);
    for claimed in claimed {
        let version = claimed.webhook.map(|webhook| webhook.version);
        let attempt = alovoice_gateway::store::FinishedAttempt { webhook_version: version, ..delivered() };
        assert_eq!(harness.store.finish_attempt(claimed.lease, attempt).await.unwrap(), None);
    }
    for webhook in [bad.id, good.id] {
        assert_eq!(deliveries_to(&harness, webhook).await[0].status, "delivered");
    }
}

pub(crate) async fn a_failed_write_counts_no_observations(harness: Harness) {
    let bad = registered(&harness, A).await;
    let damage = format!("UPDATE webhooks SET events = 'analysis.v2' WHERE id = '{}'", bad.id);
    harness.rows.change(&damage, 1).await;
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    let counted = || harness.metrics.store_unreadable_rows.with_label_values(&["webhooks"]).get();
    let before = counted();
    // The webhook is read before its delivery is written.
    harness.rows.execute("ALTER TABLE deliveries RENAME TO hidden").await;
    let failed = harness.store.apply(claimed.lease, ready("salom").into()).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert_eq!(counted() - before, 0);
    harness.rows.execute("ALTER TABLE hidden RENAME TO deliveries").await;
    harness.store.apply(claimed.lease, ready("salom").into()).await.unwrap();
    assert_eq!(counted() - before, 1);
}

pub(crate) async fn an_unreadable_pace_is_learned_again(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    harness.rows.change("UPDATE paces SET samples = -1", 1).await;
    harness.complete(submission("2"), "salom").await;
    let claimed = harness.submit(submission("3")).await;
    assert_eq!(claimed.analysis.call_id, call_id("3"));
    let work = harness.claim_one(Queue::Submits).await;
    harness.store.apply(work.lease, Step::Submitted(SubmitOutcome::Accepted).into()).await.unwrap();
}
