//! Replays: each event is sent exactly once, wherever a step ends.

use std::collections::HashSet;

use alovoice_gateway::domain::audit::Actor;
use alovoice_gateway::domain::clock::{Clock, Timestamp};
use alovoice_gateway::domain::events::EventKind;
use alovoice_gateway::domain::filters::ContentFilter;
use alovoice_gateway::domain::ids::{ReplayId, WebhookId};
use alovoice_gateway::domain::replays::{Replay, ReplayCount, ReplaySpan};
use alovoice_gateway::domain::retries::{GiveUpReason, RetryDecision};
use alovoice_gateway::domain::webhooks::{EventFilter, Webhook};
use alovoice_gateway::store::{ReplayBegin, StoreError};
use futures_util::future::join_all;

use super::deliveries::A;
use super::webhooks::{deliveries_to, disable, events, new_webhook, registered};
use crate::harness::{
    CountingEntropy, Harness, LEASE, START, acme, call_id, delivered, finished, globex, trace, with_metadata,
};

/// A replay of all events so far.
pub(crate) fn replay_to(harness: &Harness, webhook: WebhookId, number: u64) -> Replay {
    let now = harness.clock.now();
    Replay {
        id: ReplayId::generate(now, &CountingEntropy::starting_at(number)),
        webhook,
        span: ReplaySpan { since: START, until: now, events: EventFilter::all() },
        created_at: now,
        finished_at: None,
        sent: 0,
        delivered: 0,
        failed: 0,
        trace: trace(),
    }
}

pub(crate) async fn begin(harness: &Harness, replay: &Replay) -> ReplayBegin {
    harness.store.begin_replay(&acme(), replay.clone()).await.unwrap()
}

async fn found(harness: &Harness, replay: &Replay) -> Replay {
    harness.store.find_replay(&acme(), replay.webhook, replay.id).await.unwrap().unwrap()
}

/// Delivers all due deliveries. Returns the ids of their events.
async fn deliver(harness: &Harness) -> Vec<String> {
    let mut delivered_events = Vec::new();
    loop {
        let claimed = harness.claim_deliveries(1000, 1000).await;
        if claimed.is_empty() {
            return delivered_events;
        }
        for claimed in claimed {
            delivered_events.push(claimed.delivery.event_id.to_string());
            harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
        }
    }
}

/// Advances a replay and delivers until the replay is finished. Returns the ids of the delivered events.
async fn finish_replay(harness: &Harness, replay: &Replay) -> Vec<String> {
    let mut delivered_events = Vec::new();
    while found(harness, replay).await.finished_at.is_none() {
        harness.store.advance_replays_across_tenants().await.unwrap();
        delivered_events.extend(deliver(harness).await);
        harness.advance(1);
    }
    delivered_events
}

pub(crate) async fn a_replay_sends_each_event_since_a_time_once(harness: Harness) {
    events(&harness, "before", 3).await;
    harness.advance(10);
    let since = harness.clock.now();
    events(&harness, "within", 1050).await;
    harness.advance(10);
    let until = harness.clock.now();
    harness.advance(10);
    let webhook = registered(&harness, A).await;
    events(&harness, "after", 3).await;
    assert_eq!(deliver(&harness).await.len(), 3);
    let span = ReplaySpan { since, until, events: EventFilter::all() };
    assert_eq!(
        harness.store.count_events(&acme(), span.clone()).await.unwrap(),
        ReplayCount { events: 1050, more: false }
    );
    assert_eq!(harness.store.count_events(&globex(), span.clone()).await.unwrap().events, 0);
    let failures =
        ReplaySpan { events: EventFilter::new(&[EventKind::AnalysisFailed]).unwrap(), ..span.clone() };
    assert_eq!(harness.store.count_events(&acme(), failures).await.unwrap().events, 0);
    let replay = Replay { span, ..replay_to(&harness, webhook.id, 1) };
    assert_eq!(begin(&harness, &replay).await, ReplayBegin::Begun);
    assert_eq!(found(&harness, &replay).await, replay);
    let sent = finish_replay(&harness, &replay).await;
    assert_eq!((sent.len(), sent.iter().collect::<HashSet<_>>().len()), (1050, 1050));
    assert_eq!(found(&harness, &replay).await.sent, 1050);
    assert_eq!(deliveries_to(&harness, webhook.id).await.len(), 1053);
    assert_eq!(harness.store.advance_replays_across_tenants().await.unwrap().replays, 0);
}

pub(crate) async fn a_replay_sends_the_events_that_pass_the_filter(harness: Harness) {
    for (call, ticket) in [("1", "T-1"), ("2", "T-2"), ("3", "T-1")] {
        harness.complete(with_metadata(call, ticket), "salom").await;
    }
    let filter = serde_json::json!({"metadata.ticket": "T-1"}).as_object().unwrap().clone();
    let filter = Some(ContentFilter::parse(filter).unwrap());
    let webhook = Webhook { filter, ..new_webhook(&harness, A) };
    assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
    let replay = replay_to(&harness, webhook.id, 1);
    assert_eq!(begin(&harness, &replay).await, ReplayBegin::Begun);
    finish_replay(&harness, &replay).await;
    let sent = deliveries_to(&harness, webhook.id).await;
    let calls: Vec<_> = sent.iter().map(|delivery| delivery.call_id.as_ref().unwrap().as_str()).collect();
    assert_eq!((calls, found(&harness, &replay).await.sent), (vec!["3", "1"], 2));
}

pub(crate) async fn a_replay_restarts_finished_deliveries_only(harness: Harness) {
    let webhook = registered(&harness, A).await;
    events(&harness, "arrived", 2).await;
    let first: HashSet<_> = deliver(&harness).await.into_iter().collect();
    events(&harness, "waiting", 2).await;
    let replay = replay_to(&harness, webhook.id, 1);
    begin(&harness, &replay).await;
    let sent = finish_replay(&harness, &replay).await;
    assert_eq!(sent.len(), 4, "each once");
    assert!(first.is_subset(&sent.into_iter().collect()));
    let mut attempts: Vec<_> =
        deliveries_to(&harness, webhook.id).await.iter().map(|delivery| delivery.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 1, 2, 2], "the attempts were not kept");
}

pub(crate) async fn a_replay_waits_for_a_slow_webhook(harness: Harness) {
    events(&harness, "event", 1000).await;
    let webhook = registered(&harness, A).await;
    let replay = replay_to(&harness, webhook.id, 1);
    begin(&harness, &replay).await;
    for _ in 0..20 {
        harness.store.advance_replays_across_tenants().await.unwrap();
        harness.advance(1);
    }
    let waiting = harness.store.webhook_activity(&acme(), webhook.id).await.unwrap().pending;
    assert!((1..=400).contains(&waiting), "{waiting}");
    assert_eq!(found(&harness, &replay).await.sent, waiting);
    assert!(found(&harness, &replay).await.finished_at.is_none());
    assert_eq!(finish_replay(&harness, &replay).await.len(), 1000);
}

pub(crate) async fn a_replay_waits_longer_for_a_slow_webhook_than_for_a_fast_one(harness: Harness) {
    events(&harness, "event", 1000).await;
    let webhook = registered(&harness, A).await;
    begin(&harness, &replay_to(&harness, webhook.id, 1)).await;
    let advance = async || {
        let advanced = harness.store.advance_replays_across_tenants().await.unwrap();
        (advanced.sent, advanced.next_due.unwrap().since(harness.clock.now()).as_millis())
    };
    assert_eq!([advance().await, advance().await], [(200, 0), (200, 25)]);
    harness.advance(1);
    assert_eq!(advance().await, (0, 500), "the webhook took nothing");
    harness.advance(1);
    assert_eq!(deliver(&harness).await.len(), 400);
    assert_eq!([advance().await, advance().await], [(200, 0), (200, 25)]);
    harness.advance(1);
    for claimed in harness.claim_deliveries(24, 24).await {
        harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    }
    assert_eq!(advance().await, (24, 500), "the webhook is slow");
}

pub(crate) async fn a_replay_waits_while_its_webhook_is_disabled(harness: Harness) {
    events(&harness, "event", 3).await;
    let webhook = registered(&harness, A).await;
    let replay = replay_to(&harness, webhook.id, 1);
    begin(&harness, &replay).await;
    disable(&harness, webhook.id).await;
    let advanced = harness.store.advance_replays_across_tenants().await.unwrap();
    assert_eq!((advanced.replays, advanced.sent), (1, 0));
    assert!(advanced.next_due.unwrap() > harness.clock.now());
    assert_eq!(begin(&harness, &replay_to(&harness, webhook.id, 2)).await, ReplayBegin::Disabled);
    let mut enabled = harness.store.find_webhook(&acme(), webhook.id).await.unwrap().unwrap();
    enabled.enable();
    assert!(harness.store.change_webhook(&acme(), enabled, true).await.unwrap());
    assert_eq!(finish_replay(&harness, &replay).await.len(), 3);
}

pub(crate) async fn a_webhook_has_one_replay_at_a_time(harness: Harness) {
    events(&harness, "event", 1).await;
    let webhook = registered(&harness, A).await;
    let replay = replay_to(&harness, webhook.id, 1);
    assert_eq!(begin(&harness, &replay).await, ReplayBegin::Begun);
    assert_eq!(begin(&harness, &replay_to(&harness, webhook.id, 2)).await, ReplayBegin::UnderWay);
    let of_another = harness.store.begin_replay(&globex(), replay_to(&harness, webhook.id, 3)).await.unwrap();
    assert_eq!(of_another, ReplayBegin::NotFound);
    assert_eq!(harness.store.find_replay(&globex(), webhook.id, replay.id).await.unwrap(), None);
    finish_replay(&harness, &replay).await;
    let next = replay_to(&harness, webhook.id, 4);
    assert_eq!(begin(&harness, &next).await, ReplayBegin::Begun);
    // A replay is deleted with its webhook; a finished one also by the retention.
    assert!(harness.store.delete_webhook(&acme(), webhook.id).await.unwrap());
    assert_eq!(harness.store.find_replay(&acme(), webhook.id, next.id).await.unwrap(), None);
    assert_eq!(harness.store.advance_replays_across_tenants().await.unwrap().replays, 0);
}

/// The numbers of events that a replay handed over, that arrived and that failed.
async fn outcomes(harness: &Harness, replay: &Replay) -> (u64, u64, u64) {
    let Replay { sent, delivered, failed, .. } = found(harness, replay).await;
    (sent, delivered, failed)
}

pub(crate) async fn a_replay_counts_each_outcome_once(harness: Harness) {
    let given_up = || finished("refused", Some(500), RetryDecision::GiveUp(GiveUpReason::Exhausted));
    let again = || finished("refused", Some(500), RetryDecision::RetryAt(START));
    events(&harness, "event", 4).await;
    let webhook = registered(&harness, A).await;
    let first = replay_to(&harness, webhook.id, 1);
    begin(&harness, &first).await;
    harness.store.advance_replays_across_tenants().await.unwrap();
    assert_eq!(outcomes(&harness, &first).await, (4, 0, 0));
    let mut claimed = harness.claim_deliveries(1000, 1000).await;
    let ids: Vec<_> = claimed.iter().map(|claimed| claimed.delivery.id).collect();
    harness.store.finish_attempt(claimed.remove(0).lease, delivered()).await.unwrap();
    harness.store.finish_attempt(claimed.remove(0).lease, given_up()).await.unwrap();
    let pending = claimed.remove(0).lease;
    harness.store.finish_attempt(pending, again()).await.unwrap();
    assert_eq!(outcomes(&harness, &first).await, (4, 1, 1));
    // A stale attempt and a second outcome of the same attempt do not count.
    for _ in 0..2 {
        let lost = harness.store.finish_attempt(pending, delivered()).await;
        assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    }
    // A redelivery is not part of the replay.
    harness.store.redeliver(&acme(), ids[1]).await.unwrap();
    let due = harness.claim_deliveries(1000, 1000).await;
    let redelivered = due.iter().find(|claimed| claimed.delivery.id == ids[1]).unwrap();
    harness.store.finish_attempt(redelivered.lease, delivered()).await.unwrap();
    assert_eq!(outcomes(&harness, &first).await, (4, 1, 1));

    // A second replay restarts the finished deliveries, and awaits the pending ones together with the first replay.
    harness.advance(1);
    let second = replay_to(&harness, webhook.id, 2);
    assert_eq!(begin(&harness, &second).await, ReplayBegin::Begun);
    harness.store.advance_replays_across_tenants().await.unwrap();
    harness.advance(LEASE.as_secs() + 1);
    assert_eq!(deliver(&harness).await.len(), 4);
    assert_eq!(outcomes(&harness, &first).await, (4, 3, 1));
    assert_eq!(outcomes(&harness, &second).await, (4, 4, 0));

    // The numbers outlive the deliveries.
    let call = call_id("event-0");
    let actor = Actor { subject: None, request_id: "req_1".to_owned() };
    assert!(harness.store.delete_analysis(&acme(), &call, actor).await.unwrap());
    assert_eq!(outcomes(&harness, &second).await, (4, 4, 0));
    harness.store.delete_webhook(&acme(), webhook.id).await.unwrap();
    for table in ["replay_deliveries", "replay_outcomes"] {
        assert_eq!(harness.rows.count(table).await, 0, "{table}");
    }
}

pub(crate) async fn a_finished_replay_expires(harness: Harness) {
    let webhook = registered(&harness, A).await;
    let replay = replay_to(&harness, webhook.id, 1);
    begin(&harness, &replay).await;
    finish_replay(&harness, &replay).await;
    let ended = found(&harness, &replay).await.finished_at.unwrap();
    assert_eq!(harness.store.delete_expired_across_tenants(ended, 10).await.unwrap(), 0);
    let later = Timestamp::from_millis(ended.as_millis() + 1);
    assert_eq!(harness.store.delete_expired_across_tenants(later, 10).await.unwrap(), 1);
    assert_eq!(harness.store.find_replay(&acme(), webhook.id, replay.id).await.unwrap(), None);
}

pub(crate) async fn concurrent_steps_of_a_replay_send_each_event_once(harness: Harness) {
    events(&harness, "event", 300).await;
    let webhook = registered(&harness, A).await;
    let replay = replay_to(&harness, webhook.id, 1);
    begin(&harness, &replay).await;
    join_all((0..8).map(async |_| harness.store.advance_replays_across_tenants().await.unwrap())).await;
    let sent = [deliver(&harness).await, finish_replay(&harness, &replay).await].concat();
    assert_eq!((sent.len(), sent.iter().collect::<HashSet<_>>().len()), (300, 300));
    assert_eq!(found(&harness, &replay).await.sent, 300);
}

/// A replay that begins after its webhook was enabled covers all events, also those that are written at the same time.
pub(crate) async fn a_replay_after_enabling_loses_no_event(harness: Harness) {
    const ROUNDS: usize = 10;
    const EVENTS: usize = 20;
    let webhook = registered(&harness, A).await;
    for round in 0..ROUNDS {
        disable(&harness, webhook.id).await;
        let name = format!("round-{round}");
        let replay = async {
            let mut enabled = harness.store.find_webhook(&acme(), webhook.id).await.unwrap().unwrap();
            enabled.enable();
            assert!(harness.store.change_webhook(&acme(), enabled, true).await.unwrap());
            let replay = replay_to(&harness, webhook.id, 1 + round as u64);
            assert_eq!(begin(&harness, &replay).await, ReplayBegin::Begun);
            while found(&harness, &replay).await.finished_at.is_none() {
                harness.store.advance_replays_across_tenants().await.unwrap();
            }
        };
        tokio::join!(events(&harness, &name, EVENTS), replay);
        let deliveries = deliveries_to(&harness, webhook.id).await;
        let of_round = deliveries.iter().filter(|delivery| {
            delivery.call_id.as_ref().is_some_and(|call| call.as_str().starts_with(&format!("{name}-")))
        });
        assert_eq!(of_round.count(), EVENTS, "{round}");
        deliver(&harness).await;
        harness.advance(1);
    }
}

/// Checks that a replay advances while another one is unreadable. `damage` makes the row of a replay unreadable.
pub(crate) async fn check_unreadable_replay(harness: &Harness, damage: impl AsyncFnOnce(String)) {
    events(harness, "event", 3).await;
    let (lost, other) = (registered(harness, A).await, registered(harness, A).await);
    let unreadable = replay_to(harness, lost.id, 1);
    begin(harness, &unreadable).await;
    harness.advance(1);
    let replay = replay_to(harness, other.id, 2);
    begin(harness, &replay).await;
    damage(unreadable.id.to_string()).await;
    assert_eq!(finish_replay(harness, &replay).await.len(), 3);
    let advanced = harness.store.advance_replays_across_tenants().await.unwrap();
    assert_eq!(advanced.replays, 0, "the unreadable replay is read again too soon");
    assert!(advanced.next_due.unwrap() > harness.clock.now());
}
