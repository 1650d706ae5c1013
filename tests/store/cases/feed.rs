//! The feed of a tenant: each event once, in one order, in pages.

use std::collections::HashSet;
use std::sync::Arc;

use alovoice_gateway::domain::clock::Clock;
use alovoice_gateway::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use alovoice_gateway::domain::ids::{EventId, TenantId};
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::store::{Change, Queue};
use futures_util::future::join_all;

use crate::harness::{
    CountingEntropy, Harness, acme, call_id, globex, obtained, ready, submission, trace, with_callback,
};

const ALL: PageLimits = PageLimits { events: 1000, bytes: usize::MAX };

impl Harness {
    /// Adopts a finished call, which writes an event.
    pub(crate) async fn adopt(&self, tenant: &TenantId, call: &str) {
        let adopted = self.store.adopt(tenant, &call_id(call), trace(), obtained("salom")).await;
        assert!(adopted.unwrap());
    }

    pub(crate) async fn feed(&self, tenant: &TenantId, after: FeedPosition) -> Vec<FeedEvent> {
        self.store.events_after(tenant, after, ALL).await.unwrap().events
    }
}

/// The calls of events.
pub(crate) fn calls(events: &[FeedEvent]) -> Vec<String> {
    let call = |event: &FeedEvent| {
        let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(body["type"], event.kind);
        body["data"]["call_id"].as_str().unwrap().to_owned()
    };
    events.iter().map(call).collect()
}

pub(crate) async fn an_empty_feed_ends_at_its_beginning(harness: Harness) {
    assert_eq!(harness.feed(&acme(), FeedPosition::BEGINNING).await, []);
    assert_eq!(harness.store.feed_end(&acme()).await.unwrap(), FeedPosition::BEGINNING);
}

pub(crate) async fn the_feed_has_the_bodies_that_receivers_got(harness: Harness) {
    harness.submit(with_callback("1", "https://a.example/")).await;
    harness.complete(submission("1"), "salom").await;
    let delivery = harness.claim_delivery().await;
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, ready("salom yana").into()).await.unwrap();

    let events = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["analysis.completed", "analysis.updated"]);
    assert_eq!((events[0].id, &events[0].body), (delivery.delivery.event_id, &delivery.body));
}

pub(crate) async fn a_reader_continues_after_its_last_event(harness: Harness) {
    for call in ["1", "2", "3"] {
        harness.adopt(&acme(), call).await;
    }
    let two = PageLimits { events: 2, ..ALL };
    let first = harness.store.events_after(&acme(), FeedPosition::BEGINNING, two).await.unwrap().events;
    assert_eq!(calls(&first), ["1", "2"]);
    let rest = harness.feed(&acme(), first[1].position).await;
    assert_eq!(calls(&rest), ["3"]);
    assert_eq!(harness.feed(&acme(), rest[0].position).await, []);
    assert_eq!(harness.store.feed_end(&acme()).await.unwrap(), rest[0].position);
    assert_eq!(harness.store.feed_position(&acme(), first[1].id).await.unwrap(), first[1].position);
    harness.adopt(&acme(), "4").await;
    assert_eq!(calls(&harness.feed(&acme(), rest[0].position).await), ["4"]);
}

pub(crate) async fn a_tenant_sees_only_its_own_events(harness: Harness) {
    harness.adopt(&acme(), "1").await;
    harness.adopt(&globex(), "2").await;
    harness.adopt(&acme(), "3").await;
    let of_acme = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    assert_eq!(calls(&of_acme), ["1", "3"]);
    let of_globex = harness.feed(&globex(), FeedPosition::BEGINNING).await;
    assert_eq!(calls(&of_globex), ["2"]);
    let places =
        |events: &[FeedEvent]| events.iter().map(|event| event.position.number()).collect::<Vec<_>>();
    assert_eq!(
        (places(&of_acme), places(&of_globex)),
        (vec![1, 2], vec![1]),
        "positions reveal events of other tenants"
    );
}

pub(crate) async fn a_page_ends_before_the_event_that_exceeds_its_byte_limit(harness: Harness) {
    for call in ["1", "2", "3"] {
        harness.adopt(&acme(), call).await;
    }
    let size = harness.feed(&acme(), FeedPosition::BEGINNING).await[0].body.len();
    for (bytes, count, too_large) in [
        (1, 0, Some(size)),
        (size - 1, 0, Some(size)),
        (size, 1, None),
        (2 * size - 1, 1, None),
        (2 * size, 2, None),
        (3 * size, 3, None),
        (usize::MAX, 3, None),
    ] {
        let limits = PageLimits { events: 10, bytes };
        let page = harness.store.events_after(&acme(), FeedPosition::BEGINNING, limits).await.unwrap();
        let end = page.events.last().map_or(FeedPosition::BEGINNING, |event| event.position);
        assert_eq!(
            (page.events.len(), page.too_large, page.end),
            (count, too_large, end),
            "{bytes} of {size} each"
        );
    }
}

pub(crate) async fn deletions_do_not_change_positions(harness: Harness) {
    harness.adopt(&acme(), "old").await;
    let [old] = <[FeedEvent; 1]>::try_from(harness.feed(&acme(), FeedPosition::BEGINNING).await).unwrap();
    harness.advance(3600);
    for claimed in harness.claim(Queue::Polls).await {
        harness.store.apply(claimed.lease, Step::Polled(PollOutcome::Unchanged).into()).await.unwrap();
    }
    let now = harness.clock.now();
    assert_eq!(harness.store.delete_expired_across_tenants(now, 10).await.unwrap(), 2);
    assert_eq!(harness.feed(&acme(), FeedPosition::BEGINNING).await, []);
    assert_eq!(harness.store.feed_end(&acme()).await.unwrap(), old.position);
    assert_eq!(harness.store.feed_position(&acme(), old.id).await.unwrap(), old.position);

    harness.adopt(&acme(), "new").await;
    for after in [FeedPosition::BEGINNING, old.position] {
        assert_eq!(calls(&harness.feed(&acme(), after).await), ["new"]);
    }
    let after = harness.store.feed_position(&acme(), old.id).await.unwrap();
    assert_eq!(calls(&harness.feed(&acme(), after).await), ["new"]);
}

pub(crate) async fn a_deleted_event_maps_to_its_time(harness: Harness) {
    let entropy = CountingEntropy::starting_at(1 << 60);
    let before = EventId::generate(harness.clock.now(), &entropy);
    harness.advance(3600);
    harness.adopt(&acme(), "1").await;
    harness.advance(3600);
    let between = EventId::generate(harness.clock.now(), &entropy);
    harness.advance(3600);
    harness.adopt(&acme(), "2").await;
    harness.advance(3600);
    let after = EventId::generate(harness.clock.now(), &entropy);
    for (event, seen) in [(before, &["1", "2"][..]), (between, &["2"]), (after, &[])] {
        let place = harness.store.feed_position(&acme(), event).await.unwrap();
        assert_eq!(calls(&harness.feed(&acme(), place).await), seen);
    }
    // An event of another tenant counts as deleted.
    let of_acme = harness.feed(&acme(), FeedPosition::BEGINNING).await[1].id;
    let place = harness.store.feed_position(&globex(), of_acme).await.unwrap();
    assert_eq!(place, FeedPosition::BEGINNING);
}

pub(crate) async fn an_event_is_announced(harness: Harness) {
    harness.changes();
    harness.adopt(&acme(), "1").await;
    assert!(harness.changes().contains(&Change::Event(acme())));
}

/// Several readers read while others write. Each reader sees each event once.
pub(crate) async fn concurrent_readers_see_each_event_once(harness: Harness) {
    const WRITERS: usize = 8;
    const EACH: usize = 12;
    let harness = Arc::new(harness);
    let writers = (0..WRITERS).map(|writer| {
        let harness = Arc::clone(&harness);
        tokio::spawn(async move {
            for number in 0..EACH {
                harness.adopt(&acme(), &format!("{writer}-{number}")).await;
            }
            Vec::new()
        })
    });
    let readers = (0..4).map(|_| {
        let harness = Arc::clone(&harness);
        tokio::spawn(async move {
            let (mut place, mut seen) = (FeedPosition::BEGINNING, Vec::new());
            let few = PageLimits { events: 7, ..ALL };
            while seen.len() < WRITERS * EACH {
                let page = harness.store.events_after(&acme(), place, few).await.unwrap().events;
                place = page.last().map_or(place, |event| event.position);
                seen.extend(page.into_iter().map(|event| event.id));
            }
            assert_eq!(harness.store.events_after(&acme(), place, few).await.unwrap().events, []);
            seen
        })
    });
    let seen: Vec<Vec<EventId>> =
        join_all(writers.chain(readers).collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    let (first, others) = seen[WRITERS..].split_first().unwrap();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), WRITERS * EACH);
    assert!(others.iter().all(|other| other == first), "readers saw different orders");
}
