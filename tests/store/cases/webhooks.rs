//! Webhooks: fan-out, pauses, disabling and deletion.

use std::time::Duration;

use alovoice_gateway::domain::callback_url::CallbackUrl;
use alovoice_gateway::domain::clock::{Clock, Timestamp};
use alovoice_gateway::domain::deliveries::{DeliveryFilter, DeliveryQuery, DeliveryStatus};
use alovoice_gateway::domain::delivery_rate::ChosenRate;
use alovoice_gateway::domain::event_payload::EventPayload;
use alovoice_gateway::domain::events::EventKind;
use alovoice_gateway::domain::feed::FeedPosition;
use alovoice_gateway::domain::filters::ContentFilter;
use alovoice_gateway::domain::ids::{DeliveryId, WebhookId};
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::polling::PollingPolicy;
use alovoice_gateway::domain::retries::RetryDecision;
use alovoice_gateway::domain::webhooks::{
    DisabledReason, EventFilter, Health, MAX_WEBHOOKS, SealedSecrets, Webhook,
};
use alovoice_gateway::store::{
    ClaimedDelivery, FinishedAttempt, Queue, RecordedDelivery, Sending, WebhookActivity, WebhookCounts,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::json;

use super::deliveries::A;
use super::replays::{begin, replay_to};
use crate::harness::{
    Harness, LEASE, acme, call_id, delivered, event_of, finished, globex, obtained, ready, slots, submission,
    trace, with_callback, with_metadata, with_payload,
};
use crate::rows::{attempts_of, readable};

/// A webhook with a unique id that is not registered yet.
pub(crate) fn new_webhook(harness: &Harness, url: &str) -> Webhook {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(1 << 48);
    let now = harness.clock.now();
    let entropy = crate::harness::CountingEntropy::starting_at(MADE.fetch_add(1, Ordering::Relaxed));
    Webhook {
        id: WebhookId::generate(now, &entropy),
        url: CallbackUrl::parse(url).unwrap().into(),
        events: EventFilter::all(),
        filter: None,
        transform: None,
        method: None,
        chosen_rate: ChosenRate::default(),
        payload: EventPayload::Full,
        description: Some("ўзбекча \"' %".to_owned()),
        header_names: vec!["authorization".to_owned(), "x-key".to_owned()],
        sealed: SealedSecrets {
            secret: b"sealed \0 secret".to_vec(),
            previous_secret: Some((b"\xff before".to_vec(), now + Duration::from_secs(60))),
            headers: Some(b"sealed headers".to_vec()),
        },
        disabled: None,
        created_at: now,
        updated_at: now,
        version: 1,
        health: Health::default(),
    }
}

pub(crate) async fn registered(harness: &Harness, url: &str) -> Webhook {
    let webhook = new_webhook(harness, url);
    assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
    webhook
}

/// Adopts finished calls, each of which writes an event.
pub(crate) async fn events(harness: &Harness, name: &str, count: usize) {
    // A few at a time: the wait for a connection has a time limit, which a slow machine would exceed.
    let events = (0..count).map(async |number| {
        let call = call_id(&format!("{name}-{number}"));
        assert!(harness.store.adopt(&acme(), &call, trace(), obtained("salom")).await.unwrap());
    });
    stream::iter(events).buffer_unordered(32).collect::<Vec<_>>().await;
}

async fn found(harness: &Harness, id: WebhookId) -> Webhook {
    harness.store.find_webhook(&acme(), id).await.unwrap().unwrap()
}

/// The deliveries to a webhook, the newest first.
pub(crate) async fn deliveries_to(harness: &Harness, id: WebhookId) -> Vec<RecordedDelivery> {
    let filter = DeliveryFilter { webhook: Some(id), ..DeliveryFilter::default() };
    let page = DeliveryQuery { filter, after: None, limit: 10_000 };
    readable(harness.store.list_deliveries(&acme(), page).await.unwrap())
}

fn calls(deliveries: &[RecordedDelivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.call_id.as_ref().unwrap().as_str()).collect()
}

fn refused(harness: &Harness) -> FinishedAttempt {
    finished("refused", Some(500), RetryDecision::RetryAt(harness.clock.now()))
}

/// Finishes an attempt. Returns the reason if it disables the webhook.
pub(crate) async fn finish(
    harness: &Harness,
    claimed: &ClaimedDelivery,
    attempt: FinishedAttempt,
) -> Option<DisabledReason> {
    let webhook_version = claimed.webhook.as_ref().map(|webhook| webhook.version);
    let attempt = FinishedAttempt { webhook_version, ..attempt };
    harness.store.finish_attempt(claimed.lease, attempt).await.unwrap()
}

/// The numbers of enabled, paused and disabled webhooks of the tenant acme.
async fn counted(harness: &Harness) -> (u64, u64, u64) {
    let stats = harness.store.stats_across_tenants(&[acme()]).await.unwrap();
    let WebhookCounts { enabled, paused, disabled } = stats[&acme()].webhooks;
    (enabled, paused, disabled)
}

async fn enable(harness: &Harness, id: WebhookId) {
    let mut webhook = found(harness, id).await;
    webhook.enable();
    assert!(harness.store.change_webhook(&acme(), webhook, true).await.unwrap());
}

pub(crate) async fn disable(harness: &Harness, id: WebhookId) {
    let mut webhook = found(harness, id).await;
    webhook.disable(DisabledReason::Requested, harness.clock.now());
    assert!(harness.store.change_webhook(&acme(), webhook, false).await.unwrap());
}

pub(crate) async fn a_webhook_is_read_back_unchanged(harness: Harness) {
    let first = registered(&harness, A).await;
    harness.advance(1);
    let second = Webhook {
        description: None,
        header_names: Vec::new(),
        sealed: SealedSecrets { secret: vec![0; 60], previous_secret: None, headers: None },
        events: EventFilter::new(&[EventKind::AnalysisFailed]).unwrap(),
        payload: EventPayload::Thin,
        ..new_webhook(&harness, A)
    };
    assert!(harness.store.add_webhook(&acme(), second.clone()).await.unwrap());
    assert_eq!(harness.store.list_webhooks(&acme()).await.unwrap(), [Ok(first.clone()), Ok(second.clone())]);
    assert_eq!(found(&harness, second.id).await, second);
    assert_eq!(harness.store.list_webhooks(&globex()).await.unwrap(), []);
    assert_eq!(harness.store.find_webhook(&globex(), first.id).await.unwrap(), None);
}

pub(crate) async fn an_outdated_change_is_not_written(harness: Harness) {
    let mine = registered(&harness, A).await;
    let theirs = mine.clone();
    let changed = Webhook { url: CallbackUrl::parse("https://b.example/").unwrap().into(), ..mine };
    assert!(harness.store.change_webhook(&acme(), changed.clone(), false).await.unwrap());
    assert!(!harness.store.change_webhook(&acme(), theirs.clone(), false).await.unwrap());
    assert_eq!(found(&harness, theirs.id).await, Webhook { version: 2, ..changed.clone() });
    let of_another = Webhook { version: 2, ..changed };
    assert!(!harness.store.change_webhook(&globex(), of_another, true).await.unwrap());
    assert!(!harness.store.delete_webhook(&globex(), theirs.id).await.unwrap());
}

pub(crate) async fn the_number_of_webhooks_is_limited(harness: Harness) {
    let added = join_all(
        (0..MAX_WEBHOOKS + 5)
            .map(async |_| harness.store.add_webhook(&acme(), new_webhook(&harness, A)).await.unwrap()),
    )
    .await;
    assert_eq!(added.into_iter().filter(|added| *added).count(), MAX_WEBHOOKS);
    assert!(harness.store.add_webhook(&globex(), new_webhook(&harness, A)).await.unwrap());
    let first = harness.store.list_webhooks(&acme()).await.unwrap().remove(0).unwrap();
    assert!(harness.store.delete_webhook(&acme(), first.id).await.unwrap());
    registered(&harness, A).await;
}

pub(crate) async fn an_event_is_sent_to_every_webhook_that_wants_it(harness: Harness) {
    let every = registered(&harness, A).await;
    let of_failures = Webhook {
        events: EventFilter::new(&[EventKind::AnalysisFailed]).unwrap(),
        ..new_webhook(&harness, A)
    };
    assert!(harness.store.add_webhook(&acme(), of_failures.clone()).await.unwrap());
    let off = registered(&harness, A).await;
    disable(&harness, off.id).await;
    let of_another = new_webhook(&harness, A);
    harness.store.add_webhook(&globex(), of_another.clone()).await.unwrap();

    // A result, a failure, an adopted call, and a missed deadline.
    harness.announce("completed", &[A]).await;
    harness.submit(submission("failed")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    harness
        .store
        .apply(
            claimed.lease,
            Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())).into(),
        )
        .await
        .unwrap();
    events(&harness, "adopted", 1).await;
    harness.submit(submission("overdue")).await;
    harness.advance(PollingPolicy::default().deadline.as_secs());
    harness.store.fail_overdue_across_tenants(vec![acme()], 10).await.unwrap();

    let to_every = deliveries_to(&harness, every.id).await;
    assert_eq!(calls(&to_every), ["overdue", "adopted-0", "failed", "completed"]);
    assert_eq!(calls(&deliveries_to(&harness, of_failures.id).await), ["overdue", "failed"]);
    assert_eq!(deliveries_to(&harness, off.id).await, []);
    assert_eq!(deliveries_to(&harness, of_another.id).await, []);
    // A callback added to a finished call gets the event; the webhooks do not get it again.
    harness.submit(with_callback("adopted-0", A)).await;
    assert_eq!(deliveries_to(&harness, every.id).await, to_every);
    assert_eq!(harness.deliveries("adopted-0").await.len(), 2);
}

fn filter(filter: &serde_json::Value) -> ContentFilter {
    ContentFilter::parse(filter.as_object().unwrap().clone()).unwrap()
}

pub(crate) async fn an_event_is_sent_to_webhooks_whose_filter_it_passes(harness: Harness) {
    let mut webhooks = Vec::new();
    for source in [
        json!({"metadata.ticket": "T-1"}),
        json!({"transcript": {"speaker": "operator", "text": {"$contains": "salom"}}}),
        json!({"metadata.ticket": {"$ne": "T-1"}}),
    ] {
        let webhook = Webhook { filter: Some(filter(&source)), ..new_webhook(&harness, A) };
        assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
        assert_eq!(found(&harness, webhook.id).await, webhook);
        webhooks.push(webhook);
    }
    harness.complete(with_metadata("1", "T-1"), "salom").await;
    harness.complete(with_metadata("2", "T-2"), "xayr").await;
    for (webhook, expected) in webhooks.iter().zip(["1", "1", "2"]) {
        assert_eq!(calls(&deliveries_to(&harness, webhook.id).await), [expected]);
    }
    // Pending deliveries stay when the filter changes. This version gets every event of a webhook whose filter it cannot read.
    let changed = Webhook { filter: None, ..webhooks[0].clone() };
    assert!(harness.store.change_webhook(&acme(), changed, false).await.unwrap());
    let damage = format!("UPDATE webhooks SET filter = '{{\"later\":1}}' WHERE id = '{}'", webhooks[1].id);
    harness.rows.change(&damage, 1).await;
    harness.complete(with_metadata("3", "T-1"), "xayr").await;
    for (webhook, expected) in webhooks.iter().zip([&["3", "1"][..], &["3", "1"], &["2"]]) {
        assert_eq!(calls(&deliveries_to(&harness, webhook.id).await), expected);
    }
}

pub(crate) async fn a_delivery_uses_the_present_url_of_its_webhook(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 1).await;
    let moved = Webhook {
        url: CallbackUrl::parse("https://moved.example/x").unwrap().into(),
        sealed: SealedSecrets { secret: b"new".to_vec(), previous_secret: None, headers: None },
        ..webhook
    };
    assert!(harness.store.change_webhook(&acme(), moved.clone(), false).await.unwrap());
    let claimed = harness.claim_delivery().await;
    assert_eq!(claimed.delivery.url, moved.url);
    let webhook = claimed.webhook.as_ref().unwrap();
    assert_eq!((webhook.id, &webhook.sealed), (moved.id, &moved.sealed));
    assert_eq!(claimed.delivery.webhook, Some(moved.id));
    assert_eq!(deliveries_to(&harness, moved.id).await[0].url, moved.url.masked().as_str());
}

pub(crate) async fn a_gone_webhook_is_disabled_and_its_deliveries_wait(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 3).await;
    let claimed = harness.claim_deliveries(1, 1).await.remove(0);
    let gone = FinishedAttempt {
        detail: Some("410 \0".to_owned()),
        ..finished("gone", Some(410), RetryDecision::Hold)
    };
    assert_eq!(counted(&harness).await, (1, 0, 0));
    assert_eq!(finish(&harness, &claimed, gone).await, Some(DisabledReason::Gone));
    assert_eq!(counted(&harness).await, (0, 0, 1));
    let disabled = found(&harness, webhook.id).await;
    assert_eq!(disabled.disabled.unwrap().reason, DisabledReason::Gone);
    assert_eq!(disabled.health.last_failure.unwrap().status, Some(410));
    harness.advance(1_000_000);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
    let activity = harness.store.webhook_activity(&acme(), webhook.id).await.unwrap();
    assert_eq!((activity.attempts, activity.delivered, activity.pending), (1, 0, 3));
    let stats = harness.store.stats_across_tenants(&[acme()]).await.unwrap().remove(&acme()).unwrap();
    assert_eq!(
        (stats.pending_deliveries, stats.delivery_lag),
        (3, Duration::ZERO),
        "deliveries to a disabled webhook count as due"
    );
    // A change based on the enabled version does not enable the webhook again.
    assert!(!harness.store.change_webhook(&acme(), webhook.clone(), false).await.unwrap());
    enable(&harness, webhook.id).await;
    let stats = harness.store.stats_across_tenants(&[acme()]).await.unwrap().remove(&acme()).unwrap();
    assert!(stats.delivery_lag > Duration::ZERO, "the delivery is not due");
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 3);
    assert_eq!(found(&harness, webhook.id).await.health.failures, 0);
}

pub(crate) async fn a_disabled_webhook_is_an_event_for_the_others(harness: Harness) {
    let gone = registered(&harness, A).await;
    let one_type = |kind| EventFilter::new(&[kind]).unwrap();
    let add = async |webhook: Webhook| {
        assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
        webhook.id
    };
    let told = Webhook { events: one_type(EventKind::WebhookDisabled), ..new_webhook(&harness, A) };
    let told = add(told).await;
    let unconcerned = Webhook { events: one_type(EventKind::AnalysisFailed), ..new_webhook(&harness, A) };
    let unconcerned = add(unconcerned).await;
    let filter = json!({"status": "completed"}).as_object().unwrap().clone();
    let filter = Some(ContentFilter::parse(filter).unwrap());
    let filtered = add(Webhook { filter, ..new_webhook(&harness, A) }).await;
    harness.complete(submission("1"), "salom").await;
    let of_gone = |claimed: &ClaimedDelivery| claimed.delivery.webhook == Some(gone.id);
    let claimed = harness.claim_deliveries(100, 100).await;
    let claimed = claimed.iter().find(|claimed| of_gone(claimed)).unwrap();
    let outcome = finished("gone", Some(410), RetryDecision::Hold);
    assert_eq!(finish(&harness, claimed, outcome).await, Some(DisabledReason::Gone));

    let sent = harness.claim_delivery().await;
    assert_eq!((sent.delivery.webhook, &sent.delivery.call_id), (Some(told), &None));
    let (kind, data) = event_of(&sent);
    assert_eq!((kind.as_str(), &data["webhook"]), ("webhook.disabled", &json!(gone.id.to_string())));
    assert_eq!((&data["reason"], data["url"].is_null()), (&json!("gone"), true));
    let feed = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    let kinds: Vec<_> = feed.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["analysis.completed", "webhook.disabled"]);
    assert_eq!((&feed[1].id, &feed[1].body), (&sent.delivery.event_id, &sent.body));
    assert_eq!(harness.feed(&globex(), FeedPosition::BEGINNING).await, []);
    for (webhook, deliveries) in [(gone.id, 1), (unconcerned, 0), (filtered, 1)] {
        assert_eq!(deliveries_to(&harness, webhook).await.len(), deliveries, "{webhook}");
    }
}

pub(crate) async fn a_webhook_that_fails_for_five_days_is_disabled(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 1).await;
    for day in 0..=5 {
        assert!(found(&harness, webhook.id).await.disabled.is_none(), "{day}");
        let claimed = harness.claim_delivery().await;
        let disabled = finish(&harness, &claimed, refused(&harness)).await;
        assert_eq!(disabled, (day == 5).then_some(DisabledReason::Failing));
        harness.advance(24 * 3600);
    }
    let disabled = found(&harness, webhook.id).await;
    assert_eq!(disabled.disabled.unwrap().reason, DisabledReason::Failing);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
}

pub(crate) async fn declined_events_neither_pause_nor_disable_a_webhook(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 2).await;
    let declined = |status| finished("declined", Some(status), RetryDecision::RetryAt(harness.clock.now()));
    for status in [200, 404, 200, 200, 202, 200] {
        let claimed = harness.claim_deliveries(1, 100).await.remove(0);
        assert_eq!(finish(&harness, &claimed, declined(status)).await, None);
        let health = found(&harness, webhook.id).await.health;
        assert_eq!((health.failures, health.failing_since, health.paused_until), (0, None, None));
        assert_eq!(health.last_failure.unwrap().status, Some(status));
        harness.advance(24 * 3600);
    }
    let claimed = harness.claim_deliveries(1, 100).await.remove(0);
    finish(&harness, &claimed, delivered()).await;
    assert_eq!(counted(&harness).await, (1, 0, 0));
    for status in [401, 403, 429, 500, 503] {
        let claimed = harness.claim_deliveries(1, 100).await.remove(0);
        finish(&harness, &claimed, declined(status)).await;
    }
    assert_eq!(counted(&harness).await, (0, 1, 0));
}

pub(crate) async fn consecutive_failures_pause_a_webhook_until_a_probe_succeeds(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 20).await;
    for _ in 0..Health::PAUSES_AFTER {
        let claimed = harness.claim_deliveries(1, 100).await.remove(0);
        finish(&harness, &claimed, refused(&harness)).await;
    }
    assert_eq!(counted(&harness).await, (0, 1, 0));
    let until = found(&harness, webhook.id).await.health.paused_until.unwrap();
    let claims = harness.store.claim_deliveries_across_tenants(slots(100, 100, 100), LEASE).await.unwrap();
    assert_eq!((claims.claimed.len(), claims.next_due), (0, Some(until)));
    harness.advance(until.since(harness.clock.now()).as_secs());
    let trying = harness.claim_delivery().await;
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0, "a second probe was claimed");
    finish(&harness, &trying, refused(&harness)).await;
    let longer = found(&harness, webhook.id).await.health.paused_until.unwrap();
    assert_eq!(longer.since(harness.clock.now()), Health::FIRST_PAUSE * 2);
    harness.advance(longer.since(harness.clock.now()).as_secs());
    let trying = harness.claim_delivery().await;
    finish(&harness, &trying, delivered()).await;
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 19, "not all deliveries continue");
    let health = found(&harness, webhook.id).await.health;
    assert_eq!((health.failures, health.paused_until), (0, None));
    assert_eq!(health.last_success_at, Some(harness.clock.now()));
}

pub(crate) async fn a_flood_to_a_dead_webhook_does_not_delay_others(harness: Harness) {
    let dead = registered(&harness, A).await;
    events(&harness, "flood", 300).await;
    disable(&harness, dead.id).await;
    harness.advance(5);
    let alive = registered(&harness, A).await;
    events(&harness, "event", 10).await;
    harness.announce("own", &[A]).await;
    for _ in 0..4 {
        for delivery in harness.claim_deliveries(100, 8).await {
            assert_ne!(delivery.delivery.webhook, Some(dead.id));
            finish(&harness, &delivery, delivered()).await;
        }
    }
    let open = deliveries_to(&harness, alive.id).await;
    assert!(open.len() == 11 && open.iter().all(|delivery| delivery.status == "delivered"), "{open:?}");
}

/// The outcome if the key that decrypts the webhook's secret is missing.
fn unsigned(harness: &Harness) -> FinishedAttempt {
    let until = harness.clock.now() + Health::UNSIGNED_PAUSE;
    FinishedAttempt {
        detail: Some("no key".to_owned()),
        ..finished("unsigned", None, RetryDecision::WaitUntil(until))
    }
}

pub(crate) async fn unsigned_deliveries_wait_without_using_attempts(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 3).await;
    let began = harness.clock.now();
    let mut tried = harness.claim_deliveries(1, 1).await.remove(0);
    for _ in 0..20 {
        finish(&harness, &tried, unsigned(&harness)).await;
        assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0, "an unsigned delivery was claimed");
        harness.advance(Health::UNSIGNED_PAUSE.as_secs());
        tried = harness.claim_delivery().await;
        assert_eq!(tried.delivery.attempts_of_round(), 1);
    }
    let health = found(&harness, webhook.id).await.health;
    assert_eq!((health.failures, health.failing_since, health.unsigned_since), (0, None, Some(began)));
    assert_eq!(health.last_failure.unwrap().error, "no key");
    let activity = harness.store.webhook_activity(&acme(), webhook.id).await.unwrap();
    assert_eq!((activity.attempts, activity.pending), (0, 3));

    finish(&harness, &tried, delivered()).await;
    assert_eq!(found(&harness, webhook.id).await.health.unsigned_since, None);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 2);
}

pub(crate) async fn unsigned_deliveries_expire(harness: Harness) {
    let webhook = registered(&harness, A).await;
    harness.announce("1", &[]).await;
    let claimed = harness.claim_delivery().await;
    finish(&harness, &claimed, unsigned(&harness)).await;
    let since = harness.clock.now();
    harness.advance(3600);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, Step::Polled(PollOutcome::Unchanged).into()).await.unwrap();
    assert_eq!(harness.store.delete_expired_across_tenants(since, 100).await.unwrap(), 0);
    let before = harness.clock.now();
    assert_eq!(harness.store.delete_expired_across_tenants(before, 100).await.unwrap(), 2);
    assert_eq!(deliveries_to(&harness, webhook.id).await, []);
}

pub(crate) async fn an_outcome_of_an_old_version_does_not_count(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 3).await;
    let under_way = harness.claim_deliveries(100, 100).await;
    let moved =
        Webhook { url: CallbackUrl::parse("https://moved.example/").unwrap().into(), ..webhook.clone() };
    assert!(harness.store.change_webhook(&acme(), moved, true).await.unwrap());
    let gone = finished("gone", Some(410), RetryDecision::Hold);
    for (claimed, attempt) in under_way.iter().zip([gone, refused(&harness), delivered()]) {
        finish(&harness, claimed, attempt).await;
    }
    let now = found(&harness, webhook.id).await;
    assert_eq!((now.disabled, now.health), (None, Health::default()));
    let waiting = harness.claim_deliveries(100, 100).await;
    assert_eq!(waiting.len(), 2, "the deliveries do not go to the new URL");
    finish(&harness, &waiting[0], finished("gone", Some(410), RetryDecision::Hold)).await;
    assert_eq!(found(&harness, webhook.id).await.disabled.unwrap().reason, DisabledReason::Gone);
}

pub(crate) async fn failures_are_reset_only_on_request(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 20).await;
    let before = found(&harness, webhook.id).await;
    for _ in 0..Health::PAUSES_AFTER {
        let claimed = harness.claim_deliveries(1, 100).await.remove(0);
        finish(&harness, &claimed, refused(&harness)).await;
    }
    let paused = found(&harness, webhook.id).await;
    assert_eq!((paused.version, paused.health.failures), (before.version, Health::PAUSES_AFTER));
    // This version was read before the failures.
    assert!(harness.store.change_webhook(&acme(), before, false).await.unwrap());
    let after = found(&harness, webhook.id).await;
    assert_eq!(after.health, paused.health);
    assert!(harness.store.change_webhook(&acme(), after, true).await.unwrap());
    let forgiven = found(&harness, webhook.id).await.health;
    assert_eq!(forgiven, Health { last_failure: paused.health.last_failure, ..Health::default() });
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 20);
}

pub(crate) async fn a_deleted_webhook_leaves_no_rows(harness: Harness) {
    let webhook = registered(&harness, A).await;
    let other = registered(&harness, A).await;
    // More deliveries than one batch deletes.
    events(&harness, "event", 1100).await;
    let under_way = harness.claim_deliveries(5, 5).await;
    assert!(harness.store.delete_webhook(&acme(), webhook.id).await.unwrap());
    assert!(!harness.store.delete_webhook(&acme(), webhook.id).await.unwrap());
    assert_eq!(harness.store.find_webhook(&acme(), webhook.id).await.unwrap(), None);
    assert_eq!(harness.store.list_webhooks(&acme()).await.unwrap().len(), 1);
    harness.advance(100);
    // The remaining deliveries are not sent.
    for claimed in harness.claim_deliveries(100, 100).await {
        assert_eq!(claimed.delivery.webhook, Some(other.id));
    }
    let never = Timestamp::from_millis(0);
    while harness.store.delete_expired_across_tenants(never, 100).await.unwrap() > 0 {}
    assert_eq!(deliveries_to(&harness, webhook.id).await, []);
    assert_eq!(deliveries_to(&harness, other.id).await.len(), 1100);
    for claimed in under_way.iter().filter(|claimed| claimed.delivery.webhook == Some(webhook.id)) {
        harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap_err();
    }
    let again = harness.store.redeliver(&acme(), under_way[0].delivery.id).await.unwrap();
    let expected = if under_way[0].delivery.webhook == Some(other.id) {
        Sending::Due(under_way[0].delivery.id)
    } else {
        Sending::NotFound
    };
    assert_eq!(again, expected);
}

pub(crate) async fn deliveries_to_a_disabled_webhook_expire(harness: Harness) {
    let webhook = registered(&harness, A).await;
    harness.announce("1", &[]).await;
    harness.advance(3600);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, Step::Polled(PollOutcome::Unchanged).into()).await.unwrap();
    let before = harness.clock.now();
    assert_eq!(harness.store.delete_expired_across_tenants(before, 100).await.unwrap(), 0);
    disable(&harness, webhook.id).await;
    assert_eq!(harness.store.delete_expired_across_tenants(before, 100).await.unwrap(), 2);
    assert_eq!(deliveries_to(&harness, webhook.id).await, []);
}

pub(crate) async fn a_redelivery_keeps_attempts_and_restarts_the_schedule(harness: Harness) {
    harness.announce("1", &[A]).await;
    let first = harness.claim_delivery().await;
    finish(&harness, &first, delivered()).await;
    let id = first.delivery.id;
    assert_eq!(harness.store.redeliver(&acme(), id).await.unwrap(), Sending::Due(id));
    let second = harness.claim_delivery().await;
    assert_eq!((second.delivery.attempts, second.delivery.attempts_of_round()), (2, 1));
    assert_eq!((second.delivery.event_id, &second.body), (first.delivery.event_id, &first.body));
    // During an attempt, a redelivery changes nothing.
    assert_eq!(harness.store.redeliver(&acme(), id).await.unwrap(), Sending::Due(id));
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
    finish(&harness, &second, delivered()).await;
    assert_eq!(attempts_of(&*harness.store, &acme(), id).await.len(), 2);

    assert_eq!(harness.store.redeliver(&globex(), id).await.unwrap(), Sending::NotFound);
    assert_eq!(harness.store.find_delivery(&globex(), id).await.unwrap(), None);
    let unknown = DeliveryId::generate(harness.clock.now(), &crate::harness::CountingEntropy::starting_at(7));
    assert_eq!(harness.store.redeliver(&acme(), unknown).await.unwrap(), Sending::NotFound);
}

/// The `data` of a claimed delivery.
fn data_of(claimed: &ClaimedDelivery) -> serde_json::Value {
    event_of(claimed).1
}

pub(crate) async fn a_thin_webhook_gets_no_result(harness: Harness) {
    let thin = Webhook { payload: EventPayload::Thin, ..new_webhook(&harness, A) };
    assert!(harness.store.add_webhook(&acme(), thin.clone()).await.unwrap());
    let event = |revision: u32| {
        serde_json::json!({
            "call_id": "1", "ai_call_id": "664b400ccccc3235a7cd17f", "status": "completed", "revision": revision,
            "url": "/v1/analyses/1",
        })
    };
    harness.complete(submission("1"), "salom").await;
    let first = harness.claim_delivery().await;
    assert_eq!((event_of(&first).0.as_str(), data_of(&first)), ("analysis.completed", event(1)));
    finish(&harness, &first, delivered()).await;
    // A redelivery and a replay send the same bytes.
    harness.store.redeliver(&acme(), first.delivery.id).await.unwrap();
    let again = harness.claim_delivery().await;
    assert_eq!(again.body, first.body);
    finish(&harness, &again, delivered()).await;
    let replay = replay_to(&harness, thin.id, 1);
    begin(&harness, &replay).await;
    harness.store.advance_replays_across_tenants().await.unwrap();
    let replayed = harness.claim_delivery().await;
    assert_eq!(replayed.body, first.body);
    // Pending deliveries follow a change of the payload.
    finish(&harness, &replayed, refused(&harness)).await;
    let full = Webhook { payload: EventPayload::Full, ..found(&harness, thin.id).await };
    assert!(harness.store.change_webhook(&acme(), full, true).await.unwrap());
    let whole = harness.claim_delivery().await;
    assert_eq!(data_of(&whole)["transcript"][0]["text"], "salom");
    assert_eq!(deliveries_to(&harness, thin.id).await[0].payload, EventPayload::Full);
}

pub(crate) async fn a_thin_callback_gets_no_result(harness: Harness) {
    harness.submit(with_payload("1", A, EventPayload::Thin)).await;
    harness.complete(with_callback("1", "https://b.example/"), "salom").await;
    let mut claimed = harness.claim_deliveries(100, 100).await;
    claimed.sort_by_key(|claimed| claimed.delivery.url.to_text().into_owned());
    assert_eq!(claimed[0].delivery.event_id, claimed[1].delivery.event_id, "one event");
    let shown: Vec<_> = claimed.iter().map(|claimed| data_of(claimed)["transcript"].is_array()).collect();
    assert_eq!(shown, [false, true]);
    for claimed in &claimed {
        finish(&harness, claimed, delivered()).await;
    }
    // A new callback of a finished call, and a known one whose payload changes for later events.
    harness.submit(with_payload("1", "https://c.example/", EventPayload::Thin)).await;
    assert_eq!(data_of(&harness.claim_delivery().await)["url"], "/v1/analyses/1");
    harness.submit(with_payload("1", A, EventPayload::Full)).await;
    let batch = vec![with_payload("2", A, EventPayload::Thin)];
    harness.store.submit_all(&acme(), batch).await.unwrap();
    harness.submit_queued().await;
    harness.advance(120);
    for claimed in harness.claim(Queue::Polls).await {
        harness.store.apply(claimed.lease, ready("salom yana").into()).await.unwrap();
    }
    let claimed = harness.claim_deliveries(100, 100).await;
    let to_a = claimed.iter().filter(|claimed| claimed.delivery.url.to_text() == A);
    let mut shown: Vec<_> = to_a
        .map(|claimed| (data_of(claimed)["call_id"].to_string(), data_of(claimed)["transcript"].is_array()))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [("\"1\"".to_owned(), true), ("\"2\"".to_owned(), false)]);
}

/// Redelivers a delivery until it has this number of attempts.
pub(crate) async fn attempt_repeatedly(harness: &Harness, attempts: u32) -> DeliveryId {
    loop {
        let claimed = harness.claim_delivery().await;
        finish(harness, &claimed, delivered()).await;
        let id = claimed.delivery.id;
        if claimed.delivery.attempts == attempts {
            return id;
        }
        assert_eq!(harness.store.redeliver(&acme(), id).await.unwrap(), Sending::Due(id));
    }
}

pub(crate) async fn repeated_redeliveries_do_not_dominate_the_activity(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "often", 1).await;
    let id = attempt_repeatedly(&harness, 130).await;
    let numbers: Vec<u32> =
        attempts_of(&*harness.store, &acme(), id).await.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (31..=130).collect::<Vec<_>>());
    events(&harness, "once", 1).await;
    let claimed = harness.claim_delivery().await;
    finish(&harness, &claimed, refused(&harness)).await;
    let activity = harness.store.webhook_activity(&acme(), webhook.id).await.unwrap();
    assert_eq!((activity.attempts, activity.delivered), (11, 10));
    let other = registered(&harness, A).await;
    let both = harness.store.webhook_activities(&acme(), vec![other.id, webhook.id]).await.unwrap();
    assert_eq!(both, [WebhookActivity::default(), activity]);
}

pub(crate) async fn a_test_event_goes_to_one_webhook_and_not_to_the_feed(harness: Harness) {
    let webhook = registered(&harness, A).await;
    registered(&harness, A).await;
    assert!(matches!(
        harness.store.test_webhook(&acme(), webhook.id, trace()).await.unwrap(),
        Sending::Due(_)
    ));
    assert_eq!(harness.store.test_webhook(&globex(), webhook.id, trace()).await.unwrap(), Sending::NotFound);
    let claimed = harness.claim_delivery().await;
    assert_eq!((claimed.delivery.webhook, claimed.delivery.call_id), (Some(webhook.id), None));
    let body: serde_json::Value = serde_json::from_slice(&claimed.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["is_test"]), (&"webhook.test".into(), &true.into()));
    events(&harness, "event", 1).await;
    let limits = alovoice_gateway::domain::feed::PageLimits { events: 100, bytes: usize::MAX };
    let beginning = alovoice_gateway::domain::feed::FeedPosition::BEGINNING;
    let feed = harness.store.events_after(&acme(), beginning, limits).await.unwrap().events;
    assert_eq!(feed.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["analysis.completed"]);
    let place = harness.store.feed_position(&acme(), claimed.delivery.event_id).await.unwrap();
    assert!(place >= beginning);
    disable(&harness, webhook.id).await;
    assert_eq!(harness.store.test_webhook(&acme(), webhook.id, trace()).await.unwrap(), Sending::Disabled);
}

pub(crate) async fn deliveries_are_listed_by_filter(harness: Harness) {
    let webhook = registered(&harness, A).await;
    harness.announce("1", &[A]).await;
    harness.announce("2", &[A]).await;
    for claimed in harness.claim_deliveries(100, 100).await {
        if claimed.delivery.call_id == Some(call_id("1")) {
            finish(&harness, &claimed, delivered()).await;
        }
    }
    let list = async |filter: DeliveryFilter, after| {
        let page = DeliveryQuery { filter, after, limit: 10 };
        readable(harness.store.list_deliveries(&acme(), page).await.unwrap())
    };
    let all = list(DeliveryFilter::default(), None).await;
    assert_eq!(calls(&all), ["2", "2", "1", "1"]);
    assert!(all.windows(2).all(|pair| pair[0].place > pair[1].place));
    assert_eq!(list(DeliveryFilter::default(), Some(all[1].place)).await, all[2..]);
    let by =
        |webhook, status, call: Option<&str>| DeliveryFilter { webhook, status, call_id: call.map(call_id) };
    let (pending, arrived) = (Some(DeliveryStatus::Pending), Some(DeliveryStatus::Delivered));
    for (filter, expected) in [
        (by(Some(webhook.id), None, None), &["2", "1"][..]),
        (by(None, pending, None), &["2", "2"]),
        (by(None, arrived, None), &["1", "1"]),
        (by(Some(webhook.id), pending, None), &["2"]),
        (by(Some(webhook.id), arrived, Some("1")), &["1"]),
        (by(None, None, Some("1")), &["1", "1"]),
        (by(None, Some(DeliveryStatus::Failed), None), &[]),
    ] {
        assert_eq!(calls(&list(filter.clone(), None).await), expected, "{filter:?}");
    }
}
