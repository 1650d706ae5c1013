//! Who may ask, and who waits.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::domain::clock::{Clock, Entropy};
use crate::telemetry::metrics::Metrics;

const START: i64 = 1_716_207_617_000; // 2024-05-20T12:20:17Z
const SLOTS: usize = 8;
const DOWN: Sign = Sign::Fault { refused: false, retry_after: None };

/// Stands still until it is set on.
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// No jitter to speak of: a pause is the shortest there is.
struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn globex() -> TenantId {
    TenantId::parse("globex").unwrap()
}

/// Two tenants, and pauses of five seconds.
fn slots() -> (VendorSlots, Arc<ManualClock>) {
    let seconds = Duration::from_secs;
    let policy = PollingPolicy {
        first_after: seconds(10),
        min_interval: seconds(5),
        max_interval: seconds(300),
        growth: 0.1,
        deadline: seconds(86_400),
        not_found_grace: seconds(600),
        empty_grace: seconds(600),
        settle_after: seconds(120),
    };
    let clock = Arc::new(ManualClock(AtomicI64::new(START)));
    let env = Env {
        clock: clock.clone(),
        wall_clock: clock.clone(),
        entropy: Arc::new(Zeros),
        metrics: Arc::new(Metrics::new().unwrap()),
    };
    (VendorSlots::new([(acme(), SLOTS), (globex(), SLOTS)], &policy, &env), clock)
}

async fn free(slots: &VendorSlots, tenant: &TenantId) -> usize {
    let offer = slots.offer().await;
    offer.free.iter().find(|(free, _)| free == tenant).map_or(0, |(_, free)| *free)
}

async fn take(slots: &VendorSlots) -> VendorSlot {
    slots.offer().await.take(&acme()).unwrap()
}

/// Lets the vendor fail acme until it is left alone.
async fn shut(slots: &VendorSlots) {
    for _ in 0..5 {
        take(slots).await.hear(DOWN);
    }
}

#[tokio::test]
async fn what_is_taken_is_not_offered_until_it_is_given_back() {
    let (slots, _) = slots();
    let taken = [take(&slots).await, take(&slots).await];
    assert_eq!((free(&slots, &acme()).await, free(&slots, &globex()).await), (SLOTS - 2, SLOTS));
    drop(taken);
    assert_eq!(free(&slots, &acme()).await, SLOTS);
    slots.freed().await;
}

#[tokio::test]
async fn lookups_have_a_share_of_the_whole() {
    let acme = acme();
    let (slots, _) = slots();
    let first = slots.lookup(&acme).await.unwrap();
    let _second = slots.lookup(&acme).await.unwrap();
    let mut third = Box::pin(slots.lookup(&acme));
    assert!((&mut third).now_or_never().is_none());
    assert_eq!(free(&slots, &acme).await, SLOTS - 2);
    drop(first);
    assert!(third.await.is_ok());
}

#[tokio::test]
async fn a_place_that_becomes_free_is_kept_for_the_lookup_that_waits() {
    let acme = acme();
    let (slots, _) = slots();
    let mut taken = Vec::new();
    for _ in 0..SLOTS {
        taken.push(take(&slots).await);
    }
    let mut waiting = Box::pin(slots.lookup(&acme));
    assert!((&mut waiting).now_or_never().is_none());
    taken.pop();
    assert_eq!(free(&slots, &acme).await, 0);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_lookup_that_gives_up_keeps_nothing() {
    let acme = acme();
    let (slots, _) = slots();
    let mut taken = Vec::new();
    for _ in 0..SLOTS {
        taken.push(take(&slots).await);
    }
    let mut waiting = Box::pin(slots.lookup(&acme));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    taken.pop();
    assert_eq!(free(&slots, &acme).await, 1);
}

#[tokio::test]
async fn a_vendor_that_is_left_alone_is_offered_to_nobody_of_that_tenant() {
    let (slots, _) = slots();
    shut(&slots).await;
    let opens_at = Some(Timestamp::from_millis(START + 5000));
    let offer = slots.offer().await;
    assert_eq!((&offer.free, &offer.shut), (&vec![(globex(), SLOTS)], &vec![acme()]));
    assert_eq!(offer.opens_at, opens_at);
    drop(offer);
    assert_eq!(slots.lookup(&acme()).await.err(), Some(Shut { until: opens_at }));
    assert!(slots.lookup(&globex()).await.is_ok());
}

#[tokio::test]
async fn then_one_probe_at_a_time_is_let_through_whoever_asks() {
    let acme = acme();
    let (slots, clock) = slots();
    shut(&slots).await;
    clock.0.fetch_add(5000, Ordering::Relaxed);
    assert_eq!(free(&slots, &acme).await, 1);
    let probe = take(&slots).await;
    assert_eq!(free(&slots, &acme).await, 0);
    let mut lookup = Box::pin(slots.lookup(&acme));
    assert!((&mut lookup).now_or_never().is_none());
    probe.hear(DOWN);
    drop(probe);
    assert!(lookup.await.is_err(), "it is left alone again");

    clock.0.fetch_add(5000, Ordering::Relaxed);
    let probe = slots.lookup(&acme).await.unwrap();
    assert_eq!(free(&slots, &acme).await, 0);
    probe.hear(Sign::Answer);
    drop(probe);
    assert_eq!(free(&slots, &acme).await, 2);
}

fn breakers_open(slots: &VendorSlots) -> i64 {
    slots.env.metrics.breakers_open.with_label_values(&["acme"]).get()
}

#[tokio::test]
async fn the_breakers_that_are_open_are_counted() {
    let (slots, clock) = slots();
    shut(&slots).await;
    assert_eq!(breakers_open(&slots), 1);
    clock.0.fetch_add(5000, Ordering::Relaxed);
    take(&slots).await.hear(DOWN);
    assert_eq!(breakers_open(&slots), 1);
    clock.0.fetch_add(60_000, Ordering::Relaxed);
    take(&slots).await.hear(Sign::Answer);
    assert_eq!(breakers_open(&slots), 0);
}
